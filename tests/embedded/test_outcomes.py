"""How a task ends, and what its object says about it."""

from __future__ import annotations

import asyncio
import json

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.errors import ApiError, Invalid, NotFound
from tests.embedded.world import World, eventually


async def test_success_is_recorded_with_its_times(world: World) -> None:
    await world.cluster()
    await world.task("ok", "sh", "-c", "echo hello")
    status = (await world.finished("ok"))["status"]
    assert status["state"] == "Succeeded"
    assert status["exitCode"] == 0
    assert status["attempt"] == 1
    times = status["times"]
    order = [times[key] for key in ("placed", "started", "userCode", "exited", "observed")]
    assert order == sorted(order), "the stages are in the order in which they happen"
    conditions = {entry["type"]: entry["status"] for entry in status["conditions"]}
    assert conditions["Complete"] == "True"
    assert conditions["Succeeded"] == "True"


async def test_failure_is_visible(world: World) -> None:
    await world.cluster()
    await world.task("bad", "sh", "-c", "echo first; echo the last words >&2; exit 3")
    status = (await world.finished("bad"))["status"]
    assert status["state"] == "Failed"
    assert status["exitCode"] == 3
    assert status["reason"] == "NonZeroExit"
    assert "the last words" in status["message"]


async def test_command_that_does_not_exist(world: World) -> None:
    await world.cluster()
    await world.task("ghost", "/no/such/program")
    status = (await world.finished("ghost"))["status"]
    assert (status["state"], status["reason"]) == ("Failed", "CommandNotFound")
    assert "/no/such/program" in status["message"]


async def test_killed_by_a_signal(world: World) -> None:
    await world.cluster()
    await world.task("shot", "sh", "-c", "kill -9 $$")
    status = (await world.finished("shot"))["status"]
    assert (status["state"], status["reason"], status["signal"]) == ("Failed", "Signalled", 9)


async def test_timeout_ends_the_whole_process_group(world: World) -> None:
    await world.cluster()
    await world.task("slow", "sh", "-c", "sleep 300 & sleep 300", timeoutSeconds=1)
    status = (await world.finished("slow"))["status"]
    assert (status["state"], status["reason"]) == ("Failed", "Timeout")
    assert "1" in status["message"], "the message says which timeout"


async def test_retry_until_it_works(world: World) -> None:
    await world.cluster()
    script = (
        'n=$(cat /workspace/n 2>/dev/null || echo 0); echo $((n+1)) >/workspace/n; [ "$n" = 2 ]'
    )
    await world.task("flaky", "sh", "-c", script, retry={"limit": 3, "backoffSeconds": 0.1})
    status = (await world.finished("flaky"))["status"]
    assert status["state"] == "Succeeded"
    assert status["attempt"] == 3
    assert status["failures"] == 2
    assert [entry["attempt"] for entry in status["attempts"]] == [1, 2]


async def test_retry_limit_is_kept(world: World) -> None:
    await world.cluster()
    script = "echo x >>/workspace/runs; exit 1"
    await world.task("never", "sh", "-c", script, retry={"limit": 2, "backoffSeconds": 0.1})
    status = (await world.finished("never"))["status"]
    assert (status["state"], status["attempt"]) == ("Failed", 3)
    assert (world.workspace() / "runs").read_text() == "x\n" * 3


async def test_exit_code_rules(world: World) -> None:
    await world.cluster()
    rules = {"limit": 5, "backoffSeconds": 0.1, "onExitCodes": [75]}
    await world.task("fatal", "sh", "-c", "exit 2", retry=rules)
    assert (await world.finished("fatal"))["status"]["attempt"] == 1


async def test_cancel_running(world: World) -> None:
    await world.cluster()
    script = "trap 'echo bye >/workspace/bye; exit 0' TERM; echo >/workspace/up; sleep 60 & wait"
    await world.task("long", "sh", "-c", script)
    await eventually(
        lambda: asyncio.to_thread((world.workspace() / "up").exists), bool, what="running"
    )
    await world.patch(TASKS, "long", {"spec": {"cancel": True}})
    status = (await world.finished("long"))["status"]
    assert (status["state"], status["reason"]) == ("Cancelled", "Cancelled")
    assert (world.workspace() / "bye").exists(), "SIGTERM came first"


async def test_cancel_queued(world: World) -> None:
    await world.cluster(slotsPerWorker=1)
    await world.task("first", "sleep", "60")
    await world.in_state("first", "Running")
    await world.task("second", "touch", "/workspace/second")
    await world.patch(TASKS, "second", {"spec": {"cancel": True}})
    assert (await world.finished("second"))["status"]["state"] == "Cancelled"
    await world.patch(TASKS, "first", {"spec": {"cancel": True}})
    await world.finished("first")
    assert not (world.workspace() / "second").exists()


async def test_deleting_a_running_task_stops_it(world: World) -> None:
    await world.cluster()
    script = "trap 'touch /workspace/stopped; exit 0' TERM; touch /workspace/up; sleep 60 & wait"
    await world.task("gone", "sh", "-c", script)
    workspace = world.workspace()
    await eventually(lambda: asyncio.to_thread((workspace / "up").exists), bool, what="running")
    await world.remove(TASKS, "gone")
    await eventually(
        lambda: asyncio.to_thread((workspace / "stopped").exists), bool, what="stopped"
    )
    with pytest.raises(NotFound):
        await world.get(TASKS, "gone")


async def test_suspended_task_waits(world: World) -> None:
    await world.cluster()
    await world.task("later", "true", suspend=True)
    await eventually(
        lambda: world.get(TASKS, "later"),
        lambda task: task.get("status", {}).get("reason") == "Suspended",
        what="suspended",
    )
    await world.patch(TASKS, "later", {"spec": {"suspend": False}})
    assert (await world.finished("later"))["status"]["state"] == "Succeeded"


async def test_missing_cluster_then_it_appears(world: World) -> None:
    await world.task("early", "true")
    task = await eventually(
        lambda: world.get(TASKS, "early"),
        lambda task: task["status"].get("reason") == "ClusterNotFound",
        what="pending for its cluster",
    )
    assert task["status"]["state"] == "Pending"
    await world.make(TASKCLUSTERS, "c", spec={"replicas": 1})
    assert (await world.finished("early"))["status"]["state"] == "Succeeded"


async def test_missing_input_then_it_appears(world: World) -> None:
    await world.cluster()
    await world.task("early", "sh", "-c", "taskctl-init input word", inputObject="later")
    await eventually(
        lambda: world.get(TASKS, "early"),
        lambda task: task["status"].get("reason") == "InputNotFound",
        what="pending for its input",
    )
    await world.make(TASKOBJECTS, "later", data={"word": "hello"})
    assert (await world.finished("early"))["status"]["state"] == "Succeeded"


async def test_input_is_the_output_of_the_attempt_that_succeeded(world: World) -> None:
    await world.cluster()
    await world.task(
        "reads", "sh", "-c", "[ $(taskctl-init input n) = 2 ]", inputObject="makes-output"
    )
    await world.task(
        "makes",
        *("sh", "-c"),
        "taskctl-init output --data n=0 && taskctl-init output --data n=$TASKCTL_ATTEMPT"
        " && sleep 1 && [ $TASKCTL_ATTEMPT = 2 ]",
        retry={"limit": 1, "backoffSeconds": 0.1},
    )
    makes, reads = await world.finished("makes"), await world.finished("reads")
    assert (makes["status"]["attempt"], makes["status"]["outputObject"]) == (2, "makes-output")
    assert reads["status"]["state"] == "Succeeded"
    made = await world.get(TASKOBJECTS, "makes-output")
    assert made["data"] == {"n": "2"}


async def test_input_that_will_never_be_made(world: World) -> None:
    await world.cluster()
    await world.task("early", "true", inputObject="makes-output")
    await world.task("makes", "sh", "-c", "taskctl-init output --data n=1; exit 1")
    await world.finished("makes")
    await world.task("late", "true", inputObject="makes-output")
    for name in ("early", "late"):
        task = await world.finished(name)
        assert (task["status"]["state"], task["status"]["reason"]) == ("Failed", "DependencyFailed")


async def test_run_after(world: World) -> None:
    await world.cluster()
    await world.task(
        "second", "sh", "-c", "test -e /workspace/first", runAfter={"tasks": ["first"]}
    )
    await eventually(
        lambda: world.get(TASKS, "second"),
        lambda task: task["status"].get("reason") == "WaitingForTasks",
        what="waiting",
    )
    await world.task("first", "touch", "/workspace/first")
    assert (await world.finished("second"))["status"]["state"] == "Succeeded"


async def test_run_after_a_failure_is_not_run(world: World) -> None:
    await world.cluster()
    await world.task("first", "false")
    await world.task("second", "true", runAfter={"tasks": ["first"]})
    await world.task("cleanup", "true", runAfter={"tasks": ["first"]}, when="Always")
    second = await world.finished("second")
    assert second["status"]["reason"] == "DependencyFailed"
    assert (await world.finished("cleanup"))["status"]["state"] == "Succeeded"


async def test_finished_tasks_are_removed_after_their_ttl(world: World) -> None:
    await world.cluster()
    await world.task("brief", "true", ttlSecondsAfterFinished={"success": 1, "failure": 3600})
    await world.task("kept", "false", ttlSecondsAfterFinished={"success": 1, "failure": 3600})

    async def names() -> list[str]:
        return [task["metadata"]["name"] for task in await world.all(TASKS)]

    await world.finished("kept")
    await eventually(names, lambda found: found == ["kept"], what="only the failed one left")


async def test_higher_priority_goes_first(world: World) -> None:
    await world.cluster(slotsPerWorker=1)
    await world.task("holder", "sh", "-c", "until [ -e /workspace/go ]; do sleep 0.05; done")
    await world.in_state("holder", "Running")
    for name, priority in (("low", 0), ("high", 10)):
        script = f"echo {name} >>/workspace/order"
        await world.task(name, "sh", "-c", script, priority=priority)
    (world.workspace() / "go").touch()
    await world.finished("low")
    await world.finished("high")
    assert (world.workspace() / "order").read_text().split() == ["high", "low"]


async def test_slots_are_never_exceeded(world: World) -> None:
    await world.cluster(slotsPerWorker=2)
    script = (
        "mkdir /workspace/run-$TASK_NAME; ls -d /workspace/run-* | wc -l >>/workspace/seen;"
        " sleep 0.1; rmdir /workspace/run-$TASK_NAME"
    )
    for number in range(8):
        await world.task(f"t{number}", "sh", "-c", script)
    for number in range(8):
        assert (await world.finished(f"t{number}"))["status"]["state"] == "Succeeded"
    seen = [int(line) for line in (world.workspace() / "seen").read_text().split()]
    assert max(seen) <= 2


STEP = {"name": "a", "image": "i", "command": ["true"]}


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"timeoutSeconds": "soon"}, "timeoutSeconds"),
        ({"timeoutSeconds": 0}, "timeoutSeconds"),
        ({"command": []}, "command"),
        ({"retry": {"limit": -1}}, "limit"),
        ({"limits": {"descendants": -1}}, "limits.descendants"),
        ({"limits": {"liveTasks": 0}}, "limits.liveTasks"),
        ({"tasks": [STEP], "limits": {"descendants": 0}}, "limits.descendants"),
        ({"treeTimeoutSeconds": 0}, "treeTimeoutSeconds"),
        ({"runAfter": {"tasks": ["a"], "count": 2}}, "set group too"),
        ({"tasks": [STEP, STEP]}, "tasks[1]"),
        ({"tasks": [STEP, {**STEP, "name": "b", "runAfter": ["x"]}]}, "names no task"),
        # CEL cannot see a field without a type, so the server only says where it is wrong.
        ({"inputObject": "a", "input": 1}, "spec"),
    ],
)
async def test_bad_specs_are_refused_by_name(
    world: World, spec: dict[str, object], named: str
) -> None:
    task = {
        "apiVersion": "taskctl.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": "x"},
        "spec": {"clusterName": "c", "image": "i", "command": ["true"]} | spec,
    }
    path = f"/apis/taskctl.dev/v1alpha1/namespaces/{world.namespace}/tasks"
    with pytest.raises(ApiError) as caught:
        await world.client.request(
            "POST", path, query={"fieldValidation": "Strict"}, body=json.dumps(task).encode()
        )
    assert caught.value.status in (400, 422)
    assert named in str(caught.value)


async def test_a_spec_does_not_change(world: World) -> None:
    await world.task("fixed", "true")
    with pytest.raises(Invalid) as caught:
        await world.patch(TASKS, "fixed", {"spec": {"image": "other"}})
    assert "cannot be changed" in str(caught.value)


@pytest.mark.timeout(240)
async def test_memory_is_counted_and_limited(world: World) -> None:
    """A worker of 1 GiB: one task too many waits, one that never fits says so, one is ended."""
    template = {"resources": {"requests": {"memory": "1Gi"}}}
    await world.cluster(slotsPerWorker=4, template=template)
    large = {"requests": {"memory": "600Mi"}}
    opened = "until [ -e /workspace/go ]; do sleep 0.1; done"
    await world.task("first", "sh", "-c", opened, resources=large)
    await world.in_state("first", "Running", timeout_s=60)
    huge = {"requests": {"memory": "2Gi"}}
    await world.task("huge", "true", resources=huge)
    hold = "held = bytearray(200 * 1024 * 1024); import time; time.sleep(600)"
    await world.task(
        "greedy",
        "python3",
        "-c",
        hold,
        image="counter:latest",  # with Python, also on a real node
        resources={"limits": {"memory": "64Mi"}},
        retry={"limit": 1, "backoffSeconds": 0.1},
    )
    status = (await world.finished("greedy", timeout_s=60))["status"]
    assert (status["state"], status["reason"]) == ("Failed", "MemoryLimitExceeded")
    assert status["exitCode"] == 137
    assert "resources.limits.memory=64Mi" in status["message"]
    assert [entry["reason"] for entry in status["attempts"]] == ["MemoryLimitExceeded"]
    await world.task("second", "true", resources=large)
    waits = await eventually(
        lambda: world.get(TASKS, "huge"),
        lambda task: task["status"].get("reason") == "ResourcesExceedWorker",
        what="explained",
    )
    assert "spec.resources.requests.memory is 2Gi" in waits["status"]["message"]
    (world.workspace() / "go").touch()
    first, second = [
        (await world.finished(name, timeout_s=60))["status"] for name in ("first", "second")
    ]
    assert first["state"] == second["state"] == "Succeeded"
    assert second["times"]["placed"] >= first["times"]["exited"]


async def test_what_a_task_leaves_out_comes_from_its_cluster(world: World) -> None:
    script = 'echo "$WORD $OWN" $(pwd) > "$TASKCTL_WORKSPACE/said"; env | grep -c TASKCTL_DEFAULTS'
    env = [{"name": "WORD", "value": "$(HOME)"}, {"name": "OWN", "value": "not this"}]
    defaults = {
        "image": world.image,
        "command": ["sh", "-c"],
        "args": [f"{script}; exit 7"],
        "env": env,
        "workingDir": "/tmp",
        "timeoutSeconds": 600,
    }
    await world.cluster(taskDefaults=defaults)
    own = {"clusterName": "c", "env": [{"name": "OWN", "value": "mine"}]}
    await world.make(TASKS, "bare", spec=own)
    task = await world.finished("bare", timeout_s=60)
    assert (task["status"]["state"], task["status"]["exitCode"]) == ("Failed", 7)
    assert (world.workspace() / "said").read_text().split() == ["$(HOME)", "mine", "/tmp"]
    assert "TASKCTL_DEFAULTS" not in task["status"]["message"]
    taken = task["status"]["defaults"]
    assert taken == defaults | {"env": env[:1]}
    assert set(task["spec"]) == {"clusterName", "env", "when", "priority", "slots"}
