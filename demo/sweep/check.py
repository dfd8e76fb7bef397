"""Checks what a sweep has returned (standard input)."""

from __future__ import annotations

import json
import sys


def main() -> int:
    found = json.load(sys.stdin)
    if found["rate"] != 0.3 or not found["loss"] < 0.1 or found["stopped"] != 4:
        print(f"FAULT: the sweep returned {found}", file=sys.stderr)
        return 1
    print(f"OK: rate {found['rate']} reached {found['loss']:.2f}; {found['stopped']} were stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
