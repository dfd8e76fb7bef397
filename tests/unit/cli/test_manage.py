from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.embedded.server.patch.formats import merge_patch
from taskctl.policy.rerun import refusal, rerun_body
from taskctl.testing.builders import EPOCH, TaskBuilder, task
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

NOW = EPOCH + timedelta(hours=1)


def failed(name: str = "t") -> TaskBuilder:
    return (
        task(name)
        .state(TaskState.FAILED, "NonZeroExit")
        .status(
            attempt=3,
            failures=3,
            infraFailures=1,
            exitCode=4,
            signal=9,
            podName="c-1",
            podUID="u",
            containerName="t-x-3",
            outputObject="t-output-3",
            message="x",
            usage={"userSeconds": 1},
            conditions=[
                {"type": "Complete", "status": "True", "lastTransitionTime": "a"},
                {"type": "Succeeded", "status": "False", "lastTransitionTime": "a"},
            ],
        )
        .times(created=EPOCH, userCode=EPOCH, exited=EPOCH)
    )


def test_rerun_keeps_the_attempt_number_and_forgets_the_rest() -> None:
    before = failed().build()
    body = rerun_body(before, NOW)
    assert body["metadata"]["resourceVersion"] == "1"
    after: dict[str, Any] = merge_patch(before, body)["status"]
    assert after["state"] == "Pending"
    assert after["attempt"] == 3
    gone = {"failures", "infraFailures", "exitCode", "signal", "podName", "podUID"}
    gone |= {"containerName", "outputObject", "usage"}
    assert not gone & set(after)
    assert set(after["times"]) == {"created"}
    assert [(c["type"], c["status"]) for c in after["conditions"]] == [("Complete", "False")]
    assert after["attempts"] == [
        {
            "attempt": 3,
            "podName": "c-1",
            "reason": "NonZeroExit",
            "exitCode": 4,
            "exited": "2026-01-01T00:00:00.000000Z",
        }
    ]


def test_what_cannot_be_retried() -> None:
    assert refusal(failed().build()) is None
    assert refusal(task().state(TaskState.CANCELLED).build()) is None
    assert "only Failed tasks" in (refusal(task().state(TaskState.RUNNING).build()) or "")
    assert "only Failed tasks" in (refusal(task().state(TaskState.SUCCEEDED).build()) or "")
    assert "deleted" in (refusal(failed().deleting().build()) or "")


def test_retry_writes_the_status_and_survives_a_conflict(run: Run, client: FakeClient) -> None:
    client.put(failed().build())
    client.conflicts = 2
    result = run("retry", "t")
    assert (result.exit_code, result.stdout) == (0, "task.taskctl.dev/t queued again\n")
    assert client.objects["Task", "t"]["status"]["state"] == "Pending"
    assert client.calls[-1][4] == "status"
    again = run("retry", "t")
    assert again.exit_code == 1
    assert "it is Pending" in again.stderr


def test_retry_takes_a_cancellation_back(run: Run, client: FakeClient) -> None:
    client.put(failed().spec(cancel=True, cancelScope="Task").build())
    assert run("retry", "t").exit_code == 0
    task = client.objects["Task", "t"]
    assert not {"cancel", "cancelScope", "suspend"} & set(task["spec"])
    assert task["status"]["state"] == "Pending"


def test_retry_failed_goes_for_the_tree(run: Run, client: FakeClient) -> None:
    root = failed("root").build()
    bad = failed("bad").child_of(root).build()
    good = task("good").child_of(root).state(TaskState.SUCCEEDED).build()
    client.put(root, bad, good)
    result = run("retry", "root", "--failed")
    assert result.stdout.splitlines() == [
        "task.taskctl.dev/root queued again",
        "task.taskctl.dev/bad queued again",
    ]
    assert client.objects["Task", "good"]["status"]["state"] == "Succeeded"
    assert "suspend" not in client.objects["Task", "root"]["spec"]
    again = run("retry", "root", "--failed")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "nothing to retry" in again.stderr


def test_cancel(run: Run, client: FakeClient) -> None:
    client.put(task("a").build(), failed("b").build())
    result = run("cancel", "a", "b")
    assert result.exit_code == 0
    assert result.stdout == "task.taskctl.dev/a cancelled\n"
    assert result.stderr == "b has already ended (Failed)\n"
    assert client.objects["Task", "a"]["spec"]["cancel"] is True
    assert "cancel" not in client.objects["Task", "b"]["spec"]
    assert run("cancel", "ghost").exit_code == 3


@pytest.mark.parametrize("complete", [False, True])
def test_cancel_takes_the_tree_of_a_root_that_has_ended(
    run: Run, client: FakeClient, complete: bool
) -> None:
    status = "True" if complete else "False"
    condition = {"type": "Complete", "status": status, "lastTransitionTime": "a", "reason": "x"}
    client.put(task("root").state(TaskState.SUCCEEDED).status(conditions=[condition]).build())
    result = run("cancel", "root")
    assert result.exit_code == 0
    assert ("cancelled" in result.stdout) is not complete
    assert client.objects["Task", "root"]["spec"].get("cancel", False) is not complete


def test_cancel_one_alone_and_then_the_rest(run: Run, client: FakeClient) -> None:
    client.put(task("a").build())
    assert run("cancel", "a", "--only").exit_code == 0
    spec = client.objects["Task", "a"]["spec"]
    assert (spec["cancel"], spec["cancelScope"]) == (True, "Task")
    assert run("cancel", "a").exit_code == 0
    assert "cancelScope" not in client.objects["Task", "a"]["spec"]
    assert run("cancel", "a", "--only", "--tree").exit_code == 2
