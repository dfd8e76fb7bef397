"""What a stretch of work cost: requests and bytes at the API server and etcd, CPU by process.

Read before and after from the servers' own /metrics and from /proc, so nothing is estimated
from the client's side and no audit log is needed. Other users of the cluster count too: run
it on one that does nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from bench.cluster.kube import Kube

WRITES: Final = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
# Written by the clock, not by the work: heartbeats of the node and of elections.
IGNORED: Final = frozenset({"leases", "nodes/status"})
_LINE: Final = re.compile(r"(\w+)(?:\{([^}]*)\})? ([0-9.e+-]+)")
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """The counters at one moment.

    Attributes:
        writes: requests that change something, by "VERB resource/subresource".
        watch_bytes: sent to all watchers.
        etcd_bytes: received by etcd from the API server, reads' small requests included.
        cpu_s: by the name of a process group.
    """

    writes: Counter[str]
    watch_bytes: float
    etcd_bytes: float
    cpu_s: Mapping[str, float]

    def since(self, before: Reading) -> Reading:
        """Return the difference."""
        writes = Counter({k: n - before.writes[k] for k, n in self.writes.items()})
        return Reading(
            +writes,
            self.watch_bytes - before.watch_bytes,
            self.etcd_bytes - before.etcd_bytes,
            {name: value - before.cpu_s.get(name, 0.0) for name, value in self.cpu_s.items()},
        )


class Meters:
    """Reads the counters.

    Args:
        kube: client of an administrator.
        etcd: etcd's address for clients, or empty.
        processes: groups of process ids, by name.
    """

    def __init__(self, kube: Kube, etcd: str, processes: Mapping[str, list[int]]) -> None:
        self._kube = kube
        self._etcd = etcd
        self.processes = dict(processes)

    async def read(self, agents: Iterable[int] = ()) -> Reading:
        """Return the counters now; ``agents`` are processes to count under that name."""
        writes: Counter[str] = Counter()
        watched = 0.0
        for name, labels, value in parse(str(await self._kube.call("GET", "/metrics"))):
            if name == "apiserver_request_total" and labels.get("verb") in WRITES:
                what = "/".join(filter(None, (labels["resource"], labels["subresource"])))
                if what not in IGNORED:
                    writes[f"{labels['verb']} {what}"] += int(value)
            elif name == "apiserver_watch_events_sizes_sum":
                watched += value
        return Reading(writes, watched, await self._etcd_bytes(), self._cpu(agents))

    async def _etcd_bytes(self) -> float:
        if not self._etcd:
            return 0.0
        async with aiohttp.ClientSession() as session, session.get(f"{self._etcd}/metrics") as got:
            samples = parse(await got.text())
        return sum(v for n, _, v in samples if n == "etcd_network_client_grpc_received_bytes_total")

    def _cpu(self, agents: Iterable[int]) -> dict[str, float]:
        groups = self.processes | {"agents": list(agents)}
        used = {name: sum(cpu_seconds(pid) for pid in pids) for name, pids in groups.items()}
        return used | {"whole machine": machine_cpu_seconds()}


def parse(text: str) -> Iterable[tuple[str, dict[str, str], float]]:
    """Yield (name, labels, value) of the samples of a Prometheus text."""
    for line in text.splitlines():
        if line.startswith(("apiserver_request_total", "apiserver_watch_events_sizes_sum", "etcd")):
            found = _LINE.match(line)
            if found is not None:
                yield found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])


def cpu_seconds(pid: int) -> float:
    """Return user plus system time of a process so far; 0.0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def machine_cpu_seconds() -> float:
    """Return the time that all processors have worked so far."""
    user, nice, system, _, _, irq, softirq = (
        int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICKS


def pids_in_pods(uids: Iterable[str], word: str) -> list[int]:
    """Return the processes in the cgroups of pods whose command line holds a word."""
    wanted = set(uids)
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            groups = (directory / "cgroup").read_text().replace("_", "-")
            if not any(uid in groups for uid in wanted):
                continue
            if word in (directory / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                found.append(int(directory.name))
    return found
