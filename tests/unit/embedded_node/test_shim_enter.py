"""A further command in a running container, started by the shim."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.embedded_node.shim_box import (
    PATH,
    SANITIZER_ENV,
    TIMEOUT_S,
    ShimBox,
    gone,
    tokens,
    wait_for,
)

MODES = ["mpf", "umpf", "um", "-"]


@dataclass
class Container:
    """A container that sleeps, and the means to enter it."""

    box: ShimBox
    directory: Path
    process: subprocess.Popen[bytes]

    def enter(
        self, *command: str, data: bytes = b"", tty: bool = False
    ) -> tuple[int, bytes, bytes, str]:
        """Return exit status, output, errors and the report of a command."""
        reading, writing = os.pipe()
        kind = "tty" if tty else "pipes"
        argv = [str(self.box.shim), "--enter", str(self.directory), str(writing), kind, *command]
        try:
            done = subprocess.run(
                argv,
                input=data,
                capture_output=True,
                pass_fds=[writing],
                env=SANITIZER_ENV,
                timeout=TIMEOUT_S,
            )
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb") as report:
            return done.returncode, done.stdout, done.stderr, report.read().decode()


@pytest.fixture(params=MODES)
def container(request: pytest.FixtureRequest, box: ShimBox) -> Iterator[Container]:
    if os.geteuid() != 0 and request.param == "mpf":
        pytest.skip("needs root")
    directory = box.directory(
        *tokens(request.param, "sh", "-c", "echo up; exec sleep 60"),
        *["env", "WHERE=inside", "cwd", "/usr"],
    )
    process = box.start(directory)
    wait_for(directory / "log", "up")
    yield Container(box, directory, process)
    if process.poll() is None:
        process.send_signal(signal.SIGUSR1)
        process.wait(TIMEOUT_S)


def test_streams_environment_and_exit_code(container: Container) -> None:
    script = "cat; echo $WHERE $PWD; echo bad >&2; exit 7"
    status, out, err, report = container.enter("sh", "-c", script, data=b"in\n")
    assert (status, out, err, report) == (7, b"in\ninside /usr\n", b"bad\n", "")


def test_the_command_is_in_the_container_and_as_powerless(container: Container) -> None:
    script = "readlink /proc/self/ns/mnt; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status"
    _, out, _, _ = container.enter("sh", "-c", script)
    namespace, *rest = out.decode().split("\n")
    isolated = b"mpf" in (container.directory / "spec").read_bytes().split(b"\0")
    if isolated:
        assert namespace != os.readlink("/proc/self/ns/mnt")
        _, pids, _, _ = container.enter("sh", "-c", "ls -d /proc/[0-9]* | wc -l")
        assert int(pids) < 8
    assert rest[:3] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]


def test_a_signal_that_ends_the_command(container: Container) -> None:
    assert container.enter("sh", "-c", "kill -TERM $$")[0] == 128 + signal.SIGTERM


def test_a_program_that_is_not_there(container: Container) -> None:
    status, _, _, report = container.enter("no-such-program")
    assert status == 127
    assert report == "127 exec no-such-program: No such file or directory\n"


def test_a_container_that_has_ended(container: Container) -> None:
    container.process.send_signal(signal.SIGUSR1)
    container.process.wait(TIMEOUT_S)
    status, _, _, report = container.enter("true")
    assert status == 128
    assert "container's first process" in report


def test_the_command_ends_with_the_one_who_asked(container: Container) -> None:
    reading, writing = os.pipe()
    argv = [str(container.box.shim), "--enter", str(container.directory), str(writing), "pipes"]
    mark = container.directory / "tmp"
    script = "exec sleep 59.125"
    asker = subprocess.Popen([*argv, "sh", "-c", script], pass_fds=[writing], env=SANITIZER_ENV)
    os.close(writing)
    with os.fdopen(reading, "rb") as report:
        assert report.read() == b""  # it has started
    children = Path(f"/proc/{asker.pid}/task/{asker.pid}/children").read_text().split()
    assert len(children) == 1, mark
    asker.kill()
    asker.wait(TIMEOUT_S)
    gone(int(children[0]))


def test_a_terminal(container: Container) -> None:
    ours, theirs = os.openpty()
    reading, writing = os.pipe()
    argv = [str(container.box.shim), "--enter", str(container.directory), str(writing), "tty"]
    process = subprocess.Popen(
        [*argv, "sh", "-c", "stty size; echo $TERM; read line; echo got $line"],
        stdin=theirs, stdout=theirs, stderr=theirs, pass_fds=[writing], env=SANITIZER_ENV,
    )  # fmt: skip
    os.close(writing)
    os.close(theirs)
    os.close(reading)
    os.write(ours, b"word\n")
    text = b""
    while True:
        try:
            text += os.read(ours, 4096)
        except OSError:  # EIO: the terminal is closed
            break
    os.close(ours)
    assert process.wait(TIMEOUT_S) == 0
    assert b"xterm" in text
    assert b"got word" in text


def test_the_search_path_is_the_containers(container: Container) -> None:
    assert container.enter("sh", "-c", "echo $PATH")[1].decode().strip() == PATH
