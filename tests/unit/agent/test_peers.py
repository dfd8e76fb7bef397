"""Children in other TaskClusters: only where the parent's TaskCluster says so."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.constants import ANNOTATION_WORKSPACE_OF, INLINE_LIMIT_BYTES
from tests.unit.agent.conftest import World
from tests.unit.agent.fakes import Peer

GPU: dict[str, Any] = {"key": "k", "overrides": {"clusterName": "gpu"}}
LARGE = "x" * (INLINE_LIMIT_BYTES + 1)


def put_cluster(world: World, name: str, **spec: Any) -> None:
    world.api.put(TASKCLUSTERS, {"metadata": {"name": name}, "spec": spec})


async def attached(world: World, **spec: Any) -> Peer:
    _, _, told = await world.running(**spec)
    return await world.attached(told)


@pytest.mark.parametrize("form", [GPU, {"key": "k", "set": [["clusterName", "gpu"]]}])
async def test_a_child_in_a_peer(world: World, form: dict[str, Any]) -> None:
    put_cluster(world, "c", peers=["other", "gpu"])
    task = await attached(world)
    answer = await task.good("spawn", tasks=[{"key": "here"}, form])
    here, there = (world.api.see(TASKS, made["name"])["spec"] for made in answer["tasks"])
    assert (here["clusterName"], there["clusterName"]) == ("c", "gpu")
    assert there["lineage"]["rootUID"] == here["lineage"]["rootUID"]


@pytest.mark.parametrize(
    "peers",
    [{}, {"peers": []}, {"peers": ["gpus", "gp"]}, None],
    ids=["unset", "none", "like", "gone"],
)
async def test_what_is_not_listed_is_refused(world: World, peers: dict[str, Any] | None) -> None:
    if peers is not None:
        put_cluster(world, "c", **peers)
    put_cluster(world, "gpu", peers=["c"])  # what that one lists does not count here
    task = await attached(world)
    code, message = await task.refused("spawn", tasks=[{"key": "here"}, GPU])
    assert code == "bad_request"
    assert message.startswith("tasks[1].overrides.clusterName: ")
    assert "spec.peers of TaskCluster 'c'" in message
    assert world.api.names(TASKS) == ["job"]


async def test_the_name_is_a_text(world: World) -> None:
    put_cluster(world, "c", peers=["gpu"])
    task = await attached(world)
    for name in (["gpu"], {"gpu": 1}, 5, True):
        code, message = await task.refused(
            "spawn", tasks=[{"key": "k", "overrides": {"clusterName": name}}]
        )
        assert code == "bad_request"
        assert message.startswith("tasks[0].overrides.clusterName"), message


async def test_who_stays_at_home_asks_for_nothing(world: World) -> None:
    task = await attached(world)
    await task.good("spawn", tasks=[{"key": "a"}, {"key": "b", "overrides": {"clusterName": "c"}}])
    assert world.api.count("get", "taskclusters") == 0


async def test_a_child_gets_no_more_than_its_parent_there_either(world: World) -> None:
    put_cluster(world, "c", peers=["gpu"])
    task = await attached(world, readOnlyWorkspace=True)
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}
    for field, value in (
        ("env", [{"name": "A", "valueFrom": secret}]),
        ("readOnlyWorkspace", False),
        ("limits", {"depth": 9}),
    ):
        spec = {"key": "k", "overrides": {"clusterName": "gpu", field: value}}
        code, message = await task.refused("spawn", tasks=[spec])
        assert (code, field in message) == ("bad_request", True), message
    made = (await task.good("spawn", tasks=[GPU]))["tasks"][0]["name"]
    assert world.api.see(TASKS, made)["spec"]["readOnlyWorkspace"] is True


OWN_CLAIM: dict[str, Any] = {"workspace": {"pvc": {}}}
SAME: dict[str, Any] = {"workspace": {"claimName": "shared"}}
SCRATCH: dict[str, Any] = {"workspace": {"emptyDir": {}}}


@pytest.mark.parametrize(
    ("mine", "theirs", "fine"),
    [
        (OWN_CLAIM, OWN_CLAIM, False),
        (SAME, OWN_CLAIM, False),
        (SAME, SAME, True),
        (SCRATCH, SCRATCH, False),
        (SAME, {}, False),
    ],
)
async def test_a_large_input_must_lie_where_the_child_can_read_it(
    world: World, mine: dict[str, Any], theirs: dict[str, Any], fine: bool
) -> None:
    put_cluster(world, "c", peers=["gpu"], **mine)
    put_cluster(world, "gpu", **theirs)
    task = await attached(world)
    small = {**GPU, "key": "small", "value": "x" * 1000}
    large = {**GPU, "value": LARGE}
    await task.good("spawn", tasks=[small])
    if fine:
        await task.good("spawn", tasks=[large])
        return
    code, message = await task.refused("spawn", tasks=[{"key": "here"}, large])
    assert code == "bad_request"
    assert message.startswith("tasks[1].value: has ")
    assert "workspace of TaskCluster 'c'" in message
    assert len(world.api.names(TASKS)) == 2, "all or nothing"


@pytest.mark.parametrize("there", [False, True], ids=["another workspace", "the same files"])
async def test_a_large_value_of_another_taskcluster(world: World, there: bool) -> None:
    """As an input, and as the result of a child."""
    content = b'"big"'
    digest = hashlib.sha256(content).hexdigest()
    path = f".taskctl/objects/{digest[:2]}/{digest}"
    ref = {"path": path, "sha256": digest, "size": len(content), "codec": "json"}
    annotations = {ANNOTATION_WORKSPACE_OF: "gpu"}
    world.api.put(
        TASKOBJECTS, {"metadata": {"name": "theirs", "annotations": annotations}, "ref": ref}
    )
    put_cluster(world, "c", peers=["gpu"])
    task = await attached(world, inputObject="theirs")
    if there:
        assert world.settings.workspace is not None
        file = world.settings.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    [made] = (await task.good("spawn", tasks=[GPU]))["tasks"]
    labels = {"taskctl.dev/output-of": made["uid"], "taskctl.dev/attempt": "1"}
    metadata = {"name": "out", "annotations": annotations, "labels": labels}
    world.api.put(TASKOBJECTS, {"metadata": metadata, "ref": ref})
    status = {"state": "Succeeded", "attempt": 1, "outputObject": "out"}
    world.api.change(TASKS, made["name"], status=status)
    await task.good("children", wait_ms=1000)
    answer = await task.good("results", uids=[made["uid"]], format="json")
    if there:
        assert (await task.good("input", format="json"))["json"] == '"big"'
        assert answer["results"] == [{"json": '"big"'}]
        return
    code, message = await task.refused("input", format="value")
    assert code == "rejected"
    assert "workspace of TaskCluster 'gpu'" in message
    assert "workspace of TaskCluster 'gpu'" in answer["results"][0]["missing"]


async def test_large_objects_say_whose_workspace_has_them(world: World) -> None:
    task = await attached(world)
    await task.good("output", value=LARGE)
    [name] = world.api.names(TASKOBJECTS)
    annotations = world.api.see(TASKOBJECTS, name)["metadata"]["annotations"]
    assert annotations[ANNOTATION_WORKSPACE_OF] == "c"
