"""Operations on a whole local stack: their tasks really run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from taskctl import Client
from taskctl import operations as ops
from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.api.states import TaskState
from taskctl.errors import AlreadyExists
from taskctl.kube.resources import PVCS
from taskctl.sdk.errors import ChildFailed
from taskctl.testing.stack import LocalStack
from tests.embedded.client_tasks import fail, square
from tests.embedded.world import World, eventually

# Many processes, one after another, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def c(world: World, stack: LocalStack) -> AsyncIterator[Client]:
    async with Client(kubeconfig=stack.kubeconfig, namespace=world.namespace) as client:
        yield client


async def test_a_dag_of_all_kinds_of_tasks(c: Client, world: World) -> None:
    await world.cluster(replicas=2)
    by_value = 5
    operation = ops.SimpleDagOperation(
        "dag-",
        ops.BashTask(
            "first", 'echo "$greeting" > f; taskctl-init output "\\"$greeting\\""', greeting="hi"
        ),
        [
            ops.PythonTask("named", square, [3]),
            ops.PythonTask("valued", lambda text: len(text) + by_value, {"text": "x" * 20_000}),
            ops.CommandBasedTask("nothing", ["true"]),
        ],
        ops.CustomTask("last", "busybox", ["taskctl-init", "output", "[1]"]),
    )
    handle = await c.execute(operation)
    assert await handle.result(120) == {
        "first": "hi",
        "named": 9,
        "valued": 20_005,
        "nothing": None,
        "last": [1],
    }
    tree = await handle.tree()
    assert len(tree) == 6
    root = await world.get(TASKS, handle.name)
    assert root["spec"]["ttlSecondsAfterFinished"] == {"success": 1200, "failure": 7200}


async def test_a_failing_pipeline_and_its_yaml(c: Client, world: World) -> None:
    await world.cluster(replicas=1)
    [cluster] = await world.all(TASKCLUSTERS)
    operation = ops.PipelineOperation(
        "pipe-",
        [ops.PythonTask("bad", fail, ["no luck"]), ops.CommandBasedTask("never", ["true"])],
        cluster=cluster["metadata"]["name"],
    )
    handle = await c.execute(operation)
    with pytest.raises(ChildFailed, match="2 failed and 0 were cancelled: bad") as caught:
        await handle.result(120)
    assert caught.value.reason == "TreeFailed"
    states = {task.name.rpartition("-")[2]: task.state for task in list(await handle.tree())[1:]}
    assert states == {"bad": TaskState.FAILED, "never": TaskState.FAILED}
    text = ops.PipelineOperation(
        "yaml-",
        [ops.CommandBasedTask("one", ["true"]), ops.CommandBasedTask("two", ["true"])],
    ).manifests(cluster=cluster["metadata"]["name"], image="busybox")
    read = await c.execute(ops.read_yaml(text.to_yaml()))
    assert await read.result(120) == {"one": None, "two": None}
    second = await c.execute(ops.read_yaml(text.to_yaml()))
    assert second.name != read.name


async def test_workers_and_a_directory_of_its_own(c: Client, world: World) -> None:
    operation = ops.PipelineOperation(
        "own-",
        [
            ops.BashTask("write", "echo from the first > /opt/shared/file"),
            ops.BashTask("read", 'taskctl-init output "\\"$(cat /opt/shared/file)\\""'),
        ],
        shared_directory="notthere:/opt/shared",
        pod_context=ops.PodExecutionContext("app", "other"),
        worker_resources={"requests": {"cpu": "10m"}},
    )
    handle = await c.execute(operation)
    assert (await handle.result(120))["read"] == "from the first"
    [cluster] = await world.all(TASKCLUSTERS)
    assert cluster["metadata"]["ownerReferences"][0]["uid"] == handle.uid
    assert "podAffinity" in cluster["spec"]["template"]["affinity"]
    await handle.delete()
    for kind in (TASKS, TASKCLUSTERS, PVCS):
        await eventually(partial(world.all, kind), lambda found: not found, what="gone")


async def test_workers_that_are_refused_leave_no_task(c: Client, world: World) -> None:
    await world.cluster("taken", replicas=0)
    operation = ops.SingleTaskOperation("taken", ops.CommandBasedTask("one", ["true"]), workers=1)
    with pytest.raises(AlreadyExists):
        await c.execute(operation)
    await eventually(lambda: world.all(TASKS), lambda found: not found, what="gone")
