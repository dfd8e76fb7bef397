"""What `taskctl tree` costs with the size of the tree, on the local API server.

python -m bench.tree [--small 100] [--large 10000] [--runs 5]

Prints the CPU time of the command for a tree of each size and for `taskctl --version`, and
the ratio of the two sizes. Its trees have ended; no controller runs, since looking takes none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from bench.embedded import NAMESPACE, Object, in_parallel, print_table, task_body
from taskctl.api.resources import TASKS
from taskctl.clock import SystemClock, format_micro
from taskctl.constants import ANNOTATION_CREATED
from taskctl.kube.client import KubeClient
from taskctl.kube.interface import PatchOptions
from taskctl.policy.lineage import owner_reference
from taskctl.testing.stack import Component, LocalStack

STAGES_MS = {
    "created": 0,
    "placed": 15,
    "started": 72,
    "userCode": 94,
    "exited": 100,
    "observed": 102,
}
STATUS = PatchOptions(subresource="status")


@dataclass(frozen=True)
class Cost:
    """Medians of some runs of a command, in seconds."""

    wall_s: float
    cpu_s: float


async def grow(client: KubeClient, name: str, count: int, begin: datetime) -> None:
    """Make a tree of a root and ``count`` children that have all ended."""
    root = await client.create(TASKS, task_body(name, "c", ["true"], suspend=True), NAMESPACE)
    uid = root["metadata"]["uid"]

    async def put(number: int) -> None:
        child = f"{name}-{number}"
        lineage = {"root": name, "rootUID": uid, "parent": name, "parentUID": uid, "depth": 1}
        body = task_body(
            child, "c", ["true"], lineage=lineage | {"key": str(number), "task": child}
        )
        created = begin + timedelta(milliseconds=number)
        body["metadata"] |= {
            "ownerReferences": [owner_reference(name, uid)],
            "annotations": {ANNOTATION_CREATED: format_micro(created)},
        }
        await client.create(TASKS, body, NAMESPACE)
        await client.patch(
            TASKS, child, NAMESPACE, ended(created, root=name, depth=1), options=STATUS
        )

    await in_parallel(count, put)
    counts = {"total": count, "succeeded": count}
    status = ended(begin, root=name, depth=0, descendants=counts)
    await client.patch(TASKS, name, NAMESPACE, status, options=STATUS)


def ended(created: datetime, **more: object) -> Object:
    """Return the status of a task that has succeeded, as the agent and the controller write it."""
    times = {
        stage: format_micro(
            created + timedelta(milliseconds=ms, microseconds=created.microsecond % 97)
        )
        for stage, ms in STAGES_MS.items()
    }
    conditions = [
        {
            "type": kind,
            "status": "True",
            "reason": "Completed",
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        }
        for kind in ("Complete", "Succeeded")
    ]
    return {
        "status": {
            "state": "Succeeded",
            "reason": "Completed",
            "message": "",
            "attempt": 1,
            "exitCode": 0,
            "podName": "c-1",
            "podUID": "e9064da1-b48f-4846-9701-0692ddb4fbda",
            "containerName": "t-cef2d6f295-1",
            "observedGeneration": 1,
            "times": times,
            "usage": {"maxRssBytes": 9_000_000, "systemSeconds": 0.01, "userSeconds": 0.02},
            "conditions": conditions,
            **more,
        }
    }


def cost_of(stack: LocalStack, runs: int, *arguments: str) -> Cost:
    """Return what a ``taskctl`` command costs."""
    command = [sys.executable, "-m", "taskctl", *arguments]
    env = os.environ | {"KUBECONFIG": str(stack.kubeconfig)}
    walls, cpus = [], []
    for _ in range(runs):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - start)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Cost(statistics.median(walls), statistics.median(cpus))


async def bench(args: argparse.Namespace, stack: LocalStack) -> None:
    await stack.wait_ready()
    async with await KubeClient.connect(replace(stack.client_settings(), qps=0)) as client:
        for count in (args.small, args.large):
            await grow(client, f"tree-{count}", count, SystemClock().now())
    costs = {
        f"`taskctl tree`, {count} children": cost_of(stack, args.runs, "tree", f"tree-{count}")
        for count in (args.small, args.large)
    }
    bare = {"`taskctl --version`": cost_of(stack, args.runs, "--version")}
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print("| figure | value |\n|---|---|")
    rows = [
        (label, f"{cost.cpu_s:.2f} s CPU, {cost.wall_s:.2f} s in all")
        for label, cost in (bare | costs).items()
    ]
    small, large = costs.values()
    ratio = large.cpu_s / small.cpu_s
    print_table([*rows, (f"**CPU of {args.large} / of {args.small}**", f"**{ratio:.2f}**")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=100)
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="wait for Enter before it ends")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskctl-bench-") as directory:
        stack = LocalStack(Path(directory) / "data")
        stack.start(Component.SERVER)
        try:
            asyncio.run(bench(args, stack))
            if args.keep:
                input(f"export KUBECONFIG={stack.kubeconfig} ")
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
