"""The tables. Ratios are to the raw yardstick of the same run."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bench.cluster.bench import BurstCost, Results

QUIET_BAR: Final = 1.5
THROUGHPUT_BAR: Final = 0.9
STATUS_WRITES_BAR: Final = 2.0
# Counters are exact; a task that waits long is shown as waiting, a few in a large burst.
_SLACK: Final = 1.05
_LEFT_OUT: Final = frozenset({"POST events", "PATCH events"})  # the kubelet's; of all ways


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile: of few values, the largest."""
    ordered = sorted(values)
    return ordered[min(math.ceil(0.99 * len(ordered)), len(ordered)) - 1]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(results: Results, server: str) -> str:
    """Return all tables of what was measured."""
    machine = (
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"Kubernetes {server}; load {os.getloadavg()[2]:.1f} over the last 15 minutes"
    )
    parts = [machine]
    if results.singles:
        parts += ["### Created → user code, workers at rest", _singles(results)]
    if results.chains:
        parts += ["### Chain: user code to user code of the next", _chains(results)]
    if results.pauses:
        parts += ["### One at a time, pauses of 0.3 to 1.2 s, 3 workers", _pauses(results)]
    if results.bursts:
        parts += ["### Many at once, 8 workers", _bursts(results.bursts), _writes(results.bursts)]
    parts += ["### Bars", table(["bar", "measured", "held"], _bars(results))]
    return "\n\n".join(parts)


def _singles(results: Results) -> str:
    base = statistics.median(results.singles["raw"])
    rows = [
        [way, str(len(v)), f"{statistics.median(v):.0f} ms", f"{p99(v):.0f} ms",
         f"{statistics.median(v) / base:.2f}"]
        for way, v in results.singles.items()
    ]  # fmt: skip
    stages = ", ".join(
        f"{name} {statistics.median(v):.1f}" for name, v in results.stages.items() if v
    )
    head = ["way", "n", "p50", "p99", "p50 / raw"]
    return f"{table(head, rows)}\n\nStages of the Tasks, p50 in ms: {stages}."


def _chains(results: Results) -> str:
    sizes = sorted(results.chains)
    ways = list(dict.fromkeys(way for found in results.chains.values() for way in found))
    base = {size: statistics.mean(results.chains[size]["raw, rested first"]) for size in sizes}
    rows = []
    for way in ways:
        row = [way]
        for size in sizes:
            values = results.chains[size].get(way)
            row.append("" if not values else (
                f"{statistics.mean(values):.0f} ms ({statistics.median(values):.0f} / "
                f"{p99(values):.0f}), {statistics.mean(values) / base[size]:.2f}"
            ))  # fmt: skip
        rows.append(row)
    head = ["mean hop (p50 / p99), mean / raw", *(f"{size} workers" for size in sizes)]
    return table(head, rows)


def _pauses(results: Results) -> str:
    rows = [
        [way, f"{statistics.mean(v):.0f} ms", f"{statistics.median(v):.0f} ms", f"{p99(v):.0f} ms"]
        for way, v in results.pauses.items()
    ]
    return table(["way", "mean", "p50", "p99"], rows)


def _rate(cost: BurstCost) -> float:
    return cost.burst.count / cost.burst.user_s


def _bursts(bursts: Mapping[str, BurstCost]) -> str:
    base = _rate(bursts["raw"]) if "raw" in bursts else math.nan
    names = sorted({name for cost in bursts.values() for name in cost.cost.cpu_s})
    rows = []
    for way, cost in bursts.items():
        count = cost.burst.count
        per_task = [f"{cost.cost.cpu_s.get(name, 0.0) / count * 1000:.1f}" for name in names]
        rows.append(
            [way, str(count), f"{_rate(cost):.1f}/s", f"{_rate(cost) / base:.2f}",
             f"{cost.cost.etcd_bytes / count / 1000:.1f}",
             f"{cost.cost.watch_bytes / count / 1000:.1f}", *per_task]
        )  # fmt: skip
    head = ["way", "n", "throughput", "/ raw", "kB to etcd per task", "kB to watchers per task"]
    return table([*head, *(f"CPU ms per task: {name}" for name in names)], rows)


def _writes(bursts: Mapping[str, BurstCost]) -> str:
    rows = []
    for way, cost in bursts.items():
        count = cost.burst.count
        counted = [(k, n) for k, n in cost.cost.writes.items() if k not in _LEFT_OUT]
        counted.sort(key=lambda item: -item[1])
        words = ", ".join(f"{key} {number / count:.2f}" for key, number in counted)
        rows.append([way, f"{sum(n for _, n in counted) / count:.2f}", words])
    return table(["way", "writes per task", "of these"], rows)


def _bars(results: Results) -> list[list[str]]:
    rows = []

    def bar(text: str, value: float, *, most: float | None = None, least: float = 0.0) -> None:
        held = value >= least and (most is None or value <= most)
        rows.append([text, f"{value:.2f}", "yes" if held else "**no**"])

    singles = {way: statistics.median(v) for way, v in results.singles.items()}
    if {"raw", "taskctl", "pod"} <= singles.keys():
        ratio = singles["taskctl"] / singles["raw"]
        bar(f"start at rest ≤ {QUIET_BAR} × raw", ratio, most=QUIET_BAR)
        bar("start at rest ≤ a bare pod's", singles["taskctl"] / singles["pod"], most=1.0)
    bursts = results.bursts
    if {"raw", "taskctl"} <= bursts.keys():
        ratio = _rate(bursts["taskctl"]) / _rate(bursts["raw"])
        bar(f"throughput ≥ {THROUGHPUT_BAR} × raw", ratio, least=THROUGHPUT_BAR)
        cost, count = bursts["taskctl"].cost, bursts["taskctl"].burst.count
        writes = cost.writes["PATCH tasks/status"] / count
        most = STATUS_WRITES_BAR * _SLACK
        bar(f"status writes per task ≤ {STATUS_WRITES_BAR:.0f}", writes, most=most)
        patches = cost.writes["PATCH pods/ephemeralcontainers"] / count
        bar("pod patches per task ≤ 1/k, k ≥ 2 in a burst", patches, most=0.5)
    if {"taskctl", "pod"} <= bursts.keys():
        bar("throughput ≥ bare pods'", _rate(bursts["taskctl"]) / _rate(bursts["pod"]), least=1.0)
    seen = results.stages.get("exited → observed")
    if seen:
        bar("exit recorded without pod status (0.5 s at best), p50 s ≤ 0.1",
            statistics.median(seen) / 1000, most=0.1)  # fmt: skip
    return rows
