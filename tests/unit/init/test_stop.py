"""Timeouts, cancellation, signals from outside, and what is left when the command has ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskctl import wire
from tests.unit.init.fake_agent import Agent, Init, Link, eventually

# Says that it is up, and sleeps in the background so that the shell takes signals at once.
PATIENT = "trap 'echo got {0}; exit 0' {0}; touch up; sleep 60 & wait"
STUBBORN = "trap '' TERM; touch up; while :; do sleep 0.05; done"


def start(agent: Agent, folder: Path, script: str, **fields: object) -> Link:
    """Start a script in a folder and wait until it has made the file `up` there."""
    link = agent.start("/bin/sh", "-c", script, cwd=str(folder), **fields)
    eventually((folder / "up").exists, "the command is up")
    return link


def test_timeout(agent: Agent, init: Init, tmp_path: Path) -> None:
    script = PATIENT.format("TERM")
    link = agent.start("/bin/sh", "-c", script, cwd=str(tmp_path), timeout_ms=300)
    report = init.finish(link)
    assert (report["reason"], report["code"], report["signal"]) == ("Timeout", 0, 0)
    assert init.out == "got TERM\n"
    assert 300_000 <= report["exited_us"] - report["started_us"] < 5_000_000


def test_timeout_reaches_the_whole_group(agent: Agent, init: Init, tmp_path: Path) -> None:
    script = "sh -c 'echo $$ >inner; exec sleep 60' & wait"
    report = init.finish(
        agent.start("/bin/sh", "-c", script, cwd=str(tmp_path), timeout_ms=400), code=143
    )
    assert (report["reason"], report["signal"]) == ("Timeout", signal.SIGTERM)
    assert not alive(int((tmp_path / "inner").read_text()))


def test_grace_then_sigkill(agent: Agent, init: Init, tmp_path: Path) -> None:
    link = start(agent, tmp_path, STUBBORN, timeout_ms=200, grace_ms=300)
    report = init.finish(link, code=137)
    assert (report["reason"], report["signal"]) == ("Timeout", signal.SIGKILL)
    assert report["exited_us"] - report["started_us"] >= 500_000


def test_timeout_with_the_agent_away(agent: Agent, init: Init, tmp_path: Path) -> None:
    record = tmp_path / "record"
    start(agent, tmp_path, STUBBORN, timeout_ms=300, grace_ms=100, record=str(record))
    agent.stop()
    eventually(record.exists, "the record is written though nobody is there to tell")
    assert wire.decode_body(record.read_bytes())["reason"] == "Timeout"
    agent.listen()
    assert init.finish(agent.greet(), code=137)["signal"] == signal.SIGKILL


def test_push_stops_with_its_reason(agent: Agent, init: Init, tmp_path: Path) -> None:
    link = start(agent, tmp_path, PATIENT.format("TERM"))
    link.push(op="signal", reason="Cancelled", grace_ms=5000)
    report = init.finish(link)
    assert (report["reason"], report["code"]) == ("Cancelled", 0)
    assert init.out == "got TERM\n"


def test_push_brings_its_own_grace(agent: Agent, init: Init, tmp_path: Path) -> None:
    link = start(agent, tmp_path, STUBBORN, grace_ms=3_600_000)
    link.push(op="signal", reason="Cancelled", grace_ms=0)
    assert init.finish(link, code=137)["signal"] == signal.SIGKILL


def test_shorter_grace_of_a_later_push_counts(agent: Agent, init: Init, tmp_path: Path) -> None:
    link = start(agent, tmp_path, STUBBORN)
    link.push(op="signal", reason="Cancelled", grace_ms=2**62)
    link.push(op="signal", reason="Deleted", grace_ms=50)
    report = init.finish(link, code=137)
    assert report["reason"] == "Cancelled", "the first reason is the reason"


def test_push_for_another_run_is_ignored(agent: Agent, init: Init, tmp_path: Path) -> None:
    link = start(agent, tmp_path, PATIENT.format("TERM"))
    link.push(op="signal", reason="Cancelled", grace_ms=0, uid="another", attempt=1)
    link.push(op="signal", reason="Cancelled", grace_ms=0, uid="uid-1", attempt=2)
    link.push(op="unknown", reason="Cancelled")
    time.sleep(0.2)
    assert init.out == ""
    link.push(op="signal", reason="Mine", grace_ms=5000, uid="uid-1", attempt=1)
    assert init.finish(link)["reason"] == "Mine"


def test_push_right_behind_the_run(agent: Agent, init: Init) -> None:
    link = agent.start("/bin/sleep", "60")
    link.push(op="signal", reason="Cancelled", grace_ms=5000)
    report = init.finish(link, code=143)
    assert (report["reason"], report["signal"]) == ("Cancelled", signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_from_outside(agent: Agent, init: Init, tmp_path: Path, number: int) -> None:
    link = start(agent, tmp_path, PATIENT.format("TERM"))
    init.process.send_signal(number)
    report = init.finish(link)
    assert (report["reason"], report["code"]) == ("Signalled", 0)
    assert init.out == "got TERM\n"


def test_stop_before_anything_runs(agent: Agent, init: Init) -> None:
    agent.greet().expect("next")
    init.process.send_signal(signal.SIGTERM)
    assert init.wait() == 143


def test_stop_while_reporting_does_not_lose_the_report(agent: Agent, init: Init) -> None:
    link = agent.start("true")
    report = link.expect("exited")
    init.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    link.answer(report, action="exit", code=0)
    assert init.wait() == 0


@pytest.mark.parametrize("name", ["HUP", "QUIT", "USR1", "USR2"])
def test_other_signals_are_passed_on(agent: Agent, init: Init, tmp_path: Path, name: str) -> None:
    link = start(agent, tmp_path, PATIENT.format(name))
    init.process.send_signal(getattr(signal, f"SIG{name}"))
    report = init.finish(link)
    assert (report["reason"], report["code"]) == ("", 0)
    assert init.out == f"got {name}\n"


def test_many_signals(agent: Agent, init: Init, tmp_path: Path) -> None:
    script = "trap : USR1; touch up; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; done; exit 5"
    link = start(agent, tmp_path, script)
    for _ in range(500):
        init.process.send_signal(signal.SIGUSR1)
        init.process.send_signal(signal.SIGCHLD)
    assert init.finish(link)["code"] == 5


def test_stopped_process_is_ended(agent: Agent, init: Init, tmp_path: Path) -> None:
    link = start(agent, tmp_path, "touch up; kill -STOP $$; sleep 60")
    [child] = init.children()
    eventually(lambda: state(child) == "T", "it has stopped itself")
    link.push(op="signal", reason="Cancelled", grace_ms=100)
    assert init.finish(link, code=137)["signal"] == signal.SIGKILL


# --- what is left -------------------------------------------------------------------------


def state(pid: int) -> str:
    """Return the letter of a process's state; X: there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return state(pid) not in "XZ"


def test_background_job_is_ended(agent: Agent, init: Init, tmp_path: Path) -> None:
    script = "sleep 60 & echo $! >pid; exit 0"
    began = time.monotonic()
    link = agent.start("/bin/sh", "-c", script, cwd=str(tmp_path))
    report = link.expect("exited")
    assert time.monotonic() - began < 5
    assert report["code"] == 0
    eventually(lambda: not alive(int((tmp_path / "pid").read_text())), "the job is ended")


def test_background_job_without_our_pipes_costs_no_time(
    agent: Agent, init: Init, tmp_path: Path
) -> None:
    script = "sleep 60 >/dev/null 2>&1 & echo $! >pid; exit 0"
    link = agent.start("/bin/sh", "-c", script, cwd=str(tmp_path))
    report = link.expect("exited")
    assert time.time_ns() // 1000 - report["exited_us"] < 900_000
    eventually(lambda: not alive(int((tmp_path / "pid").read_text())), "the job is ended")


def test_output_of_the_last_second_is_kept(agent: Agent, init: Init) -> None:
    script = "(sleep 0.3; echo late) & echo early; exit 0"
    report = init.finish(agent.start("/bin/sh", "-c", script))
    assert report["tail"] == b"early\nlate\n"


DAEMON = """
import os, sys, time
pids = open("pids", "a")
for depth in range(3):
    if os.fork():
        os._exit(0) if depth == 0 else time.sleep(60)
    os.setsid()
    pids.write(f"{os.getpid()}\\n"); pids.flush()
time.sleep(60)
"""


def test_daemon_that_holds_the_pipes(agent: Agent, init: Init, tmp_path: Path) -> None:
    """It has a session of its own, and children in further sessions."""
    import sys

    link = agent.start(sys.executable, "-S", "-c", DAEMON, cwd=str(tmp_path))
    report = link.expect("exited")
    late_us = time.time_ns() // 1000 - report["exited_us"]
    assert late_us < 4_000_000
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 3
    eventually(lambda: not any(alive(pid) for pid in pids), "all its generations are ended")
    eventually(lambda: init.children() == [], "all are reaped")


def test_death_of_taskctl_init_is_seen_by_the_agent(agent: Agent, init: Init) -> None:
    link = agent.start("/bin/sleep", "60")
    child = eventually(init.children, "the command runs")[0]
    init.process.kill()
    assert link.closed_by_peer()
    os.kill(child, signal.SIGKILL)  # in a container the PID namespace does that


def test_signal_before_the_command_is_executed(
    agent: Agent, start_init: Callable[..., Init]
) -> None:
    """Between fork and exec there is no group yet; the stop must not get lost."""
    init = start_init()
    link = agent.greet()
    for _ in range(20):
        request = link.receive()
        run = {"action": "run", "uid": "u", "attempt": 1, "argv": ["/bin/sleep", "60"], "env": {}}
        run |= {"cwd": "", "log": "", "record": "", "grace_ms": 10_000}
        link.answer(request, **run)
        link.push(op="signal", reason="Cancelled")
    report = init.finish(link, code=143)
    assert report["signal"] == signal.SIGTERM
