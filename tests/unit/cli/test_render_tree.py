from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.forest import all_views, build_forest, latency_stages
from taskctl.cli.render_tree import (
    TreeStyle,
    render_forest,
    render_standstill,
    render_summary,
)
from taskctl.testing.builders import EPOCH, TaskBuilder, task, taskcluster

NOW = EPOCH + timedelta(seconds=60)
STYLE = TreeStyle(NOW)
Object = dict[str, Any]


def at(ms: float) -> datetime:
    return EPOCH + timedelta(milliseconds=ms, microseconds=1)


def done(builder: TaskBuilder, start_ms: float = 0) -> TaskBuilder:
    return (
        builder.state(TaskState.SUCCEEDED, "Completed")
        .status(attempt=1, exitCode=0)
        .times(
            created=at(start_ms),
            placed=at(start_ms + 10),
            started=at(start_ms + 60),
            userCode=at(start_ms + 70),
            exited=at(start_ms + 120),
            observed=at(start_ms + 125),
        )
    )


def family() -> list[Object]:
    root = done(task("root")).build()
    left = done(task("left").child_of(root), 200).build()
    failed = (
        task("right")
        .child_of(root)
        .state(TaskState.FAILED, "NonZeroExit")
        .status(exitCode=3, attempt=2)
        .times(created=at(300), userCode=at(400), exited=at(500))
        .build()
    )
    grandchild = (
        task("leaf").child_of(left).running("c-1").times(created=at(350), userCode=at(1000)).build()
    )
    return [grandchild, failed, root, left]


def chain(length: int) -> list[Object]:
    tasks = [done(task("task-0")).build()]
    for number in range(1, length):
        tasks.append(done(task(f"task-{number}").child_of(tasks[-1]), number * 200).build())
    return tasks


def test_tree_golden() -> None:
    assert render_forest(build_forest(family()), STYLE) == [
        "✔ root Succeeded  50 ms",
        "├─ ✔ left Succeeded  50 ms",
        "│  ↳ ● leaf Running  59.0 s",
        "└─ ✘ right Failed  NonZeroExit 3, 100 ms, attempt 2",
    ]


def test_tree_in_ascii() -> None:
    assert render_forest(build_forest(family()), TreeStyle(NOW, unicode=False)) == [
        "+ root Succeeded  50 ms",
        "|- + left Succeeded  50 ms",
        "|  > * leaf Running  59.0 s",
        "`- x right Failed  NonZeroExit 3, 100 ms, attempt 2",
    ]


def test_summary_golden() -> None:
    assert "\n".join(render_summary(build_forest(family()), STYLE)) == (
        "4 tasks: 1 Failed, 1 Running, 2 Succeeded, in 60.0 s\n"
        "\n"
        "LATENCY                 P50      P99      SUM\n"
        "created → placed        10 ms    10 ms    20 ms\n"
        "placed → container      50 ms    50 ms    100 ms\n"
        "container → user code   10 ms    10 ms    20 ms\n"
        "created → user code     70 ms    650 ms   790 ms\n"
        "user code               50 ms    50 ms    100 ms\n"
        "exited → recorded       5.0 ms   5.0 ms   10 ms\n"
        "Sum of gaps (time that tasks waited to run): 790 ms over 3 tasks."
    )


def test_times_in_whole_seconds_are_not_taken_for_precise() -> None:
    coarse = done(task("root")).times(created=EPOCH).build()
    assert "up to 1 s too long" in render_summary(build_forest([coarse]), STYLE)[-1]
    exact = done(task("exact")).build()
    stages = {s.name: s for s in latency_stages(all_views(build_forest([coarse, exact])))}
    assert (stages["created → placed"].count, stages["created → placed"].coarse) == (1, False)
    assert stages["user code"].count == 2


def test_a_retried_task_is_left_out_of_the_receipt() -> None:
    views = [node.view for node in build_forest(family())[0].children if node.view.name == "right"]
    assert latency_stages(views) == []


def test_chain_goes_down_not_right() -> None:
    lines = render_forest(build_forest(chain(4)), STYLE)
    assert lines == [
        "✔ task-0 Succeeded  50 ms",
        "↳ ✔ task-1 Succeeded  50 ms",
        "↳ ✔ task-2 Succeeded  50 ms",
        "↳ ✔ task-3 Succeeded  50 ms",
    ]


def test_long_chain_shows_both_ends() -> None:
    lines = render_forest(build_forest(chain(5000)), TreeStyle(NOW, max_lines=12))
    assert len(lines) == 11
    assert lines[0].startswith("✔ task-0 ")
    assert lines[-1].endswith("✔ task-4999 Succeeded  50 ms")
    assert "4990 more: 4990 Succeeded" in "\n".join(lines)


def test_wide_tree_counts_what_it_leaves_out_and_shows_failures_first() -> None:
    root = done(task("root")).build()
    children = [done(task(f"c-{n}").child_of(root), n).build() for n in range(3000)]
    children[1500] = task("bad").child_of(root).state(TaskState.FAILED, "Timeout").build()
    lines = render_forest(build_forest([root, *children]), STYLE)
    assert len(lines) == 13
    assert any("✘ bad Failed  Timeout" in line for line in lines)
    assert lines[-1] == "└─ … 2989 more: 2989 Succeeded"


def test_budget_holds_and_nothing_is_lost() -> None:
    root = done(task("root")).build()
    tasks = [root]
    for n in range(20):
        middle = done(task(f"m-{n}").child_of(root), n).build()
        tasks.append(middle)
        tasks += [done(task(f"m-{n}-{k}").child_of(middle), k).build() for k in range(50)]
    forest = build_forest(tasks)
    lines = render_forest(forest, TreeStyle(NOW, max_lines=30))
    assert len(lines) <= 30
    assert any("below: 50 Succeeded" in line for line in lines)
    assert len(render_forest(forest, TreeStyle(NOW, max_lines=0))) == len(tasks)
    assert forest[0].below == len(tasks) - 1


def test_orphans_become_roots() -> None:
    gone = task("gone").build()
    orphan = task("orphan").child_of(gone).build()
    assert render_forest(build_forest([orphan]), STYLE) == ["○ orphan Pending"]


def test_many_roots_keep_the_newest() -> None:
    roots = [done(task(f"r-{n}").created(at(n * 1000)), n * 1000).build() for n in range(200)]
    lines = render_forest(build_forest(roots), TreeStyle(NOW, max_lines=50))
    assert len(lines) == 51
    assert lines[0] == "… 150 more: 150 Succeeded"
    assert lines[-1].startswith("✔ r-199 ")


def test_ten_thousand_deep_does_not_recurse() -> None:
    forest = build_forest(chain(10000))
    assert forest[0].below == 9999
    assert len(render_forest(forest, TreeStyle(NOW, max_lines=0))) == 10000


def test_standstill() -> None:
    """Why nothing runs: of TaskClusters that pending tasks wait for, those that are not ready."""

    def cluster(name: str, status: str) -> Object:
        condition = {"type": "Ready", "status": status, "message": f"{name} says so."}
        return taskcluster(name).status(conditions=[condition]).build()

    clusters = [cluster("b", "False"), cluster("a", "Unknown"), cluster("up", "True")]
    clusters += [cluster("idle", "False"), taskcluster("new").build()]
    names = ("a", "b", "up", "new", "unknown")
    pending = [task(f"t-{name}").cluster(name).build() for name in names]
    assert render_standstill(build_forest(pending), clusters) == [
        "TaskCluster a is not ready: a says so.",
        "TaskCluster b is not ready: b says so.",
    ]
    for builder in (task("x").running("c-1"), task("x").state(TaskState.SCHEDULED)):
        assert render_standstill(build_forest([*pending, builder.build()]), clusters) == []
    assert render_standstill([], clusters) == []


@pytest.mark.parametrize(
    ("reason", "message", "width", "end"),
    [
        ("NonZeroExit", "It failed.\nTrace\nValueError: x\n", 80, "NonZeroExit 1: ValueError: x"),
        ("NonZeroExit", "The command exited with code 1.", 80, "NonZeroExit 1"),
        ("Timeout", "It ran too long.", 80, "Timeout: It ran too long."),
        ("StartError", "x" * 300, 80, "x" * 53 + "..."),
        ("StartError", "x" * 300, 10, ": " + "x" * 17 + "..."),
        ("StartError", "\x1b[2Jx\n\u202ey", 80, "StartError: \\u202ey"),
    ],
)  # fmt: skip
def test_the_cause_of_a_failure(reason: str, message: str, width: int, end: str) -> None:
    failed = task("t").state(TaskState.FAILED, reason).status(message=message, exitCode=1)
    style = TreeStyle(NOW, width=width)
    (line,) = render_forest(build_forest([failed.build()]), style)
    assert line.endswith(end)
    assert len(line) <= max(width, 60)


def test_a_task_that_did_not_fail_has_no_cause() -> None:
    running = task("t").running("c-1").status(message="It runs.").build()
    (line,) = render_forest(build_forest([running]), STYLE)
    assert "It runs" not in line
