"""Regular expressions of CEL rules, by RE2: in linear time, whatever the pattern.

It is what Kubernetes uses (in Go). Python's own matcher may take forever.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import re2

from taskctl.embedded.server.cel.syntax import Expression, NodeForm, located

_FUNCTIONS: Final = frozenset({"matches", "find", "findAll"})
_MEMORY_BYTES: Final = 1 << 20
_MAX_PATTERN: Final = 10_000
# Measured: some 60 µs for a short pattern, 0.3 s for one whose program nears the limit.
_LEAST_COST: Final = 200.0
_PER_INSTRUCTION: Final = 10.0
_FAILED_COST: Final = 100_000.0
_CACHED: Final = 64


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    return options


_OPTIONS: Final = _options()


@lru_cache(maxsize=_CACHED)
def _compile(pattern: str) -> Any:
    if len(pattern) > _MAX_PATTERN:
        raise ValueError(f"the pattern is longer than {_MAX_PATTERN} characters")
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        why = error.args[0].decode() if error.args else "malformed"
        raise ValueError(f"error parsing regexp: {why}") from error


def compile_cost(pattern: str) -> float:
    """Return what compiling a pattern costs, in units of the budget; it grows with its program."""
    try:
        return _LEAST_COST + _PER_INSTRUCTION * float(_compile(pattern).programsize)
    except ValueError:  # it may have grown up to the limit until it failed
        return _FAILED_COST


def matches(text: str, pattern: str) -> bool:
    """Tell whether a text has a piece that matches.

    Raises:
        ValueError: the pattern is malformed or too large; so it is in the other functions.
    """
    return _compile(pattern).search(text) is not None


def find(text: str, pattern: str) -> str:
    """Return the first piece that matches, or an empty text."""
    found = _compile(pattern).search(text)
    return str(found.group(0)) if found else ""


def find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    """Return all pieces that match, or the first ``limit``."""
    found: list[str] = []
    for one in _compile(pattern).finditer(text):
        if 0 <= limit <= len(found):
            break
        found.append(one.group(0))
    return found


def pattern_problem(tree: Expression, source: str) -> str:
    """Return what is wrong with a pattern that stands in the expression itself, or ""."""
    if (
        tree.form in (NodeForm.CALL, NodeForm.METHOD)
        and tree.text in _FUNCTIONS
        and len(tree.parts) > 1
    ):
        pattern = _plain_text(tree.parts[1])
        if pattern is not None:
            try:
                _compile(pattern)
            except ValueError as error:
                why = f"invalid {tree.text} argument: {error}"
                return located(source, tree.parts[1].start, why)
    return next(filter(None, (pattern_problem(one, source) for one in tree.parts)), "")


def _plain_text(node: Expression) -> str | None:
    """Return the text of a literal without escapes."""
    text = node.text
    if node.form is not NodeForm.LITERAL or text[:3] in ('"""', "'''"):
        return None
    if text[:1] in "rR" and text[1:2] in ("'", '"') and text[1:4] not in ('"""', "'''"):
        return text[2:-1]
    return text[1:-1] if text[:1] in ("'", '"') and "\\" not in text else None
