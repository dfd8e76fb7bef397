"""Tells the exporter of traces of Tasks that end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taskctl.clock import Clock
from taskctl.policy.spans import Span, spans_of
from taskctl.policy.view import TaskView

SpanSink = Callable[[Sequence[Span]], None]


class TaskTracing:
    """Makes the spans of Tasks that this controller sees end.

    Only the controller that acts does: one that stands by sees the same, and each span would be
    exported twice.

    Args:
        sink: takes the spans; must not wait.
        leads: whether this controller acts.
        clock: source of time.
    """

    def __init__(self, sink: SpanSink, leads: Callable[[], bool], clock: Clock) -> None:
        self._sink = sink
        self._leads = leads
        self._clock = clock

    def on_task(self, before: TaskView | None, after: TaskView | None) -> None:
        """Take in that a Task came, changed or went."""
        if before is None or after is None or before.state.terminal or not after.state.terminal:
            return
        if self._leads():
            self._sink(spans_of(after, self._clock.now()))
