"""The order of the measurements, and what they are made in: namespace, claim, controller."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bench.cluster import cases
from bench.cluster.cases import Burst, Start
from bench.cluster.choice import Choose, always_the_same, quiet_first, rested_first, round_robin
from bench.cluster.fleet import Fleet, raw_fleet
from bench.cluster.kube import CLAIMS, CLUSTERS, MERGE, PODS, Kube, Object, RequestFailed, until
from bench.cluster.meters import Meters, Reading
from bench.cluster.plan import Part, Plan
from bench.cluster.podside import PodSide
from bench.cluster.stamps import Stamps
from bench.cluster.taskside import (
    TaskCluster,
    TaskSide,
    installed_controller,
    own_controller,
    stage_ms,
)
from taskctl.policy.workerpod import parse_frame

CLAIM: Final = "bench"
NAMESPACES: Final = "/api/v1/namespaces"
WORKER_ROLE: Final = "/apis/rbac.authorization.k8s.io/v1/clusterroles/taskctl-worker"
LABEL: Final = "taskctl-bench"
BIND_S: Final = 30.0
GONE_S: Final = 60.0
MANY_SLOTS: Final = 32
FEW_SLOTS: Final = 4
# After a burst: the kubelet's last reports, and what the controller shows once a second.
AFTERMATH_S: Final = 2.5
STAGES: Final = (
    ("created", "placed"),
    ("placed", "started"),
    ("started", "userCode"),
    ("exited", "observed"),
)


class Unusable(Exception):
    """The cluster cannot be used; the message says why."""


@dataclass(frozen=True)
class BurstCost:
    """A burst and what it cost."""

    burst: Burst
    cost: Reading


@dataclass
class Results:
    """What was measured; filled as the bench goes on.

    Attributes:
        singles: created to user code in ms, by way.
        stages: of the single Tasks: "from -> to", ms.
        chains: hops in ms, by workers and way.
        pauses: created to user code in ms, by way to choose.
        bursts: by way.
    """

    singles: dict[str, list[float]] = field(default_factory=dict)
    stages: dict[str, list[float]] = field(default_factory=dict)
    chains: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    pauses: dict[str, list[float]] = field(default_factory=dict)
    bursts: dict[str, BurstCost] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """Where it all happens."""

    kube: Kube
    namespace: str
    image: str
    stamps: Stamps
    side: TaskSide
    meters: Meters


def say(text: str) -> None:
    """Tell how far we are."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


# --- surroundings -----------------------------------------------------------------------
@contextlib.asynccontextmanager
async def site(
    kube: Kube, image: str, meters: Meters, kubeconfig: Path, log: Path
) -> AsyncIterator[Site]:
    """Make a namespace with a workspace and see to a controller; all gone at the end."""
    if await _is_gone(kube, WORKER_ROLE):
        raise Unusable("taskctl is not installed: run `taskctl install | kubectl apply -f -`")
    async with namespace(kube) as name:
        workspace = await make_claim(kube, name)
        side = TaskSide(kube, name, image)
        with contextlib.ExitStack() as stack:
            stamps = stack.enter_context(Stamps(workspace))
            pids = await installed_controller(kube)
            if pids:
                say("the installed controller serves")
            elif await side.is_served(CLAIM):
                raise Unusable("a controller that is not in the cluster serves it; stop it first")
            else:
                pids = [stack.enter_context(own_controller(kubeconfig, log))]
                say(f"started a controller; its log is {log}")
            meters.processes["controller"] = pids
            try:
                yield Site(kube, name, image, stamps, side, meters)
            finally:
                await remove_clusters(kube, name, side)


@contextlib.asynccontextmanager
async def namespace(kube: Kube) -> AsyncIterator[str]:
    """Have a namespace of our own for as long as the block lasts."""
    metadata = {"generateName": f"{LABEL}-", "labels": {LABEL: "true"}}
    made = await kube.create(NAMESPACES, {"metadata": metadata})
    name = str(made["metadata"]["name"])
    try:
        yield name
    finally:
        await kube.delete(f"{NAMESPACES}/{name}")
        await release_pods(kube, name)
        with contextlib.suppress(TimeoutError):
            await until(lambda: _is_gone(kube, f"{NAMESPACES}/{name}"), f"{name} gone", GONE_S)


async def release_pods(kube: Kube, name: str) -> None:
    """Let go of what a controller that is no longer there had pinned."""
    pods = PODS.format(ns=name)
    for pod in await kube.items(pods):
        if pod["metadata"].get("finalizers"):
            path = f"{pods}/{pod['metadata']['name']}"
            with contextlib.suppress(RequestFailed):
                await kube.call("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)


async def _is_gone(kube: Kube, path: str) -> bool:
    try:
        await kube.call("GET", path)
    except RequestFailed as error:
        return error.code == 404
    return False


async def make_claim(kube: Kube, name: str) -> Path:
    """Make the workspace that all share; returns the directory of this machine behind it."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    body = {"metadata": {"name": CLAIM}, "spec": spec}
    claims = CLAIMS.format(ns=name)
    await kube.create(claims, body)

    async def volume() -> str:
        return str((await kube.get(claims, CLAIM))["spec"].get("volumeName", ""))

    found = await until(volume, "claim bound", BIND_S)
    spec = (await kube.call("GET", f"/api/v1/persistentvolumes/{found}"))["spec"]
    source = spec.get("local") or spec.get("hostPath") or {}
    path = Path(str(source.get("path", "")))
    if not source or not path.is_dir():
        raise Unusable("the workspace's volume is no directory of this machine")
    return path


async def remove_clusters(kube: Kube, name: str, side: TaskSide) -> None:
    """Remove TaskClusters while their controller is still there."""
    with contextlib.suppress(TimeoutError, RequestFailed):
        for found in await kube.items(CLUSTERS.format(ns=name)):
            await side.remove(found["metadata"]["name"])


# --- the measurements -------------------------------------------------------------------
class Bench:
    """Makes the measurements of a plan.

    Args:
        site: where.
        plan: how many.
        results: where to put them.
        parts: which of them.
    """

    def __init__(
        self, site: Site, plan: Plan, results: Results, parts: Collection[Part] = tuple(Part)
    ) -> None:
        self._site = site
        self._plan = plan
        self._results = results
        self._parts = parts
        self._stamps = site.stamps
        self._side = site.side

    async def run(self) -> None:
        """Measure everything that is wanted."""
        if self._parts != [Part.BURSTS]:
            await self._three_workers()
        if Part.CHAINS in self._parts:
            await self._one_worker()
        if Part.CHAINS in self._parts or Part.BURSTS in self._parts:
            await self._eight_workers()

    @contextlib.asynccontextmanager
    async def _both(self, workers: int, slots: int) -> AsyncIterator[tuple[TaskCluster, Fleet]]:
        site = self._site
        say(f"{workers} workers of a TaskCluster, {workers} raw ones")
        async with (
            self._side.cluster(f"c{workers}", workers, CLAIM, slots) as cluster,
            raw_fleet(site.kube, cluster.worker, site.image, workers) as fleet,
        ):
            await self._warm_up(cluster, workers)
            yield cluster, fleet

    async def _warm_up(self, cluster: TaskCluster, workers: int) -> None:
        """Run a task on each worker: its agent has then read its program from disk."""
        start = cases.task_start(self._side, cluster.name)
        await cases.burst(self._stamps, f"warm-{cluster.name}", workers, start)
        await self._side.all_recorded(f"warm-{cluster.name}", workers, cases.SEEN_S)

    async def _three_workers(self) -> None:
        async with self._both(3, FEW_SLOTS) as (cluster, fleet):
            if Part.STARTS in self._parts:
                await self._singles(cluster, fleet)
            if Part.CHAINS in self._parts:
                await self._chains(3, cluster, fleet)
            if Part.PAUSES in self._parts and self._plan.pauses:
                await self._pauses(cluster, fleet)

    async def _one_worker(self) -> None:
        async with self._both(1, FEW_SLOTS) as (cluster, fleet):
            await self._chains(1, cluster, fleet)

    async def _eight_workers(self) -> None:
        async with self._both(8, MANY_SLOTS) as (cluster, fleet):
            if Part.CHAINS in self._parts:
                await self._chains(8, cluster, fleet)
            if Part.BURSTS in self._parts:
                await self._bursts(cluster, fleet)
        if Part.BURSTS in self._parts and self._plan.variants:
            async with self._side.cluster("few", 8, CLAIM, FEW_SLOTS) as cluster:
                await self._warm_up(cluster, 8)
                await self._task_burst(f"taskctl, {FEW_SLOTS} slots per worker", cluster)

    # --- single starts --------------------------------------------------------------------
    async def _singles(self, cluster: TaskCluster, fleet: Fleet) -> None:
        plan, pods = self._plan, self._pods(cluster)
        starts: dict[str, tuple[Start, int]] = {
            "raw": (cases.raw_start(fleet, round_robin()), plan.singles),
            "taskctl": (cases.task_start(self._side, cluster.name), plan.singles),
            "pod": (cases.pod_start(pods), plan.pods),
            "job": (cases.job_start(pods), plan.pods),
        }
        say("single starts on quiet workers")
        ways = [(way, start) for way, (start, _) in starts.items()]
        turns = mixed({way: count for way, (_, count) in starts.items()})
        by_way = dict(ways)
        # The workers of each way take turns, so each rests about three pauses and three starts
        # of another way before it is needed again.
        found = await cases.singles(self._stamps, [(w, by_way[w]) for w in turns], pause_s=0.8)
        self._results.singles.update(found)
        done = await self._side.all_recorded("s-taskctl", plan.singles, cases.SEEN_S)
        for first, last in STAGES:
            self._results.stages[f"{first} → {last}"] = stage_ms(done, first, last)
        await pods.clear()

    def _pods(self, cluster: TaskCluster) -> PodSide:
        frame = parse_frame(cluster.worker) or {}
        security: dict[str, Object] = {
            "pod": cluster.worker["spec"].get("securityContext") or {},
            "container": frame.get("securityContext") or {},
        }
        site = self._site
        return PodSide(site.kube, site.namespace, site.image, CLAIM, security)

    # --- chains ---------------------------------------------------------------------------
    async def _chains(self, workers: int, cluster: TaskCluster, fleet: Fleet) -> None:
        hops, found = self._plan.hops[workers], self._results.chains.setdefault(workers, {})
        choices: dict[str, Choose] = {"raw, rested first": rested_first}
        if self._plan.variants and workers > 1:
            choices["raw, round robin"] = round_robin()
            choices["raw, quiet first"] = quiet_first
        for way, choose in choices.items():
            say(f"chain on {workers}: {way}")
            prefix = f"c{workers}-{way.replace(', ', '-').replace(' ', '-')}"
            start = cases.raw_start(fleet, choose)
            found[way] = await cases.chain(self._stamps, prefix, hops, start)
        say(f"chain on {workers}: taskctl")
        start = cases.task_start(self._side, cluster.name)
        found["taskctl"] = await cases.chain(self._stamps, f"c{workers}-task", hops, start)
        own = await cases.own_chain(self._stamps, self._side, cluster.name, hops)
        found["taskctl, tasks create the next"] = own

    async def _pauses(self, cluster: TaskCluster, fleet: Fleet) -> None:
        ways: dict[str, Start] = {
            "raw, always the same worker": cases.raw_start(fleet, always_the_same),
            "raw, round robin": cases.raw_start(fleet, round_robin()),
            "raw, quiet first": cases.raw_start(fleet, quiet_first),
            "raw, rested first": cases.raw_start(fleet, rested_first),
            "taskctl": cases.task_start(self._side, cluster.name),
        }
        for number, (way, start) in enumerate(ways.items()):
            say(f"pauses of 0.3 to 1.2 s: {way}")
            found = await cases.pauses(self._stamps, f"p{number}", self._plan.pauses, start)
            self._results.pauses[way] = found

    # --- bursts ---------------------------------------------------------------------------
    async def _bursts(self, cluster: TaskCluster, fleet: Fleet) -> None:
        count = self._plan.burst
        say(f"{count} at once: raw")
        await self._cost_of("raw", lambda: cases.raw_burst(self._stamps, fleet, count))
        await self._task_burst("taskctl", cluster)
        await self._pod_bursts(self._pods(cluster))

    async def _task_burst(self, way: str, cluster: TaskCluster) -> None:
        count, prefix = self._plan.burst, f"b-{cluster.name}"
        say(f"{count} at once: {way}")

        async def run() -> Burst:
            start = cases.task_start(self._side, cluster.name)
            began = await cases.burst(self._stamps, prefix, count, start)
            await self._side.all_recorded(prefix, count, cases.BURST_S)
            return began

        await self._cost_of(way, run, cluster.agents)

    async def _pod_bursts(self, pods: PodSide) -> None:
        count = self._plan.pod_burst
        for way, start in (("pod", cases.pod_start(pods)), ("job", cases.job_start(pods))):
            say(f"{count} at once, a {way} for each")
            run = partial(cases.burst, self._stamps, f"b{way}", count, start)
            await self._cost_of(way, run)
            await pods.clear()

    async def _cost_of(
        self, way: str, run: Callable[[], Awaitable[Burst]], agents: Sequence[int] = ()
    ) -> None:
        meters = self._site.meters
        await asyncio.sleep(cases.REST_S)
        before = await meters.read(agents)
        result = await run()
        await asyncio.sleep(AFTERMATH_S)
        self._results.bursts[way] = BurstCost(result, (await meters.read(agents)).since(before))


def mixed(counts: Mapping[str, int]) -> list[str]:
    """Return each word as often as asked, evenly mixed."""
    done = dict.fromkeys(counts, 0)
    order = []
    for _ in range(sum(counts.values())):
        word = min(counts, key=lambda way: (done[way] + 1) / counts[way])
        done[word] += 1
        order.append(word)
    return order
