"""What a task may try against its own supervisor, its neighbours on the worker, and the agent.

All tasks of these tests run on one worker with one workspace.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.kube.resources import PODS
from tests.attacks.conftest import Local
from tests.embedded.world import World, eventually

pytestmark = pytest.mark.timeout(180)

# What every attacker may use: python, the socket, its own token, the workspace.
RAW = """
import os, signal, socket, struct, sys, time
import msgpack
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["TASKCTL_SOCKET"])
    s.settimeout(60)
    return s
def say(s, **message):
    body = msgpack.packb(message)
    s.sendall(struct.pack(">I", len(body)) + body)
def hear(s):
    def exactly(n):
        got = b""
        while len(got) < n:
            part = s.recv(n - len(got))
            if not part:
                raise EOFError
            got += part
        return got
    return msgpack.unpackb(exactly(struct.unpack(">I", exactly(4))[0]))
def attach():
    s = connect()
    say(s, id=1, op="attach", v=1, token=os.environ["TASKCTL_TOKEN"])
    answer = hear(s)
    assert answer["ok"], answer
    return s
"""


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    """One stack for all tests here: what they attack is a worker, and each has its own."""
    with tempfile.TemporaryDirectory(prefix="taskctl-attack-") as directory:
        local = Local(Path(directory) / "data")
        try:
            local.start()
            yield local
        finally:
            local.stop()


@pytest.fixture
async def world(local: Local) -> AsyncIterator[World]:
    async with local.world() as world:
        await world.cluster()
        yield world
        await world.delete()


def python(code: str) -> tuple[str, str, str]:
    path = f"import sys; sys.path += {[p for p in sys.path if 'site-packages' in p]!r}\n"
    return (sys.executable, "-c", path + RAW + textwrap.dedent(code))


async def run(world: World, name: str, *command: str, **spec: Any) -> dict[str, Any]:
    await world.task(name, *command, **spec)
    status: dict[str, Any] = (await world.finished(name, timeout_s=90))["status"]
    return status


async def test_supervisor_is_out_of_reach(world: World) -> None:
    """Trace it, read it, signal it, limit it: the timeout comes all the same."""
    attack = python(
        """
        import ctypes, resource
        libc = ctypes.CDLL(None, use_errno=True)
        parent, found = os.getppid(), []
        if libc.ptrace(16, parent, 0, 0) == 0: found.append("traced")
        for name in ("mem", "environ", "maps", "fd/0", "stack", "syscall", "auxv"):
            try:
                with open(f"/proc/{parent}/{name}", "rb") as file:
                    if file.read(10): found.append(name)
            except OSError:
                pass
        for path in os.listdir("/proc"):
            try:
                environ = open(f"/proc/{path}/environ", "rb").read()
            except OSError:
                continue
            for entry in environ.split(b"\\0"):
                if entry.startswith(b"TASKCTL_NONCE=") and entry.strip(b"x") != b"TASKCTL_NONCE=":
                    found.append("nonce")
        for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE):
            try: resource.prlimit(parent, limit, (0, 0))
            except OSError: pass
        for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN) if number == signal.SIGUSR1 else None
            os.kill(parent, number)
        open("/workspace/found", "w").write(repr(found))
        time.sleep(600)
        """
    )
    began = time.monotonic()
    status = await run(world, "spy", *attack, timeoutSeconds=5)
    assert (status["state"], status["reason"]) == ("Failed", "Timeout"), status
    assert time.monotonic() - began < 60
    assert (world.workspace() / "found").read_text() == "[]"


@pytest.mark.parametrize("how", ["kill -TERM 1", "kill -TERM $PPID", "kill -INT 1"])
async def test_task_that_stops_its_supervisor_fails_once(world: World, how: str) -> None:
    script = f"echo run >>/workspace/runs; {how}; sleep 60"
    status = await run(world, "suicide", "sh", "-c", script)
    assert status["state"] == "Failed", status
    assert status["attempt"] == 1
    assert "its own supervisor" in status["message"]
    assert (world.workspace() / "runs").read_text() == "run\n"


TRAPS = {
    "pipe": "mkfifo {}",
    "link": "ln -s /dev/full {}",
    "dangling": "ln -s /nowhere/at/all {}",
    "directory": "mkdir {}",
}


@pytest.mark.parametrize("trap", sorted(TRAPS))
async def test_trap_at_the_log_of_another_task(world: World, trap: str) -> None:
    """The victim waits in the queue while its log's place is taken; its timeout still works."""
    made = await world.task("victim", "sh", "-c", "echo hello; sleep 600", suspend=True,
                            timeoutSeconds=3)  # fmt: skip
    uid = made["metadata"]["uid"]
    places = [f".taskctl/logs/victim.{uid}.1.log", f".taskctl/exits/{uid}-1",
              f".taskctl/exits/{uid}-1.tmp"]  # fmt: skip
    script = "; ".join(TRAPS[trap].format(f"/workspace/{place}") for place in places)
    assert (await run(world, "attacker", "sh", "-c", script))["state"] == "Succeeded"
    await world.patch(TASKS, "victim", {"spec": {"suspend": False}})
    status = (await world.finished("victim", timeout_s=60))["status"]
    assert (status["state"], status["reason"]) == ("Failed", "Timeout")
    assert (world.workspace() / places[0]).read_text() == "hello\n"


@pytest.mark.parametrize("trap", ["rm -rf", "file", "dangling"])
async def test_workspace_directory_replaced(world: World, trap: str) -> None:
    """By a file or a dangling link: later tasks and later workers go on."""
    put = {
        "rm -rf": "true",
        "file": "echo mine >/workspace/.taskctl",
        "dangling": "ln -s /nowhere /workspace/.taskctl",
    }
    script = f"mv /workspace/.taskctl /workspace/gone; {put[trap]}"
    assert (await run(world, "attacker", "sh", "-c", script))["state"] == "Succeeded"
    assert (await run(world, "next", "sh", "-c", "echo hello"))["state"] == "Succeeded"
    logs = world.workspace() / ".taskctl" / "logs"
    assert [path.read_text() for path in logs.glob("next.*.log")] == ["hello\n"]
    (worker,) = await world.workers()
    await world.remove(PODS, worker["metadata"]["name"])

    async def others() -> list[str]:
        return [pod["metadata"]["name"] for pod in await world.workers()]

    await eventually(
        others, lambda names: bool(names) and worker["metadata"]["name"] not in names, timeout_s=60
    )
    assert (await run(world, "later", "true"))["state"] == "Succeeded"


FLOODS = {
    "empty maps": """
        s = attach()
        n = 15 << 20
        head = b"\\x83\\xa2id\\x02\\xa2op\\xa6output\\xa5value\\xdd"
        body = head + struct.pack(">I", n) + b"\\x80" * n
        while time.time() < until:
            s.sendall(struct.pack(">I", len(body)) + body)
            assert hear(s)["error"] == "too_large"
        """,
    "stalled frames": """
        held = [attach() for _ in range(60)]
        for s in held:
            s.sendall(struct.pack(">I", 16 << 20) + b"\\x81" + b"\\xa0" * 100_000)
        time.sleep(max(0, until - time.time()))
        """,
    "unread answers": """
        first = attach()
        say(first, id=2, op="output", json='"' + "x" * 7_000_000 + '"')
        print(hear(first))
        held = [attach() for _ in range(60)]
        for s in held:
            s.setblocking(False)
            try:
                for n in range(30): say(s, id=n + 2, op="input", format="json")
            except BlockingIOError:
                pass
        time.sleep(max(0, until - time.time()))
        """,
    "silent strangers": """
        held = []
        while time.time() < until:
            try:
                held.append(connect())
                held = held[-500:]
            except OSError:
                time.sleep(0.01)
        """,
    "large json": """
        s = attach()
        text = "[" + "{}," * 4_000_000 + "0]"
        while time.time() < until:
            say(s, id=2, op="output", json=text)
            hear(s)
        """,
}


@pytest.mark.parametrize("flood", sorted(FLOODS))
async def test_flooded_agent_serves_the_neighbours(world: World, flood: str) -> None:
    """Ten tasks run one after another on the worker while one of them attacks its agent."""
    attack = python("until = time.time() + 20\n" + textwrap.dedent(FLOODS[flood]))
    await world.make(TASKOBJECTS, "large", value="x" * 200_000)
    await world.task("attacker", *attack, inputObject="large")
    await world.in_state("attacker", "Running")
    await asyncio.sleep(3)
    began = time.monotonic()
    for number in range(5):
        status = await run(world, f"victim-{number}", "taskctl-init", "info")
        assert status["state"] == "Succeeded", status
    assert time.monotonic() - began < 30
    peak = agent_memory_mib(world)
    assert peak < 800, f"the agent took {peak} MiB"
    await world.patch(TASKS, "attacker", {"spec": {"cancel": True}})
    await world.finished("attacker")


def agent_memory_mib(world: World) -> int:
    """Return the largest resident size that any agent of the stack had so far."""
    peaks = [0]
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
            environ = (path / "environ").read_bytes()
            status = (path / "status").read_text()
        except OSError:
            continue
        if b"\0agent\0" in words and f"POD_NAMESPACE={world.namespace}".encode() in environ:
            peaks += [int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line]
    assert len(peaks) > 1, "no agent was found"
    return max(peaks) >> 10


async def test_child_gets_no_object_of_another_tree(world: World) -> None:
    await world.make(TASKOBJECTS, "theirs", value="secret")
    script = """
        taskctl-init spawn --key a --input-object theirs -- true && exit 1
        taskctl-init spawn --key b --name later --input-object later-theirs -- \
            sh -c 'taskctl-init input >/workspace/stolen' || exit 2
        exit 0
    """
    status = await run(world, "job", "sh", "-c", script)
    assert status["state"] == "Succeeded", status
    await world.make(TASKOBJECTS, "later-theirs", value="secret")
    later = (await world.finished("later"))["status"]
    assert later["state"] == "Failed"
    assert (world.workspace() / "stolen").read_text() == ""
