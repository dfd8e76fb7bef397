"""What the scripts that generate files of the repository have in common."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_or_check(files: Mapping[Path, str]) -> int:
    """Write files whose text differs; with --check, only name them.

    Args:
        files: texts by path.

    Returns:
        The exit code: 1 where --check found a difference.
    """
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in files.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{'differs' if check else 'written'}: {path.relative_to(ROOT)}")
    return 1 if check and stale else 0
