"""Which trace a Task belongs to, and which spans are its own. Pure.

Identifiers follow from UIDs, so nothing has to be stored or handed on: a process that knows a Task
knows the spans of its parent, its root and each of its attempts, also after a restart. The one
thing that is carried is the context in which a program outside submitted a root.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from taskctl.policy.view import TaskView

# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may have more fields.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span of a trace, for programs that make spans below it.

    Attributes:
        trace_id: 128 bits, not 0.
        span_id: 64 bits, not 0.
        sampled: whether the trace is recorded.
    """

    trace_id: int
    span_id: int
    sampled: bool = True

    def text(self) -> str:
        """Return it as the value of a ``traceparent`` header."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def parse_traceparent(text: str) -> TraceContext | None:
    """Return the context that a ``traceparent`` names; None where it is not valid."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    context = TraceContext(int(found[2], 16), int(found[3], 16), bool(int(found[4], 16) & _SAMPLED))
    return context if context.trace_id and context.span_id else None


def trace_of(view: TaskView) -> TraceContext:
    """Return the context that the root of a Task's tree is part of.

    Its ``span_id`` is 0 if the root was submitted without a context: the span of the root is then
    the first of the trace.
    """
    outer = parse_traceparent(view.traceparent)
    if outer is not None:
        return outer
    return TraceContext(_number(f"trace {view.root_uid}", 16), 0)


def task_span(uid: str) -> int:
    """Return the identifier of a Task's span."""
    return _number(f"task {uid}", 8)


def attempt_span(uid: str, attempt: int) -> int:
    """Return the identifier of the span of what an attempt's command does."""
    return _number(f"attempt {uid} {attempt}", 8)


def stage_span(uid: str, attempt: int, stage: str) -> int:
    """Return the identifier of the span of a stage that is not the command's own."""
    return _number(f"stage {uid} {attempt} {stage}", 8)


def context_of_task(view: TaskView) -> TraceContext:
    """Return the span of a Task, for what is started on behalf of it."""
    outer = trace_of(view)
    return TraceContext(outer.trace_id, task_span(view.uid), outer.sampled)


def context_of_run(view: TaskView, attempt: int) -> TraceContext:
    """Return what an attempt's command is told: the span that its own spans belong below."""
    outer = trace_of(view)
    return TraceContext(outer.trace_id, attempt_span(view.uid, attempt), outer.sampled)


def _number(text: str, size_bytes: int) -> int:
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:size_bytes], "big") or 1
