"""``taskctl-init results``: a fake agent tells how children end, and what they returned."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from taskctl import wire
from tests.unit.init.fake_shell import Done, Shell, attach


class Family:
    """Answers as an agent does.

    Attributes:
        told: children by name, and how each ends; in the order of the ends.
        news: how many ends an answer to `children` has.
        cut: how many results an answer has at most.
        reopened: children that run again when their results are first asked for.
    """

    def __init__(self, shell: Shell, names: Iterable[str]) -> None:
        self.shell = shell
        self.names = list(names)
        self.told: list[wire.Message] = []
        self.values: dict[str, Any] = {}
        self.news = 1000
        self.cut = 1000
        self.reopened: set[str] = set()
        self.asked: list[wire.Message] = []

    def end(self, name: str, value: Any = None, state: str = "Succeeded", **more: Any) -> None:
        outcome = {"uid": f"uid-{name}", "name": name, "state": state, "reason": "Completed"}
        self.told.append(outcome | {"message": "", "exit_code": 0} | more)
        self.values[f"uid-{name}"] = value

    def run(self, *arguments: str) -> Done:
        thread = threading.Thread(target=self._serve)
        thread.start()
        done = self.shell.run("results", *arguments)
        thread.join(20)
        return done

    def _serve(self) -> None:
        link = attach(self.shell.agent)
        while (request := link.receive_or_none()) is not None:
            self.asked.append(request)
            link.answer(request, **getattr(self, f"_{request['op']}")(request))

    def _list(self, _request: wire.Message) -> wire.Message:
        return {"tasks": [{"name": name, "uid": f"uid-{name}"} for name in self.names]}

    def _children(self, request: wire.Message) -> wire.Message:
        start = request["after"] if request["epoch"] == "e" else 0
        ended = self.told[start : start + self.news]
        return {"epoch": "e", "next": start + len(ended), "ended": ended}

    def _results(self, request: wire.Message) -> wire.Message:
        answers: list[wire.Message] = []
        for uid in request["uids"][: self.cut]:
            if uid in self.reopened:
                self.reopened.discard(uid)
                self.told.append(next(item for item in self.told if item["uid"] == uid))
                answers.append({"open": "Running"})
            elif self.values[uid] is Ellipsis:
                answers.append({"missing": "its output was deleted"})
            else:
                answers.append({"json": json.dumps(self.values[uid])})
        return {"results": answers}


def lines(done: Done) -> list[Any]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_all_children_in_the_order_of_the_list(shell: Shell) -> None:
    family = Family(shell, ["c", "a", "b"])
    for name, value in (("a", {"n": [1, "ü"]}), ("b", None), ("c", 3)):
        family.end(name, value)
    assert lines(family.run()) == [3, {"n": [1, "ü"]}, None]
    assert family.asked[-1]["format"] == "json"


def test_none(shell: Shell) -> None:
    assert lines(Family(shell, []).run()) == []


@pytest.mark.parametrize(("news", "cut"), [(1, 1), (7, 1000), (1000, 3), (1000, 1000)])
def test_many_children_in_several_answers(shell: Shell, news: int, cut: int) -> None:
    names = [f"child-{number}" for number in range(450)]
    family = Family(shell, names)
    family.news, family.cut = news, cut
    for number in sorted(range(450), key=lambda number: number * 7919 % 450):
        family.end(names[number], number)
    assert lines(family.run()) == list(range(450))
    assert all(len(request.get("uids", ())) <= 200 for request in family.asked)


def test_chosen_children(shell: Shell) -> None:
    family = Family(shell, ["a", "b", "c"])
    family.end("c", 3)
    family.end("b", state="Failed")  # nobody asks for it
    family.end("a", 1)
    assert lines(family.run("c", "a")) == [3, 1]


def test_a_child_that_failed_ends_it(shell: Shell) -> None:
    family = Family(shell, ["a", "b"])
    family.end("b", state="Failed", reason="NonZeroExit", message="It failed.\nboom", exit_code=3)
    done = family.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert "child b: Failed, NonZeroExit: It failed. boom" in done.stderr


def test_enough_successes(shell: Shell) -> None:
    family = Family(shell, ["a", "b", "c"])
    family.end("b", state="Cancelled", reason="Cancelled", exit_code=None)
    family.end("a", 1)
    family.end("c", "x")
    found = lines(family.run("--min-success", "2", "--details"))
    assert [item["result"] for item in found] == [1, None, "x"]
    bad = {"name": "b", "state": "Cancelled", "reason": "Cancelled", "exit_code": None}
    assert found[1] == bad | {"result": None}
    family.asked.clear()
    assert family.run("--min-success=3").returncode == 1


def test_more_successes_than_children(shell: Shell) -> None:
    done = Family(shell, ["a"]).run("--min-success", "2")
    assert done.returncode == 2
    assert "there are 1 children" in done.stderr


@pytest.mark.parametrize("names", [["x"], ["a", "x"]])
def test_a_name_that_is_no_child(shell: Shell, names: list[str]) -> None:
    done = Family(shell, ["a", "b"]).run(*names)
    assert done.returncode == 1
    assert '"x" is no child of this task' in done.stderr


def test_a_name_given_twice(shell: Shell) -> None:
    done = Family(shell, ["a", "b"]).run("a", "b", "a")
    assert done.returncode == 2
    assert '"a" is named twice' in done.stderr


def test_a_result_that_is_gone(shell: Shell) -> None:
    family = Family(shell, ["a", "b"])
    family.end("a", ...)
    family.end("b", 2)
    done = family.run()
    assert done.returncode == 1
    assert "child a: has lost its result" in done.stderr
    assert "its output was deleted" in done.stderr
    assert lines(family.run("--min-success", "1")) == [None, 2]


def test_a_child_that_runs_again_is_waited_for(shell: Shell) -> None:
    family = Family(shell, ["a", "b", "c"])
    for number, name in enumerate(family.names):
        family.end(name, number)
    family.reopened = {"uid-b"}
    assert lines(family.run()) == [0, 1, 2]
