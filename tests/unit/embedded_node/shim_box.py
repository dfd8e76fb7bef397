"""A directory for one container, and the means to run a shim on it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from taskctl.embedded.node import records
from taskctl.embedded.node.records import ExitRecord

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TIMEOUT_S = 20.0
SANITIZER_ENV = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1"}


@dataclass
class ShimBox:
    """Runs containers below ``base`` with one shim binary.

    ``prefix`` is put before the shim's command line, to run it as another user.
    """

    base: Path
    shim: Path
    prefix: Sequence[str] = ()
    made: int = field(default=0)

    def directory(self, *tokens: str) -> Path:
        self.made += 1
        path = self.base / f"c{self.made}"
        path.mkdir()
        spec = path / "spec"
        spec.write_bytes(b"".join(token.encode() + b"\0" for token in tokens))
        # The shim may run as another user than the test.
        path.chmod(0o777)
        spec.chmod(0o666)
        return path

    def start(self, directory: Path, *, notify_fd: int | None = None) -> subprocess.Popen[bytes]:
        argv = [*self.prefix, str(self.shim), str(directory)]
        fds: tuple[int, ...] = ()
        if notify_fd is not None:
            argv.append(str(notify_fd))
            fds = (notify_fd,)
        return subprocess.Popen(argv, env=SANITIZER_ENV, pass_fds=fds)

    def run(self, isolate: str, *command: str, extra: Sequence[str] = ()) -> Outcome:
        directory = self.directory(*tokens(isolate, *command), *extra)
        status = self.start(directory).wait(TIMEOUT_S)
        return outcome(directory, status)


@dataclass(frozen=True)
class Outcome:
    """What a finished shim left behind."""

    directory: Path
    status: int
    exit: ExitRecord
    lines: list[tuple[str, str, str]]  # stream, tag, text

    @property
    def stdout(self) -> list[str]:
        return [text for stream, _, text in self.lines if stream == "stdout"]

    @property
    def stderr(self) -> str:
        return "\n".join(text for stream, _, text in self.lines if stream == "stderr")


def tokens(isolate: str, *command: str) -> list[str]:
    result = ["isolate", isolate, "env", f"PATH={PATH}"]
    for text in command:
        result += ["arg", text]
    return result


def outcome(directory: Path, status: int) -> Outcome:
    record = records.read_exit(directory)
    assert record is not None, f"no exit record; the shim ended with status {status}"
    raw = (directory / "log").read_text()
    lines = [line.split(" ", 3) for line in raw.split("\n") if line]
    return Outcome(directory, status, record, [(p[1], p[2], p[3]) for p in lines])


def wait_for(path: Path, content: str = "") -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not path.exists() or content not in path.read_text():
        assert time.monotonic() < deadline, f"{path} does not say {content!r}"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def gone(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.005)


def kill(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    os.kill(process.pid, number)
