"""The life of an attempt: claim, run, outcome; with everything that may fail on the way."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from taskctl.api.resources import TASKS
from taskctl.errors import Conflict, Forbidden, Unavailable
from taskctl.wire import Message
from tests.unit.agent.conftest import POD, World, exit_of
from tests.unit.agent.fakes import Fault, Peer, eventually


async def asked(world: World, verb: str, times: int) -> None:
    await eventually(lambda: world.api.count(verb, "tasks") >= times)


async def test_a_healthy_task_costs_two_status_writes(world: World) -> None:
    peer, _, told = await world.running()
    status = world.status()
    assert status["state"] == "Running"
    assert (status["attempt"], status["podName"], status["podUID"]) == (1, POD.name, POD.uid)
    assert status["times"]["placed"] == "2026-01-02T03:04:04.000000Z"
    assert status["times"]["started"] == "2026-01-02T03:04:05.000000Z"

    answer = await peer.good("exited", **exit_of(told))
    assert (answer["action"], answer["code"]) == ("exit", 0)
    status = world.status()
    assert (status["state"], status["reason"], status["exitCode"]) == ("Succeeded", "Completed", 0)
    assert status["usage"] == {
        "userSeconds": 1.5,
        "systemSeconds": 0.25,
        "maxRssBytes": 2048 * 1024,
    }
    assert status["times"]["exited"] == "2026-01-02T03:04:06.500000Z"
    assert world.api.count("patch_status") == 2
    assert world.api.count("get", "tasks") == 1, "the claim's answer serves the outcome"


async def test_what_the_container_is_told(world: World) -> None:
    _, _, told = await world.running(
        command=["python"],
        args=["-m", "job"],
        env=[
            {"name": "A", "value": "1"},
            {"name": "EMPTY"},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        ],
        workingDir="/src",
        timeoutSeconds=90,
    )
    assert told["argv"] == ["python", "-m", "job"]
    assert (told["cwd"], told["timeout_ms"], told["grace_ms"]) == ("/src", 90_000, 10_000)
    env = told["env"]
    assert (env["A"], env["EMPTY"]) == ("1", "")
    assert "SECRET" not in env, "the kubelet has put it into the container"
    assert (env["TASKCTL_TASK"], env["TASK_NAME"], env["TASK_NAMESPACE"]) == ("job", "job", "ns")
    assert (env["TASKCTL_ROOT"], env["TASKCTL_PARENT"], env["TASKCTL_DEPTH"]) == ("job", "", "0")
    workspace = world.settings.workspace
    assert env["TASKCTL_WORKSPACE"] == str(workspace)
    assert told["log"] == f"{workspace}/.taskctl/logs/job.{told['uid']}.1.log"
    assert told["record"].startswith(f"{workspace}/.taskctl/exits/")


@pytest.mark.parametrize(
    ("entry", "told_value"),
    [
        (None, "1"),
        ({"name": "PYTHONUNBUFFERED", "value": ""}, ""),
        ({"name": "PYTHONUNBUFFERED", "value": "x"}, "x"),
        (
            {
                "name": "PYTHONUNBUFFERED",
                "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}},
            },
            None,  # the kubelet has put it into the container
        ),
    ],
)
async def test_python_prints_at_once_unless_the_user_says_otherwise(
    world: World, entry: Any, told_value: str | None
) -> None:
    _, _, told = await world.running(env=[entry] if entry else None)
    assert told["env"].get("PYTHONUNBUFFERED") == told_value


async def test_read_only_workspace_gets_no_log_and_record(world: World) -> None:
    peer, _ = await world.init(world.place(world.task(), read_only=True))
    told = await peer.good("next")
    assert (told["log"], told["record"]) == ("", "")
    assert told["env"]["TASKCTL_WORKSPACE"]


async def test_no_workspace(bare: World) -> None:
    _, _, told = await bare.running()
    assert (told["log"], told["record"], told["env"]["TASKCTL_WORKSPACE"]) == ("", "", "")


def _gone(world: World) -> None:
    world.api.remove(TASKS, "job")


def _made_again(world: World) -> None:
    world.api.remove(TASKS, "job")
    world.task()


def _deleting(world: World) -> None:
    world.api.change(TASKS, "job", metadata={"deletionTimestamp": "2026-01-02T03:04:05Z"})


def _cancelled(world: World) -> None:
    world.api.change(TASKS, "job", spec={"cancel": True})


def _suspended(world: World) -> None:
    world.api.change(TASKS, "job", spec={"suspend": True})


def _finished(world: World) -> None:
    world.api.change(TASKS, "job", status={"state": "Failed", "attempt": 1})


def _written_off(world: World) -> None:
    world.api.change(TASKS, "job", status={"attempt": 1})


def _elsewhere(world: World) -> None:
    world.api.change(
        TASKS,
        "job",
        status={
            "state": "Running",
            "attempt": 1,
            "podName": "w-2",
            "podUID": "other",
            "containerName": world.status().get("containerName", "t"),
        },
    )


@pytest.mark.parametrize(
    "change",
    [
        _gone,
        _made_again,
        _deleting,
        _cancelled,
        _suspended,
        _finished,
        _written_off,
        _elsewhere,
    ],
)
async def test_a_lost_claim_runs_nothing(world: World, change: Any) -> None:
    container = world.place(world.task())
    change(world)
    peer, _ = await world.init(container)
    answer = await peer.good("next")
    assert (answer["action"], answer["code"]) == ("exit", 0)
    assert world.api.count("patch_status") == 0
    assert (await peer.good("next"))["action"] == "exit", "asked again, the same"


async def test_claim_conflict_decides_anew(world: World) -> None:
    container = world.place(world.task())

    def touch(verb: str, plural: str, _name: str) -> None:
        if verb == "patch_status" and world.api.count("patch_status") == 1:
            world.api.change(TASKS, "job", metadata={"labels": {"touched": "yes"}})

    world.api.hooks.append(touch)
    peer, _ = await world.init(container)
    peer.send("next")
    await eventually(lambda: world.api.count("patch_status") == 1)
    await asyncio.sleep(0.01)
    world.time.advance(5)
    answer = await peer.receive()
    assert answer is not None
    assert answer["action"] == "run"
    assert world.status()["attempt"] == 1


async def test_claim_conflict_may_be_lost(world: World) -> None:
    container = world.place(world.task())

    def race(verb: str, _plural: str, _name: str) -> None:
        if verb == "patch_status" and world.api.count("patch_status") == 1:
            _elsewhere(world)

    world.api.hooks.append(race)
    peer, _ = await world.init(container)
    peer.send("next")
    await eventually(lambda: world.api.count("patch_status") == 1)
    await asyncio.sleep(0.01)
    world.time.advance(5)
    answer = await peer.receive()
    assert answer is not None
    assert answer["action"] == "exit"
    assert world.status()["podName"] == "w-2"


async def test_claim_whose_answer_was_lost_is_ours(world: World) -> None:
    container = world.place(world.task())
    world.api.faults.append(Fault("patch_status", Unavailable("cut"), after=True))
    peer, _ = await world.init(container)
    peer.send("next")
    await eventually(lambda: world.status().get("state") == "Running")
    await asyncio.sleep(0.01)
    world.time.advance(5)
    answer = await peer.receive()
    assert answer is not None
    assert answer["action"] == "run"
    assert world.api.count("patch_status") == 1


async def test_claim_waits_while_the_server_is_away(world: World) -> None:
    container = world.place(world.task())
    peer, _ = await world.init(container)
    world.api.down = True
    peer.send("next")
    for number in range(1, 4):
        await asked(world, "get", number)
        await asyncio.sleep(0.005)
        world.time.advance(10)
    assert await peer.is_silent()
    world.api.down = False
    await asyncio.sleep(0.01)
    world.time.advance(10)
    answer = await peer.receive()
    assert answer is not None
    assert answer["action"] == "run"


async def test_claim_that_the_server_forbids(world: World) -> None:
    container = world.place(world.task())
    world.api.faults.append(Fault("patch_status", Forbidden("no", status=403), times=99))
    peer, _ = await world.init(container)
    peer.send("next")
    answer = await let_pass(world, peer, seconds=12)
    assert answer["error"] == "rejected"
    assert world.status()["state"] == "Pending"


async def test_claim_from_a_server_that_comes_back_and_forbids_at_first(world: World) -> None:
    """An API server that has just started knows no rights yet, however long it was away."""
    container = world.place(world.task())
    peer, _ = await world.init(container)
    world.api.down = True
    peer.send("next")
    for _ in range(30):
        await asyncio.sleep(0.005)
        world.time.advance(1)
    early = Forbidden("taskctl-agent cannot get tasks", status=403)
    world.api.faults += [Fault("get", early, "tasks"), Fault("patch_status", early, "tasks")]
    world.api.down = False
    answer = await let_pass(world, peer, seconds=12)
    assert answer["action"] == "run"
    assert not any(fault.times for fault in world.api.faults)


async def let_pass(world: World, peer: Peer, seconds: int) -> Message:
    """Let time pass, so that what waits tries again, and return the answer that comes."""
    for _ in range(seconds):
        await asyncio.sleep(0.005)
        world.time.advance(1)
    answer = await peer.receive()
    assert answer is not None
    return answer


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"code": 3}, {"state": "Failed", "reason": "NonZeroExit", "exitCode": 3}),
        ({"signal": 9}, {"state": "Failed", "reason": "Signalled", "signal": 9}),
        ({"reason": "Timeout", "signal": 15}, {"state": "Failed", "reason": "Timeout"}),
        ({"code": 127, "reason": "CommandNotFound"}, {"reason": "CommandNotFound"}),
        ({"code": 126, "reason": "StartError"}, {"reason": "StartError"}),
        ({"reason": "Cancelled", "signal": 15}, {"state": "Cancelled"}),
        ({"reason": "Signalled", "signal": 15}, {"state": "Pending", "infraFailures": 1}),
    ],
)
async def test_outcomes(world: World, fields: Message, status: dict[str, Any]) -> None:
    peer, _, told = await world.running()
    answer = await peer.good("exited", **exit_of(told, **fields))
    expected = 128 + fields["signal"] if fields.get("signal") else fields.get("code", 0)
    assert answer["code"] == expected
    assert status.items() <= world.status().items()


async def test_failure_carries_the_end_of_the_log(world: World) -> None:
    peer, _, told = await world.running()
    tail = b"x" * 3000 + b"\xff the reason"
    await peer.good("exited", **exit_of(told, code=1, tail=tail))
    assert world.status()["message"].endswith("the reason")


async def test_retry_returns_the_task_to_the_queue(world: World) -> None:
    peer, _, told = await world.running(retry={"limit": 1, "backoffSeconds": 10})
    await peer.good("exited", **exit_of(told, code=1))
    status = world.status()
    assert (status["state"], status["reason"], status["failures"]) == ("Pending", "BackOff", 1)
    assert status["nextAttemptTime"] == "2026-01-02T03:04:15.000000Z"
    assert "podName" not in status

    second, _ = await world.init(world.place(world.api.see(TASKS, "job"), 2))
    told = await second.good("next")
    assert told["attempt"] == 2
    await second.good("exited", **exit_of(told))
    assert (world.status()["state"], world.status()["attempt"]) == ("Succeeded", 2)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"uid": "other"}, "uid"),
        ({"attempt": 2}, "uid"),
        ({"attempt": 0}, "attempt"),
        ({"code": 256}, "code"),
        ({"code": "0"}, "code"),
        ({"code": None}, "code"),
        ({"code": True}, "code"),
        ({"signal": 200}, "signal"),
        ({"reason": "Completed"}, "reason"),
        ({"tail": "text"}, "tail"),
        ({"started_us": 10**18}, "started_us"),
        ({"user_us": -1}, "user_us"),
        ({"message": 7}, "message"),
    ],
)
async def test_malformed_exit(world: World, fields: Message, named: str) -> None:
    peer, _, told = await world.running()
    code, message = await peer.refused("exited", **(exit_of(told) | fields))
    assert code == "bad_request"
    assert message.startswith(f"{named}:")
    assert world.status()["state"] == "Running"
    await peer.good("exited", **exit_of(told))


async def test_outcome_conflict_is_read_again(world: World) -> None:
    peer, _, told = await world.running()
    world.api.change(TASKS, "job", metadata={"labels": {"a": "b"}})
    world.api.faults.append(Fault("patch_status", Conflict("changed", status=409), times=2))
    peer.send("exited", **exit_of(told))
    for number in (2, 3):
        await asked(world, "patch_status", number)
        await asyncio.sleep(0.005)
        world.time.advance(5)
    answer = await peer.receive()
    assert answer is not None
    assert answer["action"] == "exit"
    status = world.api.see(TASKS, "job")
    assert status["status"]["state"] == "Succeeded"
    assert status["metadata"]["labels"] == {"a": "b"}


async def test_outcome_waits_for_the_server(world: World) -> None:
    peer, _, told = await world.running()
    world.api.down = True
    before = world.api.count("patch_status")
    peer.send("exited", **exit_of(told, code=7))
    await eventually(lambda: world.api.count("patch_status") > before)
    for _ in range(5):
        await asyncio.sleep(0.005)
        world.time.advance(10)
    assert await peer.is_silent(), "the answer comes after the write only"
    world.api.down = False
    for _ in range(3):
        await asyncio.sleep(0.01)
        world.time.advance(60)
    answer = await peer.receive()
    assert answer is not None
    assert answer["code"] == 7
    assert world.status()["reason"] == "NonZeroExit"


async def test_outcome_whose_answer_was_lost_is_written_once(world: World) -> None:
    peer, _, told = await world.running(retry={"limit": 5})
    world.api.faults.append(Fault("patch_status", Unavailable("cut"), after=True))
    peer.send("exited", **exit_of(told, code=1))
    await eventually(lambda: world.status().get("failures") == 1)
    await asyncio.sleep(0.01)
    world.time.advance(60)
    answer = await peer.receive()
    assert answer is not None
    assert answer["code"] == 1
    assert world.status()["failures"] == 1


async def test_forbidden_outcome_is_repeated_until_a_person_helps(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    peer, _, told = await world.running()
    world.api.faults.append(Fault("patch_status", Forbidden("rbac", status=403), times=2))
    peer.send("exited", **exit_of(told))
    for number in (2, 3):
        await asked(world, "patch_status", number)
        await asyncio.sleep(0.005)
        world.time.advance(60)
    answer = await peer.receive()
    assert answer is not None
    assert world.status()["state"] == "Succeeded"
    assert "refuses the outcome" in caplog.text


async def test_outcome_is_written_though_the_container_dies(world: World) -> None:
    peer, _, told = await world.running()
    world.api.down = True
    before = world.api.count("patch_status")
    peer.send("exited", **exit_of(told))
    await eventually(lambda: world.api.count("patch_status") > before)
    await peer.close()
    await asyncio.sleep(0.01)
    world.api.down = False
    world.time.advance(60)
    await eventually(lambda: world.status()["state"] == "Succeeded")


async def test_exited_repeated_answers_the_same(world: World) -> None:
    peer, token, told = await world.running()
    container = world.status()["containerName"]
    first = await peer.good("exited", **exit_of(told, code=4))
    again = await world.back(container, token)
    second = await again.good("exited", **exit_of(told, code=4))
    assert (first["action"], first["code"]) == (second["action"], second["code"])
    assert world.api.count("patch_status") == 2
    assert (await again.good("next"))["action"] == "exit"


@pytest.mark.parametrize("change", [_gone, _made_again, _finished, _elsewhere])
async def test_outcome_of_a_superseded_run_is_dropped(world: World, change: Any) -> None:
    peer, _, told = await world.running()
    change(world)
    writes = world.api.count("patch_status")
    before = world.status() if change is not _gone else {}
    peer.send("exited", **exit_of(told, code=5))
    await eventually(lambda: world.api.count("get", "tasks") >= 2)
    await asyncio.sleep(0.01)
    world.time.advance(60)
    answer = await peer.receive()
    while answer is not None and answer.get("op") == "signal":
        answer = await peer.receive()
    assert answer is not None
    assert (answer["action"], answer["code"]) == ("exit", 5)
    assert (world.status() if change is not _gone else {}) == before
    assert world.api.count("patch_status") <= writes + 1


OUTER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_task_is_told_of_the_trace_of_its_tree(world: World) -> None:
    metadata = {"annotations": {"taskctl.dev/traceparent": OUTER}}
    _, _, told = await world.running(metadata=metadata)
    text = told["env"]["TRACEPARENT"]
    assert text.startswith(OUTER[:36])
    assert text != OUTER, "its spans belong below its own, not beside it"
    task = await world.attached(told)
    await task.good("spawn", tasks=[{"key": "a", "name": "child"}])
    child = world.api.see(TASKS, "child")
    assert child["metadata"]["annotations"]["taskctl.dev/traceparent"] == OUTER


async def test_without_traces_nothing_is_said_of_them(world: World) -> None:
    _, _, told = await world.running(metadata={"annotations": {"taskctl.dev/traceparent": "0"}})
    assert "TRACEPARENT" not in told["env"]


async def test_a_variable_of_the_task_comes_first(world: World) -> None:
    world.settings = dataclasses.replace(world.settings, traces=True)
    await world.restart()
    _, _, told = await world.running("own", env=[{"name": "TRACEPARENT", "value": "mine"}])
    assert told["env"]["TRACEPARENT"] == "mine"
    _, _, other = await world.running("other")
    assert other["env"]["TRACEPARENT"].startswith("00-")
