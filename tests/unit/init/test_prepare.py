"""Commands that are started before their run is known, and what becomes of them."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.init.fake_agent import (
    Agent,
    Init,
    Link,
    all_children_of,
    eventually,
    name_of,
    run,
)

ROOT = Path(__file__).resolve().parents[3]
# Writes its PID, does something, says that it is ready, and prints what its run has told it.
PROGRAM = """
import json, os, sys
record, before = sys.argv[1:3]
socket = int(os.environ.pop("TASKCTL_PREPARED", "-1"))
with open(record, "a") as file:
    print(os.getpid(), file=file)
exec(before)
if socket >= 0:
    os.set_inheritable(socket, False)
    os.write(socket, b"R")
    length = int.from_bytes(os.read(socket, 4), "big")
    told = os.read(socket, length)
    os.environb.clear()
    os.environb.update(entry.split(b"=", 1) for entry in told.split(b"\\0") if entry)
exec(os.environ.get("TASKCTL_AFTER", ""))
print(json.dumps({"pid": os.getpid(), "env": dict(os.environ), "cwd": os.getcwd(),
    "leads": os.getsid(0) == os.getpgid(0) == os.getpid(), "stdin": sys.stdin.read()}))
"""


class Case:
    """A container that waits, and a program that notes each of its starts."""

    def __init__(self, agent: Agent, init: Init, folder: Path) -> None:
        self.init, self.record = init, folder / "starts"
        self.link: Link = agent.greet()
        self.next = self.link.expect("next")
        self.folder = folder

    def argv(self, before: str = "") -> list[str]:
        return [sys.executable, "-S", "-c", PROGRAM, str(self.record), before]

    def prepare(self, before: str = "", **fields: Any) -> None:
        wanted = {"argv": self.argv(before), "env": {"A": "1"}, "cwd": "", **fields}
        self.link.push(op="prepare", **wanted)

    def starts(self) -> list[int]:
        """Return the PIDs of all programs so far."""
        text = self.record.read_text() if self.record.exists() else ""
        return [int(line) for line in text.split()]

    def started(self) -> int:
        """Wait for the first start."""
        eventually(lambda: self.starts() and self.record.read_text().endswith("\n"), "started")
        return self.starts()[0]

    def ready(self) -> int:
        """Wait until it waits for its run."""
        pid = self.started()
        eventually(lambda: is_in_read(pid), "waits on its socket")
        return pid

    def run(self, before: str = "", **fields: Any) -> dict[str, Any]:
        """Have the command run to its end; returns what it said of itself."""
        env = {"A": "1", "TASKCTL_TOKEN": "secret"}
        told = run(*self.argv(before), **{"env": env, **fields})
        self.link.answer(self.next, **told)
        report = self.init.finish(self.link)
        assert (report["code"], report["signal"]) == (0, 0), self.init.err
        said: dict[str, Any] = json.loads(self.init.out.splitlines()[-1])
        return {**said, "report": report}


def is_in_read(pid: int) -> bool:
    """Whether a process sleeps in a call on its socket."""
    try:
        number = int(Path(f"/proc/{pid}/syscall").read_text().split()[1], 16)
        return "socket" in os.readlink(f"/proc/{pid}/fd/{number}")
    except (OSError, ValueError, IndexError):
        return False


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def case(agent: Agent, init: Init, tmp_path: Path) -> Case:
    return Case(agent, init, tmp_path)


def test_a_prepared_command_becomes_the_run(case: Case) -> None:
    case.prepare("print('imported', flush=True)")
    pid = case.ready()
    assert case.init.out == "", "nothing is told before there is a run"
    env = {"A": "1", "TASKCTL_TOKEN": "secret", "TASK_NAME": "t"}
    said = case.run("print('imported', flush=True)", env=env)
    assert case.starts() == [said["pid"]] == [pid]
    assert case.init.out.startswith("imported\n")
    assert said["report"]["tail"].startswith(b"imported\n")
    assert said["report"]["prepared"] == "used"
    assert {name: said["env"].get(name) for name in env} == env
    assert "TASKCTL_PREPARED" not in said["env"]
    assert (said["leads"], said["stdin"]) == (True, "")


def test_its_time_begins_with_the_run(case: Case) -> None:
    case.prepare()
    case.ready()
    before_us = time.time_ns() // 1000
    said = case.run()
    assert said["report"]["started_us"] >= before_us


@pytest.mark.parametrize("stop", ["Timeout", "Cancelled"])
def test_it_can_be_stopped_like_any_run(case: Case, stop: str) -> None:
    case.prepare()
    pid = case.ready()
    env = {"A": "1", "TASKCTL_AFTER": "import time; print('begun', flush=True); time.sleep(600)"}
    limit_ms = 1000 if stop == "Timeout" else 0
    case.link.answer(case.next, **run(*case.argv(), env=env, timeout_ms=limit_ms))
    if stop == "Cancelled":
        eventually(lambda: "begun" in case.init.out, "it runs")
        case.link.push(op="signal", reason="Cancelled", grace_ms=60_000)
    report = case.init.finish(case.link)
    assert (report["signal"], report["reason"]) == (15, stop)
    assert case.starts() == [pid]


def test_another_preparation_takes_the_place_of_the_first(case: Case) -> None:
    case.prepare()
    pid = case.ready()
    case.prepare("pass")
    eventually(lambda: is_gone(pid) and len(case.starts()) == 2, "the other one starts")
    eventually(lambda: is_in_read(case.starts()[1]), "it is ready")
    assert case.run("pass")["pid"] == case.starts()[1]


@pytest.mark.parametrize(
    "other",
    [
        {"env": {"A": "2"}},
        {"env": {}},
        {"env": {"A": "1", "B": "2"}},
        {"cwd": "/"},
        {"before": "pass"},
    ],
)
def test_another_run_starts_its_own(case: Case, other: dict[str, Any]) -> None:
    case.prepare()
    pid = case.ready()
    said = case.run(**other)
    assert said["pid"] != pid
    assert said["report"]["prepared"] == "other"
    assert is_gone(pid)
    assert case.starts() == [pid, said["pid"]]


FIRST = "first = open(record).read().count('\\n') == 1\n"  # only the first start does it


@pytest.mark.parametrize(
    "problem",
    [
        "if first: sys.exit(3)",
        "if first: os.abort()",
        "if first: 1 / 0",
        "if first: os.kill(os.getpid(), 9)",
    ],
)
def test_one_that_fails_is_as_if_it_had_never_been(case: Case, problem: str) -> None:
    case.prepare(FIRST + problem)
    pid = case.started()
    eventually(lambda: is_gone(pid), "it has failed")
    said = case.run(FIRST + problem)
    assert said["pid"] != pid
    assert said["report"]["prepared"] == "failed"
    assert case.init.err == "", "nobody has to know"


@pytest.mark.parametrize(
    "hang",
    [
        "import time; time.sleep(600)",
        "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)",
        "while True: os.write(1, b'x' * 4096)",
        "os.kill(os.getpid(), 19)",
    ],
)
def test_one_that_hangs_is_thrown_away(case: Case, hang: str) -> None:
    before = FIRST + "\n".join(["if first:", f"    {hang}"])
    case.prepare(before)
    pid = case.started()
    said = case.run(before)
    assert said["pid"] != pid
    assert said["report"]["prepared"] == "early"
    assert is_gone(pid)


@pytest.mark.parametrize(
    "hang",
    [
        "import time; time.sleep(600)",
        "while True: pass",
        "os.kill(os.getpid(), 19)",
        "os.fork(); __import__('time').sleep(600)",
    ],
)
def test_one_that_is_not_ready_in_time_is_ended(case: Case, hang: str) -> None:
    """A module that hangs must not burn the processor until a task comes."""
    before = FIRST + "\n".join(["if first:", f"    {hang}"])
    case.prepare(before, limit_ms=1000)
    pid = case.started()
    eventually(lambda: is_gone(pid), "it is ended before there is a run")
    said = case.run(before)
    assert said["pid"] != pid
    assert said["report"]["prepared"] == "failed"


def newest(case: Case, before: int) -> int:
    """Return the PID of a start after so many others; 0: there is none."""
    starts = case.starts()
    return starts[-1] if len(starts) > before else 0


def is_settled(pid: int) -> bool:
    return is_gone(pid) or is_in_read(pid)


def test_one_that_is_ready_in_time_may_wait_for_long(case: Case) -> None:
    for limit_ms in (500, 2_000, 8_000, 32_000):  # a slow machine needs longer to be ready
        before = len(case.starts())
        case.prepare(limit_ms=limit_ms)
        pid = eventually(functools.partial(newest, case, before), "started")
        eventually(functools.partial(is_settled, pid), "ready or ended")
        if not is_gone(pid):
            break
    time.sleep(limit_ms / 1000 + 0.2)
    said = case.run()
    assert (said["pid"], said["report"]["prepared"]) == (pid, "used")


FORKS = """
import signal, threading, time
def daemon(session):
    if os.fork() == 0:
        if session: os.setsid()
        if os.fork() == 0:
            signal.signal(15, signal.SIG_IGN)
            with open(record + ".forked", "a") as file: print(os.getpid(), file=file)
            time.sleep(600)
        os._exit(0)
    os.wait()
if first:
    daemon(False); daemon(True)
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    while open(record + ".forked").read().count("\\n") < 2: time.sleep(0.01)
"""


def forked(case: Case) -> list[int]:
    return [int(line) for line in Path(f"{case.record}.forked").read_text().split()]


def test_what_it_has_forked_goes_with_it(case: Case) -> None:
    case.prepare(FIRST + FORKS)
    case.ready()
    pids = forked(case)
    assert len(pids) == 2
    assert not any(is_gone(pid) for pid in pids)
    said = case.run(FIRST + FORKS, cwd="/")
    assert said["pid"] != case.starts()[0]
    # Where taskctl-init is no PID 1 they are its children all the same: a subreaper.
    eventually(lambda: all(is_gone(pid) for pid in pids), "none is left")


def test_what_it_has_forked_belongs_to_its_run(case: Case) -> None:
    case.prepare(FIRST + FORKS)
    pid = case.ready()
    said = case.run(FIRST + FORKS)
    assert said["pid"] == pid
    eventually(lambda: all(is_gone(pid) for pid in forked(case)), "they end with the run")


def test_nothing_is_prepared_after_a_run(case: Case) -> None:
    """Something of that run might be in it."""
    case.link.answer(case.next, **run("true"))
    report = case.link.expect("exited")
    case.prepare()
    case.link.answer(report, **run(*case.argv(), env={"A": "1"}))
    last = case.init.finish(case.link)
    assert last["code"] == 0
    assert len(case.starts()) == 1


def test_it_ends_when_its_container_does(case: Case) -> None:
    case.prepare()
    pid = case.ready()
    case.link.answer(case.next, action="exit", code=0)
    assert case.init.wait() == 0
    assert is_gone(pid)


def test_it_waits_while_the_agent_is_away(agent: Agent, case: Case) -> None:
    case.prepare()
    pid = case.ready()
    agent.stop()
    agent.listen()
    case.link = agent.greet()
    case.next = case.link.expect("next")
    assert case.run()["pid"] == pid


@pytest.mark.parametrize(
    "fields",
    [
        {"argv": []},
        {"argv": None},
        {"argv": [1]},
        {"env": {"A": 1}},
        {"env": {"A=": "1"}},
        {"env": None},
        {"argv": ["/no/such/program"]},
        {"cwd": "/no/such/directory"},
        {"argv": ["a\0b"]},
    ],
)
def test_what_cannot_be_prepared_does_no_harm(case: Case, fields: dict[str, Any]) -> None:
    case.prepare()
    pid = case.ready()
    case.prepare(**fields)
    eventually(lambda: is_gone(pid), "the one before is thrown away")
    assert case.run()["pid"] != pid
    names = (
        [name_of(child) for child in all_children_of(case.init.process.pid)]
        if (case.init.process.poll() is None)
        else []
    )
    assert names in ([], ["taskctl-keys"])


def test_a_large_environment_starts_its_own(case: Case) -> None:
    case.prepare()
    pid = case.ready()
    env = {"A": "1"} | {f"TASKCTL_X{n}": "x" * 100_000 for n in range(15)}
    said = case.run(env=env)
    assert said["pid"] != pid
    assert said["env"]["TASKCTL_X14"] == "x" * 100_000


# --- the SDK ---------------------------------------------------------------------------

MODULE = """
import os, sys
with open({record!r}, "a") as file:
    print(os.getpid(), file=file)
first = open({record!r}).read().count("\\n") == 1
print("imported by", os.getpid(), os.environ.get("TASKCTL_TOKEN"))
{extra}
def show():
    print("version", {version}, os.getpid(), os.environ.get("TASKCTL_TOKEN"))
    raise SystemExit(7)
"""


class Function:
    """A function of a module that can be changed, as a task."""

    def __init__(self, case: Case, agent: Agent) -> None:
        self.case, self.agent = case, agent
        folder = case.folder / "app"
        folder.mkdir()
        self.path = folder / "shown.py"
        self.argv = [sys.executable, "-m", "taskctl.sdk.run", "--path", str(folder), "shown:show"]
        self.env = {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def write(self, version: int = 1, extra: str = "") -> None:
        text = MODULE.format(record=str(self.case.record), version=version, extra=extra)
        self.path.write_text(text)

    def prepare(self) -> None:
        self.case.link.push(op="prepare", cwd="", argv=self.argv, env=self.env)

    def run(self) -> list[str]:
        """Run it to its end; returns its log."""
        case = self.case
        env = self.env | {"TASKCTL_TOKEN": "secret"}
        case.link.answer(case.next, **run(*self.argv, env=env))
        task = self.agent.accept()
        who = {"task": "t", "namespace": "n", "uid": "u", "attempt": 1, "root": "t", "parent": ""}
        task.answer(task.expect("attach"), depth=0, cluster="c", workspace="", **who)
        task.answer(task.expect("input"), value=None)
        report = case.init.finish(case.link)
        assert report["code"] == 7, case.init.out + case.init.err
        return case.init.out.splitlines()


@pytest.fixture
def function(case: Case, agent: Agent) -> Function:
    return Function(case, agent)


def test_a_function_is_imported_ahead(case: Case, function: Function) -> None:
    function.write()
    function.prepare()
    pid = case.ready()
    assert function.run() == [f"imported by {pid} None", f"version 1 {pid} secret"]


def test_a_module_that_was_changed_is_loaded_again(case: Case, function: Function) -> None:
    function.write()
    function.prepare()
    pid = case.ready()
    function.write(version=22)
    assert function.run() == [
        f"imported by {pid} None",
        f"imported by {pid} secret",
        f"version 22 {pid} secret",
    ]


@pytest.mark.parametrize(
    "problem",
    [
        "from taskctl.sdk import current; current()",
        "from taskctl.sdk.sync import output; output(1)",
        "raise KeyError('x')",
        "sys.exit(0)",
        "os._exit(9)",
    ],
)
def test_what_cannot_be_imported_ahead_is_imported_by_its_run(
    case: Case, function: Function, problem: str
) -> None:
    function.write(extra=f"if first:\n    {problem}")
    function.prepare()
    pid = case.started()
    eventually(lambda: is_gone(pid), "it has ended")
    [imported, version] = function.run()
    assert imported.endswith("secret")
    assert version.startswith("version 1")
    assert str(pid) not in (*imported.split(), *version.split())
    assert case.init.err == ""


def test_an_error_at_import_is_told_once(case: Case, function: Function) -> None:
    function.write(extra="raise KeyError('no luck')")
    function.prepare()
    pid = case.started()
    eventually(lambda: is_gone(pid), "it has failed")
    case.link.answer(case.next, **run(*function.argv, env=function.env | {"TASKCTL_TOKEN": "x"}))
    task = function.agent.accept()
    who = {"task": "t", "namespace": "n", "uid": "u", "attempt": 1, "root": "t", "parent": ""}
    task.answer(task.expect("attach"), depth=0, cluster="c", workspace="", **who)
    report = case.init.finish(case.link)
    assert report["code"] == 1
    assert case.init.err.count("KeyError: 'no luck'") == 1
