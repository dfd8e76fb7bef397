"""``taskctl.Executor``, ``taskctl.local()`` and ``taskctl run`` as programs use them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import taskctl
from taskctl import Executor, SyncClient
from taskctl.errors import ConfigError, TaskctlError
from taskctl.kube.client import KubeClient
from taskctl.sdk.errors import ChildFailed, Unsendable
from taskctl.testing.stack import LocalStack
from tests.embedded.client_tasks import fail, nap, square
from tests.embedded.world import World

ROOT = Path(__file__).resolve().parents[2]
TASKS_FILE = Path(__file__).with_name("client_tasks.py")


@pytest.fixture
def client(stack: LocalStack, request: pytest.FixtureRequest) -> Iterator[SyncClient]:
    """Return an open client of the test's namespace, which has a TaskCluster of four slots."""

    async def prepare() -> str:
        async with await KubeClient.connect(stack.client_settings()) as kube:
            world = await World.create(kube, request.node.name, stack.data_dir)
            await world.cluster()
            return world.namespace

    namespace = asyncio.run(prepare())
    with SyncClient(kubeconfig=stack.kubeconfig, namespace=namespace) as opened:
        yield opened


def test_executor(client: SyncClient) -> None:
    with Executor(client) as executor:
        assert list(executor.map(square, range(20))) == [n * n for n in range(20)]
        assert list(executor.map(square, range(50), chunksize=20)) == [n * n for n in range(50)]
        assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]
        assert list(executor.map(square, [])) == []
        assert list(executor.map(square, range(6), buffersize=2)) == [0, 1, 4, 9, 16, 25]
        futures = [executor.submit(square, n) for n in range(3)]
        done, rest = concurrent.futures.wait(futures, timeout=60)
        assert (sorted(future.result() for future in done), rest) == ([0, 1, 4], set())
        failing = executor.submit(fail, "boom")
        assert isinstance(failing.exception(60), ChildFailed)
        with pytest.raises(ChildFailed, match="boom"):
            list(executor.map(fail, ["boom"], chunksize=3))
        with pytest.raises(TimeoutError):
            list(executor.map(nap, [3.0], timeout=0.2))
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(square, [1], chunksize=0)
        with pytest.raises(Unsendable):
            executor.submit(3)  # type: ignore[arg-type]
        with pytest.raises(Unsendable):
            executor.submit(square, object()).result(60)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    assert client.list().tasks  # the client that was given stays open


def test_a_future_is_cancelled_until_its_task_has_begun(client: SyncClient) -> None:
    executor = Executor(client)
    blockers = [executor.submit(nap, 4.0) for _ in range(4)]
    deadline = time.monotonic() + 60
    while not all(future.running() for future in blockers) and time.monotonic() < deadline:
        time.sleep(0.05)
    waiting = [executor.submit(nap, 60.0) for _ in range(3)]
    assert not blockers[0].cancel()
    assert waiting[0].cancel()
    executor.shutdown(cancel_futures=True)
    assert [future.result() for future in blockers] == ["done"] * 4
    assert all(future.cancelled() for future in waiting)
    assert not concurrent.futures.wait(waiting, timeout=10).not_done
    states = {task.state for task in client.list().tasks}
    assert "Running" not in states


def test_run_here() -> None:
    assert taskctl.run_here(square, 3) == 9
    with pytest.raises(ValueError, match="boom"):
        taskctl.run_here(fail, "boom")
    with pytest.raises(Unsendable, match="number"):
        taskctl.run_here(square, "3")  # type: ignore[arg-type]


def test_debug(client: SyncClient) -> None:
    before = len(client.list().tasks)
    here: list[int] = []

    def note(number: int) -> int:
        here.append(threading.get_ident())
        return number + 1

    handle = client.submit(note, 1, debug=True, image="means nothing here")
    assert handle.result() == 2
    assert handle.exception() is None
    assert here == [threading.get_ident()]
    assert client.submit(nap.call(seconds=0.0), debug=True).result() == "done"
    assert client.gather(client.map(note, [1, 2], debug=True)) == [2, 3]
    assert len(client.list().tasks) == before
    with pytest.raises(ValueError, match="boom"):
        client.submit(fail, "boom", debug=True)
    with pytest.raises(Unsendable, match="number"):
        client.submit(square, "3", debug=True)  # type: ignore[arg-type]
    with pytest.raises(Unsendable, match="command"):
        client.submit(["ls"], debug=True)
    with pytest.raises(TypeError, match="tiemout"):
        client.submit(square, 3, debug=True, tiemout=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="Executor"):
        Executor(client, options={"debug": True})
    for ask in (handle.status, handle.tree, handle.wait, handle.retry, lambda: list(handle.logs())):
        with pytest.raises(TaskctlError, match="leave out debug=True"):
            ask()


PROGRAM = """
import sys, taskctl
from tests.embedded.client_tasks import square
with taskctl.local(data_dir=sys.argv[1] if sys.argv[1:] else None) as stack:
    with stack.client() as client:
        print(client.submit(square, 7).result(60), stack.data_dir, flush=True)
    raise KeyError("the block ends like this")
"""


def python(*arguments: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(180)
def test_local_ends_with_its_block_whatever_happens() -> None:
    program = python("-c", PROGRAM)
    out, errors = program.communicate(timeout=150)
    assert "the block ends like this" in errors
    result, directory = out.split()
    assert result == "49"
    assert not Path(directory).exists()
    assert not of_stack(directory)


@pytest.mark.timeout(180)
def test_a_stack_that_runs_already_is_left_alone(tmp_path: Path) -> None:
    with taskctl.local(tmp_path / "data", cluster=None) as stack:
        with pytest.raises(ConfigError, match="already runs"), taskctl.local(stack.data_dir):
            pass
        with stack.client() as client:
            assert client.list().tasks == []
    assert (tmp_path / "data" / "db.sqlite").exists()
    assert not of_stack(str(tmp_path / "data"))


def of_stack(directory: str) -> list[str]:
    """Return the processes that name a data directory, except agents' own children."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(directory) in words:
                found.append(words.replace(b"\0", b" ").decode())
    return found


@pytest.mark.timeout(180)
def test_local_ends_when_the_program_is_killed(tmp_path: Path) -> None:
    directory = str(tmp_path / "data")
    source = PROGRAM.replace("    raise", "    import time; time.sleep(100)\n    raise")
    program = python("-c", source, directory)
    assert program.stdout is not None
    assert program.stdout.readline().startswith("49")
    program.send_signal(signal.SIGKILL)
    program.communicate()
    deadline = time.monotonic() + 90
    while of_stack(directory) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not of_stack(directory)


def run(client: SyncClient, *arguments: str) -> tuple[int, str, str]:
    kubeconfig = client.client.session.kubeconfig
    program = python(
        *("-m", "taskctl", "run", "--kubeconfig", str(kubeconfig), "-n", client.namespace),
        *arguments,
    )
    out, errors = program.communicate(timeout=90)
    return program.returncode, out, errors


@pytest.mark.timeout(180)
def test_the_verb_run(client: SyncClient) -> None:
    code, out, errors = run(client, f"{TASKS_FILE}:square", "--arg", "number=5")
    assert (code, json.loads(out)) == (0, 25), errors
    code, out, errors = run(client, f"{TASKS_FILE}:fail", "--arg", "text=no luck")
    assert (code, out) == (1, "")
    assert "about to fail" in errors
    assert "ValueError: no luck" in errors
