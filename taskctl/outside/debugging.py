"""A container beside a task's own, for a user who looks into what the task left behind."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.resources import TASKCLUSTERS
from taskctl.constants import INIT_PATH, LABEL_CLUSTER_UID
from taskctl.errors import ApiError, TaskctlError
from taskctl.kube.follow import Selection, follow
from taskctl.kube.interface import ListOptions, PatchOptions, PatchType
from taskctl.kube.resources import PODS
from taskctl.outside.session import Session
from taskctl.policy.debugging import PREFIX, DebugRequest, build_debug_container, choose_worker
from taskctl.policy.entry import append_body
from taskctl.policy.podview import ContainerReport, ContainerState, container_report
from taskctl.policy.runcluster import cluster_of_task
from taskctl.policy.taskdefaults import defaults_of, filled
from taskctl.policy.view import parse_task

_NAME_BYTES: Final = 6
_END_TIMEOUT_S: Final = 10.0
# Reasons for which a kubelet does not try again, or only tries the same again.
_HOPELESS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


class DebugError(TaskctlError):
    """There is no container to debug in."""


@dataclass(frozen=True, slots=True)
class DebugPlace:
    """Where to debug.

    Attributes:
        pod: name of the worker.
        container: its new container.
        image: of the container.
        same_worker: the task ran in this worker.
        ran_in: name of the worker where the task ran; empty: it has not begun.
        reads_only: the workspace is read-only there, as it is for the task.
    """

    pod: str
    container: str
    image: str
    same_worker: bool
    ran_in: str
    reads_only: bool


async def open_place(
    session: Session, task: Mapping[str, Any], wanted: DebugRequest, *, timeout_s: float
) -> DebugPlace:
    """Add a container to a worker of a Task, and wait until it runs.

    Args:
        session: where.
        task: the raw Task.
        wanted: the container; see :func:`new_container_name`.
        timeout_s: for its image to be pulled and its start.

    Raises:
        DebugError: no worker runs, or the container cannot start there.
        ApiError: the API server refuses, or does not answer.
    """
    name = cluster_of_task(task)
    cluster = await session.client.get(TASKCLUSTERS, name, session.namespace)
    spec = filled(task["spec"], defaults_of(cluster))
    view = parse_task({**task, "spec": dict(spec)})
    options = ListOptions(label_selector=f"{LABEL_CLUSTER_UID}={cluster['metadata']['uid']}")
    pods = await session.client.list_all(PODS, session.namespace, options=options)
    worker, is_same = choose_worker(pods.items, view.pod_uid)
    if worker is None:
        raise DebugError(
            f"TaskCluster {name} has no running worker; raise spec.replicas, or see with "
            "taskctl top what keeps its workers from running"
        )
    container = build_debug_container(view, worker, wanted)
    metadata = worker["metadata"]
    await session.client.patch(
        PODS,
        metadata["name"],
        session.namespace,
        append_body(metadata["uid"], [container]),
        options=PatchOptions(type=PatchType.STRATEGIC, subresource="ephemeralcontainers"),
    )
    place = DebugPlace(
        pod=metadata["name"],
        container=wanted.name,
        image=str(container["image"]),
        same_worker=is_same,
        ran_in=view.pod_name,
        reads_only=bool(spec.get("readOnlyWorkspace")),
    )
    try:
        async with asyncio.timeout(timeout_s):
            await _wait_running(session, place, metadata["uid"])
    except TimeoutError:
        await close_place(session, place)
        raise DebugError(
            f"container {place.container} of worker {place.pod} did not start within "
            f"{timeout_s:g} s; a large image may take longer: --timeout"
        ) from None
    return place


def new_container_name() -> str:
    """Return a name for a container of :func:`open_place`."""
    return f"{PREFIX}{secrets.token_hex(_NAME_BYTES)}"


async def _wait_running(session: Session, place: DebugPlace, uid: str) -> None:
    selection = Selection(PODS, session.namespace, field_selector=f"metadata.name={place.pod}")
    async with aclosing(follow(session.client, selection)) as changes:
        async for change in changes:
            same = [pod for pod in change.objects if pod["metadata"]["uid"] == uid]
            if change.deleted or not same:
                raise DebugError(f"worker {place.pod} was deleted; try again")
            report = _report_of(same[-1], place.container)
            if report.state is ContainerState.RUNNING:
                return
            _raise_if_hopeless(report, place)


def _report_of(pod: Mapping[str, Any], container: str) -> ContainerReport:
    for entry in (pod.get("status") or {}).get("ephemeralContainerStatuses") or ():
        if entry.get("name") == container:
            return container_report(entry)
    return ContainerReport(ContainerState.UNKNOWN)


def _raise_if_hopeless(report: ContainerReport, place: DebugPlace) -> None:
    if report.state is ContainerState.TERMINATED or report.reason in _HOPELESS:
        raise DebugError(
            f"image {place.image} does not start in worker {place.pod}: "
            f"{report.words or 'it ended at once'}"
        )


async def close_place(session: Session, place: DebugPlace) -> None:
    """End the container; its entry stays in the worker's spec, as Kubernetes removes none."""
    command = [INIT_PATH, "debug-end", place.container]
    with suppress(ApiError, TimeoutError):  # it ends by itself when its time is up
        async with asyncio.timeout(_END_TIMEOUT_S):
            output = session.client.stream_output(
                place.pod, session.namespace, place.container, command
            )
            async with aclosing(output):
                async for _ in output:
                    pass
