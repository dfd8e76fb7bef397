"""Reading fields of messages that have not been checked yet.

Each function returns a value of the right type or raises a ``bad_request`` that names the
field. ``where`` is the path up to the map, for example ``tasks[3].``.
"""

from __future__ import annotations

import math
from typing import Any

from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.wire import Message

INT64_MAX = 2**63 - 1


def bad(field: str, problem: str) -> Refusal:
    """Return the refusal ``<field>: <problem>``."""
    return Refusal(ErrorCode.BAD_REQUEST, f"{field}: {problem}")


def text(message: Message, field: str, *, max_chars: int, where: str = "") -> str:
    """Return a required, non-empty text."""
    value = optional_text(message, field, max_chars=max_chars, where=where)
    if not value:
        raise bad(where + field, "is required, a text")
    return value


def optional_text(message: Message, field: str, *, max_chars: int, where: str = "") -> str:
    """Return a text, empty where it is absent or nil."""
    value = message.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise bad(where + field, f"must be text, not {kind_of(value)}")
    if len(value) > max_chars:
        raise bad(where + field, f"has {len(value)} characters; at most {max_chars} are allowed")
    return value


def integer(
    message: Message, field: str, *, low: int = 0, high: int = INT64_MAX, default: int | None = None
) -> int:
    """Return an integer in ``low..high``; required where there is no default."""
    value = message.get(field, default)
    if value is None:
        raise bad(field, "is required, an integer")
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad(field, f"must be an integer, not {kind_of(value)}")
    if not low <= value <= high:
        raise bad(field, f"is {value}; it must be {low} to {high}")
    return value


def flag(message: Message, field: str, *, where: str = "") -> bool:
    """Return a boolean, false where it is absent or nil."""
    value = message.get(field)
    if value is not None and not isinstance(value, bool):
        raise bad(where + field, f"must be a boolean, not {kind_of(value)}")
    return bool(value)


def optional_bytes(message: Message, field: str, *, max_bytes: int) -> bytes:
    """Return raw bytes, empty where they are absent; of longer ones the end."""
    value = message.get(field)
    if value is None:
        return b""
    if not isinstance(value, bytes):
        raise bad(field, f"must be bin, not {kind_of(value)}")
    return value[-max_bytes:]


def mapping(value: Any, field: str) -> dict[str, Any]:
    """Return a map with text keys; an empty one for nil."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise bad(field, f"must be a map with text keys, not {kind_of(value)}")
    return value


def array(message: Message, field: str, *, max_items: int, where: str = "") -> list[Any]:
    """Return a required array."""
    value = message.get(field)
    if not isinstance(value, list):
        raise bad(where + field, f"must be an array, not {kind_of(value)}")
    if len(value) > max_items:
        raise bad(where + field, f"has {len(value)} items; at most {max_items} are allowed")
    return value


def json_only(value: Any, field: str) -> None:
    """Make sure that a value is made of what JSON has.

    Raises:
        Refusal: ``bad_request``: bytes, NaN, infinity, a time or a key that is not a text is in
            it; the path of the part is named.
    """
    open_parts = [(value, field)]
    while open_parts:
        item, path = open_parts.pop()
        if isinstance(item, dict):
            for key, part in item.items():
                if not isinstance(key, str):
                    raise bad(path, f"a key must be text, not {kind_of(key)}")
                open_parts.append((part, f"{path}.{key}"))
        elif isinstance(item, list | tuple):
            open_parts.extend((part, f"{path}[{index}]") for index, part in enumerate(item))
        elif isinstance(item, float) and not math.isfinite(item):
            raise bad(path, f"is {item}; it must be a number")
        elif item is not None and not isinstance(item, bool | int | float | str):
            raise bad(path, f"must be text, a number or a boolean, not {kind_of(item)}")


def kind_of(value: Any) -> str:
    """Name a decoded value's type in the words of the protocol."""
    names = {bool: "a boolean", int: "an integer", float: "a float", str: "text", bytes: "bin"}
    names |= {list: "an array", dict: "a map", type(None): "nil"}
    return names.get(type(value), type(value).__name__)
