"""What the generators know of definitions that refer to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def reachable(start: Iterable[str], refers: Callable[[str], Iterable[str]]) -> set[str]:
    """Return names and what they refer to, directly or not.

    Args:
        start: where to begin.
        refers: returns what a definition names.
    """
    found: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(refers(name))
    return found
