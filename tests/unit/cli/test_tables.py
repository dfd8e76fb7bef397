from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.output import Style, counted, table
from taskctl.cli.tables import TableOptions, by_creation, natural, task_table
from taskctl.testing.builders import EPOCH, task

NOW = EPOCH + timedelta(seconds=192)
TASKS = [
    task("task-0").state(TaskState.SUCCEEDED, "Completed").status(exitCode=0, attempt=1).build(),
    task("task-10")
    .state(TaskState.FAILED, "NonZeroExit")
    .status(exitCode=3, attempt=2, podName="c-1", message="exited\nwith 3", root="task-0", depth=1)
    .build(),
    task("task-9").build(),
]


def test_table_golden() -> None:
    assert task_table(TASKS, TableOptions(NOW)) == (
        "NAME      STATE       REASON        CLUSTER   ATTEMPT   EXIT   POD   DURATION   AGE\n"
        "task-0    Succeeded   Completed     c         1         0      -     -          3m12s\n"
        "task-10   Failed      NonZeroExit   c         2         3      c-1   -          3m12s\n"
        "task-9    Pending     -             c         -         -      -     -          3m12s"
    )


def test_wide_table_golden() -> None:
    text = task_table(TASKS[1:2], TableOptions(NOW, wide=True, namespaces=True))
    assert text == (
        "NAMESPACE   NAME      STATE    REASON        CLUSTER   ATTEMPT   EXIT   POD   DURATION   "
        "AGE     RUNS   ROOT     DEPTH   MESSAGE\n"
        "default     task-10   Failed   NonZeroExit   c         2         3      c-1   -          "
        "3m12s   true   task-0   1       exited: with 3"
    )


def long_table() -> list[dict[str, Any]]:
    rows = []
    for number in range(3):
        name = f"a-tree-with-a-rather-long-name-4711-{number}1c2d3e4f5"
        builder = task(name).cluster("a-cluster-with-a-name").state(TaskState.FAILED, "NonZeroExit")
        builder = builder.status(exitCode=1, attempt=1, podName="a-cluster-with-a-name-12")
        times = {"userCode": EPOCH, "exited": EPOCH + timedelta(seconds=number, milliseconds=40)}
        rows.append(builder.times(**times).build())
    return rows


@pytest.mark.parametrize("width", [200, 120, 100, 80, 60])
def test_a_table_fits_the_terminal(width: int) -> None:
    lines = task_table(long_table(), TableOptions(NOW, width=width)).splitlines()
    assert max(map(len, lines)) <= width
    for number, line in enumerate(lines[1:]):
        assert line.endswith("3m12s")
        assert f"-{number}1c2d3e4f5 " in line  # the part of a name that tells tasks apart
    assert lines[3].split()[-2] == "2.04s"
    assert ("CLUSTER" in lines[0]) is (width > 120)


def test_at_200_columns_nothing_is_cut() -> None:
    whole = task_table(long_table(), TableOptions(NOW))
    assert task_table(long_table(), TableOptions(NOW, width=200)) == whole
    assert "DURATION" in whole


def test_colour_does_not_shift_columns() -> None:
    plain = task_table(TASKS, TableOptions(NOW))
    coloured = task_table(TASKS, TableOptions(NOW, colour=True))
    assert "\x1b[31mFailed\x1b[0m" in coloured
    for style in Style:
        coloured = coloured.replace(f"\x1b[{style}m", "")
    assert coloured.replace("\x1b[0m", "") == plain


def test_long_messages_are_cut() -> None:
    long = task("t").status(message="x" * 500).build()
    assert len(task_table([long], TableOptions(NOW, wide=True)).splitlines()[1]) < 200


def test_order_is_by_creation_then_natural() -> None:
    names = [t["metadata"]["name"] for t in by_creation(TASKS)]
    assert names == ["task-0", "task-9", "task-10"]
    older = task("z").created(EPOCH - timedelta(seconds=1)).build()
    assert by_creation([*TASKS, older])[0] is older


def test_natural_keys_compare_across_shapes() -> None:
    names = ["a", "1", "a1", "a10", "a2", "a-b", "10"]
    assert sorted(names, key=natural) == ["1", "10", "a", "a1", "a2", "a10", "a-b"]


def test_empty_table_has_headings() -> None:
    assert table(["a", "bc"], []) == "A   BC"


@pytest.mark.parametrize(("number", "text"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks")])
def test_one_is_singular(number: int, text: str) -> None:
    assert counted(number, "task") == text
