"""Children as parts of another child's input: ``spec.inputFrom`` (docs/protocol.md)."""

from __future__ import annotations

from taskctl.sdk._child import SpawnedChild
from taskctl.sdk.errors import Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    # Encodes a value without children under its annotation; the text says what it is.
    Encode = Callable[[Any, Any, str], Any]

MAX_NESTING: Final = 50  # of children in an argument


class Group:
    """All tasks of this tree with ``group=name``, as the results of another task's argument.

    Args:
        name: of the group.
        count: so many members are expected: while fewer exist, the other task waits.
    """

    def __init__(self, name: str, count: int | None = None) -> None:
        self.name = name
        self.count = count

    def __repr__(self) -> str:
        return f"Group({self.name!r}, count={self.count})"


def split(
    value: Any, hint: Any, encode: Encode, sources: list[dict[str, Any]], path: str = ""
) -> Any:
    """Return a value as JSON, the children in it left out and added to ``sources``.

    Args:
        value: a child, a list of children, lists and dicts with such in them, or anything else.
        hint: its annotation; None: it has none.
        encode: makes JSON of a value without children.
        sources: entries of ``spec.inputFrom``; grows.
        path: JSON pointer of its place in the input.

    Raises:
        Unsendable: ``encode`` says so, or a dict with a child in it has a key that is not a text.
    """
    if not _holds_result(value, 0):
        return encode(value, hint, path)
    if _is_result(value):
        sources.append(_source(path, value))
        return None
    if isinstance(value, dict):
        return _split_map(value, hint, encode, sources, path)
    hints = _item_hints(hint, value, path)
    return [
        split(item, hints[number], encode, sources, f"{path}/{number}")
        for number, item in enumerate(value)
    ]


def _split_map(
    value: dict[Any, Any], hint: Any, encode: Encode, sources: list[dict[str, Any]], path: str
) -> Any:
    """Split a dict; what is a result as a whole is left out of it."""
    held = {key: item for key, item in value.items() if _holds_result(item, 0)}
    plain = encode({key: item for key, item in value.items() if key not in held}, hint, path)
    below = _value_hint(hint, path)
    for key, item in held.items():
        if not isinstance(key, str):
            raise Unsendable(f"{path}: the key of a child's result must be text: {key!r}")
        escaped = key.replace("~", "~0").replace("/", "~1")
        part = split(item, below, encode, sources, f"{path}/{escaped}")
        if not _is_result(item):
            plain[key] = part
    return plain


def _holds_result(value: Any, depth: int) -> bool:
    if isinstance(value, (SpawnedChild, Group)):
        return True
    if depth == MAX_NESTING or not isinstance(value, (list, tuple, dict)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return any(_holds_result(item, depth + 1) for item in items)


def _is_result(value: Any) -> bool:
    """Whether a value is a child, a group, or a list of nothing but children."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, SpawnedChild) for item in value)
    return isinstance(value, (SpawnedChild, Group))


def _item_hints(hint: Any, value: Any, path: str) -> list[Any]:
    """Return the annotation of each item of an array; that of a union is not looked into.

    Raises:
        Unsendable: the annotation is of no array, or of one of another length.
    """
    from typing import Any

    from taskctl.sdk import _hints

    if hint is None:
        return [None] * len(value)
    origin, args = _hints.split(_hints.bare(hint))
    if origin is Any or origin in _hints.UNIONS:
        if isinstance(value, tuple):
            raise Unsendable(f"the argument at {path}: a tuple would come back as a list; annotate")
        return [Any] * len(value)
    known = origin is tuple or origin in _hints.ARRAYS
    hints = _hints.item_hints(origin, args, len(value)) if known else None
    if hints is None:
        raise _misfit(path, "an array", hint)
    return hints


def _value_hint(hint: Any, path: str) -> Any:
    """Return the annotation of the values of a map; that of a union is not looked into.

    Raises:
        Unsendable: the annotation is of no map.
    """
    from typing import Any

    from taskctl.sdk import _hints

    if hint is None:
        return None
    origin, args = _hints.split(_hints.bare(hint))
    if origin is Any or origin in _hints.UNIONS:
        return Any
    if origin not in _hints.MAPS:
        raise _misfit(path, "a dict", hint)
    return args[1] if args else Any


def _misfit(path: str, what: str, hint: Any) -> Unsendable:
    from taskctl.sdk._hints import name_of

    return Unsendable(
        f"the argument at {path}: {what} with a child in it does not fit its annotation, "
        f"{name_of(hint)}"
    )


def _source(path: str, value: Any) -> dict[str, Any]:
    if isinstance(value, SpawnedChild):
        return {"path": path, "task": value.name}
    if isinstance(value, Group):
        return {"path": path, "group": value.name, "count": value.count}
    return {"path": path, "tasks": [item.name for item in value]}


def join(sources: list[dict[str, Any]], overrides: dict[str, Any]) -> None:
    """Add results to the overrides of a child, which then waits for the tasks they are of.

    Raises:
        Unsendable: it would have to wait for two groups.
    """
    entries = overrides["inputFrom"] = []
    after = overrides.setdefault("runAfter", {})
    names = dict.fromkeys(after.get("tasks") or ())
    for source in sources:
        count = source.pop("count", None)
        entries.append(source)
        names.update(dict.fromkeys(source.get("tasks") or ()))
        if "task" in source:
            names[source["task"]] = None
        if "group" in source:
            if after.setdefault("group", source["group"]) != source["group"]:
                raise Unsendable(
                    f"a task waits for one group: {after['group']}, or {source['group']}; put the "
                    "tasks of both into one group"
                )
            if count is not None:
                after.setdefault("count", count)
    if names:
        after["tasks"] = list(names)


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
