"""The spans of a finished Task: one for it, one for each earlier attempt and each stage. Pure.

Attributes are OpenTelemetry's semantic conventions where there are any (``k8s.*``, ``process.*``,
``error.type``), ``taskctl.*`` otherwise. None holds a command line, an environment or a message:
these may have secrets in them, and traces are read by others than those who may read Tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taskctl.api.states import TaskState
from taskctl.policy import tracecontext
from taskctl.policy.labels import label_of
from taskctl.policy.stages import AttemptStage, stages_of
from taskctl.policy.view import TaskView, time_or_none

Attribute = str | int | bool


@dataclass(frozen=True, slots=True)
class Span:
    """A span that is over.

    Attributes:
        name: what happened; few values.
        trace_id: its trace.
        span_id: its own.
        parent_id: of the span above; 0: there is none.
        begun: when it began.
        ended: when it ended, not before.
        outer: another process, outside of taskctl, made the span above.
        error: reason of the failure; empty: it did not fail.
        attributes: by name.
    """

    name: str
    trace_id: int
    span_id: int
    parent_id: int
    begun: datetime
    ended: datetime
    outer: bool = False
    error: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def spans_of(view: TaskView, now: datetime) -> list[Span]:
    """Return the spans of a Task that has ended; none where its trace is not recorded.

    Args:
        view: the Task.
        now: when it is known to have ended, where the status does not tell.
    """
    trace = tracecontext.trace_of(view)
    if not trace.sampled:
        return []
    times = view.status.get("times") or {}
    begun = time_or_none(times.get("created")) or time_or_none(view.created) or now
    ended = time_or_none(times.get("observed")) or time_or_none(times.get("exited")) or now
    own = tracecontext.task_span(view.uid)
    parent = tracecontext.task_span(view.parent_uid) if view.parent_uid else trace.span_id
    whole = Span(
        name=_name(view),
        trace_id=trace.trace_id,
        span_id=own,
        parent_id=parent,
        begun=begun,
        ended=max(begun, ended),
        outer=not view.parent_uid,
        error=_error(view),
        attributes=_attributes(view) | _place(view.pod_name, view.container) | _ending(view),
    )
    return [whole, *_earlier(view, whole), *_stages(view, whole)]


def _earlier(view: TaskView, whole: Span) -> list[Span]:
    """Return the spans of the attempts before the last one."""
    found = []
    for past in view.status.get("attempts") or ():
        number = past.get("attempt") or 0
        begun, ended = time_or_none(past.get("started")), time_or_none(past.get("exited"))
        if number >= view.attempt or begun is None:
            continue
        attributes: dict[str, Attribute] = {"taskctl.task.attempt": number}
        attributes |= _place(past.get("podName") or "", past.get("containerName") or "")
        if past.get("exitCode") is not None:
            attributes["process.exit.code"] = past["exitCode"]
        found.append(
            Span(
                name="attempt",
                trace_id=whole.trace_id,
                span_id=tracecontext.attempt_span(view.uid, number),
                parent_id=whole.span_id,
                begun=begun,
                ended=max(begun, ended or begun),
                error=past.get("reason") or "",
                attributes=attributes,
            )
        )
    return found


def _stages(view: TaskView, whole: Span) -> list[Span]:
    """Return the spans of the stages of the last attempt."""
    found = []
    for one in stages_of(view):
        command = one.stage is AttemptStage.RUNNING
        number = view.attempt
        found.append(
            Span(
                name=one.stage.value,
                trace_id=whole.trace_id,
                # What the command itself makes of spans belongs below this one.
                span_id=tracecontext.attempt_span(view.uid, number)
                if command
                else tracecontext.stage_span(view.uid, number, one.stage.value),
                parent_id=whole.span_id,
                begun=one.begun,
                ended=one.ended,
                error=whole.error if command else "",
                attributes={"taskctl.task.attempt": number},
            )
        )
    return found


def _name(view: TaskView) -> str:
    if view.is_graph:
        return "graph"
    return label_of([*view.spec.get("command", ()), *(view.spec.get("args") or ())]) or "task"


def _error(view: TaskView) -> str:
    if view.state is not TaskState.FAILED:
        return ""
    return str(view.status.get("reason") or TaskState.FAILED.value)


def _attributes(view: TaskView) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {
        "k8s.namespace.name": view.namespace,
        "taskctl.task.name": view.name,
        "taskctl.task.uid": view.uid,
        "taskctl.task.root": view.root_name,
        "taskctl.task.depth": view.depth,
        "taskctl.task.attempt": view.attempt,
        "taskctl.task.state": view.state.value,
        "taskctl.taskcluster.name": view.cluster,
    }
    if view.parent_name:
        found["taskctl.task.parent"] = view.parent_name
    reason = view.status.get("reason")
    if reason:
        found["taskctl.task.reason"] = str(reason)
    return found


def _place(pod: str, container: str) -> dict[str, Attribute]:
    named = {"k8s.pod.name": pod, "k8s.container.name": container}
    return {name: value for name, value in named.items() if value}


def _ending(view: TaskView) -> dict[str, Attribute]:
    code: Any = view.status.get("exitCode")
    return {} if code is None else {"process.exit.code": code}
