"""Trace contexts and the spans of finished Tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.constants import ANNOTATION_TRACEPARENT
from taskctl.policy import tracecontext
from taskctl.policy.lineage import child_lineage, child_metadata
from taskctl.policy.spans import Span, spans_of
from taskctl.policy.tracecontext import TraceContext, parse_traceparent
from taskctl.policy.view import TaskView, parse_task

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OUTER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TIMES = {
    "created": "2029-12-31T23:59:00.000000Z",
    "placed": "2029-12-31T23:59:01.000000Z",
    "started": "2029-12-31T23:59:02.000000Z",
    "userCode": "2029-12-31T23:59:02.500000Z",
    "exited": "2029-12-31T23:59:09.000000Z",
    "observed": "2029-12-31T23:59:09.250000Z",
}


def ended(
    uid: str = "u-1", parent: TaskView | None = None, traceparent: str = "", **status: Any
) -> TaskView:
    annotations = {ANNOTATION_TRACEPARENT: traceparent} if traceparent else {}
    metadata: dict[str, Any] = {"name": f"n-{uid}", "namespace": "ns", "uid": uid}
    spec: dict[str, Any] = {"clusterName": "c", "command": ["python", "-m", "sums", "SECRET"]}
    if parent is not None:
        metadata |= child_metadata(parent, metadata["name"], "k", depth=parent.depth + 1)
        spec["lineage"] = child_lineage(parent, metadata["name"], "k")
    else:
        metadata["annotations"] = annotations
    whole = {"state": "Succeeded", "reason": "Completed", "attempt": 1, "times": TIMES} | status
    return parse_task({"metadata": metadata, "spec": spec, "status": whole})


def by_name(spans: list[Span]) -> dict[str, Span]:
    found = {span.name: span for span in spans}
    assert len(found) == len(spans)
    return found


def test_a_task_is_a_span_with_a_span_for_each_stage() -> None:
    view = ended(podName="w-1", containerName="t-1", exitCode=0)
    spans = by_name(spans_of(view, NOW))
    stages = ("queued", "starting", "launching", "running", "recording")
    assert set(spans) == {"sums", *stages}
    whole = spans["sums"]
    assert (whole.parent_id, whole.error) == (0, "")
    assert whole.ended - whole.begun == timedelta(seconds=9.25)
    assert all(spans[name].parent_id == whole.span_id for name in stages)
    assert len({span.span_id for span in spans.values()}) == len(spans)
    assert {span.trace_id for span in spans.values()} == {whole.trace_id}
    assert spans["running"].ended - spans["running"].begun == timedelta(seconds=6.5)
    assert dict(whole.attributes) == {
        "k8s.namespace.name": "ns",
        "k8s.pod.name": "w-1",
        "k8s.container.name": "t-1",
        "process.exit.code": 0,
        "taskctl.task.name": "n-u-1",
        "taskctl.task.uid": "u-1",
        "taskctl.task.root": "n-u-1",
        "taskctl.task.depth": 0,
        "taskctl.task.attempt": 1,
        "taskctl.task.state": "Succeeded",
        "taskctl.task.reason": "Completed",
        "taskctl.taskcluster.name": "c",
    }
    assert "SECRET" not in repr(spans)


def test_a_grown_graph_is_one_trace() -> None:
    root = ended("root")
    child = ended("child", root)
    grandchild = ended("grandchild", child)
    tops = [spans_of(view, NOW)[0] for view in (root, child, grandchild)]
    assert len({span.trace_id for span in tops}) == 1
    assert [span.parent_id for span in tops] == [0, tops[0].span_id, tops[1].span_id]
    other = spans_of(ended("other"), NOW)[0]
    assert other.trace_id != tops[0].trace_id


def test_whoever_submits_in_a_trace_is_above_the_root() -> None:
    root = ended("root", traceparent=OUTER)
    child = ended("child", root)
    assert child.traceparent == OUTER, "the annotation goes on to children"
    first, second = spans_of(root, NOW)[0], spans_of(child, NOW)[0]
    assert first.trace_id == second.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert (first.parent_id, first.outer) == (0xB7AD6B7169203331, True)
    assert (second.parent_id, second.outer) == (first.span_id, False)


def test_a_trace_that_is_not_recorded_has_no_spans() -> None:
    root = ended("root", traceparent=OUTER[:-2] + "00")
    assert spans_of(root, NOW) == spans_of(ended("child", root), NOW) == []
    assert tracecontext.context_of_run(root, 1).text().endswith("-00")


def test_what_a_command_is_told_is_the_span_of_its_attempt() -> None:
    past = {
        "attempt": 1,
        "reason": "NonZeroExit",
        "exitCode": 3,
        "podName": "w-0",
        "started": "2029-12-31T23:59:01.000000Z",
        "exited": "2029-12-31T23:59:01.500000Z",
    }
    view = ended(attempt=2, attempts=[past], state="Failed", reason="Timeout")
    spans = by_name(spans_of(view, NOW))
    assert "queued" not in spans, "it would count the attempt before, too"
    for attempt, name in ((1, "attempt"), (2, "running")):
        told = parse_traceparent(tracecontext.context_of_run(view, attempt).text())
        assert told is not None
        assert (told.trace_id, told.span_id) == (spans[name].trace_id, spans[name].span_id)
        assert spans[name].attributes["taskctl.task.attempt"] == attempt
    assert spans["attempt"].error == "NonZeroExit"
    assert spans["attempt"].attributes["process.exit.code"] == 3
    assert spans["sums"].error == spans["running"].error == "Timeout"
    assert spans["starting"].error == ""


@pytest.mark.parametrize(
    "status",
    [
        {"times": {}, "attempt": 0, "state": "Cancelled"},
        {"times": None, "attempts": None},
        {"times": {"created": "yesterday", "exited": 7}},
        {"times": TIMES | {"exited": "2020-01-01T00:00:00Z"}},
        {"attempts": [{}], "attempt": 3},
    ],
)
def test_a_status_with_gaps_has_spans_that_end_after_they_begin(status: dict[str, Any]) -> None:
    spans = spans_of(ended(**status), NOW)
    assert spans
    assert all(span.begun <= span.ended for span in spans)


def test_a_graph_has_a_name_of_few_values() -> None:
    view = parse_task(
        {
            "metadata": {"name": "g", "namespace": "ns", "uid": "u"},
            "spec": {"tasks": [{"name": "a"}]},
            "status": {"state": "Succeeded"},
        }
    )
    assert spans_of(view, NOW)[0].name == "graph"


# --- traceparent ---------------------------------------------------------------------------


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_context_comes_back_from_its_text(trace_id: int, span_id: int, sampled: bool) -> None:
    context = TraceContext(trace_id, span_id, sampled)
    assert parse_traceparent(context.text()) == context


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        OUTER.upper(),
        OUTER + "-extra",  # version 00 has four fields
        "ff" + OUTER[2:],
        OUTER.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        OUTER.replace("b7ad6b7169203331", "0" * 16),
        OUTER + "\n",
        " " + OUTER,
        OUTER.replace("01", "0１"),
    ],
)
def test_what_is_not_a_context_is_none(text: str) -> None:
    assert parse_traceparent(text) is None
    root = ended("root", traceparent=text)
    assert spans_of(root, NOW)[0].trace_id == spans_of(ended("root"), NOW)[0].trace_id
    assert ended("child", root).traceparent == "", "it does not go on to children"


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parse_traceparent("01" + OUTER[2:] + "-more") == parse_traceparent(OUTER)
