"""taskctl beside raw patches, bare pods and Jobs, on the native node. Prints ratios of one run.

    ./scripts/cluster up            # images taskctl and the tests' busybox loaded
    python -m bench.cluster [--quick]

Uses the controller that is installed in the cluster; where none is, it starts its own.
Everything is made in a namespace of its own, which is deleted at the end, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from bench.cluster.bench import Bench, Results, Unusable, say, site
from bench.cluster.kube import Kube
from bench.cluster.meters import Meters
from bench.cluster.plan import FULL, QUICK, Part, Plan
from bench.cluster.report import report
from tests.realnode.node import NativeNode, cluster_directory

IMAGE = "localhost/taskctl-test-busybox:1"
NODE_PROCESSES = ("kube-apiserver", "etcd", "kubelet", "containerd")


def node_pids(node: NativeNode) -> dict[str, list[int]]:
    """Return the node's own processes, by name."""
    found = {name: node.processes[name].pid() for name in NODE_PROCESSES}
    return {name: [pid] for name, pid in found.items() if pid is not None}


def etcd_address(pids: list[int]) -> str:
    """Return where etcd serves its clients, from its command line; empty: not known."""
    for pid in pids:
        for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            name, _, value = word.partition("=")
            if name == "--listen-client-urls":
                return value.split(",")[0]
    return ""


async def measure(node: NativeNode, image: str, plan: Plan, parts: list[Part]) -> int:
    """Make the measurements and print the tables; returns the exit code."""
    results, code = Results(), 0
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    log = Path(tempfile.gettempdir()) / "taskctl-bench-controller.log"
    async with Kube(node.admin) as kube:
        version = str((await kube.call("GET", "/version"))["gitVersion"])
        pids = node_pids(node)
        meters = Meters(kube, etcd_address(pids.get("etcd", [])), pids)
        try:
            async with (
                asyncio.timeout(plan.limit_s),
                site(kube, image, meters, node.admin, log) as place,
            ):
                await Bench(place, plan, results, parts).run()
        except TimeoutError as error:
            say(f"not finished: {error or f'the limit of {plan.limit_s:.0f} s is over'}")
            code = 1
        except Unusable as error:
            say(str(error))
            return 2
    print(report(results, version))
    return code


def main() -> int:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of each, under three minutes")
    parser.add_argument("--image", default=IMAGE, help=f"of the tasks; default {IMAGE}")
    parser.add_argument(
        "--only", type=Part, choices=list(Part), nargs="+", default=list(Part), help="parts of it"
    )
    args = parser.parse_args()
    node = NativeNode(cluster_directory())
    if not node.is_up():
        print("no native node runs; start it with ./scripts/cluster up", file=sys.stderr)
        return 2
    try:
        return asyncio.run(measure(node, args.image, QUICK if args.quick else FULL, args.only))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
