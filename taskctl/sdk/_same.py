"""Whether a value came back as it was."""

from __future__ import annotations

import datetime
import enum
import functools
import math
from typing import Any

from taskctl.sdk._hints import dataclass_fields, is_model
from taskctl.sdk._path import Path
from taskctl.sdk._scalars import is_from

# What differs: where, what was sent, what came back.
Difference = tuple[Path, Any, Any]


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()


def difference(sent: Any, back: Any, path: Path) -> Difference | None:
    """Return the first place where two values differ in type or content; None if they don't.

    Their own ``==`` is not asked where they have parts: it may leave out fields, and takes 1,
    1.0 and True for the same. An int may come back as the equal float, where it was annotated
    as one.
    """
    kind = type(sent)
    if kind is not type(back):
        equal = kind is int and type(back) is float and sent == back
        return None if equal else (path, sent, back)
    if kind in (list, tuple) or isinstance(sent, tuple):
        return _items(sent, back, path)
    if isinstance(sent, dict):
        return _entries(sent, back, path)
    if isinstance(sent, (set, frozenset)):
        same = sent == back and _types(sent) == _types(back)
        return None if same else (path, sent, back)
    names = dataclass_fields(kind)
    if names is not None:
        return _attributes(sent, back, names, path) or _extras(sent, back, path)
    if is_model(kind):
        return _model(sent, back, path)
    return None if _equal(sent, back) else (path, sent, back)


def _equal(sent: Any, back: Any) -> bool:
    if isinstance(sent, float):
        signs = math.copysign(1, sent) == math.copysign(1, back)
        return (sent == back and signs) or (sent != sent and back != back)
    if isinstance(sent, enum.Enum):
        return sent is back or bool(isinstance(sent, enum.Flag) and sent.value == back.value)
    if any(is_from("decimal", "Decimal", kind) for kind in type(sent).__mro__):
        return bool(sent.as_tuple() == back.as_tuple())
    if isinstance(sent, (datetime.datetime, datetime.time)):
        same = sent == back and sent.fold == back.fold and _zone(sent.tzinfo) == _zone(back.tzinfo)
        return same and sent.utcoffset() == back.utcoffset()
    try:
        return bool(sent == back)
    except Exception:  # noqa: BLE001  (an array of numpy, for example, is not true or false)
        return False


def _zone(zone: Any) -> str:
    """Return what kind of time zone it is: JSON has offsets only, no rules for summer time."""
    kind = type(zone)
    # pydantic has a type of its own for an offset.
    is_offset = kind is datetime.timezone or kind.__module__.startswith("pydantic_core")
    return "offset" if is_offset else kind.__qualname__


def _items(sent: Any, back: Any, path: Path) -> Difference | None:
    if len(sent) != len(back):
        return path, sent, back
    names = getattr(sent, "_fields", None)
    for number, (one, other) in enumerate(zip(sent, back)):
        step = number if names is None else names[number]
        found = difference(one, other, Path(path, step))
        if found is not None:
            return found
    return None


def _entries(sent: Any, back: Any, path: Path) -> Difference | None:
    if type(sent) is not dict and list(sent) != list(back):  # an OrderedDict
        return path, sent, back
    if len(sent) != len(back) or _types(sent) != _types(back):
        return path, sent, back
    for key, value in sent.items():
        found = difference(value, back.get(key, ABSENT), Path(path, key, is_key=True))
        if found is not None:
            return found
    return None


def _types(keys: Any) -> set[tuple[type, Any]]:
    return {(type(key), key) for key in keys}


def _attributes(sent: Any, back: Any, names: Any, path: Path) -> Difference | None:
    for name in names:
        one, other = getattr(sent, name, ABSENT), getattr(back, name, ABSENT)
        found = difference(one, other, Path(path, name))
        if found is not None:
            return found
    return None


def _extras(sent: Any, back: Any, path: Path) -> Difference | None:
    """Compare what was set on an object beyond its fields, less cached properties."""
    known = set(dataclass_fields(type(sent)) or ())
    names = [
        name
        for name in {**getattr(sent, "__dict__", {}), **getattr(back, "__dict__", {})}
        if name not in known
        and not isinstance(getattr(type(sent), name, None), functools.cached_property)
    ]
    return _attributes(sent, back, names, path)


def _model(sent: Any, back: Any, path: Path) -> Difference | None:
    kind = type(sent)
    names = [
        name
        for name in {**sent.__dict__, **back.__dict__}
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    ]
    found = _attributes(sent, back, names, path)
    for hidden in ("__pydantic_extra__", "__pydantic_private__"):
        if found is not None:
            return found
        found = difference(
            dict(getattr(sent, hidden, None) or {}), dict(getattr(back, hidden, None) or {}), path
        )
    return found
