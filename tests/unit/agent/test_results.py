"""What a task is told of its children: how they end, what they returned, who may be cancelled."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from taskctl.agent import childwatch, results
from taskctl.agent.workspace import Workspace
from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.errors import Unavailable
from taskctl.kube.interface import ListPage
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import Fault, Peer, eventually

CALM_S = 0.6  # a little more than taskctl.agent.waits.SETTLE_S


async def family(world: World, *keys: str, name: str = "job") -> tuple[Peer, dict[str, str]]:
    """Return a running task's connection, and the UIDs of its children by key."""
    _, _, told = await world.running(name)
    peer = await world.attached(told)
    made = await peer.good("spawn", tasks=[{"key": key, "name": key} for key in keys])
    return peer, {key: item["uid"] for key, item in zip(keys, made["tasks"], strict=True)}


def end(world: World, name: str, state: str = "Succeeded", **status: Any) -> None:
    status = {"state": state, "attempt": 1, "reason": "Completed"} | status
    world.api.change(TASKS, name, status=status)


def succeed(world: World, name: str, value: Any, *, attempt: int = 1) -> None:
    """End a task as its agent would: the output, then the state."""
    uid = world.api.see(TASKS, name)["metadata"]["uid"]
    labels = {"taskctl.dev/output-of": uid, "taskctl.dev/attempt": str(attempt)}
    body = {"metadata": {"name": f"{name}-output", "labels": labels}, "value": value}
    world.api.put(TASKOBJECTS, body)
    end(world, name, outputObject=f"{name}-output", attempt=attempt)


async def test_what_ended_is_told_in_its_order_and_once(world: World) -> None:
    peer, _ = await family(world, "a", "b", "c")
    answer = await peer.good("children", wait_ms=0)
    assert answer["ended"] == []
    end(world, "c")
    end(world, "a", "Failed", reason="NonZeroExit", message="It failed.\nboom", exitCode=3)
    await eventually(lambda: True)
    first = await peer.good("children", epoch=answer["epoch"], after=answer["next"], wait_ms=5000)
    rest = first["ended"]
    if len(rest) < 2:
        more = await peer.good("children", epoch=first["epoch"], after=first["next"], wait_ms=5000)
        rest, first = rest + more["ended"], more
    assert [item["name"] for item in rest] == ["c", "a"]
    assert rest[1] == {
        "uid": world.api.see(TASKS, "a")["metadata"]["uid"],
        "name": "a",
        "state": "Failed",
        "reason": "NonZeroExit",
        "message": "It failed.\nboom",
        "exit_code": 3,
        "attempt": 1,
        "has_output": False,
    }
    again = await peer.good("children", epoch=first["epoch"], after=first["next"], wait_ms=0)
    assert again["ended"] == []
    whole = await peer.good("children", epoch="of another life", after=first["next"], wait_ms=0)
    assert len(whole["ended"]) == 2


async def test_a_question_waits_for_news(world: World) -> None:
    peer, _ = await family(world, "a")
    number = peer.send("children", wait_ms=5000)
    assert await peer.is_silent()
    end(world, "a")
    answer = await peer.receive()
    assert answer is not None
    assert answer["id"] == number
    assert [item["state"] for item in answer["ended"]] == ["Succeeded"]


async def test_no_question_per_child(world: World) -> None:
    keys = [f"k{number}" for number in range(40)]
    peer, _ = await family(world, *keys)
    before = world.api.count("get", "tasks")
    lists = world.api.count("list", "tasks")
    for key in keys:
        end(world, key)
    seen = 0
    answer: dict[str, Any] = {"epoch": "", "next": 0}
    while seen < 40:
        answer = await peer.good(
            "children", epoch=answer["epoch"], after=answer["next"], wait_ms=1000
        )
        seen += len(answer["ended"])
    assert world.api.count("get", "tasks") == before
    assert world.api.count("list", "tasks") == lists + 1


async def test_strangers_and_grandchildren_are_not_told(world: World) -> None:
    peer, _ = await family(world, "a")
    other, _ = await family(world, "b", name="other")
    end(world, "a")
    end(world, "b")
    answer = await peer.good("children", wait_ms=1000)
    assert [item["name"] for item in answer["ended"]] == ["a"]
    answer = await other.good("children", wait_ms=1000)
    assert [item["name"] for item in answer["ended"]] == ["b"]


async def test_a_child_that_is_deleted_is_told(world: World) -> None:
    peer, _ = await family(world, "a")
    await peer.good("children", wait_ms=0)
    world.api.remove(TASKS, "a")
    answer = await peer.good("children", wait_ms=2000)
    assert [(item["name"], item["state"]) for item in answer["ended"]] == [("a", "Deleted")]


async def test_a_child_that_was_deleted_before_is_told(world: World) -> None:
    """Its TTL was shorter than what its parent did before it waited."""
    peer, _ = await family(world, "a", "b")
    end(world, "a")
    world.api.remove(TASKS, "a")
    answer = await peer.good("children", wait_ms=20_000)
    assert [(item["name"], item["state"]) for item in answer["ended"]] == [("a", "Deleted")]


async def test_a_child_that_the_first_list_lacks_is_not_taken_for_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API server may answer an informer's list from a cache that is behind."""
    peer, _ = await family(world, "a")
    fresh = world.api.list

    async def stale(*args: Any, **options: Any) -> ListPage:
        monkeypatch.setattr(world.api, "list", fresh)
        page = await fresh(*args, **options)
        return ListPage([], page.resource_version)

    monkeypatch.setattr(world.api, "list", stale)
    assert (await peer.good("children", wait_ms=500))["ended"] == []


async def test_attempts_that_are_repeated_are_no_end(world: World) -> None:
    peer, _ = await family(world, "a")
    end(world, "a", "Pending", reason="BackOff", message="It failed.", failures=1)
    assert (await peer.good("children", wait_ms=50))["ended"] == []


async def test_beyond_the_streams_children_are_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(childwatch, "MAX_STREAMS", 0)
    await world.restart()
    peer, _ = await family(world, "a")
    watches = world.api.count("watch", "tasks")
    assert (await peer.good("children", wait_ms=0))["ended"] == []
    end(world, "a")
    world.time.advance(5)
    assert len((await peer.good("children", wait_ms=2000))["ended"]) == 1
    assert world.api.count("watch", "tasks") == watches


# --- results ----------------------------------------------------------------------------


async def test_results_come_in_the_order_asked_for(world: World) -> None:
    peer, uids = await family(world, "a", "b", "c")
    succeed(world, "a", {"n": 1})
    end(world, "b")
    succeed(world, "c", [3])
    answer = await peer.good("results", uids=[uids["c"], uids["b"], uids["a"]])
    assert answer["results"] == [{"value": [3]}, {"value": None}, {"value": {"n": 1}}]


async def test_only_the_output_of_the_last_attempt_counts(world: World) -> None:
    peer, uids = await family(world, "a", "b")
    succeed(world, "a", "second", attempt=2)
    succeed(world, "b", "first", attempt=1)
    end(world, "b", attempt=2, outputObject="b-output")
    answer = await peer.good("results", uids=[uids["a"], uids["b"]])
    assert answer["results"][0] == {"value": "second"}
    assert "not the output of its last attempt" in answer["results"][1]["missing"]


async def test_results_that_are_not_there(world: World) -> None:
    peer, uids = await family(world, "a", "b", "running")
    succeed(world, "a", 1)
    world.api.remove(TASKOBJECTS, "a-output")
    end(world, "b", "Failed")
    asked = [uids["a"], uids["b"], uids["running"], "uid-of-nobody"]
    found = (await peer.good("results", uids=asked))["results"]
    assert "deleted" in found[0]["missing"]
    assert found[1] == {"open": "Failed"}
    assert found[2] == {"open": "Pending"}
    assert "not a child" in found[3]["missing"]


async def test_an_output_of_another_task_is_not_told(world: World) -> None:
    peer, uids = await family(world, "a")
    succeed(world, "a", "own")
    world.api.change(
        TASKOBJECTS, "a-output", metadata={"labels": {"taskctl.dev/output-of": "uid-x"}}
    )
    [found] = (await peer.good("results", uids=[uids["a"]]))["results"]
    assert "missing" in found


async def test_large_answers_are_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_ANSWER_BYTES", 1500)
    peer, uids = await family(world, "a", "b", "c")
    for key in uids:
        succeed(world, key, key * 1000)
    found = (await peer.good("results", uids=list(uids.values())))["results"]
    assert found == [{"value": "a" * 1000}]


async def test_many_results_are_listed(world: World) -> None:
    keys = [f"k{number}" for number in range(260)]
    peer, uids = await family(world, *keys)
    for number, key in enumerate(keys):
        succeed(world, key, number)
    reads, lists = world.api.count("get", "taskobjects"), world.api.count("list", "taskobjects")
    found = (await peer.good("results", uids=[uids[key] for key in reversed(keys)]))["results"]
    assert found == [{"value": number} for number in reversed(range(260))]
    assert world.api.count("get", "taskobjects") == reads
    assert world.api.count("list", "taskobjects") - lists <= 4


async def test_listed_outputs_are_checked_like_others(world: World) -> None:
    keys = [f"k{number}" for number in range(20)]
    peer, uids = await family(world, *keys)
    for number, key in enumerate(keys):
        succeed(world, key, number)
    world.api.remove(TASKOBJECTS, "k3-output")
    end(world, "k5", attempt=2, outputObject="k5-output")
    end(world, "k7", outputObject="k8-output")
    found = (await peer.good("results", uids=list(uids.values())))["results"]
    assert "deleted" in found[3]["missing"]
    assert "last attempt" in found[5]["missing"]
    assert "last attempt" in found[7]["missing"]
    assert [item["value"] for item in found if "value" in item] == [
        number for number in range(20) if number not in (3, 5, 7)
    ]


async def test_results_as_text(world: World) -> None:
    peer, uids = await family(world, "a", "b", "c")
    succeed(world, "a", {"ü": [1.5, None]})
    end(world, "b")
    workspace = world.settings.workspace
    assert workspace is not None
    ref = Workspace(workspace).write_object(b'{"large": true}') | {"codec": "json"}
    succeed(world, "c", None)
    world.api.change(TASKOBJECTS, "c-output", value=None, ref=ref)
    found = (await peer.good("results", uids=list(uids.values()), format="json"))["results"]
    assert [json.loads(item["json"]) for item in found] == [
        {"ü": [1.5, None]},
        None,
        {"large": True},
    ]
    code, text = await peer.refused("results", uids=[], format="yaml")
    assert (code, text.partition(":")[0]) == ("bad_request", "format")


async def test_all_children_are_listed_in_the_order_of_creation(world: World) -> None:
    keys = [f"k{number}" for number in (5, 3, 9, 1)]
    _, _, told = await world.running()
    peer = await world.attached(told)
    for second, key in enumerate(keys):
        await peer.good("spawn", tasks=[{"key": key, "name": key}])
        created = f"2026-01-02T03:04:{second:02}Z"
        world.api.change(TASKS, key, metadata={"creationTimestamp": created})
    await family(world, "stranger", name="other")
    answer = await peer.good("list")
    assert [item["name"] for item in answer["tasks"]] == keys
    assert answer["tasks"][0]["uid"] == world.api.see(TASKS, "k5")["metadata"]["uid"]


async def test_results_wait_for_the_server(world: World) -> None:
    peer, uids = await family(world, "a")
    succeed(world, "a", 1)
    world.api.faults.append(Fault("get", Unavailable("away"), "taskobjects", times=2))
    number = peer.send("results", uids=[uids["a"]])
    fault = world.api.faults[0]

    def passes() -> bool:
        world.time.advance(2)
        return fault.times == 0

    await eventually(passes, "asked again")
    await asyncio.sleep(0.05)
    world.time.advance(3)
    answer = await peer.receive()
    assert answer is not None
    assert (answer["id"], answer["results"]) == (number, [{"value": 1}])


@pytest.mark.parametrize(
    ("op", "message", "field"),
    [
        ("children", {"wait_ms": 40_000}, "wait_ms"),
        ("children", {"after": -1}, "after"),
        ("children", {"epoch": 3}, "epoch"),
        ("results", {}, "uids"),
        ("results", {"uids": ["x"] * 1001}, "uids"),
        ("results", {"uids": [3]}, "uids[0]"),
        ("cancel", {"tasks": [{"uid": "x"}]}, "tasks[0].name"),
        ("cancel", {"tasks": "a"}, "tasks"),
    ],
)
async def test_bad_requests(world: World, op: str, message: dict[str, Any], field: str) -> None:
    peer, _ = await family(world)
    code, text = await peer.refused(op, **message)
    assert code == "bad_request"
    assert text.startswith(field)


# --- cancel -----------------------------------------------------------------------------


async def test_a_child_is_cancelled_with_its_subtree(world: World) -> None:
    peer, uids = await family(world, "a", "b")
    world.api.change(TASKS, "a", spec={"cancelScope": "Task"})
    end(world, "b")
    answer = await peer.good(
        "cancel", tasks=[{"name": key, "uid": uid} for key, uid in uids.items()]
    )
    assert answer["tasks"] == [{"cancelled": True}, {"cancelled": False}]
    spec = world.api.see(TASKS, "a")["spec"]
    assert spec["cancel"] is True
    assert "cancelScope" not in spec
    assert "cancel" not in world.api.see(TASKS, "b")["spec"]


async def test_only_own_descendants_can_be_cancelled(world: World) -> None:
    peer, _ = await family(world, "a")
    other, _ = await family(world, "b", name="other")
    world.task("stranger")
    for name in ("b", "other", "stranger", "job"):
        code, text = await peer.refused("cancel", tasks=[{"name": name}])
        assert code == "bad_request"
        assert "not a descendant" in text
        assert "cancel" not in world.api.see(TASKS, name)["spec"]
    child = world.api.see(TASKS, "a")
    init, _ = await world.init(world.place(child))
    grown = await world.attached(await init.good("next"))
    await grown.good("spawn", tasks=[{"key": "deep", "name": "deep"}])
    assert (await peer.good("cancel", tasks=[{"name": "deep"}]))["tasks"] == [{"cancelled": True}]
    await other.close()


async def test_another_task_of_that_name_is_left_alone(world: World) -> None:
    peer, _ = await family(world, "a")
    answer = await peer.good("cancel", tasks=[{"name": "a", "uid": "uid-before"}])
    assert answer["tasks"] == [{"cancelled": False}]
    assert "cancel" not in world.api.see(TASKS, "a")["spec"]


# --- waiting ----------------------------------------------------------------------------


async def noted(world: World, *, waits: bool) -> None:
    """Let time pass until the status says so."""

    def passes() -> bool:
        world.time.advance(CALM_S)
        return ("waitingSince" in world.status()) is waits

    await eventually(passes, f"waits: {waits}")


async def test_who_waits_says_so_once_and_takes_it_back(world: World) -> None:
    peer, _ = await family(world, "a", "b")
    writes = world.api.count("patch_status", "tasks")
    peer.send("children", wait_ms=20_000)
    assert await peer.is_silent()
    assert "waitingSince" not in world.status()
    await noted(world, waits=True)
    assert world.api.count("patch_status", "tasks") == writes + 1
    end(world, "a")
    answer = await peer.receive()
    assert answer is not None
    peer.send("children", epoch=answer["epoch"], after=answer["next"], wait_ms=20_000)
    await asyncio.sleep(0.02)
    world.time.advance(CALM_S)
    await asyncio.sleep(0.02)
    assert "waitingSince" in world.status()
    assert world.api.count("patch_status", "tasks") == writes + 1
    end(world, "b")
    await peer.receive()
    await noted(world, waits=False)
    assert world.api.count("patch_status", "tasks") == writes + 2


async def test_short_waits_cost_no_write(world: World) -> None:
    peer, _ = await family(world, "a")
    writes = world.api.count("patch_status", "tasks")
    peer.send("children", wait_ms=20_000)
    await asyncio.sleep(0.02)
    end(world, "a")
    await peer.receive()
    world.time.advance(CALM_S)
    await asyncio.sleep(0.02)
    world.time.advance(CALM_S)
    await asyncio.sleep(0.02)
    assert world.api.count("patch_status", "tasks") == writes


async def test_the_outcome_ends_the_wait(world: World) -> None:
    init, _, told = await world.running()
    peer = await world.attached(told)
    await peer.good("spawn", tasks=[{"key": "a"}])
    peer.send("children", wait_ms=20_000)
    await noted(world, waits=True)
    await peer.close()
    await init.good("exited", **exit_of(told, 1))
    assert world.status()["state"] == "Failed"
    assert "waitingSince" not in world.status()


async def test_a_killed_agent_leaves_no_wait_behind(world: World) -> None:
    container = world.place(world.task())
    init, token = await world.init(container)
    told = await init.good("next")
    peer = await world.attached(told)
    await peer.good("spawn", tasks=[{"key": "a"}])
    peer.send("children", wait_ms=20_000)
    await noted(world, waits=True)
    await world.restart()
    running = {"uid": told["uid"], "attempt": 1, "started_us": 1}
    await world.back(container, token, running=running)
    await noted(world, waits=False)


async def test_a_wait_is_noted_although_the_server_was_away(world: World) -> None:
    peer, _ = await family(world, "a")
    await peer.good("children", wait_ms=0)
    peer.send("children", wait_ms=20_000)
    await asyncio.sleep(0.02)
    world.api.faults.append(Fault("patch_status", Unavailable("away"), "tasks", times=2))
    await noted(world, waits=True)
