"""Rows of raw Tasks."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import orjson
import pytest

from taskctl.api.states import TaskState
from taskctl.testing.builders import EPOCH, task
from taskctl.ui.model import STAGES, cluster_row_of, detail_of, last_line, row_of


def test_a_row_tells_state_times_and_worker() -> None:
    moments = {name: EPOCH + timedelta(seconds=n) for n, name in enumerate(STAGES)}
    found = row_of(
        task("a")
        .command("python3", "-m", "taskctl.sdk.run", "sums:square")
        .running("c-1")
        .times(**moments)
        .status(progress={"done": 3, "total": 10, "message": "half\nway"})
        .build()
    )
    assert (found.name, found.title, found.label, found.state) == ("a", "a", "square", "Running")
    assert found.worker == "c-1"
    first = EPOCH.timestamp() * 1000
    assert found.times == tuple(first + 1000 * n for n in range(6))
    assert found.progress == (3, 10, "half\\nway")
    assert not found.complete


def test_a_task_that_is_new_was_created_when_kubernetes_says() -> None:
    found = row_of(task("a").status(state=None).build())
    assert found.state == "Pending"
    assert found.times == (EPOCH.timestamp() * 1000, None, None, None, None, None)


def test_a_child_is_called_by_its_key_where_taskctl_made_up_the_name() -> None:
    root = task("sums").build()
    digest = hashlib.sha256(f"{root['metadata']['uid']}/7".encode()).hexdigest()
    made_up = task(f"sums-{digest[:10]}").child_of(root, key="7").build()
    with_word = task(f"sums-square-{digest[:8]}").child_of(root, key="7").build()
    chosen = task("task-12").child_of(root, key="next").build()
    assert [row_of(one).title for one in (made_up, with_word, chosen)] == ["7", "7", "task-12"]
    assert row_of(chosen).parent == root["metadata"]["uid"]


def test_a_key_that_nobody_chose_is_not_shown() -> None:
    root = task("sums").build()
    key = "auto-0123456789abcdef-0"
    digest = hashlib.sha256(f"{root['metadata']['uid']}/{key}".encode()).hexdigest()[:10]
    kid = task(f"sums-square-{digest}").child_of(root, key=key).build()
    assert row_of(kid).title == f"square-{digest}"


@pytest.mark.parametrize(
    ("state", "complete", "succeeded", "tree"),
    [
        (TaskState.SUCCEEDED, "False", None, "running"),
        (TaskState.SUCCEEDED, "True", "False", "failed"),
        (TaskState.SUCCEEDED, "True", "True", ""),
        (TaskState.RUNNING, "False", None, ""),
        (TaskState.FAILED, "True", "False", ""),
    ],
)
def test_a_root_that_did_well_has_the_colour_of_its_tree(
    state: TaskState, complete: str, succeeded: str | None, tree: str
) -> None:
    said = [{"type": "Complete", "status": complete}]
    said += [{"type": "Succeeded", "status": succeeded}] if succeeded else []
    root = task("root").state(state).status(conditions=said).build()
    assert row_of(root).tree == tree
    assert (
        row_of(task("kid").child_of(root).state(state).status(conditions=said).build()).tree == ""
    )


def test_the_last_line_of_a_traceback_is_what_counts() -> None:
    text = "Traceback (most recent call last):\n  File x\nValueError: no\n\n"
    found = row_of(task("a").state(TaskState.FAILED, "NonZeroExit").status(message=text).build())
    assert found.message == "ValueError: no"
    assert detail_of(task("a").status(message=text).build())["message"] == text


def test_what_a_task_says_is_harmless_and_short() -> None:
    assert last_line("\x1b[31mred\u202e") == "\\x1b[31mred\\u202e"
    assert len(last_line("x" * 5000)) == 240
    assert last_line(None) == ""


def test_rows_are_json_by_their_field_names() -> None:
    found = orjson.loads(orjson.dumps(row_of(task("a").build())))
    assert {"uid", "parent", "root", "label", "state", "times", "worker", "message"} <= set(found)


def test_a_cluster_that_is_not_ready_says_why() -> None:
    cluster = {
        "metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {"replicas": 3, "slotsPerWorker": 4},
        "status": {
            "ready": 1,
            "conditions": [{"type": "Ready", "status": "False", "message": "no image"}],
        },
    }
    found = cluster_row_of(cluster)
    assert (found.workers, found.replicas, found.ready, found.message) == (1, 3, False, "no image")
