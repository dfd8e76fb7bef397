"""A fake agent that a test plays itself, and taskctl-init as a process under it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taskctl import wire
from taskctl.wire import Message

TIMEOUT_S = 20
TOKEN = "the-token"


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> Any:
    """Wait until the condition is true; returns what it returned."""
    end = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.005)
    return result


class Link:
    """One connection from a client; the test is the other end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._decoder = wire.Decoder()
        self._queue: deque[Message] = deque()

    def receive(self) -> Message:
        """Return the next request."""
        while not self._queue:
            data = self.sock.recv(65536)
            assert data, "the client closed the connection"
            self._queue.extend(self._decoder.feed(data))
        return self._queue.popleft()

    def receive_or_none(self) -> Message | None:
        """Return the next request; None: the client has closed the connection."""
        try:
            return self.receive()
        except (AssertionError, ConnectionError):
            return None

    def expect(self, op: str) -> Message:
        """Return the next request, which must be this one."""
        message = self.receive()
        assert message["op"] == op, message
        return message

    def answer(self, request: Message, **fields: Any) -> None:
        self.send({"id": request["id"], "ok": True, **fields})

    def refuse(self, request: Message, error: str, message: str = "because") -> None:
        self.send({"id": request["id"], "ok": False, "error": error, "message": message})

    def push(self, **fields: Any) -> None:
        self.send({"id": 0, **fields})

    def send(self, message: Message) -> None:
        self.sock.sendall(wire.encode(message))

    def closed_by_peer(self) -> bool:
        """Wait for the end of the stream."""
        with contextlib.suppress(ConnectionError):
            while self.sock.recv(65536):
                pass
        return True

    def close(self) -> None:
        self.sock.close()


class Agent:
    """Listens on a socket; the test accepts and answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._links: list[Link] = []
        self._listener: socket.socket | None = None
        self.listen()

    def listen(self) -> None:
        """Begin to listen, as an agent that starts (again) does."""
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        directory = os.open(self.path.parent, os.O_PATH)
        try:  # the path may be longer than a socket's may be
            self._listener.bind(f"/proc/self/fd/{directory}/{self.path.name}")
        finally:
            os.close(directory)
        self._listener.listen(64)
        self._listener.settimeout(TIMEOUT_S)

    def accept(self) -> Link:
        """Return the next connection."""
        assert self._listener is not None
        sock, _ = self._listener.accept()
        sock.settimeout(TIMEOUT_S)
        link = Link(sock)
        self._links.append(link)
        return link

    def no_connection(self, during_s: float) -> bool:
        """Whether nobody connects for a while."""
        assert self._listener is not None
        self._listener.settimeout(during_s)
        try:
            self._listener.accept()[0].close()
        except TimeoutError:
            return True
        finally:
            self._listener.settimeout(TIMEOUT_S)
        return False

    def stop(self) -> None:
        """Die: all connections break, nobody listens."""
        if self._listener is not None:
            self._listener.close()
        for link in self._links:
            link.close()
        self._links.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def greet(self) -> Link:
        """Accept a connection and answer its hello."""
        link = self.accept()
        link.answer(link.expect("hello"), token=TOKEN)
        return link

    def start(self, *argv: str, **fields: Any) -> Link:
        """Greet, and answer `next` with a run of this command."""
        link = self.greet()
        link.answer(link.expect("next"), **run(*argv, **fields))
        return link


def run(*argv: str, **fields: Any) -> Message:
    """Return an answer that says to run a command."""
    return {
        "action": "run",
        "task": "task-1",
        "namespace": "default",
        "uid": "uid-1",
        "attempt": 1,
        "argv": list(argv),
        "env": {},
        "cwd": "",
        "timeout_ms": 0,
        "grace_ms": 5000,
        "log": "",
        "record": "",
    } | fields


def shell(script: str, **fields: Any) -> Message:
    """Return an answer that says to run a shell script."""
    return run("/bin/sh", "-c", script, **fields)


class Init:
    """taskctl-init as a process."""

    def __init__(self, binary: Path, agent: Agent, folder: Path, **env: str) -> None:
        self.out_path, self.err_path = folder / "stdout", folder / "stderr"
        self.env = {
            "PATH": os.environ["PATH"],
            "TASKCTL_SOCKET": str(agent.path),
            "TASKCTL_CONTAINER": "t-0123456789-1",
            "TASKCTL_NONCE": "a-nonce-of-the-test",
            **sanitizer_env(),
            **env,
        }
        with self.out_path.open("wb") as out, self.err_path.open("wb") as err:
            self.process = subprocess.Popen(
                [str(binary)], env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )

    @property
    def out(self) -> str:
        return self.out_path.read_text()

    @property
    def err(self) -> str:
        return self.err_path.read_text()

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def memory_peak_kb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if "VmHWM" in line))

    def cpu_ticks(self) -> int:
        """Clock ticks of CPU time so far (100 a second)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def children(self) -> list[int]:
        """Return its children, without the holder of the spawn keys."""
        return children_of(self.process.pid)

    def keeper(self) -> int:
        """Return the process that holds the spawn keys."""
        return next(
            pid for pid in all_children_of(self.process.pid) if name_of(pid) == "taskctl-keys"
        )

    def finish(self, link: Link, code: int = 0) -> Message:
        """Take the report, tell it to exit, wait; returns the report."""
        report = link.expect("exited")
        link.answer(report, action="exit", code=code)
        assert self.wait() == code, self.err
        return report

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def all_children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def children_of(pid: int) -> list[int]:
    """Return the children of taskctl-init, without the holder of the spawn keys."""
    return [child for child in all_children_of(pid) if name_of(child) != "taskctl-keys"]


def name_of(pid: int) -> str:
    """Return a process's name; empty: there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def sanitizer_env() -> dict[str, str]:
    """Return what makes a sanitizer's finding the process's end; no matter to other builds."""
    return {
        "ASAN_OPTIONS": "detect_leaks=0:exitcode=99:handle_segv=1",
        "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99:print_stacktrace=1",
    }
