"""Many children of one task and one gather over them, on the local stack.

python -m bench.scale [--children 10000] [--workers 2] [--slots 8]

One task spawns all children by one call; it gathers their results, and so does a continuation that
takes them from their group, one by one. Prints how long that took, how large the objects and the
processes became, and what `taskctl tree` costs beside `taskctl --help`. Fails if a figure is out of
bounds that do not depend on the machine: the sizes of objects and of the controller.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.embedded import NAMESPACE, make_cluster, print_table, task_body
from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.kube.client import KubeClient
from taskctl.kube.interface import ListOptions
from taskctl.kube.resources import PODS
from taskctl.testing.stack import Component, LocalStack

IMAGE = Path(__file__).resolve().parent / "scale_image"
MIB = 1024 * 1024
# Of taskctl's own objects. Worker pods keep the containers of ended tasks, and are replaced by
# budgets of their own (taskctl/placement/rotation.py).
OBJECT_LIMIT_BYTES = 100 * 1000
CONTROLLER_LIMIT_MIB = 300
WAIT_S = 3600
SAMPLE_S = 5


@dataclass
class Peaks:
    """What was largest while it ran.

    Attributes:
        object_bytes: of an object's JSON, by plural.
        memory_mib: by process.
    """

    object_bytes: dict[str, int] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)

    def note_objects(self, plural: str, items: list[dict[str, Any]]) -> None:
        sizes = (len(json.dumps(item, separators=(",", ":"))) for item in items)
        self.object_bytes[plural] = max(self.object_bytes.get(plural, 0), *sizes, 0)

    def note_memory(self, stack: LocalStack) -> None:
        for component in Component:
            self._peak(component.value, stack.pid(component))
        for pid in stack.agent_pids():
            self._peak("agent", pid)

    def _peak(self, name: str, pid: int) -> None:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            [line] = [line for line in lines if line.startswith("VmHWM:")] or ["VmHWM: 0 kB"]
            peak = int(line.split()[1]) / 1024
            self.memory_mib[name] = max(self.memory_mib.get(name, 0.0), peak)


async def each_page(client: KubeClient, resource: Any) -> AsyncIterator[list[dict[str, Any]]]:
    token = ""
    while True:
        options = ListOptions(limit=500, continue_token=token)
        page = await client.list(resource, NAMESPACE, options=options)
        yield page.items
        token = page.continue_token
        if not token:
            return


async def watch_peaks(client: KubeClient, stack: LocalStack, peaks: Peaks) -> None:
    """Look at processes and at what changes size while it runs, until cancelled."""
    while True:
        await asyncio.to_thread(peaks.note_memory, stack)
        for resource in (PODS, TASKCLUSTERS):
            peaks.note_objects(resource.plural, (await client.list(resource, NAMESPACE)).items)
        root = await client.get(TASKS, "root", NAMESPACE)
        peaks.note_objects(TASKS.plural, [root])
        print(f"  {root['status'].get('descendants')}", file=sys.stderr, flush=True)
        await asyncio.sleep(SAMPLE_S)


async def finished(client: KubeClient) -> dict[str, Any]:
    """Return the root when its tree is complete."""
    async with asyncio.timeout(WAIT_S):
        while True:
            root = await client.get(TASKS, "root", NAMESPACE)
            conditions = {entry["type"]: entry for entry in root["status"].get("conditions") or ()}
            if conditions.get("Complete", {}).get("status") == "True":
                if conditions["Succeeded"]["status"] != "True":
                    raise SystemExit(f"the tree has failed: {root['status']}")
                return root
            await asyncio.sleep(1)


def command_s(stack: LocalStack, *arguments: str, runs: int = 3) -> tuple[float, str]:
    """Return the median time of a command, and its output."""
    program = [sys.executable, "-m", "taskctl", *arguments]
    env = os.environ | {"KUBECONFIG": str(stack.kubeconfig)}
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        done = subprocess.run(program, env=env, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times), done.stdout


async def output_of(client: KubeClient, task: dict[str, Any]) -> dict[str, Any]:
    status = task["status"]
    if "outputObject" not in status:
        small: dict[str, Any] = status["output"]
        return small
    name = status["outputObject"]
    value: dict[str, Any] = (await client.get(TASKOBJECTS, name, NAMESPACE))["value"]
    return value


async def bench(args: argparse.Namespace, stack: LocalStack) -> list[str]:
    """Run it; returns which bounds were passed."""
    await stack.wait_ready()
    peaks = Peaks()
    async with await KubeClient.connect(stack.client_settings()) as client:
        await make_cluster(client, "scale", args.workers, args.slots)
        command = [sys.executable, "-m", "taskctl.sdk.run", "/app/scale.py:main"]
        body = task_body("root", "scale", command, input={"count": args.children})
        body["spec"]["image"] = "scale:latest"
        start = time.perf_counter()
        await client.create(TASKS, body, NAMESPACE)
        looking = asyncio.create_task(watch_peaks(client, stack, peaks))
        try:
            root = await finished(client)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        wall_s = time.perf_counter() - start
        last: dict[str, Any] | None = None
        for resource in (TASKS, TASKOBJECTS):
            async for items in each_page(client, resource):
                peaks.note_objects(resource.plural, items)
                if resource is TASKS:
                    joins = [task for task in items if task["spec"].get("inputFrom")]
                    last = joins[0] if joins else last
        assert last is not None
        own, after = await output_of(client, root), await output_of(client, last)
        expected = args.children * (args.children - 1) // 2
        assert own["sum"] == after["sum"] == expected, (own, after, expected)
    await asyncio.to_thread(peaks.note_memory, stack)
    tree_s, text = await asyncio.to_thread(command_s, stack, "tree", "root")
    bare_s, _ = await asyncio.to_thread(command_s, stack, "--help")
    report(args, wall_s, own | {"stream": after["seconds"]}, peaks)
    print_table(
        [
            ("`taskctl tree`, lines", str(len(text.splitlines()))),
            ("`taskctl tree` / `taskctl --help`", f"{tree_s:.2f} s / {bare_s:.2f} s"),
        ]
    )
    return broken(peaks)


def report(args: argparse.Namespace, wall_s: float, own: dict[str, float], peaks: Peaks) -> None:
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print("| figure | value |\n|---|---|")
    after = own["gather_seconds"]
    rows = [
        (f"{args.children} children, whole tree", f"{wall_s:.0f} s"),
        ("children per second", f"{args.children / wall_s:.0f}"),
        ("spawn_many", f"{own['spawn_seconds']:.1f} s"),
        ("gather, with waiting for the children", f"{after:.1f} s"),
        ("results of the group, one by one", f"{own['stream']:.1f} s"),
    ]
    rows += [
        (f"largest of {plural}", f"{size / 1000:.1f} kB")
        for plural, size in peaks.object_bytes.items()
    ]
    rows += [(f"memory, {name}, peak", f"{mib:.0f} MiB") for name, mib in peaks.memory_mib.items()]
    print_table(rows)


def broken(peaks: Peaks) -> list[str]:
    """Return the bounds that were passed."""
    found = [
        f"an object of {plural} has {size} bytes; at most {OBJECT_LIMIT_BYTES} are allowed"
        for plural, size in peaks.object_bytes.items()
        if size > OBJECT_LIMIT_BYTES and plural != PODS.plural
    ]
    controller = peaks.memory_mib[Component.CONTROLLER.value]
    if controller > CONTROLLER_LIMIT_MIB:
        found.append(f"the controller took {controller:.0f} MiB; at most {CONTROLLER_LIMIT_MIB}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--children", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="taskctl-bench-") as directory:
        stack = LocalStack(Path(directory) / "data", image_roots={"scale:latest": IMAGE})
        stack.start()
        try:
            problems = asyncio.run(bench(args, stack))
        except BaseException:
            print(stack.logs(), file=sys.stderr)
            raise
        finally:
            stack.stop()
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
