"""Checks what a crawl has returned (standard input): each directory and file counted once."""

from __future__ import annotations

import json
import sys


def directories(width: int, depth: int) -> int:
    """Return how many directories there are."""
    return sum(width**level for level in range(depth + 1))


def main() -> int:
    wanted = directories(int(sys.argv[1]), int(sys.argv[2]))
    found = json.load(sys.stdin)
    if (found["directories"], found["files"]) != (wanted, wanted):
        print(f"FAULT: the crawl found {found}, not {wanted} of each", file=sys.stderr)
        return 1
    print(f"OK: {wanted} directories visited, each once.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
