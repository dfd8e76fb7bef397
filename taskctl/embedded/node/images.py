"""Image references: their syntax, and the directories that stand for images on this node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

# The grammar of github.com/distribution/reference, without its length limits per component.
_DOMAIN = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"^(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?$"
)
_NAME_LIMIT = 255


def image_name(reference: str) -> str | None:
    """Return the reference without tag and digest, or None when its syntax is invalid."""
    match = _REFERENCE.match(reference)
    if match is None or len(match["name"]) > _NAME_LIMIT:
        return None
    return match["name"]


def image_root(reference: str, roots: Mapping[str, Path]) -> Path | None:
    """Return the directory for an image: that of the full reference before that of its name."""
    if reference in roots:
        return roots[reference]
    name = image_name(reference)
    return roots.get(name) if name else None
