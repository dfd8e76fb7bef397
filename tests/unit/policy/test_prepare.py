"""Which commands are started ahead, and which task may run where one was."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.policy.prepare import (
    MAX_COMMAND_CHARS,
    MAX_PREPARED,
    Command,
    Preparation,
    Started,
    command_of,
    decide_prepare,
    most_prepared,
)
from taskctl.policy.resources import UNCOUNTED, Amount

RUN = ("python3", "-m", "taskctl.sdk.run", "sums:square")


def starts(text: str) -> list[Started]:
    """``f/a g/b``: f was run for tree a, then g for b; ``-``: what cannot be prepared."""
    pairs = [item.split("/") for item in text.split()]
    return [Started("" if digest == "-" else digest, root) for digest, root in pairs]


def decide(
    recent: str,
    prepared: str = "",
    clean: int = 4,
    room: int = MAX_PREPARED,
    failing: frozenset[str] = frozenset(),
) -> str:
    found = decide_prepare(starts(recent), prepared.split(), clean, room, failing)
    return "" if found is None else f"{found.digest}/{found.root_uid}"


@pytest.mark.parametrize(
    ("recent", "given", "expected"),
    [
        ("", {}, ""),
        ("f/a", {}, "f/a"),
        ("f/a f/b", {}, "f/b"),
        ("f/a f/a", {"room": 0}, ""),
        ("-/a -/a", {}, ""),
        ("f/a g/a", {"clean": 9, "prepared": "g"}, "f/a"),
        ("f/a f/a g/a", {}, "f/a"),
        ("f/a f/a g/a", {"prepared": "f"}, "g/a"),
        ("f/a f/a g/a", {"prepared": "f g"}, "f/a"),
        # what cannot be prepared keeps its share
        ("-/a f/a", {"clean": 2}, "f/a"),
        ("f/a -/a", {"clean": 2, "prepared": "f"}, ""),
        ("-/a f/a", {"clean": 1}, "f/a"),
        ("-/a -/a -/a f/a", {"clean": 1}, ""),
        # the last one stays as it is where trees and commands are several
        ("f/a g/b", {"clean": 1}, ""),
        ("-/a f/b", {"clean": 1}, ""),
        ("f/a f/b", {"clean": 1}, "f/b"),
        ("f/a g/a", {"clean": 1}, "g/a"),
        # what fails is as what cannot be prepared
        ("f/a", {"failing": frozenset({"f"})}, ""),
        ("f/a g/a", {"failing": frozenset({"g"}), "clean": 1}, ""),
        ("f/a f/a g/a", {"failing": frozenset({"g"})}, "f/a"),
    ],
)
def test_what_is_prepared_next(recent: str, given: dict[str, Any], expected: str) -> None:
    assert decide(recent, **given) == expected


@pytest.mark.parametrize("recent", ["f/a", "f/a g/b h/c -/d", "f/a g/a"])
def test_it_comes_to_an_end(recent: str) -> None:
    """However many wait: no more than may, and one is left where trees and commands are several."""
    prepared: list[str] = []
    clean = 20
    while True:
        found = decide(recent, " ".join(prepared), clean, MAX_PREPARED - len(prepared))
        if not found:
            break
        prepared.append(found.split("/")[0])
        clean -= 1
    assert len(prepared) <= MAX_PREPARED
    assert set(prepared) == {item.digest for item in starts(recent)} - {""}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (RUN, True),
        (("/usr/bin/python3.12", *RUN[1:]), True),
        (("python", *RUN[1:3], "--path", "/app", "m:f"), True),
        (("python", *RUN[1:3], "--pickled"), True),
        (RUN[:3], False),
        ((), False),
        (("sh", *RUN[1:]), False),
        (("/x/pythonic", *RUN[1:]), False),
        (("python3", "-u", *RUN[1:]), False),
        (("python3", "-m", "taskctl.sdk.upload", "x"), False),
        ((*RUN[:3], "x" * MAX_COMMAND_CHARS), False),
    ],
)
def test_which_commands_can_wait_for_their_run(argv: tuple[str, ...], expected: bool) -> None:
    assert Command(argv, (), "").can_be_prepared is expected


def test_a_command_is_what_taskctl_init_compares() -> None:
    told = {"argv": list(RUN), "cwd": "/app"}
    env = {"B": "2", "A": "1", "TASKCTL_TOKEN": "t", "TASK_NAME": "n", "TASK_NAMESPACE": "ns"}
    command = command_of({**told, "env": env})
    assert command == Command(RUN, (("A", "1"), ("B", "2")), "/app")
    same = command_of({**told, "env": {"A": "1", "B": "2", "TASKCTL_TOKEN": "u"}})
    assert same.digest == command.digest
    others = [
        {**told, "env": env, "cwd": ""},
        {**told, "env": env | {"A": "2"}},
        {**told, "env": {"A": "1"}},
        {**told, "env": env, "argv": [*RUN, "x"]},
    ]
    assert len({command_of(other).digest for other in others} | {command.digest}) == 5


def test_who_may_run_where_something_was_prepared() -> None:
    preparation = Preparation("f", "a")
    assert preparation.admits("f", "b")
    assert preparation.admits("g", "a")
    assert not preparation.admits("g", "b")


@pytest.mark.parametrize(
    ("memory_mib", "expected"), [(96, 0), (1023, 0), (1024, 1), (4096, 4), (1 << 20, 8)]
)
def test_they_take_an_eighth_of_the_memory_that_a_worker_has(
    memory_mib: int, expected: int
) -> None:
    assert most_prepared(Amount(1000, memory_mib << 20)) == expected
    assert most_prepared(UNCOUNTED) == MAX_PREPARED
