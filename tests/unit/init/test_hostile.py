"""What a task may not do: to its own supervisor, nor by way of files to that of another task."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.init.fake_agent import TOKEN, Agent, Init, eventually, shell


def make_socket(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)


def make_hard_link(path: Path) -> None:
    precious = path.parent / "precious"
    precious.write_text("precious")
    path.hardlink_to(precious)


def make_link_to_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to(path.parent / "pipe")


TRAPS: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "socket": make_socket,
    "directory": Path.mkdir,
    "dangling link": lambda path: path.symlink_to("/nowhere"),
    "link to a device": lambda path: path.symlink_to("/dev/full"),
    "link to a pipe": make_link_to_pipe,
    "link to itself": lambda path: path.symlink_to(path.name),
    "hard link": make_hard_link,
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    workspace = tmp_path / "ws"
    workspace.mkdir()
    return workspace


def start(agent: Agent, workspace: Path, script: str, **fields: Any) -> Any:
    link = agent.greet()
    meta = workspace / ".taskctl"
    run = shell(
        script,
        workspace=str(workspace),
        log=str(meta / "logs" / "task.log"),
        record=str(meta / "exits" / "uid-1"),
        **fields,
    )
    link.answer(link.expect("next"), **run)
    return link


@pytest.mark.parametrize("what", sorted(TRAPS))
@pytest.mark.parametrize("where", ["logs/task.log", "exits/uid-1", "exits/uid-1.tmp"])
def test_trap_in_the_place_of_a_file(
    agent: Agent, init: Init, workspace: Path, where: str, what: str
) -> None:
    """The run goes its way, timeouts included; the log and the record are what they should be."""
    path = workspace / ".taskctl" / where
    path.parent.mkdir(parents=True)
    TRAPS[what](path)
    link = start(agent, workspace, "echo hello; exec sleep 60", timeout_ms=300, grace_ms=100)
    report = init.finish(link, code=143)
    assert report["reason"] == "Timeout"
    log = workspace / ".taskctl" / "logs" / "task.log"
    assert stat.S_ISREG(log.lstat().st_mode)
    assert log.read_text() == "hello\n"
    if what == "hard link":
        assert (path.parent / "precious").read_text() == "precious"
    record = workspace / ".taskctl" / "exits" / "uid-1"
    if what != "directory" or where == "logs/task.log":  # a directory keeps its name
        assert stat.S_ISREG(record.lstat().st_mode)
    else:
        assert "the exit record" in init.err


@pytest.mark.parametrize("what", ["pipe", "socket", "dangling link", "link to a device"])
@pytest.mark.parametrize("where", [".taskctl", ".taskctl/logs", ".taskctl/exits"])
def test_trap_in_the_place_of_a_directory(
    agent: Agent, init: Init, workspace: Path, where: str, what: str
) -> None:
    path = workspace / where
    path.parent.mkdir(exist_ok=True)
    TRAPS[what](path)
    link = start(agent, workspace, "echo hello; exec sleep 60", timeout_ms=300, grace_ms=100)
    assert init.finish(link, code=143)["reason"] == "Timeout"
    assert init.out == "hello\n"
    assert "cannot be written" in init.err


@pytest.mark.parametrize("where", [".taskctl", ".taskctl/logs", ".taskctl/exits"])
def test_no_link_to_a_directory_is_followed(
    agent: Agent, init: Init, workspace: Path, tmp_path: Path, where: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = workspace / where
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(outside)
    init.finish(start(agent, workspace, "echo hello"))
    assert list(outside.iterdir()) == []


def test_workspace_itself_may_be_reached_by_links(
    agent: Agent, init: Init, workspace: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(workspace)
    init.finish(start(agent, link, "echo hello"))
    assert (workspace / ".taskctl" / "logs" / "task.log").read_text() == "hello\n"


def test_path_that_leaves_the_workspace(agent: Agent, init: Init, workspace: Path) -> None:
    link = agent.greet()
    log = f"{workspace}/.taskctl/../../escaped.log"
    link.answer(link.expect("next"), **shell("echo hello", workspace=str(workspace), log=log))
    init.finish(link)
    assert not (workspace.parent / "escaped.log").exists()
    assert "cannot be written" in init.err


@pytest.fixture
def leased(workspace: Path) -> Iterator[Path]:
    """A log that another task holds a lease on: an open() that waits waits for 45 s."""
    log = workspace / ".taskctl" / "logs" / "task.log"
    log.parent.mkdir(parents=True)
    log.touch()
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with log.open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield log
    signal.signal(signal.SIGIO, before)


def test_lease_does_not_hold_up_the_run(
    agent: Agent, init: Init, workspace: Path, leased: Path
) -> None:
    began = time.monotonic()
    init.finish(start(agent, workspace, "echo hello"))
    assert time.monotonic() - began < 10


# --- the supervisor -----------------------------------------------------------------------

SPY = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = os.getppid()
def tried(what, work):
    try:
        work()
    except OSError as error:
        print(what, "no", error.errno, flush=True)
    else:
        print(what, "YES", flush=True)
def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
if os.getuid() == 0:  # the user that most images have, without the rights of root
    os.setgroups([])
    for right in (19, 21, 38):  # PR_CAPBSET_DROP: CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON
        call(libc.prctl(24, right, 0, 0, 0))
    os.execv(sys.executable, [sys.executable, "-S", "-c", AGAIN])
PROBES
"""
PROBES = """
tried("attach", lambda: call(libc.ptrace(16, pid, 0, 0)))
tried("seize", lambda: call(libc.ptrace(0x4206, pid, 0, 0)))
tried("mem", lambda: open(f"/proc/{pid}/mem", "rb"))
tried("environ", lambda: open(f"/proc/{pid}/environ", "rb").read())
tried("maps", lambda: open(f"/proc/{pid}/maps", "rb").read())
tried("fd", lambda: os.open(f"/proc/{pid}/fd/0", os.O_RDONLY))
tried("pidfd", lambda: call(libc.syscall(438, os.pidfd_open(pid), 3, 0)))
class Vec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
here = ctypes.create_string_buffer(64)
local = Vec(ctypes.addressof(here), 64)
remote = Vec(0x400000, 64)
tried("readv", lambda: call(libc.process_vm_readv(
    pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)))
"""


def test_supervisor_cannot_be_traced_or_read(agent: Agent, init: Init) -> None:
    """By a process of the same user, without CAP_SYS_PTRACE, whatever Yama allows."""
    prelude = SPY.split("if os.getuid()", maxsplit=1)[0]
    script = SPY.replace("PROBES", "").replace("AGAIN", repr(prelude + PROBES))
    report = init.finish(agent.start(sys.executable, "-S", "-c", script))
    lines = init.out.splitlines()
    assert len(lines) == 8, (init.out, init.err)
    assert [line for line in lines if "YES" in line] == []
    assert report["code"] == 0


def test_no_secret_where_the_task_can_look(
    agent: Agent, init: Init, binary: Path, tmp_path: Path
) -> None:
    """The holder of the spawn keys may be read by the task; it knows nothing."""
    link = agent.start("/bin/sh", "-c", "touch up; sleep 60", cwd=str(tmp_path))
    eventually((tmp_path / "up").exists, "it runs")
    secrets = (TOKEN.encode(), b"a-nonce-of-the-test")
    for pid in (init.keeper(), *init.children()):
        # A sanitizer keeps a copy of the environment, of a nonce that is spent by now.
        found = set(readable_memory(pid, secrets))
        assert found <= ({secrets[1]} if "sanitized" in str(binary) else set())
        assert not any(secret in Path(f"/proc/{pid}/environ").read_bytes() for secret in secrets)
    environ = Path(f"/proc/{init.process.pid}/environ").read_bytes()
    assert b"a-nonce-of-the-test" not in environ, "the kubelet's copy is wiped, too"
    link.push(op="signal", reason="Cancelled", grace_ms=0)
    init.finish(link, code=143)


def readable_memory(pid: int, wanted: tuple[bytes, ...]) -> list[bytes]:
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            area, rights = line.split()[:2]
            first, last = (int(part, 16) for part in area.split("-"))
            if "r" not in rights or "[v" in line or last - first > 1 << 30:
                continue
            memory.seek(first)
            try:
                content = memory.read(last - first)
            except OSError:
                continue
            found += [secret for secret in wanted if secret in content]
    return found


def test_spawn_keys_are_open_to_the_task(agent: Agent, init: Init, tmp_path: Path) -> None:
    script = 'printf 12345678 >>"$TASKCTL_KEYS"; sh -c \'wc -c <"$TASKCTL_KEYS"\''
    link = agent.start("/bin/sh", "-c", script)
    first = link.expect("exited")
    link.answer(first, **shell('wc -c <"$TASKCTL_KEYS"', uid="uid-2"))
    init.finish(link)
    assert init.out.split() == ["8", "0"], "each attempt begins with an empty file"


def test_killed_holder_of_the_keys_does_no_harm(agent: Agent, init: Init) -> None:
    link = agent.start("/bin/sh", "-c", "sleep 0.2; echo done")
    os.kill(init.keeper(), signal.SIGKILL)
    first = link.expect("exited")
    assert first["code"] == 0
    link.answer(first, **shell('echo "keys=$TASKCTL_KEYS"', uid="uid-2"))
    init.finish(link)
    assert init.out == "done\nkeys=\n"


def test_holder_of_the_keys_goes_with_the_supervisor(agent: Agent, init: Init) -> None:
    agent.start("/bin/sleep", "60")
    keeper, child = init.keeper(), eventually(init.children, "it runs")[0]
    init.process.kill()
    init.process.wait()
    os.kill(child, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{keeper}").exists(), "the keeper is gone")


@pytest.mark.parametrize("name", ["TERM", "INT"])
@pytest.mark.parametrize("who", ["the command", "its child", "a daemon"])
def test_task_that_stops_its_own_supervisor(agent: Agent, init: Init, name: str, who: str) -> None:
    """That is the task's own end, not one from outside, which would be repeated for free."""
    pid = init.process.pid
    script = {
        "the command": f"kill -{name} {pid}; sleep 60",
        "its child": f"sh -c 'kill -{name} {pid}; sleep 60'",
        "a daemon": f"setsid sh -c 'kill -{name} {pid}; sleep 60' & sleep 60",
    }[who]
    report = init.finish(agent.start("/bin/sh", "-c", script), code=143)
    assert (report["reason"], report["signal"]) == ("", signal.SIGTERM)
    assert f"SIG{name}" in report["message"]


@pytest.mark.parametrize("limit", ["FSIZE", "CORE", "NOFILE"])
def test_lowered_limits_do_not_end_the_supervisor(
    agent: Agent, init: Init, tmp_path: Path, limit: str
) -> None:
    """Any process of the same user may set them; poll() does not work without open files."""
    link = agent.start(
        "/bin/sh", "-c", "touch up; sleep 60", cwd=str(tmp_path), timeout_ms=1000, grace_ms=100
    )
    eventually((tmp_path / "up").exists, "it runs")
    resource.prlimit(init.process.pid, getattr(resource, f"RLIMIT_{limit}"), (0, 0))
    report = init.finish(link, code=143)
    assert (report["reason"], report["signal"]) == ("Timeout", signal.SIGTERM)
