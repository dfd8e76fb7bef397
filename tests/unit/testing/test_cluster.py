"""The API in the process of a test: what the conformance suite does not ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unavailable,
)
from taskctl.kube.client import KubeClient
from taskctl.kube.interface import DeleteOptions, EventType, KubeObject, ListOptions, WatchOptions
from taskctl.kube.resources import EVENTS, PODS, Resource
from taskctl.kube.retry import RetryPolicy
from taskctl.testing import FakeCluster, builders
from tests.conformance.target import GROUP, widget, widget_crd
from tests.unit.clocks import SetClock

NS = "default"
WIDGETS = Resource(GROUP, "v1", "widgets", "Widget")


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    async with FakeCluster() as made:
        yield made


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[KubeClient]:
    async with cluster.client() as made:
        yield made


def task(name: str, cluster: str = "c") -> KubeObject:
    return builders.task(name).cluster(cluster).command("true").manifest()


def impatient(cluster: FakeCluster) -> KubeClient:
    """A client that repeats nothing."""
    settings = replace(CLIENT_SETTINGS, qps=0.0, retry=RetryPolicy(attempts=1))
    return cluster.client(settings)


async def test_objects_get_what_the_server_gives_them(client: KubeClient) -> None:
    made = await client.create(TASKS, task("t"), NS)
    assert made["status"]["state"] == "Pending"
    assert made["metadata"]["uid"]
    with pytest.raises(AlreadyExists):
        await client.create(TASKS, task("t"), NS)
    with pytest.raises(Invalid, match=r"spec\.command"):
        await client.create(TASKS, task("u") | {"spec": {"command": 3}}, NS)
    stale = {"metadata": {"resourceVersion": "1"}, "status": {"message": "m"}}
    with pytest.raises(Conflict):
        await client.patch_status(TASKS, "t", NS, stale)
    with pytest.raises(NotFound):
        await client.get(TASKS, "other", NS)


async def test_owned_objects_are_collected(cluster: FakeCluster, client: KubeClient) -> None:
    owner = await client.create(TASKS, task("owner"), NS)
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": "owner",
        "uid": owner["metadata"]["uid"],
    }
    child = builders.taskobject("child").manifest()
    child["metadata"]["ownerReferences"] = [reference]
    await client.create(TASKOBJECTS, child, NS)
    async with aclosing(client.watch(TASKOBJECTS, NS)) as events:
        assert (await anext(events)).type is EventType.ADDED
        await client.delete(TASKS, "owner", NS)
        assert (await anext(events)).type is EventType.DELETED
    assert cluster.objects(TASKOBJECTS) == []


async def test_objects_are_read_without_a_request(cluster: FakeCluster, client: KubeClient) -> None:
    for name in ("b", "a"):
        await client.create(TASKS, task(name), NS)
    sent = cluster.count()
    found = cluster.objects(TASKS, NS)
    assert [one["metadata"]["name"] for one in found] == ["a", "b"]
    assert (found[0]["apiVersion"], found[0]["kind"]) == (TASKS.api_version, "Task")
    assert cluster.objects(TASKS, "elsewhere") == []
    assert cluster.count() == sent == cluster.count("create", "tasks") == 2
    with pytest.raises(NotFound, match="give its definition"):
        cluster.objects(WIDGETS)


async def test_kinds_of_ones_own() -> None:
    async with FakeCluster(definitions=[widget_crd()], taskctl_kinds=False) as cluster:
        client = cluster.client()
        made = await client.create(WIDGETS, widget("w"), NS)
        assert made["spec"] == {"size": 1, "color": "red"}
        with pytest.raises(NotFound):
            await client.create(TASKS, task("t"), NS)


async def test_a_definition_that_is_wrong_says_so() -> None:
    wrong = widget_crd()
    wrong["spec"]["versions"] = []
    with pytest.raises(Invalid, match=r"spec\.versions"):
        async with FakeCluster(definitions=[wrong]):
            pass


async def test_time_stamps_come_from_the_clock() -> None:
    clock = SetClock()
    async with FakeCluster(clock=clock) as cluster:
        client = cluster.client()
        before = await client.create(TASKS, task("a"), NS)
        clock.pass_s(90)
        after = await client.create(TASKS, task("b"), NS)
    assert before["metadata"]["creationTimestamp"] == "2030-01-01T00:00:00Z"
    assert after["metadata"]["creationTimestamp"] == "2030-01-01T00:01:30Z"


async def test_a_request_fails_before_it_takes_effect(cluster: FakeCluster) -> None:
    client = impatient(cluster)
    fault = cluster.fail("create", "tasks", Forbidden("not you", status=403), times=2)
    for _ in range(2):
        with pytest.raises(Forbidden, match="not you"):
            await client.create(TASKS, task("t"), NS)
    assert fault.times == 0
    assert cluster.objects(TASKS) == []
    await client.create(TASKS, task("t"), NS)


async def test_a_request_fails_after_it_took_effect(cluster: FakeCluster) -> None:
    client = impatient(cluster)
    await client.create(TASKS, task("t"), NS)
    cluster.fail("patch", "tasks/status", Unavailable("the answer is lost"), after=True)
    await client.patch(TASKS, "t", NS, {"metadata": {"labels": {"a": "b"}}})  # another request
    with pytest.raises(Unavailable, match="lost"):
        await client.patch_status(TASKS, "t", NS, {"status": {"message": "done"}})
    assert cluster.objects(TASKS)[0]["status"]["message"] == "done"


async def test_the_client_repeats_what_is_safe(cluster: FakeCluster, client: KubeClient) -> None:
    await client.create(TASKS, task("t"), NS)
    cluster.fail("get", "tasks", Unavailable("for a moment"))
    assert (await client.get(TASKS, "t", NS))["metadata"]["name"] == "t"
    assert cluster.count("get", "tasks") == 2


async def test_a_slow_answer(cluster: FakeCluster) -> None:
    settings = replace(CLIENT_SETTINGS, qps=0.0, timeout_s=0.2, retry=RetryPolicy(attempts=1))
    cluster.delay("list", "tasks", 60.0)
    with pytest.raises(Unavailable, match="no answer within"):
        await cluster.client(settings).list(TASKS, NS)
    assert (await cluster.client(settings).list(TASKS, NS)).items == []


async def test_no_server_at_all(cluster: FakeCluster) -> None:
    client = impatient(cluster)
    async with aclosing(client.watch(TASKS, NS)) as events:
        coming = asyncio.ensure_future(anext(events))
        while not cluster.count("watch"):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        cluster.go_down()
        with pytest.raises(Unavailable):
            await coming
    with pytest.raises(Unavailable, match="cannot be reached"):
        await client.get(TASKS, "t", NS)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await anext(client.watch(TASKS, NS))
    cluster.come_up()
    await client.create(TASKS, task("t"), NS)


async def test_a_watch_breaks_and_is_resumed(cluster: FakeCluster, client: KubeClient) -> None:
    first = await client.create(TASKS, task("a"), NS)
    version = first["metadata"]["resourceVersion"]
    options = WatchOptions(resource_version=version)
    async with aclosing(client.watch(TASKS, NS, options=options)) as events:
        await client.create(TASKS, task("b"), NS)
        assert (await anext(events)).object["metadata"]["name"] == "b"
        assert cluster.break_watches("pods") == 0
        assert cluster.break_watches("tasks") == 1
        with pytest.raises(Unavailable, match="broke"):
            await anext(events)
    async with aclosing(client.watch(TASKS, NS, options=options)) as events:
        assert (await anext(events)).object["metadata"]["name"] == "b"
    assert cluster.break_watches() == 0  # closed ones are forgotten


async def test_an_old_version_is_gone(cluster: FakeCluster, client: KubeClient) -> None:
    first = await client.create(TASKS, task("a"), NS)
    await client.create(TASKS, task("b"), NS)
    cluster.forget_history()
    options = WatchOptions(resource_version=first["metadata"]["resourceVersion"])
    with pytest.raises(Gone):
        await anext(client.watch(TASKS, NS, options=options))


async def test_a_watch_that_nobody_reads_holds_a_bounded_part(
    cluster: FakeCluster, client: KubeClient
) -> None:
    """The server waits, as it would for a socket, and no event is lost."""
    large = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"x": "y" * 300_000}}
    maps = Resource("", "v1", "configmaps", "ConfigMap")
    async with aclosing(client.watch(maps, NS, options=WatchOptions())) as events:
        names = [f"m{number}" for number in range(5)]
        first = asyncio.ensure_future(anext(events))
        for name in names:
            await client.create(maps, large | {"metadata": {"name": name}}, NS)
        seen = {(await first).object["metadata"]["name"]}
        while not seen >= set(names):
            seen.add((await anext(events)).object["metadata"]["name"])


async def test_selectors_pages_and_preconditions(client: KubeClient) -> None:
    for number in range(7):
        await client.create(TASKS, task(f"t{number}", cluster="c" if number < 3 else "d"), NS)
    selected = ListOptions(field_selector="spec.clusterName=d")
    assert len((await client.list(TASKS, NS, options=selected)).items) == 4
    page = await client.list(TASKS, NS, options=ListOptions(limit=5))
    assert (len(page.items), bool(page.continue_token)) == (5, True)
    assert len((await client.list_all(TASKS, NS, options=ListOptions(limit=2))).items) == 7
    with pytest.raises(Conflict):
        await client.delete(TASKS, "t0", NS, options=DeleteOptions(uid="another"))


async def test_no_container_runs(cluster: FakeCluster, client: KubeClient) -> None:
    with pytest.raises(Unavailable, match="taskctl_stack"):
        async with client.open_exec("p", NS, "c", ["sh"]):
            pass
    with pytest.raises(NotFound):
        await anext(client.stream_log("p", NS, "c"))
    assert cluster.objects(PODS) == []


async def test_requests_are_observed_as_by_sockets(cluster: FakeCluster) -> None:
    seen: list[tuple[str, str, int]] = []

    def observer(*, verb: str, resource: str, code: int, duration_s: float) -> None:
        seen.append((verb, resource, code))

    client = cluster.client(replace(CLIENT_SETTINGS, observer=observer))
    await client.create(TASKS, task("t"), NS)
    with pytest.raises(NotFound):
        await client.get(EVENTS, "none", NS)
    await client.close()
    assert seen == [("create", "tasks", 201), ("get", "events", 404)]
