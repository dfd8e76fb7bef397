"""The memory limit of a run, and its share of CPU."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.unit.init.fake_agent import Agent, Init, eventually

MIB = 1024 * 1024
HOLD = (
    "held = bytearray({mib} * 1024 * 1024)\nopen('up', 'w').close()\nimport time\ntime.sleep({s})"
)


def python(mib: int, sleep_s: float) -> tuple[str, ...]:
    return sys.executable, "-I", "-c", HOLD.format(mib=mib, s=sleep_s)


def test_a_run_that_holds_too_much_is_ended(agent: Agent, init: Init, tmp_path: Path) -> None:
    link = agent.start(*python(200, 600), cwd=str(tmp_path), memory_bytes=100 * MIB)
    report = init.finish(link, code=137)
    assert (report["reason"], report["signal"]) == ("MemoryLimitExceeded", signal.SIGKILL)
    assert "MiB (1 process)" in report["message"]


def test_what_several_processes_hold_is_added_up(agent: Agent, init: Init, tmp_path: Path) -> None:
    """Also what has moved to a session of its own, and lost its parent."""
    script = f"""
import subprocess, time
inner = {HOLD.format(mib=70, s=600)!r}
pids = [
    subprocess.Popen([{sys.executable!r}, "-I", "-c", inner], start_new_session=True).pid
    for _ in range(3)
]
open("pids", "w").write(" ".join(map(str, pids)))
time.sleep(600)
"""
    link = agent.start(
        sys.executable, "-I", "-c", script, cwd=str(tmp_path), memory_bytes=180 * MIB
    )
    report = init.finish(link, code=137)
    assert report["reason"] == "MemoryLimitExceeded"
    pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
    eventually(lambda: not any(map(alive, pids)), "all processes of the run are gone")


def test_pages_that_processes_share_count_once(agent: Agent, init: Init, tmp_path: Path) -> None:
    """Four processes with the same 80 MiB: 320 MiB resident, some 90 in fact."""
    script = """
import os, time
held = bytearray(80 * 1024 * 1024)
for _ in range(3):
    if os.fork() == 0:
        time.sleep(2)
        os._exit(0)
for _ in range(3):
    os.wait()
"""
    link = agent.start(
        sys.executable, "-I", "-c", script, cwd=str(tmp_path), memory_bytes=200 * MIB
    )
    report = init.finish(link)
    assert (report["reason"], report["code"]) == ("", 0)


def test_within_the_limit_nothing_happens(agent: Agent, init: Init, tmp_path: Path) -> None:
    link = agent.start(*python(20, 0.5), cwd=str(tmp_path), memory_bytes=500 * MIB)
    report = init.finish(link)
    assert (report["reason"], report["code"], report["message"]) == ("", 0, "")


def test_the_limit_of_a_run_is_not_that_of_the_next(
    agent: Agent, init: Init, tmp_path: Path
) -> None:
    link = agent.start(*python(20, 0.1), cwd=str(tmp_path), memory_bytes=500 * MIB)
    exited = link.expect("exited")
    again = python(200, 0.5)
    from tests.unit.init.fake_agent import run

    link.answer(exited, **run(*again, cwd=str(tmp_path), attempt=2))
    report = init.finish(link)
    assert (report["attempt"], report["reason"], report["code"]) == (2, "", 0)


@pytest.mark.parametrize(
    ("cpu_milli", "more"), [(0, 0), (2000, 0), (1000, 0), (500, 3), (250, 6), (100, 10), (1, 19)]
)
def test_a_small_request_for_cpu_makes_nicer(
    agent: Agent, init: Init, cpu_milli: int, more: int
) -> None:
    script = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    link = agent.start(sys.executable, "-I", "-c", script, cpu_milli=cpu_milli)
    init.finish(link)
    assert int(init.out) == min(os.getpriority(os.PRIO_PROCESS, 0) + more, 19)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
