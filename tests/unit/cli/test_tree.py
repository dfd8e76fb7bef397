"""The verb; the drawing is in test_render_tree."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS
from taskctl.api.states import TaskState
from taskctl.cli import tree
from taskctl.errors import Forbidden
from taskctl.kube.interface import EventType, WatchEvent
from taskctl.kube.resources import Resource
from taskctl.testing.builders import task, taskcluster
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient
from tests.unit.cli.test_query import complete

ROOT = task("root").state(TaskState.SUCCEEDED).build()
KID = task("kid").child_of(ROOT).running("c-1").build()


def test_one_tree(run: Run, client: FakeClient) -> None:
    client.put(ROOT, KID, task("stranger").build())
    lines = run("tree", "root").stdout.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["●", "root"], ["↳", "●"]]
    assert "2 tasks: 1 Running, 1 Succeeded" in "\n".join(lines)
    assert "stranger" not in "\n".join(lines)


def test_all_trees_and_none(run: Run, client: FakeClient) -> None:
    assert run("tree").stderr == "No tasks.\n"
    client.put(ROOT, KID, task("stranger").build())
    assert "stranger (true) Pending" in run("tree").stdout
    assert run("tree", "ghost").exit_code == 3


def test_json_is_flat(run: Run, client: FakeClient) -> None:
    client.put(ROOT, KID)
    value = json.loads(run("tree", "root", "-o", "json").stdout)
    assert {(t["name"], t["parent"], t["depth"]) for t in value["tasks"]} == {
        ("root", None, 0),
        ("kid", "root", 1),
    }
    assert value["counts"] == {"Running": 1, "Succeeded": 1}


def test_watch_prints_a_line_per_end_and_the_verdict(run: Run, client: FakeClient) -> None:
    client.put(task("root").running("c-1").build())
    kid = complete(task("kid").child_of(ROOT).state(TaskState.FAILED, "Timeout"), good=False)
    root = complete(task("root").state(TaskState.SUCCEEDED), good=False)
    client.events = [
        WatchEvent(EventType.ADDED, kid),
        WatchEvent(EventType.MODIFIED, root),
    ]
    result = run("tree", "root", "--watch")
    assert result.exit_code == 1
    assert "root succeeded, but of its descendants" in result.stdout
    assert "1 Failed, 1 Succeeded" in result.stdout


def cluster(ready: str, message: str, name: str = "c") -> dict[str, Any]:
    condition = {"type": "Ready", "status": ready, "message": message}
    return taskcluster(name).status(conditions=[condition]).build()


def exited(state: str, **more: str) -> dict[str, Any]:
    """A root that is complete, with an exit task."""
    root: dict[str, Any] = complete(task("root").state(TaskState.SUCCEEDED), good=True)
    root["spec"]["onExit"] = {"command": ["true"]}
    noted = {"run": 1, "task": "root-exit-1", "state": state, **more}
    return {**root, "status": {**root["status"], "tree": {"exit": noted}}}


def test_the_exit_task_has_a_line(run: Run, client: FakeClient) -> None:
    client.put(exited("Failed", reason="NonZeroExit", message="It\x1b\nended so."))
    lines = run("tree", "root").stdout.splitlines()
    assert lines[1] == "on exit: ✘ root-exit-1 Failed  NonZeroExit: ended so."
    client.put(exited("Succeeded", reason="Completed"))
    assert "on exit: ✔ root-exit-1 Succeeded" in run("tree", "root").stdout.splitlines()
    value = json.loads(run("tree", "root", "-o", "json").stdout)
    assert value["exits"]["root"]["state"] == "Succeeded"


def test_notifications_have_lines(run: Run, client: FakeClient) -> None:
    root = complete(task("root").state(TaskState.SUCCEEDED), good=True)
    root["spec"]["notify"] = [{"url": "https://a.example.com/x"}, {"url": "https://b/"}]
    first = {"id": "1", "run": 1, "time": "x", "event": "Succeeded", "notify": 0}
    entries: list[dict[str, Any]] = [
        first | {"state": "Sent", "attempts": 1, "message": "HTTP 200", "event": "Started"},
        first | {"state": "GivenUp", "attempts": 1, "reason": "Refused", "message": "It said 404."},
        first | {"state": "Owed", "attempts": 2, "reason": "NoAnswer", "message": "Not\x1b now.",
                 "next": "2030-01-01T12:34:56.000000Z", "notify": 1, "data": {"secret": 1}},
    ]  # fmt: skip
    root["status"]["tree"] = {"notifications": entries}
    client.put(root)
    assert run("tree", "root").stdout.splitlines()[1:4] == [
        "notify: ✔ Started to https://a.example.com/x Sent",
        "notify: ✘ Succeeded to https://a.example.com/x GivenUp  Refused: It said 404.",
        "notify: ○ Succeeded to https://b/ Owed, attempt 3 at 12:34:56 UTC  NoAnswer: "
        "Not\\x1b now.",
    ]
    value = json.loads(run("tree", "root", "-o", "json").stdout)
    assert [one["state"] for one in value["notifications"]["root"]] == ["Sent", "GivenUp", "Owed"]
    assert "secret" not in json.dumps(value)


def test_a_host_that_is_not_allowed_has_a_line_before_the_end(run: Run, client: FakeClient) -> None:
    root = task("root").running("c-1").build()
    root["spec"]["notify"] = [{"url": "https://a/"}]
    said = {"type": "Notified", "status": "False", "reason": "HostNotAllowed", "message": "Ask."}
    root["status"]["conditions"] = [said]
    client.put(root)
    assert "notify: HostNotAllowed: Ask." in run("tree", "root").stdout.splitlines()


def test_watch_waits_for_the_exit_task(run: Run, client: FakeClient) -> None:
    client.put(exited("Running"))
    over = exited("Succeeded", finished="2026-01-01T00:00:00.000000Z")
    client.events = [WatchEvent(EventType.MODIFIED, over)]
    result = run("tree", "root", "--watch")
    assert result.exit_code == 0
    assert "on exit: ✔ root-exit-1 Succeeded" in result.stdout


def test_watch_says_why_nothing_runs(run: Run, client: FakeClient) -> None:
    client.put(
        task("root").cluster("c").build(),
        cluster("False", "0 of 1 workers are ready. c-1: ErrImagePull"),
        cluster("False", "of no interest", name="other"),
    )
    root = complete(task("root").state(TaskState.SUCCEEDED), good=True)
    client.events = [
        WatchEvent(EventType.MODIFIED, cluster("False", "0 of 1 workers are ready. c-1: Pending")),
        WatchEvent(EventType.MODIFIED, cluster("True", "1 workers are ready.")),
        WatchEvent(EventType.MODIFIED, task("root").running("c-1").build()),
        WatchEvent(EventType.MODIFIED, root),
    ]
    result = run("tree", "root", "--watch")
    assert result.exit_code == 0
    assert "TaskCluster c is not ready: 0 of 1 workers are ready. c-1:" in result.stderr
    assert "of no interest" not in result.stderr
    assert "not ready" not in result.stdout


def test_watch_without_the_right_to_see_taskclusters(
    run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_all = client.list_all

    async def refuse(res: Resource, *args: Any, **kwargs: Any) -> Any:
        if res is TASKCLUSTERS:
            raise Forbidden("no", 403)
        return await list_all(res, *args, **kwargs)

    monkeypatch.setattr(client, "list_all", refuse)
    client.put(task("root").build())
    client.events = [
        WatchEvent(EventType.MODIFIED, complete(task("root").state(TaskState.SUCCEEDED), good=True))
    ]
    assert run("tree", "root", "--watch").exit_code == 0


def test_watch_of_a_deleted_root(run: Run, client: FakeClient) -> None:
    client.put(task("root").build())
    client.events = [WatchEvent(EventType.DELETED, task("root").build())]
    assert run("tree", "root", "-w").exit_code == 3
    assert run("tree", "root", "-w", "-o", "json").exit_code == 2


async def test_the_last_picture_stays_when_a_watch_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(_: Any, __: Any, trees: tree.Trees) -> None:
        trees.tasks.update({one["metadata"]["uid"]: one for one in (ROOT, KID)})
        raise asyncio.CancelledError

    monkeypatch.setattr(tree, "_show_live", interrupted)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    session: Any = None  # nothing is asked
    with pytest.raises(asyncio.CancelledError):
        await tree._watch(session, tree.TreeOptions(watch=True))
    printed = capsys.readouterr().out
    assert "its tree runs" in printed
    assert "1/2" in printed  # the status bar
