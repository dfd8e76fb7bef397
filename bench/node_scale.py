"""Many children of one task and one gather over them, on the native node, through rotation.

python -m bench.node_scale [--children 2000] [--workers 4] [--slots 8] [--limit 900]

Needs what `python -m bench.cluster` needs, and the image of taskctl, whose Python runs the root.
Prints whether the tree completes with all results in order, how long that took, how many workers
were replaced meanwhile, and how large the objects and the controller became.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster.bench import WORKER_ROLE, namespace, remove_clusters, say
from bench.cluster.kube import CLUSTERS, OBJECTS, PODS, TASKS, Kube, Object, RequestFailed, until
from bench.cluster.taskside import TaskSide, installed_controller, own_controller
from bench.embedded import print_table
from tests.realnode.node import NativeNode, cluster_directory

CHILD_IMAGE = "localhost/taskctl-test-busybox:1"
ROOT_IMAGE = "docker.io/library/taskctl:0.1.0"
CLUSTER = "scale"
SAMPLE_S = 5.0
PROGRAM = f"""
import time
from taskctl.sdk import child, current
from taskctl.sdk.sync import gather, output, spawn_many

count = current().input["count"]
start_s = time.monotonic()
children = spawn_many(
    child(["taskctl-init", "output", str(n)], key=str(n), image={CHILD_IMAGE!r})
    for n in range(count)
)
spawned_s = time.monotonic()
results = gather(children)
assert results == list(range(count)), "in the order of spawning"
output({{
    "sum": sum(results),
    "spawn_seconds": spawned_s - start_s,
    "gather_seconds": time.monotonic() - spawned_s,
}})
"""


@dataclass
class Seen:
    """What was seen while it ran.

    Attributes:
        workers: names of all worker pods.
        sizes: bytes of the largest object, by its kind.
        controller_mib: the controller's memory at its peak.
        counts: of the root's descendants, at last.
    """

    workers: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    controller_mib: float = 0.0
    counts: Object = field(default_factory=dict)

    def note(self, kind: str, items: list[Object]) -> None:
        for item in items:
            size = len(json.dumps(item, separators=(",", ":")))
            self.sizes[kind] = max(self.sizes.get(kind, 0), size)

    def note_memory(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        self.controller_mib = max(self.controller_mib, int(line.split()[1]) / 1024)


async def pages(kube: Kube, collection: str) -> list[Object]:
    """Return all objects of a collection, read by pages."""
    found: list[Object] = []
    token = ""
    while True:
        answer = await kube.call("GET", f"{collection}?limit=500&continue={token}")
        found += answer["items"]
        token = answer["metadata"].get("continue") or ""
        if not token:
            return found


async def grow(kube: Kube, space: str, args: argparse.Namespace) -> None:
    """Create the TaskCluster, and the root when its workers are ready."""
    spec = {"replicas": args.workers, "slotsPerWorker": args.slots}
    body = {"apiVersion": "taskctl.dev/v1alpha1", "kind": "TaskCluster"}
    await kube.create(
        CLUSTERS.format(ns=space), body | {"metadata": {"name": CLUSTER}, "spec": spec}
    )

    async def ready() -> bool:
        cluster = await kube.get(CLUSTERS.format(ns=space), CLUSTER)
        return bool((cluster.get("status") or {}).get("ready") == args.workers)

    await until(ready, "the workers are ready", 120)
    root = {
        "apiVersion": "taskctl.dev/v1alpha1",
        "kind": "Task",
        "metadata": {"name": "root"},
        "spec": {
            "clusterName": CLUSTER,
            "image": ROOT_IMAGE,
            "command": ["python3", "-c", PROGRAM],
            "input": {"count": args.children},
        },
    }
    await kube.create(TASKS.format(ns=space), root)


async def follow(kube: Kube, space: str, pids: list[int], seen: Seen) -> Object:
    """Look at the tree until it is complete; return the root."""
    while True:
        workers = await kube.items(PODS.format(ns=space))
        seen.workers |= {pod["metadata"]["name"] for pod in workers}
        seen.note("worker pod", workers)
        seen.note_memory(pids)
        root = await kube.get(TASKS.format(ns=space), "root")
        seen.counts = root["status"].get("descendants") or {}
        say(f"{seen.counts}, {len(seen.workers)} workers so far")
        conditions = {one["type"]: one["status"] for one in root["status"].get("conditions") or ()}
        if conditions.get("Complete") == "True":
            return root
        await asyncio.sleep(SAMPLE_S)


async def returned(kube: Kube, space: str, root: Object) -> Object:
    """Return what the root returned."""
    status = root["status"]
    if "outputObject" not in status:
        return dict(status.get("output") or {})
    return dict((await kube.get(OBJECTS.format(ns=space), status["outputObject"]))["value"])


async def run(kube: Kube, pids: list[int], args: argparse.Namespace) -> int:
    """Run it in a namespace of its own; returns the exit code."""
    async with namespace(kube) as space:
        try:
            seen, start = Seen(), time.perf_counter()
            done: Object | None = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(args.limit):
                    await grow(kube, space, args)
                    start = time.perf_counter()
                    done = await follow(kube, space, pids, seen)
            wall_s = time.perf_counter() - start
            for kind, collection in (("Task", TASKS), ("TaskObject", OBJECTS)):
                seen.note(kind, await pages(kube, collection.format(ns=space)))
            result = {} if done is None else await returned(kube, space, done)
            good = result.get("sum") == args.children * (args.children - 1) // 2
            report(args, seen, wall_s, result, good=good)
            if done is not None and not good:
                print(json.dumps(done["status"], indent=1), file=sys.stderr)
            return 0 if good else 1
        finally:
            await remove_clusters(kube, space, TaskSide(kube, space, CHILD_IMAGE))


def report(
    args: argparse.Namespace, seen: Seen, wall_s: float, result: Object, *, good: bool
) -> None:
    load = os.getloadavg()[0]
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.0f} at the end")
    print("| figure | value |\n|---|---|")
    ended = sum(seen.counts.get(state, 0) for state in ("succeeded", "failed", "cancelled"))
    rows = [
        (f"{args.children} children on {args.workers} workers", f"{wall_s:.0f} s"),
        ("complete, with all results in order", "yes" if good else f"no: {ended} ended"),
        ("children a second", f"{ended / wall_s:.1f}"),
        ("workers that were replaced", str(max(0, len(seen.workers) - args.workers))),
        ("the controller's memory at its peak", f"{seen.controller_mib:.0f} MiB"),
    ]
    rows += [(f"largest {kind}", f"{size / 1000:.1f} kB") for kind, size in seen.sizes.items()]
    rows += [
        (name.replace("_seconds", ""), f"{result[name]:.1f} s")
        for name in ("spawn_seconds", "gather_seconds")
        if name in result
    ]
    print_table(rows)


async def measure(node: NativeNode, args: argparse.Namespace) -> int:
    async with Kube(node.admin) as kube:
        try:
            await kube.call("GET", WORKER_ROLE)
        except RequestFailed:
            say("taskctl is not installed: run `taskctl install | kubectl apply -f -`")
            return 2
        with contextlib.ExitStack() as stack:
            pids = await installed_controller(kube)
            if not pids:
                log = Path(tempfile.gettempdir()) / "taskctl-bench-controller.log"
                pids = [stack.enter_context(own_controller(node.admin, log))]
                say(f"started a controller; its log is {log}")
            return await run(kube, pids, args)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--children", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--limit", type=float, default=900.0, help="seconds until it gives up")
    args = parser.parse_args()
    node = NativeNode(cluster_directory())
    if not node.is_up():
        print("no native node runs; start it with ./scripts/cluster up", file=sys.stderr)
        return 2
    return asyncio.run(measure(node, args))


if __name__ == "__main__":
    sys.exit(main())
