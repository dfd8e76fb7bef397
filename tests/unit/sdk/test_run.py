"""``python -m taskctl.sdk.run``, and programs that use the SDK, as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.sdk.bundle import PYTHONS, bundle, find_python
from tests.unit.sdk.fake_agent import FakeAgent

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = "tests.unit.sdk.sample"
TIMEOUT_S = 30


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S
    )


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return python("-m", "taskctl.sdk.run", *arguments, cwd=cwd)


def run_child(agent: FakeAgent, spec: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run what was spawned, as its task would, from somewhere else."""
    agent.input = {"value": spec.get("value")}
    command = spec["overrides"]["command"]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=TIMEOUT_S)


def test_async_function(agent: FakeAgent) -> None:
    agent.input = {"value": {"n": 1, "limit": 3}}
    done = run(f"{SAMPLE}:count")
    assert done.returncode == 0, done.stderr
    [spec] = agent.spawned()
    assert spec["value"] == {"n": 2, "limit": 3}
    assert agent.asked("output")[0]["value"] == 1


def test_only_what_is_returned_is_for_the_task_itself(agent: FakeAgent) -> None:
    agent.attached["small_limit"] = 2048
    agent.input = {"value": {"n": 3, "limit": 3}}
    assert run(f"{SAMPLE}:count").returncode == 0
    program = "from taskctl.sdk.sync import output; output(3)"
    assert python("-c", program).returncode == 0
    assert [request.get("inline") for request in agent.asked("output")] == [True, None]


def test_chain(agent: FakeAgent) -> None:
    """Each task spawns the next one; what was spawned is run, until nothing is spawned."""
    agent.input = {"value": {"n": "0", "limit": "3"}}  # as from `data`, which is text
    assert run(f"{SAMPLE}:count").returncode == 0
    for n in (1, 2, 3):
        spec = agent.spawned()[-1]
        assert spec["value"] == {"n": n, "limit": 3}
        assert run_child(agent, spec).returncode == 0
    assert len(agent.spawned()) == 3
    assert [request["value"] for request in agent.asked("output")] == [0, 1, 2, 3]


def test_dataclass_there_and_back(agent: FakeAgent) -> None:
    shape = {
        "name": "s",
        "points": [{"x": 1, "y": 2.5}],
        "color": "red",
        "made": "2024-05-01T12:00:00",
        "where": "/x",
        "weights": {"a": [1, 2]},
    }
    agent.input = {"value": {"shape": shape}}
    assert run(f"{SAMPLE}:echo").returncode == 0
    assert agent.asked("output")[0]["value"] == shape
    assert agent.spawned()[0]["value"] == {"shape": shape}


def test_all_kinds_of_parameters(agent: FakeAgent) -> None:
    agent.input = {
        "value": {
            "shape": {"name": "s", "points": []},
            "factors": [1, 2.5],
            "scale": 3,
            "labels": {"a": "b"},
        }
    }
    assert run(f"{SAMPLE}:area").returncode == 0
    assert agent.asked("output")[0]["value"] == {
        "name": "s",
        "factors": [1, 2.5],
        "scale": 3,
        "labels": {"a": "b"},
    }


def test_one_parameter_takes_the_whole_input(agent: FakeAgent) -> None:
    agent.input = {"value": [1, 2]}
    assert run(f"{SAMPLE}:unannotated").returncode == 0
    assert agent.asked("output")[0]["value"] == [1, 2]


def test_nested_name_and_undecorated_function(agent: FakeAgent) -> None:
    agent.input = {"value": {"n": 5}}
    assert run(f"{SAMPLE}:Box.inside").returncode == 0
    assert run(f"{SAMPLE}:plain").returncode == 0
    assert [request["value"] for request in agent.asked("output")] == [5, 5]


def test_no_result_is_no_output(agent: FakeAgent) -> None:
    done = run(f"{SAMPLE}:nothing")
    assert (done.returncode, done.stdout) == (0, "nothing\n")
    assert agent.asked("output") == []


def test_a_part_of_the_input(agent: FakeAgent) -> None:
    agent.input = {"value": {"mine": {"n": 3, "limit": 3}, "others": {"n": 0, "limit": 0}}}
    assert run("--part", "mine", f"{SAMPLE}:count").returncode == 0
    assert agent.asked("output")[0]["value"] == 3
    done = run("--part", "nobodys", f"{SAMPLE}:count")
    assert done.returncode == 1
    assert "--part takes an input with the key 'nobodys'" in done.stderr


def test_a_forgotten_await_is_reported(agent: FakeAgent) -> None:
    done = run(f"{SAMPLE}:forgetful")
    assert done.returncode == 0, done.stderr
    assert "coroutine 'spawn' was never awaited" in done.stderr
    assert not agent.spawned()


def test_failure_shows_its_traceback(agent: FakeAgent) -> None:
    done = run(f"{SAMPLE}:fail")
    assert done.returncode == 1
    assert "ValueError: on purpose" in done.stderr


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("count", {"n": 1}, "the input lacks 'limit'"),
        ("count", {"n": 1, "limit": 2, "x": 3}, "no parameter 'x'; it has: n, limit"),
        ("count", {"n": "many", "limit": 2}, "count(): n: must be int, not 'many'"),
        ("count", [1, 2], "the input is a list; it must be a map of n, limit"),
        ("missing", None, "has no function 'missing'"),
        ("Color.RED", None, "has no function"),
    ],
)
def test_input_that_does_not_fit(agent: FakeAgent, place: str, value: Any, message: str) -> None:
    agent.input = {"value": value}
    done = run(f"{SAMPLE}:{place}")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("taskctl: ")
    assert message in line


def test_result_that_cannot_be_sent(agent: FakeAgent) -> None:
    done = run(f"{SAMPLE}:unsendable")
    assert done.returncode == 1
    assert "unsendable(): the result: object has no JSON form" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]])
def test_usage(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


def test_outside_a_task() -> None:
    done = run(f"{SAMPLE}:nothing")
    assert done.returncode == 1
    assert "not started by taskctl" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- functions of scripts -----------------------------------------------------------------------

SCRIPT = """
from helper import double
from taskctl.sdk import task
from taskctl.sdk.sync import spawn

@task
def work(n: int) -> int:
    return double(n)

if __name__ == "__main__":
    spawn(work, 21)
    spawn(double_task := __import__("helper").triple, 2)
"""
HELPER = """
from taskctl.sdk import task

def double(n):
    return 2 * n

@task
def triple(n: int) -> int:
    return 3 * n
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "main.py").write_text(SCRIPT)
    (folder / "helper.py").write_text(HELPER)
    return folder


def test_functions_of_a_script(agent: FakeAgent, program: Path) -> None:
    assert python(str(program / "main.py"), cwd=Path("/")).returncode == 0
    script, helper = agent.spawned()
    assert script["overrides"]["command"][-1] == f"{program}/main.py:work"
    assert helper["overrides"]["command"][-1] == "helper:triple"
    for spec in (script, helper):
        done = run_child(agent, spec)
        assert done.returncode == 0, done.stderr
    assert [request["value"] for request in agent.asked("output")] == [42, 6]


def test_functions_of_a_module_run_as_main(agent: FakeAgent, program: Path) -> None:
    assert python("-m", "main", cwd=program).returncode == 0
    assert agent.spawned()[0]["overrides"]["command"][-1] == "main:work"
    done = run_child(agent, agent.spawned()[0])
    assert done.returncode == 0, done.stderr
    assert agent.asked("output")[0]["value"] == 42


def test_functions_of_a_package(agent: FakeAgent, program: Path) -> None:
    package = program / "package"
    package.mkdir()
    (package / "__init__.py").write_text(HELPER)
    (package / "__main__.py").write_text(
        "from taskctl.sdk.sync import spawn; from package import triple; spawn(triple, 2)"
    )
    assert python("-m", "package", cwd=program).returncode == 0
    command = agent.spawned()[0]["overrides"]["command"]
    assert command[-3:] == ["--path", str(program), "package:triple"]
    assert run_child(agent, agent.spawned()[0]).returncode == 0


# --- SIGTERM ------------------------------------------------------------------------------------


def stop(*arguments: str) -> tuple[int, str, str]:
    """Run a program, send SIGTERM when it has said "up".

    The programs sleep in short pieces: a signal that comes between Python's look for signals
    and the start of a sleep is seen at the sleep's end only.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, err


@pytest.mark.parametrize("function", ["wait_long", "wait_long_sync"])
def test_task_is_stopped(agent: FakeAgent, function: str) -> None:
    code, out, err = stop("-m", "taskctl.sdk.run", f"{SAMPLE}:{function}")
    assert code == 143
    assert out == "cleaned up\n"
    assert err == "taskctl: the task is to stop (SIGTERM)\n"
    assert agent.asked("output") == []


def test_exception_in_a_plain_program(agent: FakeAgent) -> None:
    code = (
        "import time; from taskctl.sdk import TaskCancelled, current; current()\n"
        "from taskctl.sdk.sync import output, info\n"
        "try:\n"
        "    print('up', flush=True)\n"
        "    while True:\n"
        "        try: time.sleep(0.05)\n"
        "        except Exception: pass\n"
        "except TaskCancelled: output('partial'); print(info().cancel_reason)\n"
    )
    agent.info = {"cancel": "Cancelled", "deadline_us": 0}
    returncode, out, _ = stop("-c", code)
    assert (returncode, out) == (0, "Cancelled\n")
    assert agent.asked("output")[0]["value"] == "partial"


def test_awaited_request_raises_the_same(agent: FakeAgent) -> None:
    agent.unavailable["output"] = 10**6
    code = (
        "import asyncio; from taskctl.sdk import TaskCancelled, output, progress\n"
        "async def main():\n"
        "    await progress(1)\n"
        "    try: print('up', flush=True); await output(1)\n"
        "    except TaskCancelled: print('stopped'); await progress(2)\n"
        "asyncio.run(main())\n"
    )
    assert stop("-c", code) == (0, "stopped\n", "")
    assert [request["done"] for request in agent.asked("progress")] == [1, 2]


def test_own_handler_is_left_alone(agent: FakeAgent) -> None:
    code = (
        "import signal, sys, time; from taskctl.sdk import current\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "current(); print('up', flush=True); [time.sleep(0.05) for _ in range(999)]\n"
    )
    assert stop("-c", code)[0] == 7


def test_second_signal_does_not_interrupt_the_clean_up(agent: FakeAgent) -> None:
    code = (
        "import os, signal, time; from taskctl.sdk import TaskCancelled, current; current()\n"
        "try: print('up', flush=True); [time.sleep(0.05) for _ in range(999)]\n"
        "except TaskCancelled:\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.05); print('done')\n"
    )
    assert stop("-c", code)[:2] == (0, "done\n")


FORKS = """
import multiprocessing, os, signal, sys, time
from taskctl.sdk import current, sync
current()

def work():
    sync.progress(1)  # uses the SDK, on a connection of its own
    print("up", flush=True)
    time.sleep(30)

if __name__ == "__main__":
    how = sys.argv[1]
    if how == "os.fork":
        pid = os.fork()
        if pid == 0:
            work()
        time.sleep(1.5)
        os.kill(pid, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    else:
        process = multiprocessing.get_context(how).Process(target=work)
        process.start()
        time.sleep(1.5)
        process.terminate()
        process.join()
        print(process.exitcode)
    sync.progress(2)
    print(signal.getsignal(signal.SIGTERM).__name__)
"""


@pytest.mark.parametrize("how", ["os.fork", "fork", "spawn", "forkserver"])
def test_other_processes_die_of_sigterm(agent: FakeAgent, tmp_path: Path, how: str) -> None:
    (tmp_path / "forks.py").write_text(FORKS)
    done = python(str(tmp_path / "forks.py"), how)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["up", "-15", "_on_sigterm"]
    assert "TaskCancelled" not in done.stderr
    assert [request["done"] for request in agent.asked("progress")] == [1, 2]


# --- as the agent copies it ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [sys.executable, *PYTHONS], ids=lambda name: Path(name).name)
def test_works_from_the_bundle(agent: FakeAgent, tmp_path: Path, name: str) -> None:
    """Without site-packages, and on the interpreters that images bring."""
    interpreter = find_python(name)
    env = {**os.environ, "PYTHONPATH": str(bundle(tmp_path)), "PYTHONWARNINGS": "error"}
    (tmp_path / "steps.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from typing import Optional\n"
        "from taskctl.sdk import current, progress, spawn, task\n"
        "from taskctl.sdk.sync import spawn_many\n"
        "@dataclass\n"
        "class Box:\n"
        "    n: int\n"
        "    inner: Optional[Box] = None\n"
        "@task\n"
        "async def step(box: Box) -> Box:\n"
        "    assert current().name == 'count-1'\n"
        "    await progress(1)\n"
        "    await spawn(step, box)\n"
        "    spawn_many([['a'], ['a']])\n"
        "    return box\n"
    )
    value = {"n": 1, "inner": {"n": 2, "inner": None}}
    agent.input = {"value": {"box": value}}
    done = subprocess.run(
        [interpreter, "-s", "-S", "-m", "taskctl.sdk.run", "steps:step"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert agent.asked("output")[0]["value"] == value
    assert agent.spawned()[0]["value"] == {"box": value}
    assert len({spec["key"] for spec in agent.spawned()}) == 3
