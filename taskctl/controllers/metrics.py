"""Prometheus metrics of the client, the queues, the controllers and the informers."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest

from taskctl.kube.controller import Outcome
from taskctl.metrics import catalog
from taskctl.metrics.registry import counter, gauge, histogram


class Metrics:
    """All metrics of one process, in a registry of their own.

    The attributes are prometheus_client's; the methods are the observers that the client,
    queues and controllers take.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = counter(catalog.REQUESTS, registry)
        self.request_seconds = histogram(catalog.REQUEST_SECONDS, registry)
        self.request_retries = counter(catalog.REQUEST_RETRIES, registry)
        self.reconciles = counter(catalog.RECONCILES, registry)
        self.reconcile_seconds = histogram(catalog.RECONCILE_SECONDS, registry)
        self.queue_depth = gauge(catalog.WORKQUEUE_DEPTH, registry)
        self.queue_adds = counter(catalog.WORKQUEUE_ADDS, registry)
        self.queue_retries = counter(catalog.WORKQUEUE_RETRIES, registry)
        self.queue_seconds = histogram(catalog.WORKQUEUE_SECONDS, registry)
        self.events_dropped = counter(catalog.EVENTS_DROPPED, registry)
        self.spans = counter(catalog.SPANS, registry)
        self._cached = gauge(catalog.CACHED_OBJECTS, registry)
        self._leader = gauge(catalog.LEADER, registry)

    def on_request(self, *, verb: str, resource: str, code: int, duration_s: float) -> None:
        """Serve as ``ClientSettings.observer``."""
        self.requests.labels(verb, resource, str(code)).inc()
        self.request_seconds.labels(verb).observe(duration_s)

    def on_retry(self, *, verb: str, resource: str) -> None:
        """Serve as ``ClientSettings.retry_observer``."""
        self.request_retries.labels(verb, resource).inc()

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
