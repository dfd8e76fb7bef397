"""What a hop, a burst and a full store cost on the local stack. Prints ratios of one run.

python bench/embedded.py [--hops N] [--starts N] [--burst N] [--fill 100,1000,10000]
                         [--standby N] [--only hops,functions,starts,burst,fill]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.clock import parse_time
from taskctl.kube.client import KubeClient
from taskctl.kube.interface import PatchOptions
from taskctl.testing.stack import Component, LocalStack

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo"
PARTS = ("hops", "functions", "starts", "burst", "fill")
NAMESPACE = "default"
API = "taskctl.dev/v1alpha1"
PARALLEL = 32
WAIT_S = 600

Object = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """What a batch cost, per task."""

    wall_ms: float
    server_cpu_ms: float
    controller_cpu_ms: float


def cpu_seconds(pid: int) -> float:
    """Return user plus system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def task_body(name: str, cluster: str, command: list[str], **spec: Any) -> Object:
    body = {"clusterName": cluster, "image": "counter:latest", "command": command} | spec
    return {"apiVersion": API, "kind": "Task", "metadata": {"name": name}, "spec": body}


async def make_cluster(
    client: KubeClient, name: str, workers: int, slots: int, standby: int = 0
) -> None:
    """Make a TaskCluster with so many containers parked for each class and worker."""
    spec = {"replicas": workers, "slotsPerWorker": slots, "workspace": {"enable": True}}
    spec["standby"] = {"minPerWorker": standby, "maxPerWorker": 16 if standby else 0}
    # Parked containers count, too: a worker is not to be replaced while it is measured.
    spec["rotation"] = {"maxTasks": 500}
    body = {"apiVersion": API, "kind": "TaskCluster", "metadata": {"name": name}, "spec": spec}
    await client.create(TASKCLUSTERS, body, NAMESPACE)
    while True:
        found = await client.get(TASKCLUSTERS, name, NAMESPACE)
        if found.get("status", {}).get("ready") == workers:
            return
        await asyncio.sleep(0.1)


async def wait_done(client: KubeClient, names: set[str]) -> None:
    async with asyncio.timeout(WAIT_S):
        for name in sorted(names):
            while True:
                status = (await client.get(TASKS, name, NAMESPACE)).get("status", {})
                if status.get("state") == "Succeeded":
                    break
                if status.get("state") in ("Failed", "Cancelled"):
                    raise SystemExit(f"{name}: {status}")
                await asyncio.sleep(0.02)


async def in_parallel(count: int, call: Any) -> None:
    gate = asyncio.Semaphore(PARALLEL)

    async def one(number: int) -> None:
        async with gate:
            await call(number)

    await asyncio.gather(*(one(number) for number in range(count)))


async def measure_batch(client: KubeClient, stack: LocalStack, prefix: str, count: int) -> Cost:
    """Run ``count`` independent tasks that do nothing; returns the cost per task."""
    pids = [stack.pid(Component.SERVER), stack.pid(Component.CONTROLLER)]
    before = [cpu_seconds(pid) for pid in pids]
    start = time.perf_counter()
    names = [f"{prefix}-{number}" for number in range(count)]

    async def create(number: int) -> None:
        await client.create(TASKS, task_body(names[number], "burst", ["/bin/true"]), NAMESPACE)

    await in_parallel(count, create)
    await wait_done(client, set(names))
    wall_s = time.perf_counter() - start
    used = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
    return Cost(wall_s / count * 1000, used[0] / count * 1000, used[1] / count * 1000)


async def fill(client: KubeClient, first: int, last: int) -> None:
    """Put finished tasks into the store, numbered from ``first`` to ``last``."""
    status = {"status": {"state": "Succeeded", "attempt": 1, "exitCode": 0}}

    async def put(number: int) -> None:
        name = f"old-{first + number}"
        body = task_body(name, "burst", ["/bin/true"], suspend=True)
        await client.create(TASKS, body, NAMESPACE)
        options = PatchOptions(subresource="status")
        await client.patch(TASKS, name, NAMESPACE, status, options=options)

    await in_parallel(last - first, put)


def bare_start_ms(runs: int = 30) -> float:
    """Return the median of fork, exec and exit of this interpreter."""
    samples = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        samples.append((time.perf_counter() - start) * 1000)
    return statistics.median(samples)


def quantiles(samples: list[float]) -> tuple[float, float]:
    """Return p50 and p99."""
    ordered = sorted(samples)
    return statistics.median(ordered), ordered[round(0.99 * (len(ordered) - 1))]


async def api_floor_ms(client: KubeClient, count: int = 60) -> float:
    """Return the median of what create, claim and outcome cost as plain requests."""
    samples = []
    options = PatchOptions(subresource="status")
    states: list[Object] = [
        {"state": "Running", "attempt": 1},
        {"state": "Succeeded", "attempt": 1, "exitCode": 0},
    ]
    for number in range(count):
        name = f"floor-{number}"
        body = task_body(name, "nowhere", ["/bin/true"], suspend=True)
        start = time.perf_counter()
        await client.create(TASKS, body, NAMESPACE)
        for status in states:
            await client.patch(TASKS, name, NAMESPACE, {"status": status}, options=options)
        samples.append((time.perf_counter() - start) * 1000)
    return statistics.median(samples)


async def tasks_of(client: KubeClient, cluster: str) -> list[Object]:
    found = (await client.list_all(TASKS, NAMESPACE)).items
    return [task for task in found if task["spec"]["clusterName"] == cluster]


def user_code_ms(task: Object) -> float:
    return parse_time(task["status"]["times"]["userCode"]).timestamp() * 1000


def moment_ms(task: Object, name: str) -> float:
    return parse_time(task["status"]["times"][name]).timestamp() * 1000


def split_ms(chain: list[Object]) -> list[tuple[str, float]]:
    """Return the medians of what a hop consists of, user code to user code, in order."""
    parts: dict[str, list[float]] = {}
    ordered = sorted(chain, key=lambda task: moment_ms(task, "userCode"))
    for one, following in itertools.pairwise(ordered):
        before_ms = moment_ms(one, "userCode")
        for name in ("created", "placed", "started", "userCode"):
            now_ms = moment_ms(following, name)
            parts.setdefault(name, []).append(now_ms - before_ms)
            before_ms = now_ms
    labels = ("user code → child created", "→ placed", "→ claimed", "→ user code")
    return [(name, statistics.median(parts[key])) for name, key in zip(labels, parts, strict=True)]


def split_row(chain: list[Object]) -> tuple[str, str]:
    """Return a row of the table that says what a hop consists of."""
    parts = split_ms(chain)
    label = "of a hop, p50: " + ", ".join(name for name, _ in parts)
    return label, " / ".join(f"{value:.1f}" for _, value in parts) + " ms"


async def measure_starts(client: KubeClient, count: int) -> tuple[list[float], int]:
    """Create tasks one at a time; returns created → user code in ms, and those handed over."""
    samples, handed = [], 0
    for number in range(count):
        name = f"start-{number}"
        before_ms = time.time() * 1000
        await client.create(TASKS, task_body(name, "starts", ["/bin/true"]), NAMESPACE)
        await wait_done(client, {name})
        task = await client.get(TASKS, name, NAMESPACE)
        samples.append(user_code_ms(task) - before_ms)
        handed += task["status"]["containerName"].startswith("s-")
        await asyncio.sleep(0.2)
    return samples, handed


async def measure_functions(client: KubeClient, hops: int) -> tuple[list[float], int, list[Object]]:
    """Run a chain of functions; returns the hops in ms, how many were handed over, and all."""
    command = [sys.executable, "-m", "taskctl.sdk.run", "--path", "/app", "chain:count"]
    given = {"number": 0, "limit": hops}
    first = task_body("functions", "functions", command, input=given, image="chain:latest")
    await client.create(TASKS, first, NAMESPACE)
    async with asyncio.timeout(WAIT_S):
        while True:
            tasks = await tasks_of(client, "functions")
            states = [task.get("status", {}).get("state") for task in tasks]
            if "Failed" in states:
                raise SystemExit(f"the chain has failed: {tasks}")
            if states.count("Succeeded") == hops + 1:
                break
            await asyncio.sleep(0.5)
    starts = sorted(user_code_ms(task) for task in tasks)
    handed = sum(task["status"]["containerName"].startswith("s-") for task in tasks)
    return [later - earlier for earlier, later in itertools.pairwise(starts)], handed, tasks


async def measure_chain(client: KubeClient, hops: int, standby: int) -> list[float]:
    """Run the counter; returns the times between the starts of user code, in ms."""
    await make_cluster(client, "counter", 3, 4, standby)
    data = {"count": "0", "limit": str(hops)}
    meta = {"name": "counter-input"}
    body = {"apiVersion": API, "kind": "TaskObject", "metadata": meta, "data": data}
    await client.create(TASKOBJECTS, body, NAMESPACE)
    command = [sys.executable, "/app/counter.py"]
    first = task_body("task-0", "counter", command, inputObject="counter-input")
    await client.create(TASKS, first, NAMESPACE)
    async with asyncio.timeout(WAIT_S):
        starts = []
        for number in range(hops + 1):
            while True:
                tasks = {
                    task["metadata"]["name"]: task
                    for task in (await client.list_all(TASKS, NAMESPACE)).items
                }
                task = tasks.get(f"task-{number}")
                if task is not None and task["status"].get("state") == "Succeeded":
                    break
                await asyncio.sleep(0.2)
            starts.append(user_code_ms(task))
    return [later - earlier for earlier, later in itertools.pairwise(starts)]


def print_table(rows: list[tuple[str, str]]) -> None:
    for label, value in rows:
        print(f"| {label} | {value} |")


async def bench_hops(args: argparse.Namespace, client: KubeClient, floor_ms: float) -> None:
    bare = bare_start_ms()
    p50, p99 = quantiles(await measure_chain(client, args.hops, args.standby))
    print_table(
        [
            ("bare fork+exec of the interpreter, p50", f"{bare:.1f} ms"),
            ("counter hop p50 / p99", f"{p50:.1f} / {p99:.1f} ms"),
            split_row(await tasks_of(client, "counter")),
            ("**hop p50 / bare start**", f"**{p50 / bare:.2f}**"),
            ("hop p50 / API floor", f"{p50 / floor_ms:.2f}"),
        ]
    )


async def bench_functions(args: argparse.Namespace, client: KubeClient, floor_ms: float) -> None:
    await make_cluster(client, "functions", 1, 4, args.standby)
    gaps, handed, chain = await measure_functions(client, args.hops)
    p50, p99 = quantiles(gaps)
    print_table(
        [
            ("hop of a chain of functions p50 / p99, one worker", f"{p50:.1f} / {p99:.1f} ms"),
            split_row(chain),
            ("handed to parked containers", f"{handed} of {args.hops + 1}"),
            ("**p50 / API floor**", f"**{p50 / floor_ms:.2f}**"),
        ]
    )


async def bench_starts(args: argparse.Namespace, client: KubeClient, floor_ms: float) -> None:
    await make_cluster(client, "starts", 1, 4, args.standby)
    samples, handed = await measure_starts(client, args.starts)
    p50, p99 = quantiles(samples[3:])
    print_table(
        [
            ("created → user code p50 / p99", f"{p50:.1f} / {p99:.1f} ms"),
            ("handed to parked containers", f"{handed} of {args.starts}"),
            ("**p50, p99 / API floor**", f"**{p50 / floor_ms:.2f}**, {p99 / floor_ms:.2f}"),
        ]
    )


async def bench_burst(args: argparse.Namespace, client: KubeClient, stack: LocalStack) -> None:
    await measure_batch(client, stack, "warm", 20)
    burst = await measure_batch(client, stack, "burst", args.burst)
    print_table([(f"{args.burst} tasks on 8 slots", f"{1000 / burst.wall_ms:.1f} tasks/s")])


async def bench_fill(args: argparse.Namespace, client: KubeClient, stack: LocalStack) -> None:
    costs = []
    filled = 0
    for goal in [int(text) for text in args.fill.split(",")]:
        await fill(client, filled, goal)
        filled = goal
        cost = await measure_batch(client, stack, f"at{goal}", 200)
        costs.append(cost)
        text = f"{cost.wall_ms:.1f} ms wall, {cost.server_cpu_ms:.2f} ms server CPU, "
        text += f"{cost.controller_cpu_ms:.2f} ms controller CPU per task"
        print_table([(f"with {goal} more finished tasks", text)])
    ratio = costs[-1].wall_ms / costs[0].wall_ms
    cpu = (costs[-1].server_cpu_ms + costs[-1].controller_cpu_ms) / (
        costs[0].server_cpu_ms + costs[0].controller_cpu_ms
    )
    print_table([("**cost of the last / the first**", f"**{ratio:.2f}** wall, {cpu:.2f} CPU")])


async def bench(args: argparse.Namespace, stack: LocalStack) -> None:
    await stack.wait_ready()
    parts = args.only.split(",")
    async with await KubeClient.connect(stack.client_settings()) as client:
        print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
        print(f"standby: {args.standby} a worker; load average {os.getloadavg()[0]:.1f}")
        print("| figure | value |\n|---|---|")
        floor_ms = await api_floor_ms(client)
        print_table([("API floor: create + claim + outcome, p50", f"{floor_ms:.1f} ms")])
        if "hops" in parts:
            await bench_hops(args, client, floor_ms)
        if "functions" in parts:
            await bench_functions(args, client, floor_ms)
        if "starts" in parts:
            await bench_starts(args, client, floor_ms)
        if "burst" in parts or "fill" in parts:
            await make_cluster(client, "burst", 2, 4, args.standby)
        if "burst" in parts:
            await bench_burst(args, client, stack)
        if "fill" in parts:
            await bench_fill(args, client, stack)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hops", type=int, default=100)
    parser.add_argument("--burst", type=int, default=1000)
    parser.add_argument("--fill", default="100,1000,10000")
    parser.add_argument("--starts", type=int, default=60)
    parser.add_argument("--standby", type=int, default=4, help="per worker; 0: none")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskctl-bench-") as directory:
        images = {
            "counter:latest": DEMO / "counter" / "image",
            "chain:latest": HERE / "chain_image",
        }
        stack = LocalStack(Path(directory) / "data", image_roots=images)
        stack.start()
        try:
            asyncio.run(bench(args, stack))
        finally:
            stack.stop()


if __name__ == "__main__":
    main()
