"""Client and machinery on the embedded API server, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskctl.api.resources import TASKS
from taskctl.embedded.server.main import EmbeddedServer, ServerOptions
from taskctl.embedded.server.storage.eventlog import LogLimits
from taskctl.errors import (
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    Unauthorized,
    Unavailable,
)
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings
from taskctl.kube.events import EventRecorder, EventSort
from taskctl.kube.informer import Informer, InformerOptions
from taskctl.kube.interface import (
    DeleteOptions,
    EventType,
    ListOptions,
    PatchOptions,
    PatchType,
    WatchOptions,
)
from taskctl.kube.lease import LeaderElector, LeaseSettings
from taskctl.kube.resources import CRDS, EVENTS, LEASES, PODS
from taskctl.kube.timing import Timing
from taskctl.objectkey import ObjectKey

# Each test starts a server and installs the definitions.
pytestmark = pytest.mark.slow

CRD_DIR = Path(__file__).parents[3] / "crds"


async def _hurry(delay_s: float) -> None:
    await asyncio.sleep(min(delay_s, 0.01))


HURRY = Timing(sleep=_hurry)


async def eventually(check: Callable[[], object], limit_s: float = 10.0) -> None:
    async with asyncio.timeout(limit_s):
        while not check():
            await asyncio.sleep(0.005)


@cache
def definitions() -> list[dict[str, Any]]:
    """Return the CRDs; reading their YAML takes most of a second."""
    paths = sorted(CRD_DIR.glob("taskctl.dev_*.yaml"))
    return [yaml.safe_load(path.read_text()) for path in paths]


async def install(client: KubeClient) -> None:
    for definition in definitions():
        await client.create(CRDS, deepcopy(definition))
    async with asyncio.timeout(10):
        while True:
            try:
                await client.list(TASKS)
            except NotFound:
                await asyncio.sleep(0.01)
            else:
                return


@asynccontextmanager
async def connected(data_dir: Path) -> AsyncIterator[KubeClient]:
    settings = ClientSettings(kubeconfig=data_dir / "kubeconfig", timing=HURRY, qps=0)
    async with await KubeClient.connect(settings) as client:
        yield client


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(ServerOptions(data_dir=tmp_path)) as running:
        yield running


@pytest.fixture
async def client(server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[KubeClient]:
    async with connected(tmp_path) as made:
        await install(made)
        yield made


def task(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": TASKS.api_version,
        "kind": "Task",
        "metadata": {"name": name},
        "spec": {"clusterName": "c", "image": "busybox", "command": ["true"], **spec},
    }


async def create(client: KubeClient, name: str) -> dict[str, Any]:
    return await client.create(TASKS, task(name), "default")


@asynccontextmanager
async def running(*informers: Informer) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(informer.run()) for informer in informers]
    try:
        for informer in informers:
            await informer.wait_synced(5)
        yield
    finally:
        for task_ in tasks:
            task_.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def key(name: str) -> ObjectKey:
    return ObjectKey("default", name)


async def test_errors_as_the_server_means_them(client: KubeClient) -> None:
    made = await create(client, "a")
    with pytest.raises(AlreadyExists):
        await create(client, "a")
    with pytest.raises(NotFound):
        await client.get(TASKS, "b", "default")
    with pytest.raises(Invalid) as caught:
        await client.create(TASKS, task("b", slots=0), "default")
    assert "spec.slots" in {cause.field for cause in caught.value.causes}
    with pytest.raises(Conflict):
        await client.delete(TASKS, "a", "default", options=DeleteOptions(uid="another"))
    body = {"metadata": {"resourceVersion": "1"}, "status": {"state": "Running"}}
    with pytest.raises(Conflict):
        await client.patch_status(TASKS, "a", "default", body)
    body["metadata"] = {"resourceVersion": made["metadata"]["resourceVersion"]}
    changed = await client.patch_status(TASKS, "a", "default", body)
    assert changed["status"]["state"] == "Running"


async def test_wrong_token_is_unauthorized(server: EmbeddedServer, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(path.read_text().replace(server.token, "x" * 20))
    async with connected(tmp_path) as stranger:
        with pytest.raises(Unauthorized):
            await stranger.list(PODS)


async def test_pages_show_one_moment(client: KubeClient) -> None:
    for number in range(7):
        await create(client, f"t{number}")
    first = await client.list(TASKS, "default", options=ListOptions(limit=3))
    await create(client, "late")
    assert first.continue_token
    rest = await client.list_all(TASKS, "default", options=ListOptions(limit=3))
    assert len(first.items) == 3
    assert len(rest.items) == 8
    following = await client.list(
        TASKS, "default", options=ListOptions(limit=10, continue_token=first.continue_token)
    )
    assert "late" not in {item["metadata"]["name"] for item in following.items}


async def test_informer_follows(client: KubeClient) -> None:
    await create(client, "before")
    informer = Informer(client, TASKS, "default", timing=HURRY)
    async with running(informer):
        assert informer.store.keys() == [key("before")]
        await create(client, "after")
        await eventually(lambda: len(informer.store) == 2)
        body = {"status": {"state": "Running"}}
        answer = await client.patch_status(TASKS, "after", "default", body)
        informer.store.observe(answer)
        found = informer.store.get(key("after"))
        assert found is not None
        assert found["status"]["state"] == "Running"
        await client.delete(TASKS, "before", "default")
        await eventually(lambda: informer.store.keys() == [key("after")])


async def test_selectors_and_metadata_only(client: KubeClient) -> None:
    options = InformerOptions(field_selector="status.state=Running")
    chosen = Informer(client, TASKS, options=options, timing=HURRY)
    slim = Informer(
        client,
        TASKS,
        options=InformerOptions(metadata_only=True),
        timing=HURRY,
    )
    await create(client, "a")
    async with running(chosen, slim):
        assert len(chosen.store) == 0
        assert [set(obj) for obj in slim.store] == [{"apiVersion", "kind", "metadata"}]
        await client.patch_status(TASKS, "a", "default", {"status": {"state": "Running"}})
        await eventually(lambda: len(chosen.store) == 1)
        await client.patch_status(TASKS, "a", "default", {"status": {"state": "Succeeded"}})
        await eventually(lambda: len(chosen.store) == 0)


async def test_informer_outlives_a_restart_of_the_server(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(data_dir=tmp_path)) as first:
        port = int(first.url.rsplit(":", 1)[1])
        async with connected(tmp_path) as client:
            await install(client)
            await create(client, "old")
            await create(client, "doomed")
            informer = Informer(client, TASKS, "default", timing=HURRY)
            async with running(informer):
                await first.stop()
                with pytest.raises(Unavailable, match="Connection refused"):
                    await create(client, "nobody hears")
                async with EmbeddedServer(ServerOptions(data_dir=tmp_path, port=port)):
                    await create(client, "new")
                    await client.delete(TASKS, "doomed", "default")
                    await eventually(lambda: set(informer.store.keys()) == {key("old"), key("new")})


async def test_informer_lists_anew_when_the_server_has_forgotten(tmp_path: Path) -> None:
    options = ServerOptions(data_dir=tmp_path, log_limits=LogLimits(max_events=5))
    async with EmbeddedServer(options) as first:
        port = int(first.url.rsplit(":", 1)[1])
        async with connected(tmp_path) as client:
            await install(client)
            await create(client, "doomed")
            gate = asyncio.Event()

            async def wait_for_gate(_: float) -> None:
                await gate.wait()

            # Its pauses last until the gate opens, so it misses more than the server keeps.
            informer = Informer(client, TASKS, "default", timing=Timing(sleep=wait_for_gate))
            async with running(informer):
                version = informer.store.resource_version
                await first.stop()
                await eventually(lambda: informer.last_error)
                again = ServerOptions(
                    data_dir=tmp_path, port=port, log_limits=LogLimits(max_events=5)
                )
                async with EmbeddedServer(again):
                    await client.delete(TASKS, "doomed", "default")
                    for number in range(10):
                        await create(client, f"t{number}")
                    stale = WatchOptions(resource_version=str(version))
                    with pytest.raises(Gone):
                        await anext(client.watch(TASKS, "default", options=stale))
                    gate.set()
                    await eventually(lambda: len(informer.store) == 10)
                    assert key("doomed") not in informer.store


async def test_informer_believes_a_server_with_another_history(tmp_path: Path) -> None:
    async with EmbeddedServer(ServerOptions(data_dir=tmp_path)) as first:
        port = int(first.url.rsplit(":", 1)[1])
        async with connected(tmp_path) as client:
            await install(client)
            for number in range(30):
                await create(client, f"t{number}")
            informer = Informer(client, TASKS, "default", timing=HURRY)
            async with running(informer):
                await first.stop()
                for leftover in tmp_path.glob("db.sqlite*"):
                    leftover.unlink()
                async with EmbeddedServer(ServerOptions(data_dir=tmp_path, port=port)):
                    await install(client)
                    await create(client, "fresh")
                    await eventually(lambda: informer.store.keys() == [key("fresh")])


async def test_events_are_accepted_by_the_server(client: KubeClient) -> None:
    made = await create(client, "a")
    recorder = EventRecorder(client, "taskctl-controller", "here")
    writing = asyncio.create_task(recorder.run())
    for _ in range(2):
        recorder.record(made, EventSort.WARNING, "BackOff", "the task failed; again in 1 s")
        assert await recorder.flush(5)
    selector = f"involvedObject.uid={made['metadata']['uid']}"
    page = await client.list(EVENTS, "default", options=ListOptions(field_selector=selector))
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    (event,) = page.items
    assert (event["reason"], event["count"], event["type"]) == ("BackOff", 2, "Warning")


async def test_lease_is_accepted_by_the_server(client: KubeClient) -> None:
    elector = LeaderElector(client, LeaseSettings("default", "taskctl", "me"))
    seen: list[dict[str, Any]] = []

    async def work() -> None:
        seen.append(await client.get(LEASES, "taskctl", "default"))

    await elector.run(work)
    assert seen[0]["spec"]["holderIdentity"] == "me"
    after = await client.get(LEASES, "taskctl", "default")
    assert not after["spec"].get("holderIdentity")
    await elector.run(work)
    assert seen[1]["spec"]["leaseTransitions"] == 1


async def test_server_side_apply_and_raw_watch(client: KubeClient) -> None:
    options = PatchOptions(type=PatchType.APPLY, field_manager="test")
    made = await client.patch(TASKS, "applied", "default", task("applied"), options=options)
    assert made["metadata"]["name"] == "applied"
    events = client.watch(TASKS, "default")
    first = await anext(events)
    await events.aclose()
    assert (first.type, first.object["metadata"]["name"]) == (EventType.ADDED, "applied")
