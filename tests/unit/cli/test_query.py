from __future__ import annotations

import json
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.client.base import EventType, WatchEvent
from taskctl.testing.builders import TaskBuilder, task
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient


def complete(builder: TaskBuilder, *, good: bool) -> dict[str, Any]:
    conditions = [
        {"type": "Complete", "status": "True"},
        {"type": "Succeeded", "status": "True" if good else "False"},
    ]
    return builder.status(conditions=conditions).metadata(resourceVersion="101").build()


GOOD = complete(task("good").state(TaskState.SUCCEEDED), good=True)
BAD = complete(
    task("bad").state(TaskState.FAILED, "NonZeroExit").status(message="exit 3\nlog"), good=False
)
HALF = complete(
    task("half").state(TaskState.SUCCEEDED).status(descendants={"failed": 2}), good=False
)


def test_get_lists_names_and_json(run: Run, client: FakeClient) -> None:
    client.put(GOOD, BAD)
    assert run("get").stdout.splitlines()[0].split()[:3] == ["NAME", "STATE", "REASON"]
    assert run("get", "-o", "name").stdout == "task.taskctl.dev/bad\ntask.taskctl.dev/good\n"
    listed = json.loads(run("get", "-o", "json").stdout)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["bad", "good"]
    one = json.loads(run("get", "good", "-o", "json").stdout)
    assert one["metadata"]["name"] == "good"


def test_get_nothing(run: Run, client: FakeClient) -> None:
    empty = run("-n", "a", "get")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert empty.stderr == "No tasks in namespace a.\n"
    missing = run("get", "x")
    assert missing.exit_code == 3
    assert missing.stderr == 'taskctl: tasks.taskctl.dev "x" not found\n'


def test_get_filters_on_the_server(run: Run, client: FakeClient) -> None:
    root = task("root").build()
    client.put(root, task("kid").child_of(root).build(), task("other").build(), GOOD)
    assert run("get", "--state", "Succeeded", "-o", "name").stdout == "task.taskctl.dev/good\n"
    tree = run("get", "--root", "root", "-o", "name").stdout
    assert tree == "task.taskctl.dev/kid\ntask.taskctl.dev/root\n"
    run("get", "-A", "--cluster", "c", "-l", "a=b")
    verb, _, namespace, options = client.calls[-1]
    assert (verb, namespace) == ("list", None)
    assert options.field_selector == "spec.clusterName=c"
    assert options.label_selector == "a=b"
    assert run("get", "x", "--state", "Failed").exit_code == 2


@pytest.mark.parametrize(
    ("before", "goal", "code", "words"),
    [
        (GOOD, "succeeded", 0, "good succeeded"),
        (BAD, "succeeded", 1, "bad failed (NonZeroExit: exit 3)"),
        (BAD, "complete", 0, "bad failed"),
        (HALF, "succeeded", 1, "half succeeded, but of its descendants 2 failed, 0 cancelled"),
    ],
)
def test_wait_for_what_is_over(
    run: Run, client: FakeClient, before: dict[str, Any], goal: str, code: int, words: str
) -> None:
    client.put(before)
    result = run("wait", before["metadata"]["name"], "--for", goal)
    assert (result.exit_code, words in result.stdout) == (code, True)


def test_wait_prints_objects(run: Run, client: FakeClient) -> None:
    client.put(BAD)
    result = run("wait", "bad", "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"]["reason"] == "NonZeroExit"
    assert run("wait", "bad", "-o", "name").stdout == "task.taskctl.dev/bad\n"


def test_wait_follows_changes(run: Run, client: FakeClient) -> None:
    client.put(task("good").build(), task("bad").build())
    client.events = [
        WatchEvent(EventType.MODIFIED, task("good").running("c-1").build()),
        WatchEvent(EventType.MODIFIED, GOOD),
        WatchEvent(EventType.MODIFIED, BAD),
    ]
    result = run("wait", "good", "bad")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["good succeeded", "bad failed (NonZeroExit: exit 3)"]


def test_a_finished_root_waits_for_its_tree(run: Run, client: FakeClient) -> None:
    client.put(task("root").state(TaskState.SUCCEEDED).build())
    result = run("wait", "root", "--timeout", "0.05")
    assert result.exit_code == 4
    assert result.stderr == "taskctl: not finished after 0.05 s: root\n"


def test_wait_for_nothing(run: Run, client: FakeClient) -> None:
    assert run("wait", "ghost").exit_code == 3
    client.put(task("gone").build())
    client.events = [WatchEvent(EventType.DELETED, task("gone").build())]
    result = run("wait", "gone")
    assert result.exit_code == 3
    assert "does not exist" in result.stderr
