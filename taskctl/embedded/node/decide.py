"""What to start and stop in a pod: the rules of the kubelet's ``computePodActions`` (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from taskctl.backoff import EXACT, Backoff
from taskctl.clock import parse_time
from taskctl.embedded.node.model import (
    NO_VIEW,
    ContainerKind,
    ContainerView,
    Json,
    RestartPolicy,
    RunState,
    containers_of,
    is_deleted,
    is_finished,
    is_sidecar,
    restart_policy,
)

# The kubelet's crash back-off: 10 s doubling to 5 min, forgotten after a run of 10 min.
_CRASH_BACKOFF: Final = Backoff(10.0, 300.0, EXACT)
BACKOFF_RESET_S = 600.0


class ContainerStopReason(StrEnum):
    """Why a whole pod is stopped."""

    NONE = ""
    DELETED = "Deleted"
    FINISHED = "Finished"
    DEADLINE = "DeadlineExceeded"


@dataclass(frozen=True, slots=True)
class PodPlan:
    """What to do now.

    Attributes:
        start: names of the containers to start, in this order.
        stop: stop every container, for this reason.
        wake_at: when to decide again even if nothing happens.
    """

    start: tuple[str, ...] = ()
    stop: ContainerStopReason = ContainerStopReason.NONE
    wake_at: datetime | None = None


def crash_delay_s(crashes: int) -> float:
    """Return how long to wait before restart number ``crashes`` (1 is the first) in seconds."""
    return _CRASH_BACKOFF.pause_s(crashes - 1)


def will_restart(
    policy: RestartPolicy, kind: ContainerKind, view: ContainerView, *, sidecar: bool
) -> bool:
    """Whether a container that has exited is started again."""
    if view.state is not RunState.EXITED or kind is ContainerKind.EPHEMERAL:
        return False
    failed = view.terminated is not None and view.terminated.exit_code != 0
    if kind is ContainerKind.INIT and not sidecar:
        return failed and policy is not RestartPolicy.NEVER
    if sidecar or policy is RestartPolicy.ALWAYS:
        return True
    return failed and policy is RestartPolicy.ON_FAILURE


def is_initialized(pod: Json, views: Mapping[str, ContainerView]) -> bool:
    """Whether the init containers are done.

    A regular container that was ever started proves it, also when the records of the init
    containers are gone.
    """
    for _, container in containers_of(pod, ContainerKind.REGULAR):
        if _view(views, container).state is not RunState.ABSENT:
            return True
    for kind, container in containers_of(pod, ContainerKind.INIT):
        view = _view(views, container)
        if is_sidecar(kind, container):
            if view.state is not RunState.RUNNING:
                return False
        elif view.terminated is None or view.terminated.exit_code != 0:
            return False
    return True


def failed_init(pod: Json, views: Mapping[str, ContainerView]) -> bool:
    """Whether an init container has failed for good: the pod never starts."""
    if is_initialized(pod, views):
        return False
    return any(
        (view := _view(views, container)).terminated is not None
        and view.terminated.exit_code != 0
        and restart_policy(pod) is RestartPolicy.NEVER
        and not is_sidecar(kind, container)
        for kind, container in containers_of(pod, ContainerKind.INIT)
    )


def all_done(pod: Json, views: Mapping[str, ContainerView]) -> bool:
    """Whether every regular container has ended and none is started again."""
    policy = restart_policy(pod)
    return all(
        (view := _view(views, container)).state is RunState.EXITED
        and not will_restart(policy, kind, view, sidecar=False)
        for kind, container in containers_of(pod, ContainerKind.REGULAR)
    )


def deadline(pod: Json) -> datetime | None:
    """Return when ``activeDeadlineSeconds`` ends the pod."""
    limit = pod["spec"].get("activeDeadlineSeconds")
    started = (pod.get("status") or {}).get("startTime")
    return parse_time(started) + timedelta(seconds=int(limit)) if limit and started else None


def decide(pod: Json, views: Mapping[str, ContainerView], now: datetime) -> PodPlan:
    """Return what to start or stop.

    As the kubelet: ephemeral containers are started iff there is no record of a container of
    that name, before and beside all others, in spec order; init containers one after another;
    when all regular containers are done, the whole pod is, ephemeral containers included.
    """
    if is_deleted(pod):
        return PodPlan(stop=ContainerStopReason.DELETED)
    if is_finished(pod):
        return PodPlan(stop=ContainerStopReason.FINISHED)
    ends_at = deadline(pod)
    if ends_at is not None and now >= ends_at:
        return PodPlan(stop=ContainerStopReason.DEADLINE)
    if all_done(pod, views) or failed_init(pod, views):
        return PodPlan(stop=ContainerStopReason.FINISHED)
    candidates = [
        (kind, container)
        for kind, container in containers_of(pod, ContainerKind.EPHEMERAL)
        if _view(views, container).state is RunState.ABSENT
    ]
    candidates += _next_inits(pod, views)
    if is_initialized(pod, views):
        candidates += [
            (kind, container)
            for kind, container in containers_of(pod, ContainerKind.REGULAR)
            if _wants_start(pod, kind, container, views)
        ]
    due, waits = [], [ends_at] if ends_at is not None else []
    for _, container in candidates:
        not_before = _view(views, container).not_before
        if not_before is None or not_before <= now:
            due.append(str(container["name"]))
        else:
            waits.append(not_before)
    return PodPlan(start=tuple(due), wake_at=min(waits, default=None))


def _next_inits(pod: Json, views: Mapping[str, ContainerView]) -> list[tuple[ContainerKind, Json]]:
    """The first init container that is not done, and sidecars that have ended."""
    initialized = is_initialized(pod, views)
    result = []
    for kind, container in containers_of(pod, ContainerKind.INIT):
        sidecar = is_sidecar(kind, container)
        if initialized and not sidecar:
            continue
        if _wants_start(pod, kind, container, views):
            result.append((kind, container))
        view = _view(views, container)
        done = view.terminated is not None and view.terminated.exit_code == 0
        if not initialized and not (view.state is RunState.RUNNING if sidecar else done):
            break
    return result


def _wants_start(
    pod: Json, kind: ContainerKind, container: Json, views: Mapping[str, ContainerView]
) -> bool:
    view = _view(views, container)
    return view.state is RunState.ABSENT or will_restart(
        restart_policy(pod), kind, view, sidecar=is_sidecar(kind, container)
    )


def _view(views: Mapping[str, ContainerView], container: Json) -> ContainerView:
    return views.get(container["name"], NO_VIEW)
