"""The trace in which a program submits."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from taskctl.outside.tracing import trace_annotations
from taskctl.policy.tracecontext import parse_traceparent

OUTER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NAME = "taskctl.dev/traceparent"


def test_the_current_span_comes_first() -> None:
    tracer = TracerProvider().get_tracer("t")
    with tracer.start_as_current_span("outer") as span:
        found = parse_traceparent(trace_annotations({"TRACEPARENT": OUTER})[NAME])
        context = span.get_span_context()
    assert found is not None
    assert (found.trace_id, found.span_id, found.sampled) == (
        context.trace_id,
        context.span_id,
        True,
    )
    assert trace.get_current_span().get_span_context().is_valid is False


@pytest.mark.parametrize(
    ("value", "found"), [(OUTER, {NAME: OUTER}), ("", {}), ("rubbish", {}), (OUTER[:-2], {})]
)
def test_else_what_the_environment_says(value: str, found: dict[str, str]) -> None:
    assert trace_annotations({"TRACEPARENT": value}) == found
