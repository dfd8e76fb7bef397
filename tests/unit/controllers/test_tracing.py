"""Traces through all controllers, and what a collector receives of them."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from taskctl.controllers.metrics import Metrics
from taskctl.controllers.otlp import SpanExport
from taskctl.controllers.tracing import TaskTracing
from taskctl.errors import ConfigError
from taskctl.policy.spans import Span, spans_of
from taskctl.policy.view import TaskView, parse_task
from tests.unit.clocks import SetClock
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run
from tests.unit.metrics.exposition import total
from tests.unit.policy.build import raw_task, running
from tests.unit.policy.test_spans import NOW, ended

OTEL = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_SERVICE_NAME")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OTEL:
        monkeypatch.delenv(name, raising=False)


class Collector:
    """A receiver of OTLP over HTTP; the tests read what it got."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.paths.append(self.path)
                outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def spans(self) -> list[WireSpan]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def attributes(pairs: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in pairs}


async def test_a_collector_receives_the_spans(collector: Collector) -> None:
    metrics = Metrics()
    export = await asyncio.to_thread(SpanExport.to, collector.url + "/", metrics)
    root = ended("root", state="Failed", reason="NonZeroExit", exitCode=3)
    child = ended("child", root)
    for view in (root, child):
        export.add(spans_of(view, NOW))
    await export.close()
    assert set(collector.paths) == {"/v1/traces"}
    spans = collector.spans()
    assert len(spans) == 12
    assert {span.trace_id.hex() for span in spans} == {f"{spans_of(root, NOW)[0].trace_id:032x}"}
    tops = {attributes(span.attributes).get("taskctl.task.uid"): span for span in spans}
    assert tops["root"].parent_span_id == b""
    assert tops["child"].parent_span_id == tops["root"].span_id
    found = attributes(tops["root"].attributes)
    assert (found["error.type"], found["process.exit.code"]) == ("NonZeroExit", 3)
    assert tops["root"].status.code == tops["root"].status.STATUS_CODE_ERROR
    assert tops["child"].status.code == tops["child"].status.STATUS_CODE_UNSET
    assert tops["root"].end_time_unix_nano - tops["root"].start_time_unix_nano == 9_250_000_000
    (resource,) = {
        one.SerializeToString()
        for r in collector.requests
        for one in [r.resource_spans[0].resource]
    }
    named = attributes(collector.requests[0].resource_spans[0].resource.attributes)
    assert named["service.name"] == "taskctl-controller"
    assert resource
    text = metrics.render().decode()
    assert total(text, "taskctl_spans_total", outcome="made") == 12
    assert total(text, "taskctl_spans_total", outcome="exported") == 12
    assert total(text, "taskctl_spans_total", outcome="failed") == 0


async def test_a_collector_that_is_away_costs_spans_and_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("taskctl.controllers.otlp.EXPORT_TIMEOUT_S", 1.0)
    monkeypatch.setattr("taskctl.controllers.otlp.FLUSH_TIMEOUT_S", 1.0)
    metrics = Metrics()
    export = await asyncio.to_thread(
        SpanExport.to, "http://127.0.0.1:9", metrics
    )  # discard: nobody listens
    export.add(spans_of(ended(), NOW))
    await export.close()
    text = metrics.render().decode()
    assert total(text, "taskctl_spans_total", outcome="exported") == 0
    assert total(text, "taskctl_spans_total", outcome="failed") == 6


async def test_a_full_queue_drops_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    stop = threading.Event()

    class Stuck(InMemorySpanExporter):
        def export(self, spans: Any) -> Any:
            stop.wait(60)
            return super().export(spans)

    exporter, metrics = Stuck(), Metrics()
    export = await asyncio.to_thread(SpanExport, exporter, metrics)
    for number in range(100):
        export.add(spans_of(ended(f"u-{number}"), NOW))
    stop.set()
    await export.close()
    sent = len(exporter.get_finished_spans())
    assert 8 <= sent <= 24
    text = metrics.render().decode()
    assert total(text, "taskctl_spans_total", outcome="made") == 600
    assert total(text, "taskctl_spans_total", outcome="exported") == sent


@pytest.mark.parametrize("url", ["collector:4318", "ftp://collector", "http://", "/v1/traces"])
def test_an_endpoint_that_cannot_be_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="OTLP endpoint"):
        SpanExport.to(url, Metrics())


async def test_names_of_the_environment_count(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/mine")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "batch")
    export = await asyncio.to_thread(SpanExport.to, "http://127.0.0.1:9", Metrics())
    export.add(spans_of(ended(), NOW))
    await export.close()
    assert collector.paths == ["/mine"]
    named = attributes(collector.requests[0].resource_spans[0].resource.attributes)
    assert named["service.name"] == "batch"


# --- through all controllers ---------------------------------------------------------------


def test_a_tree_with_an_exit_task_is_one_trace() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            members = [{"name": "a", "command": ["ok"]}, {"name": "b", "command": ["ok"]}]
            await sim.task("root", tasks=members, onExit={"command": ["ok"]})
            await sim.until(lambda: len(tops(sim)) == 4)
            found = tops(sim)
            (root,) = [span for span in found.values() if span.name == "graph"]
            assert root.parent_id == 0
            others = [span for span in found.values() if span is not root]
            assert {span.parent_id for span in others} == {root.span_id}
            assert len({span.trace_id for span in sim.spans}) == 1
            stages = [span for span in sim.spans if span.name == "running"]
            assert len(stages) == 3

    run(main())


def tops(sim: Simulation) -> dict[str, Span]:
    """Return the spans of whole Tasks by their UID; each is told once."""
    found = [span for span in sim.spans if "taskctl.task.uid" in span.attributes]
    by_uid = {str(span.attributes["taskctl.task.uid"]): span for span in found}
    assert len(by_uid) == len(found)
    return by_uid


# --- which Tasks ---------------------------------------------------------------------------


def task(**status: Any) -> TaskView:
    return parse_task(raw_task(status=status))


@pytest.mark.parametrize("leads", [True, False])
def test_each_end_is_told_once_by_the_controller_that_leads(leads: bool) -> None:
    told: list[Span] = []
    tracing = TaskTracing(told.extend, lambda: leads, SetClock())
    runs, done = task(**running()), task(state="Succeeded", attempt=1)
    tracing.on_task(None, done)  # it may have ended long ago
    tracing.on_task(None, runs)
    tracing.on_task(runs, runs)
    assert told == []
    tracing.on_task(runs, done)
    assert len(told) == (1 if leads else 0)
    tracing.on_task(done, done)
    tracing.on_task(done, None)
    assert len(told) == (1 if leads else 0)


def test_nothing_of_opentelemetry_is_loaded_without_it() -> None:
    code = (
        "import sys, taskctl.controllers.main, taskctl.agent.main, taskctl.outside.client\n"
        "import taskctl.outside.tracing as t; t.trace_annotations()\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.strip() == "[]"
