"""From the list to prometheus_client."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from taskctl.metrics.catalog import Metric

# When each series began: as many series again, for nothing that Prometheus uses of this format.
disable_created_metrics()  # type: ignore[no-untyped-call]


def counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    """Return a counter that belongs to a registry."""
    return Counter(metric.name, metric.text, metric.labels, registry=registry)


def gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    """Return a gauge that belongs to a registry."""
    return Gauge(metric.name, metric.text, metric.labels, registry=registry)


def histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    """Return a histogram that belongs to a registry."""
    return Histogram(
        metric.name, metric.text, metric.labels, buckets=metric.buckets, registry=registry
    )


def gauges(metric: Metric) -> GaugeMetricFamily:
    """Return an empty family of gauges, for a collector."""
    return GaugeMetricFamily(metric.name, metric.text, labels=metric.labels)


def counters(metric: Metric) -> CounterMetricFamily:
    """Return an empty family of counters, for a collector."""
    return CounterMetricFamily(metric.name, metric.text, labels=metric.labels)
