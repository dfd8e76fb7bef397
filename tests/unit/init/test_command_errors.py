"""taskctl-init as a command: wrong usage, refusals, an agent in trouble."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskctl import wire
from tests.unit.init.fake_agent import Link
from tests.unit.init.fake_shell import ATTACHED, Done, Shell, attach


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dance"], 'no command "dance"'),
        (["input", "a", "b"], "one key at most"),
        (["spawn", "--key"], "--key needs a value"),
        (["spawn", "--key", ""], "must not be empty"),
        (["spawn", "stray"], '"stray"'),
        (["spawn", "--keyed", "x"], '"--keyed"'),
        (["spawn", "--data", "x"], '"x" is not KEY=VALUE'),
        (["spawn", "--data", "=x"], "is not KEY=VALUE"),
        (["spawn", "--input", "1", "--data", "a=b"], "give one input"),
        (["spawn", "--input", "1", "--input-object", "a"], "give one input"),
        (["spawn", "--timeout", "1.5"], "whole number"),
        (["spawn", "--timeout", "0"], "from 1 on"),
        (["spawn", "--slots", "many"], "whole number"),
        (["spawn", "--slots", "99999999999999999999"], "whole number"),
        (["spawn", "--set", "priority"], "FIELD=VALUE"),
        (["spawn", "--after", ""], "is empty"),
        (["spawn", "--then", "/x"], "--then /x names no task"),
        (["spawn", "--then", "a", "--input", "1"], "give a place"),
        (["spawn", "--then", "a", "--then", "/x", "b"], "give a place"),
        (["spawn", "--then", "a", "--data", "b=1"], "give a place"),
        (["spawn", "--count", "-1"], "whole number"),
        (["spawn", "--min-success", "x"], "whole number"),
        (["results", "--all"], '"--all"'),
        (["results", "--min-success"], "needs a value"),
        (["results", "--min-success", "-1"], "from 0 on"),
        (["spawn", "--"], "followed by a command"),
        (["output"], "wants JSON"),
        (["output", "1", "2"], '"2"'),
        (["output", "--data", "a=b", "-"], '"-"'),
        (["progress"], "DONE"),
        (["progress", "x"], "DONE must be a whole number"),
        (["progress", "1", "x"], "TOTAL must be"),
        (["progress", "1", "2", "a", "b"], "three arguments"),
        (["info", "x"], "no argument"),
    ],
)
def test_usage_errors(shell: Shell, arguments: list[str], message: str) -> None:
    done = shell.run(*arguments)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("taskctl-init: ")
    assert message in line
    assert line.endswith("see taskctl-init --help")


def test_text_that_is_not_utf8(shell: Shell) -> None:
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"a\xe2\x82"):
        done = subprocess.run(
            [shell.binary, "output", bad], env=shell.env, capture_output=True, check=False
        )
        assert done.returncode == 2
        assert b"not UTF-8" in done.stderr


def test_refused(shell: Shell) -> None:
    done = shell.ask("spawn", "--key", "k", ok=False, error="limit", message="too\ndeep")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "taskctl-init: spawn refused (limit): too deep\n"


@pytest.mark.parametrize("name", ["TASKCTL_SOCKET", "TASKCTL_TOKEN"])
def test_outside_a_task(shell: Shell, name: str) -> None:
    del shell.env[name]
    done = shell.run("input")
    assert done.returncode == 1
    assert "not inside a task" in done.stderr


def test_agent_away(shell: Shell) -> None:
    shell.env["TASKCTL_DEADLINE_S"] = "1"
    shell.agent.stop()
    done = shell.run("input")
    assert done.returncode == 75
    assert "the agent is away" in done.stderr


def test_agent_says_nothing(shell: Shell) -> None:
    shell.env["TASKCTL_DEADLINE_S"] = "1"
    assert shell.run("input").returncode == 75


def serve_after_trouble(shell: Shell, trouble: Callable[[Link], None]) -> Done:
    """The first connections end in trouble, the last one is answered."""

    def serve() -> None:
        for _ in range(3):
            link = shell.agent.accept()
            trouble(link)
            link.close()
        link = attach(shell.agent)
        link.answer(link.expect("input"), json="1")

    thread = threading.Thread(target=serve)
    thread.start()
    done = shell.run("input")
    thread.join(20)
    return done


def close_at_once(link: Link) -> None:
    link.receive()


def close_after_attach(link: Link) -> None:
    link.answer(link.expect("attach"), **ATTACHED)
    link.receive()


def unavailable(link: Link) -> None:
    link.answer(link.expect("attach"), **ATTACHED)
    link.refuse(link.receive(), "unavailable", "the API server is away")


def malformed(link: Link) -> None:
    link.receive()
    link.sock.sendall(b"\0\0\0\1\x90")


def cut_off(link: Link) -> None:
    link.receive()
    link.sock.sendall(b"\0\0\1\0\x81")


@pytest.mark.parametrize(
    "trouble", [close_at_once, close_after_attach, unavailable, malformed, cut_off]
)
def test_tries_again(shell: Shell, trouble: Callable[[Link], None]) -> None:
    assert serve_after_trouble(shell, trouble).stdout == "1\n"


def test_unavailable_for_too_long(shell: Shell) -> None:
    shell.env["TASKCTL_DEADLINE_S"] = "1"
    stop = threading.Event()

    def serve() -> None:
        shell.agent._listener.settimeout(0.5)  # type: ignore[union-attr]
        while not stop.is_set():
            try:
                unavailable(shell.agent.accept())
            except TimeoutError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    done = shell.run("input")
    stop.set()
    thread.join(20)
    assert done.returncode == 75
    assert "the API server is away" in done.stderr


def test_closed_output(shell: Shell) -> None:
    def serve() -> None:
        link = attach(shell.agent)
        link.answer(link.expect("input"), json="x" * 500_000)

    thread = threading.Thread(target=serve)
    thread.start()
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [shell.binary, "input"], env=shell.env, stdout=full, stderr=subprocess.PIPE, text=True
        )
    thread.join(20)
    assert done.returncode == 1
    assert "standard output" in done.stderr


@pytest.mark.parametrize("answer", [{}, {"tasks": []}, {"tasks": [{}]}, {"tasks": "x"}])
def test_answer_without_a_name(shell: Shell, answer: wire.Message) -> None:
    done = shell.ask("spawn", "--key", "k", **answer)
    assert done.returncode == 1
    assert "without the child's name" in done.stderr


def test_deep_answer_does_not_overflow_the_stack(shell: Shell) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    done = shell.ask("input", "key", value={"key": deep})
    assert done.returncode == 1
    assert "nested too deeply" in done.stderr
