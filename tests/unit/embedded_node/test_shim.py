"""The shim as a black box: what it leaves in its directory."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess

import pytest

from taskctl.embedded.node import records
from taskctl.embedded.node.records import Liveness
from tests.unit.embedded_node.shim_box import (
    TIMEOUT_S,
    ShimBox,
    gone,
    kill,
    outcome,
    tokens,
    wait_for,
)

LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] .*$")


def test_exit_code_and_times_are_recorded(box: ShimBox) -> None:
    result = box.run("-", "sh", "-c", "exit 3")
    assert (result.status, result.exit.code, result.exit.signal) == (0, 3, 0)
    assert not result.exit.start_error
    assert result.exit.started_at is not None
    assert result.exit.finished_at is not None
    assert result.exit.started_at <= result.exit.finished_at


def test_signal_that_ended_the_program_is_recorded(box: ShimBox) -> None:
    result = box.run("-", "sh", "-c", "kill -SEGV $$")
    assert (result.exit.code, result.exit.signal) == (128 + 11, 11)


def test_output_is_written_line_by_line_in_cri_format(box: ShimBox) -> None:
    result = box.run("-", "sh", "-c", "echo one; echo two >&2; printf 'no newline'")
    assert result.stdout == ["one", "no newline"]
    assert result.stderr == "two"
    for line in (result.directory / "log").read_text().splitlines():
        assert LINE.match(line), line


def test_long_lines_are_marked_as_partial(box: ShimBox) -> None:
    result = box.run("-", "sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo end")
    tags = [tag for _, tag, _ in result.lines]
    assert tags == ["P", "P", "F"]
    assert "".join(result.stdout) == "x" * 40000 + "end"


def test_log_is_rotated_at_the_limit(box: ShimBox) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo line-number-$i; i=$((i+1)); done"
    result = box.run("-", "sh", "-c", script, extra=["log-limit", "4000"])
    size = (result.directory / "log").stat().st_size
    old = (result.directory / "log.1").read_text().splitlines()
    assert 0 < size <= 4000
    assert result.stdout[-1] == "line-number-199"
    last_old = int(old[-1].rpartition("-")[2])
    assert result.stdout[0] == f"line-number-{last_old + 1}"


def test_environment_is_exactly_the_given_one(box: ShimBox) -> None:
    result = box.run("-", "env", extra=["env", "A=1", "env", "B=x y"])
    assert sorted(result.stdout) == ["A=1", "B=x y", next(s for s in result.stdout if "PATH=" in s)]


def test_stdin_is_empty_and_other_files_are_closed(box: ShimBox) -> None:
    result = box.run("-", "sh", "-c", "cat; ls /proc/self/fd")
    assert set(result.stdout) <= {"0", "1", "2", "3"}  # 3 is ls reading the directory


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        ("no-such-program", 127, "No such file"),
        ("/no/such/program", 127, "No such file"),
        ("/etc/passwd", 126, "Permission denied"),
        ("/etc", 126, "Permission denied"),
    ],
)
@pytest.mark.parametrize("isolate", ["-", "mpf"])
def test_program_that_cannot_be_executed_is_a_start_error(
    box: ShimBox, isolate: str, program: str, code: int, text: str
) -> None:
    needs_root(isolate)
    result = box.run(isolate, program)
    assert result.exit.start_error
    assert result.exit.code == code
    assert text in result.exit.message
    assert program in result.exit.message
    assert result.exit.started_at is None


def test_malformed_spec_is_a_start_error(box: ShimBox) -> None:
    directory = box.directory("nonsense", "x")
    status = box.start(directory).wait(TIMEOUT_S)
    record = outcome(directory, status).exit
    assert (record.start_error, record.code) == (True, 128)
    assert "spec" in record.message


def test_second_shim_on_a_directory_gives_way(box: ShimBox) -> None:
    directory = box.directory(*tokens("-", "sh", "-c", "echo ran >> out; sleep 0.2"), "cwd", "/")
    first, second = box.start(directory), box.start(directory)
    assert sorted([first.wait(TIMEOUT_S), second.wait(TIMEOUT_S)]) == [0, 3]
    assert box.start(directory).wait(TIMEOUT_S) == 3  # also after the first has ended


def test_claim_is_locked_while_the_shim_lives(box: ShimBox) -> None:
    directory = box.directory(*tokens("-", "sleep", "30"))
    assert records.liveness(directory) == (Liveness.NEVER, 0)
    process = box.start(directory)
    wait_for(directory / "started")
    assert records.liveness(directory) == (Liveness.ALIVE, process.pid)
    kill(process, signal.SIGUSR1)
    process.wait(TIMEOUT_S)
    assert records.liveness(directory) == (Liveness.DEAD, 0)


def test_progress_is_written_to_the_given_descriptor(box: ShimBox) -> None:
    reading, writing = os.pipe()
    directory = box.directory(*tokens("-", "sh", "-c", "exit 0"))
    process = box.start(directory, notify_fd=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        words = pipe.read().split()  # to the end: the pipe closes with the shim
    assert process.wait(TIMEOUT_S) == 0
    assert words[0] == b"started"
    assert records.read_started(directory) == records.from_ns(int(words[2]))


@pytest.mark.parametrize("isolate", ["-", "mpf"])
def test_sigterm_reaches_the_program(box: ShimBox, isolate: str) -> None:
    needs_root(isolate)
    script = "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.02; done"
    directory = box.directory(*tokens(isolate, "sh", "-c", script))
    process = box.start(directory)
    wait_for(directory / "log", "up")
    kill(process, signal.SIGTERM)
    result = outcome(directory, process.wait(TIMEOUT_S))
    assert result.stdout == ["up", "asked"]
    assert result.exit.code == 7


@pytest.mark.parametrize("isolate", ["-", "mpf"])
def test_sigusr1_kills_everything_in_the_container(box: ShimBox, isolate: str) -> None:
    needs_root(isolate)
    script = "setsid sleep 1000 & setsid sleep 1000 & echo up; wait"
    directory = box.directory(*tokens(isolate, "sh", "-c", script))
    process = box.start(directory)
    wait_for(directory / "log", "up")
    inside = descendants(process.pid)
    assert len(inside) >= 3
    kill(process, signal.SIGUSR1)
    result = outcome(directory, process.wait(TIMEOUT_S))
    assert (result.exit.code, result.exit.signal, result.exit.oom) == (137, 9, False)
    for pid in inside:
        gone(pid)


@pytest.mark.parametrize("isolate", ["-", "mpf"])
def test_processes_that_outlive_the_program_are_killed(box: ShimBox, isolate: str) -> None:
    needs_root(isolate)
    directory = box.directory(
        *tokens(isolate, "sh", "-c", "setsid sleep 1000 & echo up; sleep 0.2")
    )
    process = box.start(directory)
    wait_for(directory / "log", "up")
    inside = descendants(process.pid)
    result = outcome(directory, process.wait(TIMEOUT_S))
    assert result.exit.code == 0
    for pid in inside:
        gone(pid)


@pytest.mark.parametrize("isolate", ["-", "mpf"])
def test_container_dies_with_its_shim(box: ShimBox, isolate: str) -> None:
    needs_root(isolate)
    directory = box.directory(*tokens(isolate, "sh", "-c", "echo up; exec sleep 1000"))
    process = box.start(directory)
    wait_for(directory / "log", "up")
    inside = descendants(process.pid)
    kill(process, signal.SIGKILL)
    process.wait(TIMEOUT_S)
    for pid in inside:
        gone(pid)
    assert records.read_exit(directory) is None
    assert records.liveness(directory) == (Liveness.DEAD, 0)


def test_program_starts_with_default_signals(box: ShimBox) -> None:
    result = box.run("-", "sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status")
    values = [int(line.split()[1], 16) for line in result.stdout]
    assert values == [0, 0]


def test_no_new_privileges(box: ShimBox) -> None:
    assert box.run("-", "grep", "NoNewPrivs", "/proc/self/status").stdout == ["NoNewPrivs:\t1"]


def needs_root(isolate: str) -> None:
    if "m" in isolate and "u" not in isolate and os.geteuid() != 0:
        pytest.skip("needs root")


def descendants(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, check=True).stdout
    parent = {int(p): int(pp) for p, pp in (line.split() for line in listing.splitlines())}
    found: list[int] = []
    frontier = [pid]
    while frontier:
        frontier = [child for child, of in parent.items() if of in frontier]
        found += frontier
    return found


def test_removal_of_the_directory_ends_the_container(box: ShimBox) -> None:
    script = "while :; do echo up; sleep 0.02; done"
    directory = box.directory(*tokens("-", "sh", "-c", script))
    process = box.start(directory)
    wait_for(directory / "log", "up")
    inside = descendants(process.pid)
    shutil.rmtree(directory)
    process.wait(TIMEOUT_S)
    for pid in inside:
        gone(pid)
