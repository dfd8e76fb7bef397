"""Ways to disturb the node: components stopped, processes killed, containers taken away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.embedded.world import Object
from tests.realnode.node import NativeNode

NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
TASK_PREFIX = "t-"


class Component(StrEnum):
    """A part of the node that can be stopped alone."""

    KUBELET = "kubelet"
    API_SERVER = "kube-apiserver"
    CONTROLLER_MANAGER = "kube-controller-manager"  # to be paused only
    CONTAINERD = "containerd"


@dataclass(frozen=True)
class Running:
    """A container that runs on the node, as containerd knows it.

    Attributes:
        id: containerd's.
        pid: of its first process, on this machine.
        pod: name of its pod.
        name: of the container in the pod's spec.
    """

    id: str
    pid: int
    pod: str
    name: str


@asynccontextmanager
async def stopped(node: NativeNode, component: Component, *, hard: bool) -> AsyncIterator[None]:
    """Do without a component for the length of the block; it is ready again afterwards.

    Args:
        node: that it is a part of.
        component: which one.
        hard: by SIGKILL, not by SIGTERM.
    """
    await asyncio.to_thread(_stop, node, component, hard)
    try:
        yield
    finally:
        await asyncio.to_thread(_start, node, component)


@contextmanager
def paused(node: NativeNode, component: Component) -> Iterator[None]:
    """Let a component do nothing for the length of the block, as on a busy machine."""
    process = node.processes[component]
    assert process.pid() is not None, f"{component} does not run"
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


def _stop(node: NativeNode, component: Component, hard: bool) -> None:
    process = node.processes[component]
    before = process.pid()
    assert before is not None, f"{component} does not run"
    if hard:
        process.signal(signal.SIGKILL)
    process.stop()
    assert not os.path.exists(f"/proc/{before}"), f"{component} still runs"


def _start(node: NativeNode, component: Component) -> None:
    match component:
        case Component.KUBELET:
            node.start_kubelet()
        case Component.API_SERVER:
            node.start_api_server()
            node.wait("API server ready", node.api_ready)
        case Component.CONTAINERD:
            node.start_containerd()
        case Component.CONTROLLER_MANAGER:
            raise NotImplementedError("it is paused, never stopped")
    assert node.processes[component].pid() is not None


def running_containers(node: NativeNode, namespace: str) -> list[Running]:
    """Return the containers that run for a namespace, whatever the API server believes."""
    pids = _running_pids(node)
    listed = node.ctr("containers", "ls", "-q", f'labels."{NAMESPACE_LABEL}"=={namespace}')
    assert listed.returncode == 0, listed.stderr
    found = []
    for id_ in listed.stdout.split():
        if id_ not in pids:
            continue
        info = node.ctr("containers", "info", id_)
        if info.returncode != 0:
            continue  # removed meanwhile
        labels = json.loads(info.stdout)["Labels"]
        name = labels.get("io.kubernetes.container.name", "")  # a sandbox has none
        found.append(Running(id_, pids[id_], labels["io.kubernetes.pod.name"], name))
    return found


def running_tasks(node: NativeNode, namespace: str) -> list[Running]:
    """Return those of them that are for tasks."""
    return [c for c in running_containers(node, namespace) if c.name.startswith(TASK_PREFIX)]


def _running_pids(node: NativeNode) -> dict[str, int]:
    listed = node.ctr("tasks", "ls")
    assert listed.returncode == 0, listed.stderr
    rows = [line.split() for line in listed.stdout.splitlines()[1:]]
    return {row[0]: int(row[1]) for row in rows if row[2] == "RUNNING"}


def has_container(node: NativeNode, id_: str) -> bool:
    """Whether containerd knows a container, running or not."""
    return node.ctr("containers", "info", id_).returncode == 0


def kill_container(node: NativeNode, id_: str) -> None:
    """Kill the first process of a running container, as a crash or a lack of memory would."""
    os.kill(_running_pids(node)[id_], signal.SIGKILL)


def status_of(pod: Object, container: str) -> Object:
    """Return what a pod's status says of one of its containers; empty if nothing."""
    status = pod.get("status", {})
    entries: list[dict[str, Any]] = [
        *status.get("containerStatuses", []),
        *status.get("ephemeralContainerStatuses", []),
    ]
    return next((entry for entry in entries if entry["name"] == container), {})


def container_id(pod: Object, container: str) -> str:
    """Return containerd's id of a pod's container, empty if it has none yet."""
    found: str = status_of(pod, container).get("containerID", "")
    return found.removeprefix("containerd://")
