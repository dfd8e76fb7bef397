"""Memory and disk of the local stack under a steady load.

python -m bench.soak [--rate 10] [--minutes 60] [--keep 10000] [--every 60] [--limit-mib 300]

Tasks are created at a rate; finished ones beyond a number are deleted. Every interval it prints
each process's resident memory, what the database takes, and how fast both grow. It fails if the
server's memory passes the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from bench.embedded import DEMO, NAMESPACE, in_parallel, make_cluster, print_table, task_body
from taskctl.api.resources import TASKS
from taskctl.errors import ApiError
from taskctl.kube.client import KubeClient
from taskctl.kube.interface import PatchOptions
from taskctl.testing.stack import Component, LocalStack

MIB = 1024 * 1024
TASK = ["/bin/true"]


@dataclass(frozen=True)
class Sample:
    """What there was at one moment; sizes in MiB."""

    minute: float
    created: int
    server: float
    controller: float
    node: float
    database: float


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def sample(stack: LocalStack, start_s: float, created: int) -> Sample:
    sizes = [rss_mib(stack.pid(one)) for one in Component]
    database = sum(path.stat().st_size for path in stack.data_dir.glob("db.sqlite*")) / MIB
    by_name = dict(zip(Component, sizes, strict=True))
    return Sample(
        (time.monotonic() - start_s) / 60,
        created,
        by_name[Component.SERVER],
        by_name[Component.CONTROLLER],
        by_name[Component.NODE],
        database,
    )


def show(now: Sample, first: Sample) -> None:
    minutes = max(now.minute - first.minute, 1e-9)
    parts = [f"{now.minute:6.1f} min {now.created:7d} tasks"]
    for name in ("server", "controller", "node", "database"):
        size, was = getattr(now, name), getattr(first, name)
        parts.append(f"{name} {size:6.1f} MiB ({(size - was) / minutes:+.2f}/min)")
    print("  ".join(parts), flush=True)


async def fill(client: KubeClient, count: int, names: deque[str]) -> None:
    """Put finished Tasks into the store, so that the soak begins with as many as it keeps."""
    status = {"status": {"state": "Succeeded", "attempt": 1, "exitCode": 0}}

    async def put(number: int) -> None:
        name = f"old-{number}"
        await client.create(TASKS, task_body(name, "soak", TASK, suspend=True), NAMESPACE)
        await client.patch(
            TASKS, name, NAMESPACE, status, options=PatchOptions(subresource="status")
        )
        names.append(name)

    await in_parallel(count, put)


async def soak(args: argparse.Namespace, stack: LocalStack) -> bool:
    """Run the load. Returns whether the server stayed within the limit."""
    await stack.wait_ready()
    async with await KubeClient.connect(stack.client_settings()) as client:
        await make_cluster(client, "soak", 3, 8)
        names: deque[str] = deque()
        await fill(client, args.keep, names)
        start_s = time.monotonic()
        samples = [sample(stack, start_s, 0)]
        created = 0
        while time.monotonic() - start_s < args.minutes * 60:
            name = f"soak-{created}"
            await client.create(TASKS, task_body(name, "soak", TASK), NAMESPACE)
            names.append(name)
            created += 1
            if len(names) > args.keep + 60 * args.rate:
                try:
                    await client.delete(TASKS, names.popleft(), NAMESPACE)
                except ApiError as error:
                    print(f"a Task could not be deleted: {error}", file=sys.stderr)
            if time.monotonic() - start_s >= len(samples) * args.every:
                samples.append(sample(stack, start_s, created))
                show(samples[-1], samples[0])
            await asyncio.sleep(max(0.0, start_s + created / args.rate - time.monotonic()))
        samples.append(sample(stack, start_s, created))
    peak = max(one.server for one in samples)
    late = samples[-1].server / samples[len(samples) // 2].server
    rows = [
        ("the server's memory at its peak", f"{peak:.0f} MiB"),
        ("at the end / halfway", f"{late:.2f}"),
        ("tasks a second", f"{created / (args.minutes * 60):.1f}"),
    ]
    print_table(rows)
    return bool(peak < args.limit_mib)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--keep", type=int, default=10_000)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--limit-mib", type=float, default=300.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskctl-soak-") as directory:
        images = {"counter:latest": DEMO / "counter" / "image"}
        stack = LocalStack(Path(directory) / "data", image_roots=images)
        stack.start()
        try:
            fine = asyncio.run(soak(args, stack))
        finally:
            stack.stop()
    if not fine:
        raise SystemExit(f"the server took more than {args.limit_mib:.0f} MiB")


if __name__ == "__main__":
    main()
