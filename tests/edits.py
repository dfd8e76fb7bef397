"""A change of one place in a nested object, by its path."""

from __future__ import annotations

from typing import Any


def put(body: Any, path: str, value: Any) -> None:
    """Set what stands at a path like ``spec/versions/0/name``; ``...`` takes it away."""
    *way, last = path.split("/")
    for step in way:
        body = body[int(step)] if isinstance(body, list) else body[step]
    if value is ...:
        del body[last]
    else:
        body[last] = value
