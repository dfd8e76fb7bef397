"""Growing the tree: spawn."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.constants import (
    ANNOTATION_CREATED,
    ANNOTATION_DEPTH,
    ANNOTATION_PARENT,
    ANNOTATION_SPAWN_KEY,
    LABEL_GROUP,
    LABEL_PARENT_UID,
    LABEL_ROOT,
    LABEL_ROOT_UID,
)
from taskctl.errors import Forbidden, Invalid, Unavailable
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import Fault, Peer, eventually


async def parent(world: World, name: str = "job", **spec: Any) -> tuple[Peer, dict[str, Any]]:
    """Return a running task's own connection, and what its container was told."""
    _, _, told = await world.running(name, **spec)
    return await world.attached(told), told


async def child_of_child(world: World) -> tuple[Peer, dict[str, Any], dict[str, Any]]:
    """Return a running child (depth 1): its connection, what it was told, its root."""
    task, _ = await parent(world)
    await task.good("spawn", tasks=[{"key": "a", "name": "child"}])
    child = world.api.see(TASKS, "child")
    peer, _ = await world.init(world.place(child))
    told = await peer.good("next")
    return await world.attached(told), told, world.api.see(TASKS, "job")


async def test_child_has_lineage_and_inherits(world: World) -> None:
    task, told = await parent(
        world,
        env=[{"name": "A", "value": "1"}],
        retry={"limit": 2},
        priority=5,
        timeoutSeconds=60,
        runAfter={"tasks": []},
    )
    answer = await task.good(
        "spawn", tasks=[{"key": "k", "overrides": {"args": ["x"], "slots": 2, "group": "g"}}]
    )
    name = f"job-k-{hashlib.sha256((told['uid'] + '/k').encode()).hexdigest()[:10]}"
    made = world.api.see(TASKS, name)
    assert answer["tasks"] == [{"name": name, "uid": made["metadata"]["uid"], "created": True}]
    assert made["spec"] == {
        "clusterName": "c",
        "image": "busybox",
        "command": ["sh", "-c"],
        "args": ["x"],
        "env": [{"name": "A", "value": "1"}],
        "retry": {"limit": 2},
        "priority": 5,
        "timeoutSeconds": 60,
        "slots": 2,
        "group": "g",
        "lineage": {
            "task": name,
            "root": "job",
            "rootUID": told["uid"],
            "parent": "job",
            "parentUID": told["uid"],
            "depth": 1,
            "key": "k",
        },
    }
    metadata = made["metadata"]
    assert metadata["labels"] == {
        LABEL_ROOT: "job",
        LABEL_ROOT_UID: told["uid"],
        LABEL_PARENT_UID: told["uid"],
        LABEL_GROUP: "g",
    }
    assert metadata["annotations"] == {
        ANNOTATION_PARENT: "job",
        ANNOTATION_DEPTH: "1",
        ANNOTATION_SPAWN_KEY: "k",
        ANNOTATION_CREATED: "2026-01-02T03:04:05.000000Z",
    }
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "taskctl.dev/v1alpha1",
            "kind": "Task",
            "name": "job",
            "uid": told["uid"],
            "blockOwnerDeletion": False,
        }
    ]


async def test_grandchild_belongs_to_the_root(world: World) -> None:
    task, told, root = await child_of_child(world)
    assert told["env"]["TASKCTL_ROOT"] == "job"
    assert told["env"]["TASKCTL_PARENT"] == "job"
    assert told["env"]["TASKCTL_DEPTH"] == "1"
    await task.good("spawn", tasks=[{"key": "b", "name": "grandchild"}])
    made = world.api.see(TASKS, "grandchild")["metadata"]
    assert made["ownerReferences"][0]["uid"] == root["metadata"]["uid"]
    assert made["labels"][LABEL_ROOT_UID] == root["metadata"]["uid"]
    assert made["labels"][LABEL_PARENT_UID] == told["uid"]
    assert made["annotations"][ANNOTATION_PARENT] == "child"
    assert made["annotations"][ANNOTATION_DEPTH] == "2"


async def test_root_with_a_long_name(world: World) -> None:
    name = "r" * 100
    task, told = await parent(world, name)
    await task.good("spawn", tasks=[{"key": "k", "name": "child"}])
    metadata = world.api.see(TASKS, "child")["metadata"]
    assert len(metadata["labels"][LABEL_ROOT]) == 63
    assert metadata["ownerReferences"][0]["name"] == name
    child, _ = await world.init(world.place(world.api.see(TASKS, "child")))
    grandchildren = await world.attached(await child.good("next"))
    answer = await grandchildren.good("spawn", tasks=[{"key": "k"}])
    assert len(answer["tasks"][0]["name"]) <= 63
    made = world.api.see(TASKS, answer["tasks"][0]["name"])["metadata"]
    assert made["ownerReferences"][0] == metadata["ownerReferences"][0]
    assert made["ownerReferences"][0]["uid"] == told["uid"]


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"value": {"n": [1, 2.5, None, True]}}, {"value": {"n": [1, 2.5, None, True]}}),
        ({"value": None}, {"value": None}),
        ({"json": '{"n": 1e2}'}, {"value": {"n": 100.0}}),
        ({"data": {"n": "1"}}, {"data": {"n": "1"}}),
    ],
)
async def test_input_is_stored_first(world: World, given: Any, stored: Any) -> None:
    task, told = await parent(world)
    answer = await task.good("spawn", tasks=[{"key": "k", **given}])
    name = answer["tasks"][0]["name"]
    assert world.api.see(TASKS, name)["spec"]["inputObject"] == f"{name}-input"
    made = world.api.see(TASKOBJECTS, f"{name}-input")
    assert {key: made[key] for key in ("value", "data", "ref") if key in made} == stored
    assert made["metadata"]["labels"][LABEL_PARENT_UID] == told["uid"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == told["uid"]
    created = [call[1] for call in world.api.calls if call[0] == "create"]
    assert created == ["taskobjects", "tasks"]


async def test_input_by_name(world: World) -> None:
    task, _ = await parent(world)
    await task.good("spawn", tasks=[{"key": "k", "name": "x", "input_object": "shared"}])
    assert world.api.see(TASKS, "x")["spec"]["inputObject"] == "shared"
    assert world.api.names(TASKOBJECTS) == []


async def test_the_same_key_is_the_same_child(world: World) -> None:
    task, _ = await parent(world)
    spec = {"key": "k", "value": {"n": 1}}
    first = await task.good("spawn", tasks=[spec])
    second = await task.good("spawn", tasks=[spec])
    assert first["tasks"][0]["created"] is True
    assert second["tasks"] == [first["tasks"][0] | {"created": False}]
    assert len(world.api.names(TASKS)) == 2


async def test_a_parent_that_runs_again_finds_its_children(world: World) -> None:
    peer, _, told = await world.running(retry={"limit": 1})
    task = await world.attached(told)
    specs = [{"key": "a"}, {"key": "b", "name": "named", "data": {"x": "1"}}]
    first = await task.good("spawn", tasks=specs)
    await peer.good("exited", **exit_of(told, code=1))
    again, _ = await world.init(world.place(world.api.see(TASKS, "job"), 2))
    task = await world.attached(await again.good("next"))
    second = await task.good("spawn", tasks=[*specs, {"key": "c"}])
    assert [item["created"] for item in second["tasks"]] == [False, False, True]
    assert [item["uid"] for item in second["tasks"][:2]] == [i["uid"] for i in first["tasks"]]


async def test_lost_answers_make_no_second_child(world: World) -> None:
    task, _ = await parent(world)
    world.api.faults.append(Fault("create", Unavailable("cut"), "tasks", after=True))
    world.api.faults.append(Fault("create", Unavailable("cut"), "taskobjects", after=True))
    task.send("spawn", tasks=[{"key": "k", "value": 1}])
    for number in (1, 2):
        await eventually(lambda: world.api.count("create", "taskobjects") >= 1)
        await asyncio.sleep(0.01)
        world.time.advance(number)
    answer = await task.receive()
    assert answer is not None
    assert answer["ok"], answer
    assert len(world.api.names(TASKS)) == 2
    assert len(world.api.names(TASKOBJECTS)) == 1


@pytest.mark.parametrize("resource", [TASKS, TASKOBJECTS])
async def test_a_strangers_name_is_a_conflict(world: World, resource: Any) -> None:
    task, _ = await parent(world)
    taken = "x" if resource is TASKS else "x-input"
    world.api.put(resource, {"metadata": {"name": taken}, "spec": {}, "value": 1})
    code, message = await task.refused("spawn", tasks=[{"key": "k", "name": "x", "value": 1}])
    assert code == "conflict"
    assert taken in message


async def test_another_key_under_the_same_name_is_a_conflict(world: World) -> None:
    task, _ = await parent(world)
    await task.good("spawn", tasks=[{"key": "a", "name": "x"}])
    assert (await task.refused("spawn", tasks=[{"key": "b", "name": "x"}]))[0] == "conflict"


async def test_a_copy_of_a_child_is_not_the_child(world: World) -> None:
    """Its labels say so, but labels are anybody's."""
    task, _ = await parent(world)
    await task.good("spawn", tasks=[{"key": "k", "name": "child"}])
    copy = world.api.see(TASKS, "child")
    copy["metadata"] = {**copy["metadata"], "name": "copy", "uid": "uid-copy"}
    world.api.put(TASKS, copy)
    code, message = await task.refused("spawn", tasks=[{"key": "k", "name": "copy"}])
    assert code == "conflict"
    assert "copy" in message


@pytest.mark.parametrize(("scope", "allowed"), [(None, False), ("Tree", False), ("Task", True)])
async def test_no_children_of_a_cancelled_tree(
    world: World, scope: str | None, allowed: bool
) -> None:
    spec = {} if scope is None else {"cancelScope": scope}
    task, _ = await parent(world, **spec)
    world.api.change(TASKS, "job", spec={"cancel": True})
    async with asyncio.timeout(5):
        while not (await task.good("info"))["cancel"]:
            await asyncio.sleep(0.002)
    answer = await task.call("spawn", tasks=[{"key": "k"}])
    assert answer["ok"] is allowed
    if not allowed:
        assert answer["error"] == "superseded"
        assert "cancelled" in answer["message"]


async def test_depth_limit(world: World) -> None:
    task, _ = await parent(world, limits={"depth": 1})
    await task.good("spawn", tasks=[{"key": "k", "name": "child"}])
    assert world.api.see(TASKS, "child")["spec"]["limits"] == {"depth": 1}
    peer, _ = await world.init(world.place(world.api.see(TASKS, "child")))
    child = await world.attached(await peer.good("next"))
    code, message = await child.refused("spawn", tasks=[{"key": "k"}])
    assert code == "limit"
    assert "limits.depth" in message
    assert "depth 2" in message
    code, message = await child.refused(
        "spawn", tasks=[{"key": "k", "overrides": {"limits": {"depth": 9}}}]
    )
    assert code in ("limit", "bad_request")
    assert len(world.api.names(TASKS)) == 2


async def test_descendants_limit(world: World) -> None:
    task, _ = await parent(world, limits={"descendants": 3})
    await task.good("spawn", tasks=[{"key": "a", "name": "child"}, {"key": "b"}])
    code, message = await task.refused("spawn", tasks=[{"key": "a"}, {"key": "c"}, {"key": "d"}])
    assert (code, len(world.api.names(TASKS))) == ("limit", 3)
    assert "limits.descendants allows 3" in message
    assert world.api.see(TASKS, "job")["status"]["tree"] == {"descendants": 2}
    peer, _ = await world.init(world.place(world.api.see(TASKS, "child")))
    child = await world.attached(await peer.good("next"))
    await child.good("spawn", tasks=[{"key": "x"}])
    code, _ = await child.refused("spawn", tasks=[{"key": "y"}])
    assert code == "limit"
    again = await task.good("spawn", tasks=[{"key": "a", "name": "child"}, {"key": "b"}])
    assert [item["created"] for item in again["tasks"]] == [False, False]
    assert world.api.see(TASKS, "job")["status"]["tree"] == {"descendants": 3}


@pytest.mark.parametrize(
    "limits",
    [{"descendants": 4}, {"spawnRate": {"tasks": 1, "perSeconds": 3600, "burst": 4}}],
    ids=["descendants", "rate"],
)
async def test_two_spawns_at_once_stay_within_the_limit(world: World, limits: Any) -> None:
    task, told = await parent(world, limits=limits)
    other = await world.attached(told)
    asked = [
        peer.call("spawn", tasks=[{"key": f"{n}-{m}"} for m in range(3)])
        for n, peer in enumerate((task, other))
    ]
    answers = await asyncio.gather(*asked)
    assert sorted(answer["ok"] for answer in answers) == [False, True]
    assert len(world.api.names(TASKS)) == 4


async def test_what_was_set_aside_is_taken_up_again(world: World) -> None:
    """The server refuses one child: the others count, and asking again does not count twice."""
    task, _ = await parent(world, limits={"descendants": 3})
    tasks = [{"key": key} for key in "abc"]
    world.api.faults.append(Fault("create", Invalid("no", status=422), plural="tasks", times=1))
    code, _ = await task.refused("spawn", tasks=tasks)
    assert (code, len(world.api.names(TASKS))) == ("rejected", 3)
    await task.good("spawn", tasks=tasks)
    assert world.api.see(TASKS, "job")["status"]["tree"] == {"descendants": 3}
    code, _ = await task.refused("spawn", tasks=[{"key": "d"}])
    assert code == "limit"


async def test_spawn_rate(world: World) -> None:
    rate = {"tasks": 1, "perSeconds": 10, "burst": 2}
    task, _ = await parent(world, limits={"spawnRate": rate})
    await task.good("spawn", tasks=[{"key": "a", "name": "child"}, {"key": "b"}])
    answer = await task.call("spawn", tasks=[{"key": "c"}])
    assert (answer["error"], round(answer["retry_after_s"])) == ("limit", 10)
    assert "limits.spawnRate of root task job allows 1 tasks in 10 s" in answer["message"]
    again = await task.good("spawn", tasks=[{"key": "a", "name": "child"}, {"key": "b"}])
    assert [item["created"] for item in again["tasks"]] == [False, False]
    peer, _ = await world.init(world.place(world.api.see(TASKS, "child")))
    child = await world.attached(await peer.good("next"))
    code, _ = await child.refused("spawn", tasks=[{"key": "x"}])
    assert (code, len(world.api.names(TASKS))) == ("limit", 3)
    too_many = await task.call("spawn", tasks=[{"key": str(n)} for n in range(3)])
    assert "retry_after_s" not in too_many
    assert "spawn fewer at a time" in too_many["message"]


async def test_attach_tells_the_burst(world: World) -> None:
    _, _, told = await world.running("job", limits={"spawnRate": {"tasks": 7}})
    peer = await world.connect()
    answer = await peer.good("attach", v=1, token=told["env"]["TASKCTL_TOKEN"])
    assert answer["spawn_burst"] == 7


@pytest.mark.parametrize(
    ("tasks", "named"),
    [
        (None, "tasks"),
        ({}, "tasks"),
        ([1], "tasks[0]"),
        ([{}], "tasks[0].key"),
        ([{"key": ""}], "tasks[0].key"),
        ([{"key": 5}], "tasks[0].key"),
        ([{"key": "k" * 1025}], "tasks[0].key"),
        ([{"key": "a"}, {"key": "a"}], "tasks[1].key"),
        ([{"key": "a", "name": "x"}, {"key": "b", "name": "x"}], "tasks[1].name"),
        ([{"key": "a", "name": "Not A Name"}], "tasks[0].name"),
        ([{"key": "a", "name": "x" * 241}], "tasks[0].name"),
        ([{"key": "a", "inputs": 1}], "tasks[0].inputs"),
        ([{"key": "a", "value": 1, "data": {}}], "tasks[0].data"),
        ([{"key": "a", "value": 1, "input_object": "o"}], "tasks[0].input_object"),
        ([{"key": "a", "value": b"raw"}], "tasks[0].value"),
        ([{"key": "a", "value": float("nan")}], "tasks[0].value"),
        ([{"key": "a", "value": 2**64 - 1}], "tasks[0].value"),
        ([{"key": "a", "json": "{"}], "tasks[0].json"),
        ([{"key": "a", "json": "NaN"}], "tasks[0].json"),
        ([{"key": "a", "data": {"x": 1}}], "tasks[0].data.x"),
        ([{"key": "a", "ref": {"path": "../etc"}}], "tasks[0].ref.sha256"),
        ([{"key": "a", "overrides": [1]}], "tasks[0].overrides"),
        ([{"key": "a", "overrides": {"comand": ["x"]}}], "tasks[0].overrides.comand"),
        ([{"key": "a", "overrides": {"input": 1}}], "tasks[0].overrides.input"),
        ([{"key": "a", "overrides": {"cancel": True}}], "tasks[0].overrides.cancel"),
        ([{"key": "a", "overrides": {"command": []}}], "tasks[0].overrides.command"),
        ([{"key": "a", "overrides": {"slots": 0}}], "tasks[0].overrides.slots"),
        ([{"key": "a", "overrides": {"retry": {"limit": -1}}}], "tasks[0].overrides.retry.limit"),
        ([{"key": "a", "overrides": {"limits": {"depth": 3}}}], "tasks[0].overrides.limits"),
        (
            [{"key": "a", "overrides": {"treeTimeoutSeconds": 3}}],
            "tasks[0].overrides.treeTimeoutSeconds",
        ),
        (
            [{"key": "a", "overrides": {"notify": [{"url": "https://a/"}]}}],
            "tasks[0].overrides.notify: it tells of a whole tree",
        ),
        (
            [{"key": "a", "overrides": {"onExit": {"command": ["x"]}}}],
            "tasks[0].overrides.onExit",
        ),
        ([{"key": "a", "overrides": {"timeout_seconds": 5}}], "tasks[0].overrides.timeout_seconds"),
        ([{"key": "a", "overrides": {"args": ["x" * 131_072]}}], "tasks[0].overrides.args[0]"),
        (
            [{"key": "a", "overrides": {"args": ["é" * 65_536]}}],
            "tasks[0].overrides.args[0]: has 131072 bytes",
        ),
        (
            [{"key": "a", "overrides": {"env": [{"name": "A", "value": "x" * 131_070}]}}],
            "tasks[0].overrides.env[0]: has 131072 bytes with its name",
        ),
        (
            [{"key": "a", "overrides": {"retry": {"backoff_seconds": 60}}}],
            "tasks[0].overrides.retry.backoff_seconds",
        ),
        ([{"key": "a", "overrides": {"retry": {"limit": "3"}}}], "tasks[0].overrides.retry.limit"),
        ([{"key": "a", "overrides": {"retry": {"limit": True}}}], "tasks[0].overrides.retry.limit"),
        ([{"key": "a", "overrides": {"slots": 1.0}}], "tasks[0].overrides.slots"),
        ([{"key": "a", "overrides": {"slots": "1"}}], "tasks[0].overrides.slots"),
        ([{"key": "a", "overrides": {"suspend": "no"}}], "tasks[0].overrides.suspend"),
        ([{"key": "a", "overrides": {"suspend": 1}}], "tasks[0].overrides.suspend"),
        (
            [{"key": "a", "overrides": {"image": b"x"}}],
            "tasks[0].overrides.image: must be text, a number",
        ),
        ([{"key": "a", "overrides": {"args": "x"}}], "tasks[0].overrides.args"),
        ([{"key": "a", "overrides": {"command": [1]}}], "tasks[0].overrides.command[0]"),
        (
            [{"key": "a", "overrides": {"command": [b"x"]}}],
            "tasks[0].overrides.command[0]: must be text, a number",
        ),
        ([{"key": "a", "overrides": {"runAfter": "x"}}], "tasks[0].overrides.runAfter"),
        (
            [{"key": "a", "overrides": {"runAfter": {"tasks": "x"}}}],
            "tasks[0].overrides.runAfter.tasks",
        ),
        (
            [{"key": "a", "overrides": {"runAfter": {"task": ["x"]}}}],
            "tasks[0].overrides.runAfter.task: unknown",
        ),
        (
            [{"key": "a", "overrides": {"ttlSecondsAfterFinished": 5}}],
            "tasks[0].overrides.ttlSecondsAfterFinished",
        ),
        ([{"key": "a", "overrides": {"env": {"A": "x"}}}], "tasks[0].overrides.env"),
        (
            [{"key": "a", "overrides": {"env": [{"name": "A", "value": 5}]}}],
            "tasks[0].overrides.env[0].value",
        ),
        (
            [{"key": "a", "overrides": {"env": [{"name": "A", "value": b"x"}]}}],
            "tasks[0].overrides.env[0].value: must be text, a number",
        ),
        (
            [{"key": "a", "overrides": {"env": [{"name": "A", "value_from": {}}]}}],
            "tasks[0].overrides.env[0].value_from",
        ),
        ([{"key": "a", "overrides": {"when": "success"}}], "tasks[0].overrides.when"),
        (
            [{"key": "a", "overrides": {"retry": {"jitter": float("nan")}}}],
            "tasks[0].overrides.retry.jitter: is nan",
        ),
        ([{"key": str(number)} for number in range(1001)], "tasks"),
    ],
)
async def test_a_faulty_spec_creates_nothing(world: World, tasks: Any, named: str) -> None:
    task, _ = await parent(world)
    good = [{"key": "good"}]
    given = good + tasks if isinstance(tasks, list) and "[" in named and tasks else tasks
    named = named.replace("[1]", "[2]", 1).replace("[0]", "[1]", 1) if given is not tasks else named
    code, message = await task.refused("spawn", tasks=given)
    assert code == "bad_request"
    assert message.startswith(named), message
    assert world.api.names(TASKS) == ["job"]
    assert (await task.good("spawn", tasks=good))["tasks"][0]["created"], "the connection goes on"


async def test_refs_must_follow_from_the_hash_and_exist(world: World) -> None:
    task, _ = await parent(world)
    content = b'{"big": true}'
    digest = hashlib.sha256(content).hexdigest()
    path = f".taskctl/objects/{digest[:2]}/{digest}"
    ref = {"path": path, "sha256": digest, "size": len(content), "codec": "json"}
    for change, named in (
        ({"path": "/etc/passwd"}, "ref.path"),
        ({"path": f".taskctl/objects/../../{digest}"}, "ref.path"),
        ({"path": ".taskctl/objects/00/" + digest}, "ref.path"),
        ({"sha256": digest.upper()}, "ref.sha256"),
        ({"codec": "pickle"}, "ref.codec"),
        ({"size": -1}, "ref.size"),
        ({}, "ref.path"),
    ):
        code, message = await task.refused("spawn", tasks=[{"key": "k", "ref": ref | change}])
        assert code == "bad_request", change
        assert named in message
    assert world.settings.workspace is not None
    file = world.settings.workspace / path
    file.parent.mkdir()
    file.write_bytes(content)
    refused = await task.refused("spawn", tasks=[{"key": "k", "ref": ref | {"size": 5}}])
    assert "ref.size" in refused[1]
    answer = await task.good("spawn", tasks=[{"key": "k", "ref": ref}])
    made = world.api.see(TASKOBJECTS, answer["tasks"][0]["name"] + "-input")
    assert made["ref"] == ref


async def test_many_children_are_written_a_few_at_a_time(world: World) -> None:
    task, _ = await parent(world)
    open_now, most = 0, 0
    create = world.api.create

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            return await create(*args, **kwargs)
        finally:
            open_now -= 1

    world.api.create = counted  # type: ignore[method-assign]
    specs = [{"key": str(number), "value": number} for number in range(200)]
    answer = await task.good("spawn", tasks=specs)
    assert len(answer["tasks"]) == 200
    for number in (0, 57, 199):
        name = answer["tasks"][number]["name"]
        assert world.api.see(TASKOBJECTS, f"{name}-input")["value"] == number, "in order"
    assert 1 < most <= 16


async def test_children_exist_before_the_outcome(world: World) -> None:
    peer, _, told = await world.running()
    task = await world.attached(told)
    world.api.faults.append(Fault("create", Unavailable("away"), "tasks"))
    task.send("spawn", tasks=[{"key": "k"}])
    await eventually(lambda: world.api.count("create") == 1)
    await task.close()
    peer.send("exited", **exit_of(told))
    await asyncio.sleep(0.02)
    assert world.status()["state"] == "Running"
    world.time.advance(1)
    answer = await peer.receive()
    assert answer is not None
    assert answer["action"] == "exit"
    order = [call[0] for call in world.api.calls if call[0] in ("create", "patch_status")]
    assert order == ["patch_status", "create", "create", "patch_status"]
    assert len(world.api.names(TASKS)) == 2


async def test_server_away_is_told_after_a_while_and_may_be_repeated(world: World) -> None:
    task, _ = await parent(world)
    world.api.down = True
    task.send("spawn", tasks=[{"key": "k"}])
    await eventually(lambda: world.api.count("create") == 1)
    for _ in range(8):
        await asyncio.sleep(0.005)
        world.time.advance(5)
    answer = await task.receive()
    assert answer is not None
    assert answer["error"] == "unavailable"
    world.api.down = False
    assert (await task.good("spawn", tasks=[{"key": "k"}]))["tasks"][0]["created"]


async def test_what_the_server_refuses_is_passed_on(world: World) -> None:
    task, _ = await parent(world)
    quota = Forbidden("exceeded quota", status=403)
    world.api.faults.append(Fault("create", quota, "tasks", times=99))
    answer = await answer_in_time(world, task)
    assert answer["error"] == "rejected"
    assert "exceeded quota" in answer["message"]
    assert answer["message"].startswith("tasks[0]")


async def test_what_is_forbidden_for_a_moment_is_asked_for_again(world: World) -> None:
    """As by an API server that has not read its RBAC rules yet."""
    task, _ = await parent(world)
    early = Forbidden("tasks is forbidden", status=403)
    world.api.faults.append(Fault("create", early, "tasks", times=2))
    answer = await answer_in_time(world, task)
    assert answer["tasks"][0]["created"]


async def answer_in_time(world: World, task: Peer) -> dict[str, Any]:
    """Ask for a child; let seconds pass, until nobody waits for any before it tries again."""
    task.send("spawn", tasks=[{"key": "k"}])
    await eventually(lambda: world.api.count("create") >= 1)
    for _ in range(12):
        await asyncio.sleep(0.005)
        world.time.advance(1)
    answer = await task.receive()
    assert answer is not None
    return answer


async def test_no_children_after_the_end(world: World) -> None:
    peer, _, told = await world.running()
    task = await world.attached(told)
    await peer.good("exited", **exit_of(told))
    assert (await task.refused("spawn", tasks=[{"key": "k"}]))[0] == "superseded"
    late = await world.connect()
    refused = await late.refused("attach", v=1, token=told["env"]["TASKCTL_TOKEN"])
    assert refused[0] == "superseded"


async def test_a_root_without_children_is_complete_at_once(world: World) -> None:
    peer, _, told = await world.running("leaf")
    await peer.good("exited", **exit_of(told))
    conditions = {item["type"]: item["status"] for item in world.status("leaf")["conditions"]}
    assert conditions["Complete"] == "True"

    peer, _, told = await world.running("grower")
    task = await world.attached(told)
    await task.good("spawn", tasks=[{"key": "k"}])
    await peer.good("exited", **exit_of(told))
    conditions = {item["type"]: item["status"] for item in world.status("grower")["conditions"]}
    assert conditions["Complete"] == "False", "the tree controller's to say"


async def test_an_empty_spawn(world: World) -> None:
    task, _ = await parent(world)
    assert (await task.good("spawn", tasks=[]))["tasks"] == []
