"""The trace in which a program submits Tasks, if it is in one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from taskctl.constants import ANNOTATION_TRACEPARENT, ENV_TRACEPARENT
from taskctl.policy.tracecontext import TraceContext, parse_traceparent


def trace_annotations(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the annotation of a root that is submitted here and now.

    It names the current span of OpenTelemetry where the program uses that, else what the variable
    TRACEPARENT says; it is empty where neither does. OpenTelemetry is not loaded for it.
    """
    context = _current_span()
    if context is None:
        context = parse_traceparent((environ or os.environ).get(ENV_TRACEPARENT, ""))
    return {} if context is None else {ANNOTATION_TRACEPARENT: context.text()}


def _current_span() -> TraceContext | None:
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    found = trace.get_current_span().get_span_context()
    if not found.is_valid:
        return None
    return TraceContext(found.trace_id, found.span_id, bool(found.trace_flags.sampled))
