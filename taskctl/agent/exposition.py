"""An agent's counters as Prometheus metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from taskctl.agent.context import Context
from taskctl.agent.runs import RunPhase
from taskctl.agent.workspace import Space, Workspace
from taskctl.metrics import catalog
from taskctl.metrics.catalog import Metric, MetricKind
from taskctl.metrics.registry import counters, gauges

logger = logging.getLogger(__name__)

MEASURE_PAUSE_S: Final = 30.0
# A workspace that has not answered for so long is no longer reported.
STALE_S: Final = 120.0
# Rendering costs a millisecond or two: tasks can ask as often as they like, so not each time.
CACHED_S: Final = 1.0


class AgentMetrics(Collector):
    """Everything in the catalog that belongs to the agent.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cluster = (context.namespace, context.settings.cluster)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._space: Space | None = None
        self._measured_s = 0.0
        self._text = b""
        self._rendered_s: float | None = None

    def text(self) -> bytes:
        """Return everything in the text format, not older than a second."""
        now_s = self._context.timing.clock.monotonic_s()
        if self._rendered_s is None or now_s - self._rendered_s >= CACHED_S:
            self._text = generate_latest(self._registry)
            self._rendered_s = now_s
        return self._text

    async def measure_for_ever(self) -> None:
        """Look at the workspace now and then; one that hangs holds up this loop alone."""
        workspace = self._context.workspace
        if workspace is None:
            return
        while True:
            await self._measure(workspace)
            await self._context.timing.sleep(MEASURE_PAUSE_S)

    async def _measure(self, workspace: Workspace) -> None:
        try:
            self._space = await asyncio.to_thread(workspace.space)
        except OSError as error:
            logger.warning("the workspace's size cannot be read: %s", error)
            return
        self._measured_s = self._context.timing.clock.monotonic_s()

    def collect(self) -> Iterable[Family]:
        """Return everything as it stands."""
        context, meters = self._context, self._context.meters
        running = sum(run.phase is RunPhase.RUNNING for run in context.runs)
        yield self._single(catalog.AGENT_RUNS, running)
        yield self._labelled(catalog.AGENT_STARTS, meters.starts)
        yield self._single(catalog.AGENT_HANDOVERS, meters.handovers)
        yield self._labelled(catalog.AGENT_CLAIMS, meters.claims)
        yield self._labelled(catalog.AGENT_OUTCOMES, meters.outcomes)
        yield self._single(catalog.AGENT_CHILDREN, meters.children)
        yield self._labelled(catalog.AGENT_REQUESTS, meters.requests)
        yield self._labelled(catalog.AGENT_REFUSALS, meters.refusals)
        yield self._single(catalog.AGENT_CONNECTIONS, meters.connections)
        yield self._single(catalog.AGENT_LOG_BYTES, meters.log_bytes)
        yield self._labelled(catalog.AGENT_API_REQUESTS, meters.api)
        times = os.times()
        yield self._single(catalog.AGENT_CPU, times.user + times.system)
        memory = _resident_bytes()
        if memory is not None:
            yield self._single(catalog.AGENT_MEMORY, memory)
        space = self._space
        age_s = context.timing.clock.monotonic_s() - self._measured_s
        if space is not None and age_s <= STALE_S:
            yield self._single(catalog.WORKSPACE_SIZE, space.size_bytes)
            yield self._single(catalog.WORKSPACE_FREE, space.free_bytes)

    def _single(self, metric: Metric, value: float) -> Family:
        return self._labelled(metric, {(): value})

    def _labelled(self, metric: Metric, values: Mapping[Any, float]) -> Family:
        """Return a family; a key is the value of the one label, or a tuple of values."""
        family = counters(metric) if metric.kind is MetricKind.COUNTER else gauges(metric)
        for key, value in values.items():
            labels = (key,) if isinstance(key, str) else key
            family.add_metric((*self._cluster, *labels), value)
        return family


def _resident_bytes() -> int | None:
    """Return this process' resident memory; None where the kernel does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None
