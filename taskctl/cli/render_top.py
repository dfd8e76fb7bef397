"""TaskClusters and workers as tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.api.conditions import find_condition
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.cli.durations import short_age
from taskctl.cli.output import Style, table
from taskctl.cli.statusbar import RATE_WINDOW_S, ended_since
from taskctl.cli.tables import natural
from taskctl.cli.terminal import one_line
from taskctl.constants import LABEL_CLUSTER
from taskctl.policy.podview import parse_pod
from taskctl.policy.view import TaskView, parse_task, time_or_none

_NONE: Final = "-"
_PLACED: Final = frozenset({TaskState.SCHEDULED, TaskState.RUNNING})
_NAMES_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class TopStyle:
    """How to draw.

    Attributes:
        now: for ages and rates.
        colour: whether to colour.
    """

    now: datetime
    colour: bool = False


def render_top(
    clusters: Sequence[Mapping[str, Any]],
    pods: Sequence[Mapping[str, Any]],
    tasks: Sequence[Mapping[str, Any]],
    style: TopStyle,
) -> list[str]:
    """Return a line for each TaskCluster, why one is not ready, and a line for each worker.

    Args:
        clusters: raw TaskClusters.
        pods: raw worker pods.
        tasks: raw Tasks.
        style: how to draw.
    """
    if not clusters and not pods:
        return []
    by_name = sorted(clusters, key=lambda obj: natural(obj["metadata"]["name"]))
    views = [parse_task(task) for task in tasks]
    rows, styles, troubles = [], [], []
    for cluster in by_name:
        name = cluster["metadata"]["name"]
        mine = [view for view in views if view.cluster == name]
        rows.append(_cluster_row(cluster, mine, style.now))
        trouble = _trouble(cluster)
        styles.append([Style.BAD if trouble else Style.GOOD])
        if trouble:
            troubles.append(f"{name}: {trouble}")
    headings = ["cluster", "workers", "slots", "running", "queued", "oldest", "ended/s", "failed/s"]
    lines = table(headings, rows, styles=styles, colour=style.colour).splitlines()
    lines += [one_line(trouble) for trouble in troubles]
    if pods:
        lines += ["", *_workers(clusters, pods, views, style)]
    return lines


def _cluster_row(cluster: Mapping[str, Any], views: Sequence[TaskView], now: datetime) -> list[str]:
    status, spec = cluster.get("status") or {}, cluster.get("spec") or {}
    wanted = status.get("replicas", spec.get("replicas", 1))
    busy, free = status.get("busySlots"), status.get("freeSlots")
    queued = [view for view in views if view.state is TaskState.PENDING]
    waits_since = [made for view in queued if (made := time_or_none(view.created)) is not None]
    ended = ended_since(views, now, RATE_WINDOW_S)
    failed = [view for view in ended if view.state is TaskState.FAILED]
    return [
        cluster["metadata"]["name"],
        f"{status.get('ready', 0)}/{wanted}",
        _NONE if busy is None or free is None else f"{busy}/{busy + free}",
        str(sum(view.state in _PLACED for view in views)),
        str(len(queued)),
        short_age((now - min(waits_since)).total_seconds()) if waits_since else _NONE,
        f"{len(ended) / RATE_WINDOW_S:.1f}",
        f"{len(failed) / RATE_WINDOW_S:.1f}",
    ]


def _trouble(cluster: Mapping[str, Any]) -> str:
    conditions = (cluster.get("status") or {}).get("conditions")
    ready = find_condition(conditions, ConditionType.READY)
    if ready is None or ready.get("status") == ConditionStatus.TRUE:
        return ""
    return str(ready.get("message") or ready.get("reason") or "not ready")


def _workers(
    clusters: Sequence[Mapping[str, Any]],
    pods: Sequence[Mapping[str, Any]],
    views: Sequence[TaskView],
    style: TopStyle,
) -> list[str]:
    slots = {
        obj["metadata"]["name"]: (obj.get("spec") or {}).get("slotsPerWorker", 1)
        for obj in clusters
    }
    rows, styles = [], []
    for pod in sorted(pods, key=lambda obj: natural(obj["metadata"]["name"])):
        view = parse_pod(pod)
        mine = [task for task in views if task.pod_uid == view.uid and task.state in _PLACED]
        cluster = (pod["metadata"].get("labels") or {}).get(LABEL_CLUSTER, _NONE)
        state, state_style = "ready", Style.GOOD
        if view.deletion is not None:
            state, state_style = "ending", Style.DIM
        elif not view.agent_running:
            state, state_style = view.problem or "starting", Style.WAITING
        names = [task.name for task in mine[:_NAMES_SHOWN]]
        more = [f"+{len(mine) - _NAMES_SHOWN}"] if len(mine) > _NAMES_SHOWN else []
        taken = sum(task.slots_taken for task in mine)
        rows.append(
            [view.name, state, f"{taken}/{slots.get(cluster, '?')}", " ".join(names + more)]
        )
        styles.append([Style.PLAIN, state_style])
    return table(
        ["worker", "state", "slots", "tasks"], rows, styles=styles, colour=style.colour
    ).splitlines()
