"""Checks a finished quicksort: the tree has succeeded, and the result is what sorted() makes."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import sys
from array import array

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.kube.client import KubeClient


def expected(count: int, seed: int) -> dict[str, object]:
    """Return what the root must have returned, without the file's name."""
    numbers = random.Random(seed)
    content = array("q", sorted(numbers.getrandbits(40) for _ in range(count))).tobytes()
    return {"count": count, "sha256": hashlib.sha256(content).hexdigest()}


async def check(args: argparse.Namespace) -> int:
    async with await KubeClient.connect(CLIENT_SETTINGS) as client:
        root = await client.get(TASKS, "quicksort", args.namespace)
        conditions = root["status"].get("conditions", [])
        tree = {entry["type"]: entry["status"] for entry in conditions}
        if tree != {"Complete": "True", "Succeeded": "True"}:
            print(f"FAULT: the tree is {tree}: {root['status'].get('message')}", file=sys.stderr)
            return 1
        name = root["status"]["outputObject"]
        result = (await client.get(TASKOBJECTS, name, args.namespace))["value"]
    wanted = expected(args.count, root["spec"]["input"]["seed"])
    if {key: result[key] for key in wanted} != wanted:
        print(f"FAULT: the root returned {result}, not {wanted}", file=sys.stderr)
        return 1
    total = root["status"]["descendants"]["total"]
    print(f"OK: {args.count} numbers sorted by {total} tasks, in {result['file']}.")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--namespace", default="default")
    return asyncio.run(check(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
