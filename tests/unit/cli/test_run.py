"""``taskctl run``: arguments, and what it says of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.exits import UsageError
from taskctl.cli.run import describe, parse_arguments
from taskctl.outside.info import TaskInfo
from taskctl.testing.builders import task
from tests.unit.cli.conftest import Run


def function(
    text: str, number: int = 0, free: Any = None, items: list[int] | None = None, *rest: int
) -> None:
    """Take arguments of several kinds."""


@pytest.mark.parametrize(
    ("texts", "arguments"),
    [
        (["text=1"], {"text": "1"}),
        (["text=a=b"], {"text": "a=b"}),
        (["text="], {"text": ""}),
        (["number=3"], {"number": 3}),
        (["free=3"], {"free": 3}),
        (["free=x y"], {"free": "x y"}),
        (['free={"a": [1]}'], {"free": {"a": [1]}}),
        (["items=[1, 2]"], {"items": [1, 2]}),
        (["items=null"], {"items": None}),
        (["text=x", "number=1"], {"text": "x", "number": 1}),
    ],
)
def test_arguments(texts: list[str], arguments: dict[str, Any]) -> None:
    assert parse_arguments(function, texts) == arguments


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["text"], "must be NAME=VALUE"),
        (["=x"], "must be NAME=VALUE"),
        (["text=a", "text=b"], "text is given twice"),
        (["number=x"], "number: must be int"),
        (["number=1.5"], "number: must be int"),
        (["items=3"], "items: "),
        (["other=1"], "has no parameter 'other'; it has: text, number"),
        (["rest=1"], "has no parameter 'rest'"),
    ],
)
def test_wrong_arguments(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_arguments(function, texts)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("x", "must be FILE.py:FUNCTION"),
        ("/nowhere.py:x", "there is no file /nowhere.py"),
        ("no_such_module_at_all:x", "cannot be imported"),
        ("tests.unit.outside.functions:nothing", "has no function 'nothing'"),
    ],
)
def test_wrong_places(run: Run, place: str, words: str) -> None:
    result = run("run", place)
    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


def test_local_excludes_a_kubeconfig(run: Run, tmp_path: Path) -> None:
    place = "tests.unit.outside.functions:plain"
    result = run("run", place, "--arg", "number=1", "--local", "--kubeconfig", str(tmp_path))
    assert (result.exit_code, "--local excludes" in result.stderr) == (2, True)


def test_steps() -> None:
    running = (
        task("t")
        .state(TaskState.RUNNING)
        .status(
            progress={"done": 1, "total": 3, "message": "on"},
            descendants={"total": 4, "pending": 1, "running": 1},
        )
    )
    assert describe(TaskInfo(running.build())) == "t: Running 1/3 on - 2 of 4 descendants ended"
    waiting = task("t").status(state="Pending", reason="Queued").build()
    assert describe(TaskInfo(waiting)) == "t: Pending (Queued)"
