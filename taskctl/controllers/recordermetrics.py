"""The metrics of a recorder."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest

from taskctl.history.server import Served
from taskctl.metrics import catalog
from taskctl.metrics.registry import counter, gauge


class RecorderMetrics:
    """Counts of one recorder."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = counter(catalog.HISTORY_REQUESTS, self._registry)
        for outcome in Served:
            self._requests.labels(outcome.value)
        self._lines = gauge(catalog.HISTORY_LINES, self._registry)
        self._waiting = gauge(catalog.HISTORY_WAITING, self._registry)
        self._cached = gauge(catalog.CACHED_OBJECTS, self._registry)

    def on_request(self, outcome: Served) -> None:
        """Count a request."""
        self._requests.labels(outcome.value).inc()

    def declare_recorder(self, lines: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Report the number of the last line, and how many transitions wait for one."""
        self._lines.set_function(lines)
        self._waiting.set_function(waiting)

    def declare_cache(self, resource: str, size: Callable[[], int]) -> None:
        """Report ``size()`` as the number of objects in a cache."""
        self._cached.labels(resource).set_function(size)

    def declare_controller(self, controller: str) -> None:
        """Ignore the controller: a recorder has none."""

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
