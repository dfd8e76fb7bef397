"""Stores a part of uploaded code in the workspace: ``python -m taskctl.sdk.upload``.

The task's input is the part; see :mod:`taskctl.sdk._uploads`.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Store the part; returns the exit code."""
    from taskctl.sdk._context import current
    from taskctl.sdk._uploads import store
    from taskctl.sdk.errors import SdkError

    try:
        store(current().input)
    except (SdkError, OSError) as error:
        print(f"taskctl: the code cannot be stored: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
