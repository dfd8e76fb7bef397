"""The data directory, the lifeline and the supervisor, with real but tiny processes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.backoff import EXACT, Backoff
from taskctl.cli.datadir import DataDir
from taskctl.cli.exits import CliError
from taskctl.cli.lifeline import ENV_SUPERVISOR, attach, lifeline_env
from taskctl.cli.stack import Stack, StackSettings, banner
from taskctl.cli.supervisor import ComponentSpec, Supervisor
from taskctl.embedded import listening
from taskctl.errors import ConfigError
from taskctl.outside.session import data_dir_of
from taskctl.testing.builders import taskcluster
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient


@pytest.fixture
def directory(tmp_path: Path) -> DataDir:
    found = DataDir(tmp_path / "data")
    found.prepare()
    return found


def script(name: str, code: str, *, grace_s: float = 5.0) -> ComponentSpec:
    return ComponentSpec(name, (sys.executable, "-c", code), grace_s)


# --- data directory -----------------------------------------------------------------


def test_only_the_owner_may_look_inside(directory: DataDir) -> None:
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert (directory.path / ".gitignore").read_text() == "*\n"
    directory.prepare()  # again does no harm


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--data-dir"):
        DataDir(tmp_path / "file" / "data").prepare()


def test_two_stacks_on_one_directory(directory: DataDir) -> None:
    assert directory.running_pid() is None
    with directory.lock():
        assert directory.running_pid() == os.getpid()
        with (
            pytest.raises(CliError, match=rf"pid {os.getpid()}.*--data-dir"),
            directory.lock(),
        ):
            pytest.fail("locked twice")
    assert directory.running_pid() is None


def test_state_and_ready_files(directory: DataDir) -> None:
    assert directory.read_state() == {}
    directory.write_state({"node": 7})
    assert directory.read_state() == {"pid": os.getpid(), "components": {"node": 7}}
    directory.state.write_text("{")
    assert directory.read_state() == {}
    directory.mark_ready("http://x")
    assert json.loads(directory.ready.read_text())["url"] == "http://x"
    directory.mark_not_ready()
    directory.mark_not_ready()
    assert not directory.ready.exists()


def test_log_tail_and_rotation(directory: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    assert directory.log_tail("node", 3) == []
    directory.log("node").write_text("".join(f"{n}\n" for n in range(10)))
    assert directory.log_tail("node", 2) == ["8", "9"]
    directory.rotate_log("node")
    assert directory.log("node").exists()
    monkeypatch.setattr("taskctl.cli.datadir._KEEP_LOG_BYTES", 1)
    directory.rotate_log("node")
    assert not directory.log("node").exists()


def test_data_dir_of_a_kubeconfig(directory: DataDir, tmp_path: Path) -> None:
    directory.kubeconfig.write_text("{}")
    assert data_dir_of(str(directory.kubeconfig), None) is None
    (directory.path / "server.json").write_text("{}")
    assert data_dir_of(str(directory.kubeconfig), None) == directory.path
    assert data_dir_of(str(tmp_path / "missing"), None) is None


# --- lifeline -----------------------------------------------------------------------


def test_lifeline_is_not_passed_on() -> None:
    attach({})
    env = lifeline_env(signal.SIGTERM)
    assert env == {ENV_SUPERVISOR: f"{os.getpid()} {int(signal.SIGTERM)}"}


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_child_dies_with_its_supervisor() -> None:
    child = (
        "import os, time; from taskctl.cli.lifeline import attach; attach(); "
        f"assert {ENV_SUPERVISOR!r} not in os.environ; print(os.getpid(), flush=True); "
        "time.sleep(60)"
    )
    supervisor = (
        "import os, subprocess, sys, signal; from taskctl.cli.lifeline import lifeline_env; "
        f"subprocess.Popen([sys.executable, '-c', {child!r}], "
        "env={**os.environ, **lifeline_env(signal.SIGKILL)}, start_new_session=True); "
        "signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as stdout:
        assert int(stdout.readline()) > 0
        process.kill()
        process.wait()
        assert stdout.read() == b""  # the pipe closes when the child is gone too


# --- supervisor ---------------------------------------------------------------------


class Said(list[str]):
    """Lines, and an event for each."""

    def __init__(self) -> None:
        super().__init__()
        self.more = asyncio.Event()

    def say(self, line: str) -> None:
        self.append(line)
        self.more.set()


@pytest.fixture
async def said() -> Said:
    return Said()


@pytest.fixture
async def supervisor(
    directory: DataDir, said: Said, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Supervisor]:
    monkeypatch.setattr("taskctl.cli.supervisor._BACKOFF", Backoff(0.001, 10.0, EXACT))
    made = Supervisor(directory, said.say)
    yield made
    made.kill()
    await made.stop(["a", "b"])


async def until(path: Path, text: str) -> None:
    async with asyncio.timeout(20):
        while not path.exists() or text not in path.read_text():
            await asyncio.sleep(0.01)


async def test_the_dead_are_started_again(
    supervisor: Supervisor, said: Said, directory: DataDir
) -> None:
    supervisor.ready_once = True
    await supervisor.start(script("a", "import time; print('up', flush=True); time.sleep(60)"))
    await until(directory.log("a"), "up\n")
    first = directory.read_state()["components"]["a"]
    os.kill(first, signal.SIGKILL)
    await asyncio.wait_for(said.more.wait(), 20)
    assert said == ["a ended (SIGKILL); starting it again in 0.0 s"]
    await until(directory.log("a"), "up\nup\n")
    assert directory.read_state()["components"]["a"] != first


async def test_stop_asks_then_kills(supervisor: Supervisor, said: Said, directory: DataDir) -> None:
    polite = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: print('bye'))\n"
    polite += "print('up', flush=True); signal.pause()"
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += "print('up', flush=True); time.sleep(60)"
    await supervisor.start(script("a", polite))
    await supervisor.start(script("b", stubborn, grace_s=0.05))
    for name in ("a", "b"):
        await until(directory.log(name), "up")
    await supervisor.stop(["a", "b"])
    assert directory.log_tail("a", 1) == ["bye"]
    assert said == ["b did not end in time; killing it"]


async def test_a_wrong_setting_ends_it_at_once(supervisor: Supervisor) -> None:
    code = "import sys; print('taskctl: the port is taken', file=sys.stderr); sys.exit(2)"
    await supervisor.start(script("a", code))
    with pytest.raises(CliError, match=r"^the a does not start: the port is taken$"):
        await asyncio.wait_for(supervisor.failure, 20)


async def test_what_never_comes_up_ends_it_after_some_tries(
    supervisor: Supervisor, said: Said
) -> None:
    await supervisor.start(script("a", "print('Traceback'); raise SystemExit(1)"))
    with pytest.raises(CliError, match=r"\(exit code 1\)(.|\n)*Traceback"):
        await asyncio.wait_for(supervisor.failure, 20)
    assert len(said) == 2


# --- telling ------------------------------------------------------------------------


def test_banner_names_what_to_do_next(directory: DataDir) -> None:
    (directory.path / "server.json").write_text('{"url": "http://127.0.0.1:1", "port": 1}')
    text = banner(directory)
    assert text.startswith("Ready at http://127.0.0.1:1\n")
    assert f"export KUBECONFIG={directory.kubeconfig}" in text
    assert text.endswith("Ctrl-C stops it.")
    assert "taskctl local stop" in banner(directory, background=True)


def test_banner_gives_three_commands_that_work_as_they_stand(
    directory: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commands(text: str) -> list[list[str]]:
        lines = text.partition("In another shell:\n")[2].splitlines()
        return [shlex.split(line) for line in lines if line.startswith("  ")]

    monkeypatch.delenv("KUBECONFIG", raising=False)
    found = commands(banner(directory))
    assert [words[3] for words in found] == ["submit", "tree", "ui"]
    for words in found:
        assert words[1:3] == ["--kubeconfig", str(directory.kubeconfig)]
        assert Path(words[0]).is_absolute() or words[0] == "taskctl"
    # From the directory that it stands in it is found without being named.
    usual = DataDir(directory.path.parent / ".taskctl")
    usual.prepare()
    monkeypatch.chdir(usual.path.parent)
    assert [words[1] for words in commands(banner(usual))] == ["submit", "tree", "ui"]


@pytest.mark.parametrize("exists", [False, True])
async def test_the_stack_makes_a_taskcluster(directory: DataDir, *, exists: bool) -> None:
    client = FakeClient()
    if exists:
        client.put(taskcluster("default").spec(replicas=7).build())
    stack = Stack(directory, StackSettings())
    await stack._create_cluster(client)  # type: ignore[arg-type]
    (made,) = client.kind("TaskCluster")
    assert made["metadata"]["name"] == "default"
    assert made["spec"]["replicas"] == (7 if exists else 1)


def test_status_and_stop_without_a_stack(run: Run, tmp_path: Path) -> None:
    result = run("local", "status", "--data-dir", str(tmp_path))
    assert (result.exit_code, "No local stack runs" in result.stdout) == (1, True)
    as_json = run("local", "status", "--data-dir", str(tmp_path), "-o", "json")
    assert json.loads(as_json.stdout)["running"] is False
    assert run("local", "stop", "--data-dir", str(tmp_path)).exit_code == 0


def test_a_second_stack_is_refused(run: Run, directory: DataDir) -> None:
    with directory.lock():
        for extra in ((), ("--detach",)):
            result = run("local", "--data-dir", str(directory.path), *extra)
            assert result.exit_code == 1
            assert "already runs" in result.stderr
        status = run("local", "status", "--data-dir", str(directory.path))
        assert status.stdout.startswith(f"starting (pid {os.getpid()})")


@pytest.mark.parametrize("failing", ["write_state", "rotate_log", "spawn"])
async def test_nothing_ends_supervision(
    supervisor: Supervisor,
    said: Said,
    directory: DataDir,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    """A full disk, no process ids left: it says so and tries again, for as long as it takes."""
    supervisor.ready_once = True
    await supervisor.start(script("a", "import time; print('up', flush=True); time.sleep(60)"))
    await until(directory.log("a"), "up\n")
    calls = 0

    def full(*_: object, **__: object) -> Any:
        nonlocal calls
        calls += 1
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if failing == "spawn":
            patch.setattr("asyncio.create_subprocess_exec", full)
        else:
            patch.setattr(DataDir, failing, full)
        os.kill(directory.read_state()["components"]["a"], signal.SIGKILL)
        async with asyncio.timeout(20):
            while not calls or not any("No space left" in line for line in said):
                await asyncio.sleep(0.01)
    if failing == "write_state":
        await until(directory.log("a"), "up\nup\n")
    else:
        async with asyncio.timeout(20):
            while directory.read_state()["components"]["a"] is None:
                await asyncio.sleep(0.01)
        process = supervisor._components["a"].process
        assert process is None or process.returncode is None
    keeper = supervisor._components["a"].keeper
    assert keeper is not None
    assert not keeper.done()


async def test_a_socket_outlives_the_component_that_listens(
    supervisor: Supervisor, said: Said, directory: DataDir
) -> None:
    supervisor.ready_once = True
    with listening.bind("127.0.0.1", 0) as listener:
        number = listener.fileno()
        code = (
            "import sys, time; from taskctl.embedded.listening import inherited\n"
            f"s = inherited({number}); s.listen(); print(s.getsockname()[1], flush=True)\n"
            "c, _ = s.accept(); c.send(b'hello'); time.sleep(60)"
        )
        spec = dataclasses.replace(script("a", code), descriptors=(number,))
        await supervisor.start(spec)
        port = listener.getsockname()[1]
        await until(directory.log("a"), f"{port}\n")
        os.kill(directory.read_state()["components"]["a"], signal.SIGKILL)
        await asyncio.wait_for(said.more.wait(), 20)
        for options in ((), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,)):
            with socket.socket() as thief:
                for option in options:
                    thief.setsockopt(socket.SOL_SOCKET, option, 1)
                with pytest.raises(OSError, match="in use"):
                    thief.bind(("127.0.0.1", port))
        # Asked between two lives, answered in the second.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            assert await asyncio.wait_for(reader.readexactly(5), 20) == b"hello"
        finally:
            writer.close()
            await writer.wait_closed()


def test_a_descriptor_that_is_no_socket() -> None:
    with pytest.raises(ConfigError, match="file descriptor 0 is not a socket"):
        listening.inherited(0)
    with pytest.raises(ConfigError, match="file descriptor 9999 is not a socket"):
        listening.inherited(9999)


def test_ports_are_chosen_once(tmp_path: Path) -> None:
    assert listening.stored_port(None) == listening.stored_port(tmp_path) == 0
    for text in ("", "{", "[]", '{"port": null}'):
        (tmp_path / "server.json").write_text(text)
        assert listening.stored_port(tmp_path) == 0
    with listening.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert port < low, "outgoing connections would take it while the stack is stopped"
        (tmp_path / "server.json").write_text(json.dumps({"port": port}))
        assert listening.stored_port(tmp_path) == port
        with pytest.raises(ConfigError, match=r"first start.*--port"):
            listening.bind("127.0.0.1", port)
        with pytest.raises(ConfigError, match="Choose another port"):
            listening.bind("127.0.0.1", port, chosen=True)
    with pytest.raises(ConfigError, match="Choose another address"):
        listening.bind("192.0.2.1", port, chosen=True)
    with listening.bind("127.0.0.1", port) as again:
        assert again.getsockname()[1] == port
