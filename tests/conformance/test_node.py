"""Pods on a node: how they end, with finalizers and without. A kubelet, or the local node."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conformance.conftest import leave
from tests.conformance.programs import Kubectl
from tests.conformance.samples import FINALIZER, ephemeral
from tests.conformance.target import (
    MERGE,
    STRATEGIC,
    Api,
    Json,
    WatchStream,
    configured_kubeconfig,
    needs_connection,
    real_target,
)

# Has a shell, and is on the node already.
pytestmark = needs_connection("its pods run on a node, which finds the server by its address")

IMAGE = os.environ.get("TASKCTL_CONFORMANCE_IMAGE", "localhost/pause:1")
POLITE = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done"
SURLY = "trap 'exit 7' TERM; while :; do sleep 0.1; done"
DEAF = "trap '' TERM; while :; do sleep 0.1; done"
ENDED = ("Succeeded", "Failed")


@asynccontextmanager
async def embedded_node() -> AsyncIterator[Api]:
    """Run an embedded server and a local node in this process."""
    from taskctl.embedded.node.main import Node
    from taskctl.embedded.node.options import NodeOptions
    from taskctl.embedded.server.main import EmbeddedServer, ServerOptions

    directory = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        async with EmbeddedServer(ServerOptions(directory)) as server:
            node = Node(NodeOptions(directory))
            running = asyncio.create_task(node.run(), name="the local node")
            headers = {"Authorization": f"Bearer {server.token}"}
            try:
                tls = aiohttp.TCPConnector(ssl=server.certificates.client_context())
                async with aiohttp.ClientSession(connector=tls, headers=headers) as session:
                    yield Api(session, server.url, directory / "kubeconfig")
            finally:
                node.stop()
                await running
    finally:
        await asyncio.to_thread(shutil.rmtree, directory)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with a node, and a namespace of the case's own."""
    kubeconfig = configured_kubeconfig()
    async with real_target(kubeconfig) if kubeconfig else embedded_node() as found:
        found.namespace = f"case-{secrets.token_hex(4)}"
        (await found.create("/api/v1/namespaces", {"metadata": {"name": found.namespace}})).ok()
        await found.until(found.core("serviceaccounts", "default"), lambda body: True)
        yield found
        await leave(found)


def on_node(command: str, *, held: bool = True, grace_s: int = 4, **spec: Any) -> Json:
    """Return a pod that a node takes; ``held``: with a finalizer."""
    main = {"name": "main", "image": IMAGE, "command": ["sh", "-c", command]}
    return {
        "metadata": {"name": "p", "finalizers": [FINALIZER] if held else []},
        "spec": {
            "terminationGracePeriodSeconds": grace_s,
            "automountServiceAccountToken": False,
            "containers": [main],
            **spec,
        },
    }


def tool(name: str, command: str) -> Json:
    return ephemeral(name, image=IMAGE, command=["sh", "-c", command])


def states(pod: Json) -> dict[str, Json]:
    """Return the states of a pod's containers."""
    status = pod["status"]
    return {
        one["name"]: one["state"]
        for part in ("containerStatuses", "ephemeralContainerStatuses")
        for one in status.get(part, ())
    }


def exits(pod: Json) -> dict[str, int]:
    return {
        name: state["terminated"]["exitCode"]
        for name, state in states(pod).items()
        if "terminated" in state
    }


async def run(api: Api, body: Json) -> Json:
    """Create a pod and wait until all its containers run."""
    (await api.create(api.core("pods"), body)).ok()
    return await api.until(
        api.core("pods", "p"),
        lambda pod: states(pod) and all("running" in one for one in states(pod).values()),
    )


async def free(api: Api) -> Json:
    path = api.core("pods", "p")
    return (await api.patch(path, {"metadata": {"finalizers": None}}, MERGE)).ok()


async def rest_of(stream: WatchStream) -> list[Json]:
    """Return the events up to the pod's end."""
    events = [await stream.next()]
    while events[-1]["type"] != "DELETED":
        events.append(await stream.next())
    return events


@pytest.mark.parametrize(
    ("command", "grace_s", "phase", "code"),
    [(POLITE, 20, "Succeeded", 0), (SURLY, 20, "Failed", 7), (DEAF, 2, "Failed", 137)],
)
async def test_a_held_pod_ends_but_stays(
    api: Api, command: str, grace_s: int, phase: str, code: int
) -> None:
    await run(api, on_node(command, grace_s=grace_s))
    marked = (await api.delete(api.core("pods", "p"))).ok()
    assert marked["metadata"]["deletionGracePeriodSeconds"] == grace_s
    assert (marked["metadata"]["generation"], marked["status"]["phase"]) == (2, "Running")
    # When the containers have ended the node tells it, and lets go: no grace is left.
    held = await api.until(
        api.core("pods", "p"), lambda pod: pod["metadata"]["deletionGracePeriodSeconds"] == 0
    )
    assert (held["status"]["phase"], exits(held)) == (phase, {"main": code})
    assert held["metadata"]["finalizers"] == [FINALIZER]
    assert held["metadata"]["generation"] == held["status"]["observedGeneration"] == 2
    await asyncio.sleep(1.0)
    (await api.get(api.core("pods", "p"))).ok()
    freed = await free(api)
    assert freed["status"]["phase"] == phase
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")


async def test_what_watchers_see_of_it(api: Api) -> None:
    made = await run(api, on_node(POLITE))
    (
        await api.patch(
            api.core("pods", "p", "ephemeralcontainers"),
            {"spec": {"ephemeralContainers": [tool("short", "exit 3"), tool("long", POLITE)]}},
            STRATEGIC,
        )
    ).ok()
    await api.until(
        api.core("pods", "p"),
        lambda pod: exits(pod) == {"short": 3} and "running" in states(pod)["long"],
    )
    revision = made["metadata"]["resourceVersion"]
    async with api.watch(api.core("pods"), resourceVersion=revision) as stream:
        (await api.delete(api.core("pods", "p"))).ok()
        await api.until(
            api.core("pods", "p"), lambda pod: pod["metadata"]["deletionGracePeriodSeconds"] == 0
        )
        await free(api)
        pods = [event["object"] for event in await rest_of(stream)]
    assert exits(pods[-1]) == {"main": 0, "short": 3, "long": 0}
    over = [pod for pod in pods if pod["status"]["phase"] in ENDED]
    # A pod is over when all of its containers are, also those that do not count.
    assert all(set(exits(pod)) == {"main", "short", "long"} for pod in over)
    conditions = {one["type"]: one for one in over[-1]["status"]["conditions"]}
    assert (conditions["Ready"]["status"], conditions["Ready"]["reason"]) == (
        "False",
        "PodCompleted",
    )
    assert conditions["Initialized"]["reason"] == "PodCompleted"
    assert {pod["metadata"]["deletionGracePeriodSeconds"] for pod in over} == {4, 0}
    assert pods[-1]["metadata"]["finalizers"] == [FINALIZER]


async def test_a_finalizer_that_goes_early_takes_no_container_along(api: Api) -> None:
    made = await run(api, on_node(DEAF, grace_s=3))
    revision = made["metadata"]["resourceVersion"]
    async with api.watch(api.core("pods"), resourceVersion=revision) as stream:
        (await api.delete(api.core("pods", "p"))).ok()
        freed = await free(api)
        assert "running" in states(freed)["main"]
        events = await rest_of(stream)
    *_, last_change, gone = events
    assert last_change["object"]["metadata"]["deletionGracePeriodSeconds"] == 0
    assert exits(gone["object"]) == {"main": 137}


async def test_a_pod_without_finalizers_goes_with_its_containers(api: Api) -> None:
    made = await run(api, on_node(POLITE, held=False))
    revision = made["metadata"]["resourceVersion"]
    async with api.watch(api.core("pods"), resourceVersion=revision) as stream:
        (await api.delete(api.core("pods", "p"))).ok()
        events = await rest_of(stream)
    *_, last_change, gone = events
    for event in (last_change, gone):
        assert event["object"]["status"]["phase"] == "Succeeded"
        assert event["object"]["metadata"]["deletionGracePeriodSeconds"] == 0


async def test_without_grace_nothing_is_waited_for(api: Api) -> None:
    await run(api, on_node(DEAF, held=False, grace_s=30))
    gone = (await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 0})).ok()
    assert gone["metadata"]["deletionGracePeriodSeconds"] == 0
    assert gone["status"]["phase"] == "Running"
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")


async def test_a_held_pod_without_grace_is_killed(api: Api) -> None:
    await run(api, on_node(DEAF, grace_s=30))
    (await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 0})).ok()
    held = await api.until(api.core("pods", "p"), lambda pod: pod["status"]["phase"] == "Failed")
    assert exits(held) == {"main": 137}
    await free(api)
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")


async def test_a_finished_pod_needs_no_grace(api: Api) -> None:
    body = on_node("exit 0", restartPolicy="Never")
    (await api.create(api.core("pods"), body)).ok()
    await api.until(api.core("pods", "p"), lambda pod: pod["status"].get("phase") == "Succeeded")
    marked = (await api.delete(api.core("pods", "p"))).ok()
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert marked["status"]["phase"] == "Succeeded"
    await free(api)
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")


async def test_nothing_starts_in_a_pod_that_is_being_deleted(api: Api) -> None:
    await run(api, on_node(DEAF, grace_s=4))
    (await api.delete(api.core("pods", "p"))).ok()
    late = {"spec": {"ephemeralContainers": [tool("late", "exit 0")]}}
    path = api.core("pods", "p", "ephemeralcontainers")
    (await api.patch(path, late, STRATEGIC)).ok()
    held = await api.until(
        api.core("pods", "p"), lambda pod: pod["metadata"]["deletionGracePeriodSeconds"] == 0
    )
    assert exits(held).get("main") == 137
    assert exits(held).get("late") != 0
    await free(api)


async def test_logs(api: Api) -> None:
    await run(api, on_node("echo one; echo two; echo three; sleep 100", held=False))
    (
        await api.patch(
            api.core("pods", "p", "ephemeralcontainers"),
            {"spec": {"ephemeralContainers": [tool("short", "echo done; exit 3")]}},
            STRATEGIC,
        )
    ).ok()
    await api.until(api.core("pods", "p"), lambda pod: exits(pod) == {"short": 3})
    log = api.core("pods", "p", "log")
    for query, expected in (
        ({}, "one\ntwo\nthree\n"),
        ({"container": "short"}, "done\n"),
        ({"tailLines": "1"}, "three\n"),
        ({"tailLines": "0"}, ""),
        ({"limitBytes": "4"}, "one\n"),
    ):
        reply = await api.get(log, **query)
        assert (reply.status, reply.text) == (200, expected), query
        assert reply.headers["Content-Type"] == "text/plain"
    stamped = (await api.get(log, timestamps="true", tailLines="1")).text
    time, _, text = stamped.partition(" ")
    assert (time[:2], time[-1], text) == ("20", "Z", "three\n")
    (await api.get(log, previous="true")).refused(400, "BadRequest")
    await api.delete(api.core("pods", "p"), {"gracePeriodSeconds": 0})


@pytest.mark.kubectl
async def test_logs_by_kubectl(api: Api, kubectl: Kubectl) -> None:
    await run(api, on_node("echo one; sleep 2; echo two; sleep 100", held=False))
    assert (await kubectl("logs", "p")).out == "one\n"
    assert (await kubectl("wait", "--for=condition=Ready", "pod/p")).out == "pod/p condition met\n"
    (
        await api.patch(
            api.core("pods", "p", "ephemeralcontainers"),
            {"spec": {"ephemeralContainers": [tool("short", "echo a; sleep 1; echo b")]}},
            STRATEGIC,
        )
    ).ok()
    await api.until(api.core("pods", "p"), lambda pod: "short" in states(pod))
    await api.until(
        api.core("pods", "p"), lambda pod: {"running", "terminated"} & set(states(pod)["short"])
    )
    assert (await kubectl("logs", "-f", "p", "-c", "short")).out == "a\nb\n"
    missing = await kubectl("logs", "p", "-c", "nobody", code=1)
    assert "container nobody is not valid for pod p" in missing.err
    deleted = await kubectl("delete", "pod", "p", "--grace-period=1")
    assert '"p" deleted' in deleted.out
    (await api.get(api.core("pods", "p"))).refused(404, "NotFound")
