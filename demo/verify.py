"""Checks a finished counter run and prints what it cost. Exit code 0: all as it should be."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.clock import parse_time
from taskctl.errors import NotFound
from taskctl.kube.client import KubeClient

Object = dict[str, Any]
FOLLOW_TIMEOUT_S = 300


def milliseconds(task: Object, start: str, end: str) -> float | None:
    times = task["status"].get("times", {})
    if start not in times or end not in times:
        return None
    return (parse_time(times[end]) - parse_time(times[start])).total_seconds() * 1000


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def find_faults(tasks: dict[str, Object], prefix: str, limit: int) -> list[str]:
    """Return a sentence for each thing that is not as it should be."""
    expected = {f"{prefix}{number}" for number in range(limit + 1)}
    faults = [f"{name} is missing" for name in sorted(expected - tasks.keys())]
    faults += [f"{name} was not expected" for name in sorted(tasks.keys() - expected)]
    for name, task in sorted(tasks.items()):
        status = task.get("status", {})
        if status.get("state") != "Succeeded":
            faults.append(
                f"{name} is {status.get('state')}: "
                f"{status.get('reason', '')} {status.get('message', '')}".strip()
            )
    return faults


async def final_count(
    client: KubeClient, tasks: dict[str, Object], args: argparse.Namespace
) -> str:
    """Return the count that the last task holds (its output; the prototype: its input)."""
    last = tasks[f"{args.prefix}{args.limit}"]
    name = last["spec"]["inputObject"] if args.own_objects else last["status"]["outputObject"]
    found = await client.get(TASKOBJECTS, name, args.namespace)
    content = found.get("data") or found.get("value") or {}
    return str(content.get("count"))


def print_summary(tasks: dict[str, Object], args: argparse.Namespace) -> None:
    hops = [tasks[f"{args.prefix}{number}"] for number in range(args.limit + 1)]
    starts = [ms for task in hops if (ms := milliseconds(task, "created", "userCode")) is not None]
    runs = [ms for task in hops if (ms := milliseconds(task, "userCode", "exited")) is not None]
    first, last = hops[0]["status"]["times"]["created"], hops[-1]["status"]["times"]["exited"]
    wall_ms = (parse_time(last) - parse_time(first)).total_seconds() * 1000
    attempts = sum(task["status"].get("attempt", 1) for task in hops)
    workers = {task["status"]["podName"] for task in hops}
    p50, p99 = percentile(starts, 0.5), percentile(starts, 0.99)
    lines = {
        "tasks": f"{len(hops)}, all Succeeded, {attempts} attempts on {len(workers)} workers",
        "wall time": f"{wall_ms / 1000:.2f} s, {wall_ms / len(hops):.0f} ms per hop",
        "created → user code": f"p50 {p50:.0f} ms, p99 {p99:.0f} ms",
        "user code": f"p50 {percentile(runs, 0.5):.0f} ms, sum {sum(runs) / 1000:.2f} s",
        "sum of gaps": f"{sum(starts) / 1000:.2f} s (time that a task waited to run)",
    }
    for label, text in lines.items():
        print(f"{label:<20} {text}")


async def follow(client: KubeClient, args: argparse.Namespace) -> None:
    """Print a line per finished task until the last one has ended."""
    seen: set[str] = set()
    last = f"{args.prefix}{args.limit}"
    async with asyncio.timeout(FOLLOW_TIMEOUT_S):
        while last not in seen:
            for task in (await client.list_all(TASKS, args.namespace)).items:
                name, state = task["metadata"]["name"], task.get("status", {}).get("state")
                if name not in seen and state in ("Succeeded", "Failed", "Cancelled"):
                    seen.add(name)
                    print(f"{name:<12} {state}", flush=True)
                    if state != "Succeeded":
                        return
            await asyncio.sleep(0.5)


async def check(args: argparse.Namespace) -> int:
    async with await KubeClient.connect(CLIENT_SETTINGS) as client:
        if args.follow:
            await follow(client, args)
            return 0
        listed = (await client.list_all(TASKS, args.namespace)).items
        tasks = {
            task["metadata"]["name"]: task
            for task in listed
            if task["metadata"]["name"].startswith(args.prefix)
        }
        faults = find_faults(tasks, args.prefix, args.limit)
        if not faults:
            try:
                count = await final_count(client, tasks, args)
            except NotFound as error:
                faults.append(f"the last task's object is gone: {error}")
            else:
                if count != str(args.limit):
                    faults.append(f"the last task holds count {count}, not {args.limit}")
    for fault in faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    if faults:
        return 1
    print_summary(tasks, args)
    print(f"OK: the last task holds count {args.limit}.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", required=True, help="task names are PREFIX0 … PREFIXlimit")
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--own-objects", action="store_true", help="as the prototype passes values")
    parser.add_argument("--follow", action="store_true", help="only wait for the last task")
    return asyncio.run(check(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
