from __future__ import annotations

import re
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
from taskctl.cli.statusbar import render_status
from taskctl.cli.terminal import columns, cut
from taskctl.cli.tree import Trees, draw_live
from taskctl.policy.lineage import child_name
from taskctl.policy.view import parse_task
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
        "● root (true) Succeeded, its tree runs  50 ms",
        "├─ ✔ left Succeeded  50 ms",
        "│  ↳ ● leaf Running  59.0 s",
        "└─ ✘ right Failed  NonZeroExit 3, 100 ms, attempt 2",
    ]


def test_tree_in_ascii() -> None:
    assert render_forest(build_forest(family()), TreeStyle(NOW, unicode=False)) == [
        "* root (true) Succeeded, its tree runs  50 ms",
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
        "✔ task-0 (true) Succeeded  50 ms",
        "↳ ✔ task-1 Succeeded  50 ms",
        "↳ ✔ task-2 Succeeded  50 ms",
        "↳ ✔ task-3 Succeeded  50 ms",
    ]


def test_long_chain_shows_both_ends() -> None:
    lines = render_forest(build_forest(chain(5000)), TreeStyle(NOW, max_lines=12))
    assert len(lines) == 12
    assert lines[0].startswith("✔ task-0 ")
    assert lines[-1].endswith("✔ task-4999 Succeeded  50 ms")
    assert "4989 more: 4989 Succeeded" in "\n".join(lines)


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
    assert render_forest(build_forest([orphan]), STYLE) == ["○ orphan (true) Pending"]


def test_children_of_one_moment_stand_in_the_order_of_their_numbers() -> None:
    root = done(task("root")).build()
    created = {"c-10": 5, "c-9": 5, "c-1": 7, "c-11": 5, "c-2": 3}
    children = [done(task(name).child_of(root), ms).build() for name, ms in created.items()]
    (node,) = build_forest([*children, root])
    names = [child.view.name for child in node.children]
    assert names == ["c-2", "c-9", "c-10", "c-11", "c-1"]
    assert node.counts == {TaskState.SUCCEEDED: 5}


def test_many_roots_keep_the_newest() -> None:
    roots = [done(task(f"r-{n}").created(at(n * 1000)), n * 1000).build() for n in range(200)]
    lines = render_forest(build_forest(roots), TreeStyle(NOW, max_lines=50))
    assert len(lines) == 50
    assert lines[0] == "… 151 more: 151 Succeeded"
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
        ("NonZeroExit", f"T\nValueError: {'x' * 20}", 70, f"Exit 1: ValueError: {'x' * 20}"),
        ("NonZeroExit", f"T\nValueError: {'x' * 20}", 60, f") Failed: ValueError: {'x' * 20}"),
        ("NonZeroExit", "The command exited with code 1.", 80, "NonZeroExit 1"),
        ("Timeout", "It ran too long.", 80, "Timeout: It ran too long."),
        ("StartError", "x" * 300, 80, "x" * 46 + "..."),
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


# --- what comes first ---------------------------------------------------------------


def forest_of(shape: str, size: int) -> list[Object]:
    """A tree with a failure and running tasks far from where a look from the top finds them."""
    root = done(task("root")).build()
    tasks, parent = [root], root
    for n in range(size):
        child = done(task(f"{shape}-{n}").child_of(parent), n).build()
        tasks.append(child)
        if shape == "deep" or (shape == "bushy" and n % 9 == 0):
            parent = child
    for n in range(3):
        late = task(f"busy-{n}").child_of(parent).running("c-1")
        tasks.append(late.times(created=at(size + n), userCode=at(size + n)).build())
    bad = task("bad").child_of(tasks[size // 2]).state(TaskState.FAILED, "NonZeroExit")
    tasks.append(bad.status(message="Failed.\nTraceback\nValueError: bad luck").build())
    return tasks


@pytest.mark.parametrize("shape", ["deep", "wide", "bushy"])
@pytest.mark.parametrize("lines", [6, 10, 23, 60])
def test_what_fails_and_what_runs_is_seen_however_large_the_tree(shape: str, lines: int) -> None:
    tasks = forest_of(shape, 120)
    drawn = render_forest(build_forest(tasks), TreeStyle(NOW, max_lines=lines, width=80))
    text = "\n".join(drawn)
    assert len(drawn) <= lines
    assert "✘ bad" in text
    assert "ValueError: bad luck" in text
    assert "● busy-0" in text
    assert text.index("✘ bad") < text.index("● busy-0") or shape != "wide"
    # Each task has a line, or is counted in one.
    counts = [line.partition(": ")[2] for line in drawn if " more: " in line or "below: " in line]
    counted = sum(int(number) for part in counts for number in re.findall(r"(\d+) [A-Z]", part))
    assert counted + sum(" more: " not in line for line in drawn) == len(tasks)


@pytest.mark.parametrize("roots", [1, 2, 40])
@pytest.mark.parametrize("lines", [1, 2, 3, 5, 8, 20])
def test_there_are_never_more_lines_than_allowed(roots: int, lines: int) -> None:
    tasks: list[Object] = []
    for number in range(roots):
        root = done(task(f"r-{number}"), number).build()
        kids = [done(task(f"r-{number}-{n}").child_of(root), n).build() for n in range(4)]
        tasks += [root, *kids]
    drawn = render_forest(build_forest(tasks), TreeStyle(NOW, max_lines=lines))
    assert 1 <= len(drawn) <= lines


def test_many_failures_leave_room_for_what_runs_and_the_other_way_round() -> None:
    root = task("root").running("c-1").build()
    bad = [
        task(f"bad-{n}").child_of(root).state(TaskState.FAILED, "Timeout").build()
        for n in range(90)
    ]
    busy = [task(f"busy-{n}").child_of(root).running("c-2").build() for n in range(90)]
    drawn = "\n".join(
        render_forest(build_forest([root, *busy, *bad]), TreeStyle(NOW, max_lines=20))
    )
    assert drawn.count("✘") >= 8
    assert drawn.count("● busy") >= 8
    assert drawn.index("✘") < drawn.index("● busy")


@pytest.mark.parametrize(
    ("kid", "conditions", "line"),
    [
        (TaskState.RUNNING, {}, "● root (true) Succeeded, its tree runs"),
        (TaskState.PENDING, {}, "● root (true) Succeeded, its tree runs"),
        (TaskState.FAILED, {}, "✔ root (true) Succeeded"),  # not recorded yet
        (
            TaskState.FAILED,
            {"Complete": "True", "Succeeded": "False"},
            "✘ root (true) Succeeded, its tree failed",
        ),
        (TaskState.CANCELLED, {"Complete": "True", "Succeeded": "True"}, "✔ root (true) Succeeded"),
    ],
)
def test_a_root_looks_as_its_tree_does(
    kid: TaskState, conditions: dict[str, str], line: str
) -> None:
    said = [{"type": name, "status": status} for name, status in conditions.items()]
    root = task("root").state(TaskState.SUCCEEDED).status(conditions=said).build()
    tree = [root, task("kid").child_of(root).state(kid).build()]
    assert render_forest(build_forest(tree), STYLE)[0].strip() == line
    coloured = render_forest(build_forest(tree), TreeStyle(NOW, colour=True))[0]
    assert coloured.startswith("\x1b[32m✔") is line.startswith("✔")


def child(key: str, command: list[str], root: Object, name: str = "") -> Object:
    parent = parse_task(root)
    made = name or child_name(parent, key, command)
    builder = task(made).child_of(root).command(*command)
    obj = builder.build()
    obj["spec"]["lineage"] |= {"key": key, "task": made}
    return obj


MADE_KEY = "auto-0123456789abcdef-0"


@pytest.mark.parametrize(
    ("key", "name", "command", "plain", "live"),
    [
        ("page-7", "", "crawl", "root-page-7-0c (crawl)", "page-7 (crawl)"),
        ("crawl/3", "", "crawl", "root-crawl-3-0c crawl/3", "crawl/3"),
        (MADE_KEY, "", "crawl", "root-crawl-0c", "…-crawl-0c"),
        (MADE_KEY, "", "true", "root-true-0c", "…-true-0c"),
        ("page-7", "mine", "crawl", "mine (crawl)", "mine (crawl)"),
        ("\x1b[2J", "", "crawl", "root-2j-0c \\x1b[2J (crawl)", "\\x1b[2J (crawl)"),
    ],
)
def test_titles(key: str, name: str, command: str, plain: str, live: str) -> None:
    root = task("root").build()
    kid = child(key, [command], root, name)
    digest = kid["metadata"]["name"].rpartition("-")[2]
    for is_live, title in ((False, plain), (True, live)):
        lines = render_forest(build_forest([root, kid]), TreeStyle(NOW, live=is_live))
        assert lines[1] == f"↳ ○ {title.replace('0c', digest)} Pending"


def test_progress_of_a_running_task() -> None:
    running = task("t").running("c-1").status(progress={"done": 3, "total": 10, "message": "x\n"})
    (line,) = render_forest(build_forest([running.build()]), STYLE)
    assert "███░░░░░░░ 3/10 x" in line
    running = task("t").running("c-1").status(progress={"done": 3})
    (line,) = render_forest(build_forest([running.build()]), TreeStyle(NOW, unicode=False))
    assert "3 done" in line


# --- the status bar -----------------------------------------------------------------


def test_status_bar_golden() -> None:
    forest = build_forest(family())
    now = EPOCH + timedelta(seconds=5)
    assert render_status(forest, TreeStyle(now, width=80)) == (
        "✘1 ●1 ✔2  ███████████████░░░░░  3/4  0.6/s  ETA 2s  4s"
    )
    assert render_status(forest, TreeStyle(now, width=80, unicode=False)) == (
        "x1 *1 +2  ###############.....  3/4  0.6/s  ETA 2s  4s"
    )
    assert render_status(forest, TreeStyle(now, width=33)) == "✘1 ●1 ✔2  3/4  0.6/s  ETA 2s  4s"
    later = TreeStyle(EPOCH + timedelta(seconds=60), width=80)
    assert render_status(forest, later).endswith("3/4  59s")  # no rate, so no guess
    assert render_status([], later) == "no tasks yet  0/0"


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 4, 12, 23])
@pytest.mark.parametrize("shape", ["deep", "wide", "bushy"])
def test_the_live_picture_fits(shape: str, height: int, width: int) -> None:
    tasks = {obj["metadata"]["uid"]: obj for obj in forest_of(shape, 100)}
    condition = {"type": "Ready", "status": "False", "message": "why " * 90}
    clusters = {f"c{n}": taskcluster(f"c{n}").status(conditions=[condition]).build() for n in "ab"}
    trees = Trees(tasks=tasks, clusters=clusters)
    style = TreeStyle(NOW, max_lines=height, width=width, colour=True)
    lines = draw_live(trees, style)
    assert 1 <= len(lines) <= height
    assert max(columns(line) for line in lines) <= width
    assert "/105  " in lines[-1]  # the status bar
    assert "LATENCY" not in "\n".join(lines)


def test_cut_counts_columns_and_ends_colours() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"
    assert cut("\x1b[31mabcd\x1b[0m", 3) == "\x1b[31mab\x1b[0m…"
    assert cut("\x1b[31mabc\x1b[0m", 3) == "\x1b[31mabc\x1b[0m"
    assert cut("漢字かな", 5) == "漢字…"
    assert cut("abcd", 3, dots="...") == "..."
