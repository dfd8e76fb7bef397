"""Children as parts of another child's input: ``spec.inputFrom`` (docs/protocol.md)."""

from __future__ import annotations

from taskctl.sdk._child import SpawnedChild
from taskctl.sdk.errors import Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    # Encodes what is no child.
    Encode = Callable[[Any], Any]


def split(value: Any, path: str, encode: Encode, sources: list[dict[str, Any]]) -> Any:
    """Return a value as JSON, the children in it left out and added to ``sources``.

    Args:
        value: a child, a list of children, a list or dict with such in it, or anything else.
        path: JSON pointer of its place in the input.
        encode: makes JSON of a value without children.
        sources: entries of ``spec.inputFrom``; grows.

    Raises:
        Unsendable: a child stands deeper than that, or ``encode`` says so.
    """
    if _is_result(value):
        sources.append(_source(path, value))
        return None
    if isinstance(value, (list, tuple)) and any(map(_is_result, value)):
        rest = iter(encode([item for item in value if not _is_result(item)]))
        items: list[Any] = []
        for number, item in enumerate(value):
            if _is_result(item):
                sources.append(_source(f"{path}/{number}", item))
                items.append(None)
            else:
                items.append(next(rest))
        return items
    if isinstance(value, dict) and any(map(_is_result, value.values())):
        for key, item in value.items():
            if _is_result(item):
                if not isinstance(key, str):
                    raise Unsendable(f"{path}: the key of a child's result must be text: {key!r}")
                escaped = key.replace("~", "~0").replace("/", "~1")
                sources.append(_source(f"{path}/{escaped}", item))
        return encode({key: item for key, item in value.items() if not _is_result(item)})
    return encode(value)


def _is_result(value: Any) -> bool:
    """Whether a value is a child, or a list of nothing but children."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, SpawnedChild) for item in value)
    return isinstance(value, SpawnedChild)


def _source(path: str, value: Any) -> dict[str, Any]:
    if isinstance(value, SpawnedChild):
        return {"path": path, "task": value.name}
    return {"path": path, "tasks": [item.name for item in value]}


def names(sources: list[dict[str, Any]]) -> list[str]:
    """Return the tasks that sources name, each once."""
    found: dict[str, None] = {}
    for source in sources:
        found.update(dict.fromkeys(source.get("tasks") or [source["task"]]))
    return list(found)


def put(whole: Any, path: str, value: Any) -> Any:
    """Return a JSON value with another one at the place that a JSON pointer names.

    Raises:
        LookupError, TypeError, ValueError: there is no such place.
    """
    if not path:
        return value
    root: Any = {} if whole is None else whole
    parts = [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]
    where = root
    for part in parts[:-1]:
        where = where[int(part)] if isinstance(where, list) else where.setdefault(part, {})
    where[int(parts[-1]) if isinstance(where, list) else parts[-1]] = value
    return root
