"""What happens to the command's output: container log, copy in the workspace, tail."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.unit.init.fake_agent import (
    TIMEOUT_S,
    Agent,
    Init,
    children_of,
    eventually,
    sanitizer_env,
)

FLOOD = "import sys\nline = b'x' * 99 + b'\\n'\nfor i in range({0}): sys.stdout.buffer.write(line)"


def is_sanitized(binary: Path) -> bool:
    return "sanitized" in str(binary)


def test_log_is_a_copy_of_both(agent: Agent, init: Init, tmp_path: Path) -> None:
    log = tmp_path / "ws" / ".taskctl" / "logs" / "default" / "task-1.log"
    init.finish(agent.start("sh", "-c", "echo out; sleep 0.1; echo err >&2", log=str(log)))
    assert log.read_text() == "out\nerr\n"
    assert (init.out, init.err) == ("out\n", "err\n")
    assert stat.S_IMODE(log.stat().st_mode) == 0o640
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o1777, "tasks of other users log there, too"


def test_log_is_appended_to(agent: Agent, init: Init, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    init.finish(agent.start("echo", "after", log=str(log)))
    assert log.read_text() == "before\nafter\n"


def test_full_disk_does_not_hurt(agent: Agent, init: Init, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    log = tmp_path / "log"
    log.touch()
    os.truncate(log, 1 << 20)
    resource.prlimit(init.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    report = init.finish(agent.start("sh", "-c", "echo one; sleep 0.1; echo two", log=str(log)))
    assert report["code"] == 0
    assert init.out == "one\ntwo\n"
    assert init.err.count("taskctl-init:") == 1, "noted once"
    assert f"the log {log} cannot be written: file too large" in init.err


def test_record_on_a_full_disk_leaves_no_scrap(agent: Agent, init: Init, tmp_path: Path) -> None:
    record = tmp_path / "exits" / "record"
    resource.prlimit(init.process.pid, resource.RLIMIT_FSIZE, (0, 0))
    init.finish(agent.start("true", record=str(record)))
    assert list(record.parent.iterdir()) == []


def test_log_that_cannot_be_opened(agent: Agent, init: Init, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = tmp_path / "file" / "log"
    report = init.finish(agent.start("echo", "fine", log=str(log)))
    assert (report["code"], init.out) == (0, "fine\n")
    assert init.err.count(str(log)) == 1


def test_log_does_not_follow_links(agent: Agent, init: Init, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "log").symlink_to(target)
    init.finish(agent.start("echo", "x", log=str(tmp_path / "log")))
    assert target.read_text() == "precious"


def test_tail_is_the_end(agent: Agent, init: Init) -> None:
    script = "i=0; while [ $i -lt 1000 ]; do echo line-$i; i=$((i+1)); done"
    report = init.finish(agent.start("sh", "-c", script))
    assert len(report["tail"]) == 2048
    assert report["tail"] == init.out.encode()[-2048:]


def test_tail_of_binary_output(agent: Agent, init: Init) -> None:
    report = init.finish(agent.start("printf", "a\\000\\377b"))
    assert report["tail"] == b"a\0\xffb"


def test_output_without_end_of_line(agent: Agent, init: Init) -> None:
    assert init.finish(agent.start("printf", "%s", "no newline"))["tail"] == b"no newline"
    assert init.out == "no newline"


def test_fifty_megabytes(agent: Agent, init: Init, binary: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = 500_000
    link = agent.start(sys.executable, "-S", "-c", FLOOD.format(lines), log=str(log))
    report = link.expect("exited")
    peak_kb = init.memory_peak_kb()
    init_size = init.out_path.stat().st_size
    link.answer(report, action="exit", code=0)
    assert init.wait() == 0
    assert report["code"] == 0
    assert init_size == log.stat().st_size == lines * 100
    if not is_sanitized(binary):
        assert peak_kb < 4096, "memory does not grow with the output"


def piped(binary: Path, agent: Agent, stdout: int) -> subprocess.Popen[bytes]:
    env = {
        "PATH": os.environ["PATH"],
        "TASKCTL_SOCKET": str(agent.path),
        "TASKCTL_CONTAINER": "t-0123456789-1",
        "TASKCTL_NONCE": "n",
        **sanitizer_env(),
    }
    return subprocess.Popen([binary], env=env, stdout=stdout, stderr=stdout)


def test_slow_reader_gets_everything(agent: Agent, binary: Path) -> None:
    """The reader of our stdout is slower than the command: the command waits, nothing is lost."""
    reader, writer = os.pipe()
    process = piped(binary, agent, writer)
    os.close(writer)
    link = agent.start(sys.executable, "-S", "-c", FLOOD.format(20_000))
    received = bytearray()

    def read_slowly() -> None:
        while data := os.read(reader, 50_000):
            received.extend(data)
            time.sleep(0.002)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    link.answer(link.expect("exited"), action="exit", code=0)
    assert process.wait(TIMEOUT_S) == 0
    thread.join(TIMEOUT_S)
    os.close(reader)
    assert len(received) == 2_000_000


def test_stalled_reader_does_not_hold_up_a_stop(agent: Agent, binary: Path) -> None:
    reader, writer = os.pipe()
    process = piped(binary, agent, writer)
    os.close(writer)
    link = agent.start(sys.executable, "-S", "-c", FLOOD.format(1_000_000))
    eventually(lambda: children_of(process.pid), "the command runs")
    time.sleep(0.3)  # all pipes are full now
    link.push(op="signal", reason="Cancelled", grace_ms=1000)
    eventually(lambda: not children_of(process.pid), "the command is ended, though nobody reads")
    # What was written before is kept for the reader, who has 10 s to come back.
    thread = threading.Thread(target=lambda: all(iter(lambda: os.read(reader, 65536), b"")))
    thread.start()
    report = link.expect("exited")
    assert (report["reason"], report["signal"]) == ("Cancelled", 15)
    link.answer(report, action="exit", code=143)
    assert process.wait(TIMEOUT_S) == 143
    thread.join(TIMEOUT_S)
    os.close(reader)


def test_reader_that_went_away(agent: Agent, binary: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = piped(binary, agent, writer)
    os.close(writer)
    os.close(reader)
    log = tmp_path / "log"
    link = agent.start(sys.executable, "-S", "-c", FLOOD.format(10_000), log=str(log))
    report = link.expect("exited")
    assert report["code"] == 0, "the task does not notice"
    assert log.stat().st_size == 1_000_000, "the copy goes on"
    link.answer(report, action="exit", code=0)
    assert process.wait(TIMEOUT_S) == 0


def test_closed_standard_streams(agent: Agent, binary: Path, tmp_path: Path) -> None:
    """Without 0, 1 and 2 no socket or pipe of ours may take their numbers."""
    command = f'exec "{binary}" <&- >&- 2>&-'
    env = {
        "PATH": os.environ["PATH"],
        "TASKCTL_SOCKET": str(agent.path),
        "TASKCTL_CONTAINER": "t-0123456789-1",
        "TASKCTL_NONCE": "n",
        **sanitizer_env(),
    }
    process = subprocess.Popen(["/bin/sh", "-c", command], env=env)
    link = agent.start("sh", "-c", "echo fine; echo bad >&2")
    report = link.expect("exited")
    assert sorted(report["tail"].split()) == [b"bad", b"fine"]
    link.answer(report, action="exit", code=0)
    assert process.wait(TIMEOUT_S) == 0


def test_silent_command_costs_nothing(agent: Agent, init: Init, tmp_path: Path) -> None:
    agent.start("sh", "-c", f"touch {tmp_path}/up; sleep 60")
    eventually((tmp_path / "up").exists, "the command runs")
    before = init.cpu_ticks()
    time.sleep(0.5)
    assert init.cpu_ticks() - before <= 1, "it sleeps while nothing happens"


LIMIT = 4000
LINE = 100


def stored(log: Path) -> dict[int, bytes]:
    """Return what lies where: the log itself at position 0, and its segments."""
    directory = log.with_name(log.name + ".d")
    segments = directory.iterdir() if directory.exists() else ()
    return {0: log.read_bytes()} | {int(path.name): path.read_bytes() for path in segments}


def flood(lines: int) -> bytes:
    return b"".join(b"%099d\n" % number for number in range(lines))


def numbered(lines: int) -> list[str]:
    return ["sh", "-c", f'i=0; while [ $i -lt {lines} ]; do printf "%099d\\n" $i; i=$((i+1)); done']


def test_a_long_log_keeps_its_beginning_and_its_end(
    agent: Agent, init: Init, tmp_path: Path
) -> None:
    (tmp_path / "ws").mkdir()
    log = tmp_path / "ws" / ".taskctl" / "logs" / "a.log"
    run = agent.start(*numbered(150), log=str(log), log_bytes=LIMIT, workspace=str(tmp_path / "ws"))
    init.finish(run)
    whole, pieces = flood(150), stored(log)
    assert init.out == whole.decode(), "the container's log has everything"
    assert sum(map(len, pieces.values())) <= LIMIT
    assert pieces[0] == whole[: LIMIT // 2]
    last = max(pieces)
    assert last + len(pieces[last]) == len(whole)
    assert len(whole) - min(start for start in pieces if start) >= LIMIT // 4
    for start, content in pieces.items():
        assert content == whole[start : start + len(content)]


def test_a_log_within_its_limit_is_one_file(agent: Agent, init: Init, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    init.finish(agent.start(*numbered(20), log=str(log), log_bytes=LIMIT))
    assert stored(log) == {0: flood(20)}


def test_a_log_that_is_continued_counts_what_is_there(
    agent: Agent, init: Init, tmp_path: Path
) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * (LIMIT // 2))
    init.finish(agent.start("echo", "more", log=str(log), log_bytes=LIMIT))
    assert stored(log) == {0: b"x" * (LIMIT // 2), LIMIT // 2: b"more\n"}


def test_segments_do_not_follow_links(agent: Agent, init: Init, tmp_path: Path) -> None:
    workspace, outside = tmp_path / "ws", tmp_path / "outside"
    log = workspace / "logs" / "a.log"
    log.parent.mkdir(parents=True)
    outside.mkdir()
    (workspace / "logs" / "a.log.d").symlink_to(outside)
    run = agent.start(*numbered(50), log=str(log), log_bytes=LIMIT, workspace=str(workspace))
    assert init.finish(run)["code"] == 0
    assert list(outside.iterdir()) == []
    assert init.err.count("cannot be written") == 1
