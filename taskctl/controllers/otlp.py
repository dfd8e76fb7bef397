"""Exports spans by OTLP over HTTP, with OpenTelemetry's SDK (the extra ``otel``).

The SDK's batch processor holds a bounded queue and exports in a thread of its own: a collector that
is slow or away costs spans, never tasks. Its environment variables count here as everywhere:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from taskctl import __version__
from taskctl.errors import ConfigError
from taskctl.policy.spans import Span

if TYPE_CHECKING:
    from taskctl.controllers.metrics import Metrics

log = logging.getLogger(__name__)

SERVICE: Final = "taskctl-controller"
TRACES_PATH: Final = "/v1/traces"
# A thousand tasks that end at once make several thousand spans; each takes about a kilobyte.
QUEUE_SPANS: Final = 16_384
EXPORT_TIMEOUT_S: Final = 10.0
# At the end, for what is still queued.
FLUSH_TIMEOUT_S: Final = 5.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ERROR_TYPE: Final = "error.type"


class SpanExport:
    """Takes spans and sends them to a collector. Making one may block, as the SDK looks around.

    Args:
        exporter: sends them, in the processor's thread.
        metrics: where they are counted.
    """

    def __init__(self, exporter: SpanExporter, metrics: Metrics) -> None:
        self._metrics = metrics
        for outcome in ("made", "exported", "failed"):
            metrics.spans.labels(outcome)
        size = None if "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ else QUEUE_SPANS
        self._processor = BatchSpanProcessor(_Counting(exporter, metrics), max_queue_size=size)
        self._scope = InstrumentationScope("taskctl", __version__)
        self._resource = Resource.create(_own_attributes())

    @classmethod
    def to(cls, endpoint: str, metrics: Metrics) -> SpanExport:
        """Return an export to a collector.

        Args:
            endpoint: its base address; the path of traces is added.
            metrics: where spans are counted.

        Raises:
            ConfigError: it is not an address.
        """
        url = endpoint.rstrip("/") + TRACES_PATH
        # The variable for traces alone names the whole address.
        url = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or url
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"the OTLP endpoint is {endpoint!r}; give the base address of a collector that "
                "takes OTLP over HTTP, like http://collector:4318"
            )
        given = {"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"}
        timeout_s = None if given & os.environ.keys() else EXPORT_TIMEOUT_S
        log.info(
            "traces go to %s://%s%s", parts.scheme, parts.netloc.rpartition("@")[2], parts.path
        )
        return cls(OTLPSpanExporter(endpoint=url, timeout=timeout_s), metrics)

    def add(self, spans: Sequence[Span]) -> None:
        """Queue spans; the oldest are dropped where the queue is full. Does not wait."""
        self._metrics.spans.labels("made").inc(len(spans))
        for span in spans:
            self._processor.on_end(self._readable(span))

    async def close(self) -> None:
        """Send what is queued, for a few seconds at most, and stop."""
        milliseconds = int(FLUSH_TIMEOUT_S * 1000)
        await asyncio.to_thread(self._processor.force_flush, milliseconds)
        await asyncio.to_thread(self._processor.shutdown)

    def _readable(self, span: Span) -> ReadableSpan:
        attributes = dict(span.attributes)
        status = Status(StatusCode.UNSET)
        if span.error:
            attributes[_ERROR_TYPE] = span.error
            status = Status(StatusCode.ERROR, span.error)
        parent = None
        if span.parent_id:
            parent = _context(span.trace_id, span.parent_id, remote=span.outer)
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=parent,
            resource=self._resource,
            attributes=MappingProxyType(attributes),
            kind=SpanKind.INTERNAL,
            status=status,
            start_time=_nanoseconds(span.begun),
            end_time=_nanoseconds(span.ended),
            instrumentation_scope=self._scope,
        )


class _Counting(SpanExporter):
    """Counts what becomes of spans; the rest is another exporter's."""

    def __init__(self, exporter: SpanExporter, metrics: Metrics) -> None:
        self._exporter = exporter
        self._metrics = metrics

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # it runs in a thread of the SDK, which would log and count nothing
            log.exception("spans were not exported")
            result = SpanExportResult.FAILURE
        good = result is SpanExportResult.SUCCESS
        self._metrics.spans.labels("exported" if good else "failed").inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _own_attributes() -> Mapping[str, str]:
    """Return what names this service, unless the environment does."""
    found = {SERVICE_VERSION: __version__}
    if "OTEL_SERVICE_NAME" not in os.environ:
        found[SERVICE_NAME] = SERVICE
    return found


def _context(trace_id: int, span_id: int, *, remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=remote, trace_flags=TraceFlags(0x01))


def _nanoseconds(moment: datetime) -> int:
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000
