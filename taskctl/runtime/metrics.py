"""Prometheus metrics of the client, the queues, the controllers and the informers.

Names follow client-go's and controller-runtime's with ``taskctl_`` before them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from taskctl.runtime.controller import Outcome

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_FINE: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """All metrics of one process, in a registry of their own.

    The attributes are prometheus_client's; the methods are the observers that the client,
    queues and controllers take.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "taskctl_api_requests_total",
            "Requests sent to the API server; code 0: no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "taskctl_api_request_duration_seconds",
            "Time to the end of the answer; for watches to its beginning.",
            ["verb"],
            buckets=_FINE,
            registry=self.registry,
        )
        self.reconciles = Counter(
            "taskctl_reconcile_total",
            "Reconciles by outcome.",
            ["controller", "outcome"],
            registry=self.registry,
        )
        self.reconcile_seconds = Histogram(
            "taskctl_reconcile_duration_seconds",
            "Time of a reconcile.",
            ["controller"],
            buckets=_FINE,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "taskctl_workqueue_depth", "Keys waiting.", ["queue"], registry=self.registry
        )
        self.queue_adds = Counter(
            "taskctl_workqueue_adds_total", "Keys queued.", ["queue"], registry=self.registry
        )
        self.queue_retries = Counter(
            "taskctl_workqueue_retries_total",
            "Keys queued again after a failure.",
            ["queue"],
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "taskctl_workqueue_wait_duration_seconds",
            "Time a key waited for a worker.",
            ["queue"],
            buckets=_FINE,
            registry=self.registry,
        )
        self.events_dropped = Counter(
            "taskctl_events_dropped_total",
            "Events not written, by cause.",
            ["cause"],
            registry=self.registry,
        )
        self._cached = Gauge(
            "taskctl_cached_objects", "Objects in a cache.", ["resource"], registry=self.registry
        )
        self._leader = Gauge(
            "taskctl_leader", "1 while this process leads.", registry=self.registry
        )

    def on_request(self, *, verb: str, resource: str, code: int, duration_s: float) -> None:
        """Serve as ``ClientSettings.observer``."""
        self.requests.labels(verb, resource, str(code)).inc()
        self.request_seconds.labels(verb).observe(duration_s)

    def on_reconcile(self, controller: str, outcome: Outcome, duration_s: float) -> None:
        """Serve as ``ControllerOptions.observer``."""
        self.reconciles.labels(controller, outcome.value).inc()
        self.reconcile_seconds.labels(controller).observe(duration_s)

    def declare_controller(self, controller: str) -> None:
        """Begin all outcome counters at 0, so that the first failure shows as a rise."""
        for outcome in Outcome:
            self.reconciles.labels(controller, outcome.value)

    def on_event_dropped(self, cause: str) -> None:
        """Serve as ``EventRecorder(dropped=…)``."""
        self.events_dropped.labels(cause).inc()

    def queue(self, name: str) -> QueueMetrics:
        """Return the observer for one queue."""
        return QueueMetrics(self, name)

    def declare_cache(self, resource: str, size: Callable[[], int]) -> None:
        """Report ``size()`` as the number of objects in a cache, asked at each scrape."""
        self._cached.labels(resource).set_function(lambda: float(size()))

    def set_leader(self, leading: bool) -> None:
        """Say whether this process leads."""
        self._leader.set(1.0 if leading else 0.0)

    def render(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self.registry)


class QueueMetrics:
    """Observer of one queue; labels are looked up once, since queues are busy."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._depth = metrics.queue_depth.labels(name)
        self._adds = metrics.queue_adds.labels(name)
        self._retries = metrics.queue_retries.labels(name)
        self._seconds = metrics.queue_seconds.labels(name)

    def depth(self, depth: int) -> None:
        """Take note of the number of keys waiting."""
        self._depth.set(depth)

    def added(self) -> None:
        """Count a key queued."""
        self._adds.inc()

    def taken(self, waited_s: float) -> None:
        """Take note of how long a key waited."""
        self._seconds.observe(waited_s)

    def retried(self) -> None:
        """Count a key queued again."""
        self._retries.inc()
