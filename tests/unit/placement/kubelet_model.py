"""What a kubelet does with ephemeral containers, as far as time is concerned, in virtual time.

From Kubernetes' pod_workers.go and pleg/generic.go: one goroutine per pod takes the newest
state of the pod's spec, waits until a relist has begun after its last sync, and syncs; what
comes meanwhile waits for its turn. A relist finds what has started or ended since the last
one, and each pod concerned is to be synced again. Times as measured on a real one.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

RELIST_S = 1.02
START_S = 0.06  # of each container of a sync, one after the other
SYNC_S = 0.008
NET_S = 0.01
REPORT_S = 0.025

Spec = dict[str, float]  # container -> how long it runs, in seconds


@dataclass
class Events:
    """Calls functions in the order of their times."""

    now_s: float = 0.0
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def after(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._numbers), call))

    def run(self, until_s: float) -> None:
        while self._due and self._due[0][0] <= until_s:
            self.now_s, _, call = heapq.heappop(self._due)
            call()


@dataclass
class ModelPod:
    """A pod and its worker goroutine."""

    name: str
    spec: Spec = field(default_factory=dict)
    ends_s: dict[str, float] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)  # by the last relist
    reported: dict[str, str] = field(default_factory=dict)
    synced_s: float = -1.0
    taken: Spec | None = None
    syncing: bool = False
    waiting: bool = False


class Kubelet:
    """See the module.

    Args:
        events: the time.
        pods: names of its pods.
        phase_s: when it relists for the first time.
        started: told of (pod, container) as its process begins.
        ended: told of (pod, container) as its process ends.
        reported: told of (pod, containers that have started) at each change of its status.
    """

    def __init__(
        self,
        events: Events,
        pods: list[str],
        phase_s: float,
        started: Callable[[str, str], None],
        ended: Callable[[str, str], None],
        reported: Callable[[str, set[str]], None],
    ) -> None:
        self._events = events
        self._pods = {name: ModelPod(name) for name in pods}
        self._relisted_s = -10.0
        self._started, self._ended, self._reported = started, ended, reported
        events.after(phase_s, self._relist)

    def append(self, pod: str, containers: Spec) -> None:
        """Add containers to a pod's spec, over the API."""

        def arrive() -> None:
            found = self._pods[pod]
            found.spec = found.spec | containers
            self._update(found)

        self._events.after(NET_S, arrive)

    def _update(self, pod: ModelPod) -> None:
        if pod.taken is None:
            self._take(pod)
        else:
            pod.waiting = True

    def _take(self, pod: ModelPod) -> None:
        pod.taken, pod.waiting = dict(pod.spec), False
        self._try_sync(pod)

    def _try_sync(self, pod: ModelPod) -> None:
        if pod.taken is not None and not pod.syncing and self._relisted_s > pod.synced_s:
            self._sync(pod, pod.taken)

    def _sync(self, pod: ModelPod, spec: Spec) -> None:
        pod.syncing = True
        self._report(pod, dict.fromkeys(spec, "waiting") | pod.seen)
        new = [name for name in spec if name not in pod.ends_s]
        for number, name in enumerate(new, 1):
            pod.ends_s[name] = float("inf")
            self._events.after(SYNC_S + number * START_S, lambda n=name: self._begin(pod, n, spec))  # type: ignore[misc]
        self._events.after(SYNC_S + len(new) * START_S, lambda: self._synced(pod))

    def _begin(self, pod: ModelPod, name: str, spec: Spec) -> None:
        pod.ends_s[name] = self._events.now_s + spec[name]
        self._events.after(spec[name], lambda: self._ended(pod.name, name))
        self._started(pod.name, name)

    def _synced(self, pod: ModelPod) -> None:
        pod.syncing, pod.taken, pod.synced_s = False, None, self._events.now_s
        if pod.waiting:
            self._take(pod)

    def _report(self, pod: ModelPod, status: dict[str, str]) -> None:
        if status != pod.reported:
            pod.reported = status
            begun = {name for name, state in status.items() if state != "waiting"}
            self._events.after(REPORT_S, lambda: self._reported(pod.name, begun))

    def _relist(self) -> None:
        now_s = self._relisted_s = self._events.now_s
        changed = []
        for pod in self._pods.values():
            state = {n: "ended" if end <= now_s else "runs" for n, end in pod.ends_s.items()}
            if state != pod.seen:
                pod.seen = state
                changed.append(pod)
        for pod in self._pods.values():
            self._try_sync(pod)
        for pod in changed:
            self._update(pod)
        self._events.after(RELIST_S, self._relist)
