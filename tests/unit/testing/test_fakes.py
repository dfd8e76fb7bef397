"""The hand-made fakes of other tests say what the real server's code says.

They stay where a test makes thousands of requests in virtual time, or changes objects behind the
client's back. Each case here runs on ``FakeCluster``, which the conformance suite verifies, and on
every fake that has what the case asks for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.errors import AlreadyExists, Conflict, NotFound
from taskctl.kube.interface import (
    DeleteOptions,
    EventType,
    KubeObject,
    ListOptions,
    PatchOptions,
    PatchType,
    WatchOptions,
)
from taskctl.kube.resources import NAMESPACES
from taskctl.policy.status import status_operations
from taskctl.testing import FakeCluster, builders
from tests.unit.agent.fakes import FakeApi as AgentApi
from tests.unit.cli.fake import FakeClient as CommandLineApi
from tests.unit.controllers.fake_api import FakeApi as ControllersApi

NS = "ns"
ALL = ("cluster", "agent", "controllers", "command line")


@pytest.fixture
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "agent":
        yield AgentApi()
    elif request.param == "controllers":
        yield ControllersApi()
    elif request.param == "command line":
        yield CommandLineApi(namespace=NS)
    else:
        async with FakeCluster() as cluster:
            real = cluster.client()
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}}
            await real.create(NAMESPACES, namespace)
            yield real


def on(*fakes: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("client", fakes, indirect=True)


def task(name: str, cluster: str = "c", **labels: str) -> KubeObject:
    made = builders.task(name).namespace(NS).cluster(cluster)
    return (made.labels(labels) if labels else made).manifest()


@on(*ALL)
async def test_a_name_is_taken_once(client: Any) -> None:
    made = await client.create(TASKS, task("a"), NS)
    assert made["metadata"]["uid"]
    assert made["spec"]["clusterName"] == "c"
    with pytest.raises(AlreadyExists) as refusal:
        await client.create(TASKS, task("a"), NS)
    assert refusal.value.status == 409
    again = await client.get(TASKS, "a", NS)
    assert again["metadata"]["uid"] == made["metadata"]["uid"]


@on("cluster", "agent", "controllers")
async def test_a_new_task_is_pending(client: Any) -> None:
    made = await client.create(TASKS, task("a"), NS)
    assert made["status"]["state"] == "Pending"
    assert made["metadata"]["generation"] == 1


@on(*ALL)
async def test_what_is_not_there(client: Any) -> None:
    with pytest.raises(NotFound) as refusal:
        await client.get(TASKS, "none", NS)
    assert refusal.value.status == 404
    with pytest.raises(NotFound):
        await client.patch_status(TASKS, "none", NS, {"status": {"message": "m"}})


@on("cluster", "controllers", "command line")
async def test_deleting_what_is_not_there(client: Any) -> None:
    with pytest.raises(NotFound):
        await client.delete(TASKS, "none", NS)


@on(*ALL)
async def test_a_merge_patch_removes_with_null(client: Any) -> None:
    await client.create(TASKS, task("a", one="1", two="2"), NS)
    await client.patch(TASKS, "a", NS, {"metadata": {"labels": {"one": None, "three": "3"}}})
    labels = (await client.get(TASKS, "a", NS))["metadata"]["labels"]
    assert labels == {"two": "2", "three": "3"}


@on("cluster", "agent", "controllers")
async def test_a_write_changes_the_version_and_a_stale_one_is_refused(client: Any) -> None:
    first = await client.create(TASKS, task("a"), NS)
    old = first["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": old}, "status": {"message": "m"}}
    second = await client.patch_status(TASKS, "a", NS, body)
    assert int(second["metadata"]["resourceVersion"]) > int(old)
    assert second["metadata"]["generation"] == 1  # a status is not what was asked for
    with pytest.raises(Conflict):
        await client.patch_status(TASKS, "a", NS, body)
    assert (await client.get(TASKS, "a", NS))["status"]["message"] == "m"


@on("cluster", "agent", "controllers")
async def test_a_patch_of_operations_tests_the_version_and_the_uid(client: Any) -> None:
    made = await client.create(TASKS, task("a"), NS)
    body = status_operations(made, {"state": "Running", "message": "m"})
    options = PatchOptions(type=PatchType.JSON, subresource="status")
    changed = await client.patch(TASKS, "a", NS, body, options=options)
    assert (changed["status"]["state"], changed["status"]["message"]) == ("Running", "m")
    with pytest.raises(Conflict):
        await client.patch(TASKS, "a", NS, body, options=options)


@on("cluster", "controllers", "command line")
async def test_a_deletion_tests_the_uid(client: Any) -> None:
    await client.create(TASKS, task("a"), NS)
    with pytest.raises(Conflict):
        await client.delete(TASKS, "a", NS, options=DeleteOptions(uid="another"))
    await client.delete(TASKS, "a", NS)
    with pytest.raises(NotFound):
        await client.get(TASKS, "a", NS)


@on("cluster", "controllers")
async def test_a_finalizer_holds_a_deleted_object(client: Any) -> None:
    held = task("a")
    held["metadata"]["finalizers"] = ["example.org/hold"]
    await client.create(TASKS, held, NS)
    await client.delete(TASKS, "a", NS)
    assert (await client.get(TASKS, "a", NS))["metadata"]["deletionTimestamp"]


@on("cluster", "controllers")
async def test_what_is_owned_goes_with_its_owner(client: Any) -> None:
    owner = await client.create(TASKS, task("a"), NS)
    child = builders.taskobject("o").namespace(NS).owned_by(owner).manifest()
    await client.create(TASKOBJECTS, child, NS)
    await client.delete(TASKS, "a", NS)
    async with asyncio.timeout(60):
        while (await client.list(TASKOBJECTS, NS)).items:
            await asyncio.sleep(0.01)


@on(*ALL)
async def test_an_answer_is_the_callers_own(client: Any) -> None:
    await client.create(TASKS, task("a", one="1"), NS)
    (await client.get(TASKS, "a", NS))["metadata"]["labels"]["one"] = "changed"
    (await client.list(TASKS, NS)).items[0]["metadata"]["labels"]["one"] = "changed"
    assert (await client.get(TASKS, "a", NS))["metadata"]["labels"] == {"one": "1"}


@on("cluster", "controllers", "command line")
async def test_lists_by_label(client: Any) -> None:
    for name, color in (("a", "red"), ("b", "green"), ("c", "red")):
        await client.create(TASKS, task(name, color=color), NS)
    found = await client.list(TASKS, NS, options=ListOptions(label_selector="color=red"))
    assert sorted(one["metadata"]["name"] for one in found.items) == ["a", "c"]


@on(*ALL)
async def test_lists_by_field(client: Any) -> None:
    for name, cluster in (("a", "c"), ("b", "d")):
        await client.create(TASKS, task(name, cluster), NS)
    found = await client.list(TASKS, NS, options=ListOptions(field_selector="spec.clusterName=d"))
    assert [one["metadata"]["name"] for one in found.items] == ["b"]


@on("cluster", "agent", "controllers")
async def test_a_watch_resumes_from_a_version(client: Any) -> None:
    await client.create(TASKS, task("a"), NS)
    seen = (await client.list(TASKS, NS)).resource_version
    await client.create(TASKS, task("b"), NS)
    options = WatchOptions(resource_version=seen)
    async with aclosing(client.watch(TASKS, NS, options=options)) as events:
        found = [await anext(events)]
        change = asyncio.ensure_future(
            client.patch_status(TASKS, "b", NS, {"status": {"message": "m"}})
        )
        found.append(await anext(events))
        await change
    names = [(event.type, event.object["metadata"]["name"]) for event in found]
    assert names == [(EventType.ADDED, "b"), (EventType.MODIFIED, "b")]
    versions = [int(event.object["metadata"]["resourceVersion"]) for event in found]
    assert all(one < two for one, two in itertools.pairwise([int(seen), *versions]))
