"""What the SDK adds to the start of a Python task, as a ratio to the bare interpreter.

    python bench/sdk_import.py [--rounds N]

CPU time (user and system) of whole processes, the smallest of all rounds: a loaded machine
makes it larger, never smaller.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

BARE = "pass"
PROGRAMS = {
    "bare interpreter": BARE,
    "import taskctl.sdk": "import taskctl.sdk",
    "... and the blocking transport": "import taskctl.sdk._blocking",
    "... and the async transport": "import taskctl.sdk._awaiting",
    "... and values by annotation": "import taskctl.sdk._values",
    "import asyncio": "import asyncio",
}


def cpu_ms(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what importing the SDK costs.")
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    best = dict.fromkeys(PROGRAMS, float("inf"))
    for _ in range(rounds):
        for name, code in PROGRAMS.items():
            best[name] = min(best[name], cpu_ms(code))
    bare = best["bare interpreter"]
    for name, value in best.items():
        print(f"{name:<32} {value:6.1f} ms   {value / bare:4.2f} of the bare interpreter")


if __name__ == "__main__":
    main()
