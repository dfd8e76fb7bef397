"""Checks what a word count has returned (standard input) against the text, counted at once."""

from __future__ import annotations

import json
import runpy
import sys
from collections import Counter
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "image" / "app" / "wordcount.py"


def expected(maps: int) -> dict[str, int]:
    """Return how often each word occurs."""
    text_of = runpy.run_path(str(PROGRAM))["text_of"]
    total: Counter[str] = Counter()
    for part in range(maps):
        total.update(text_of(part).split())
    return dict(total)


def main() -> int:
    maps, found = int(sys.argv[1]), json.load(sys.stdin)
    if found != expected(maps):
        print(f"FAULT: the counts are {found}, not {expected(maps)}", file=sys.stderr)
        return 1
    print(f"OK: {sum(found.values())} words of {maps} parts counted.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
