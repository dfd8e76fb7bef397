"""Values that are one text or number in JSON.

An annotation or a value of a type means that its module is loaded, so the modules that most tasks
do not use are not loaded for the sake of a comparison: they would take longer than the task.
"""

from __future__ import annotations

import datetime
import enum
import sys
from collections.abc import Callable
from typing import Any

_MICROSECOND = datetime.timedelta(microseconds=1)
_TRUTH = {"true": True, "false": False}


def of_kind(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | None:
    """Return the functions to JSON and from JSON for a type; None for other types."""
    if not isinstance(kind, type):
        return None
    if kind in SCALARS:
        return SCALARS[kind]
    if is_from("decimal", "Decimal", kind) or is_from("uuid", "UUID", kind):
        return str, lambda plain: kind(_text(plain))
    path = _loaded("pathlib", "PurePath")
    if path is not None and issubclass(kind, path):
        return str, lambda plain: kind(_text(plain))
    return None


def is_exact(kind: Any) -> bool:
    """Whether a type stands for itself alone: a value of a subclass would not come back."""
    return kind in SCALARS or is_from("decimal", "Decimal", kind) or is_from("uuid", "UUID", kind)


def is_from(module: str, name: str, kind: Any) -> bool:
    """Whether a type is that of a module of the standard library, which may not be loaded."""
    return kind is not None and kind is _loaded(module, name)


def _loaded(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


def enum_form(member: enum.Enum) -> Any:
    """Return what stands for a member of an enum: its value, or its name.

    The name stands for a member whose value has no JSON form of its own.
    """
    value = member.value
    if isinstance(value, (list, tuple)) and all(type(item) in _PLAIN for item in value):
        return list(value)
    if type(value) in _PLAIN:
        return value
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    form = of_kind(type(value))
    return member.name if form is None else form[0](value)


def enum_member(plain: Any, kind: Any) -> Any:
    """Return the member of an enum that a JSON value stands for.

    Raises:
        ValueError: there is none.
    """
    for member in kind:
        form = enum_form(member)
        if type(form) is type(plain) and form == plain:
            return member
    if issubclass(kind, enum.Flag) and type(plain) in (int, str):
        try:
            return kind(int(plain))
        except ValueError:
            pass
    for member in kind:  # `data` of a TaskObject is text throughout; 1.0 may have become 1
        if plain in (enum_form(member), str(enum_form(member))) and type(plain) is not bool:
            return member
    raise ValueError(f"it has {', '.join(str(enum_form(member)) for member in kind)}")


def literal_form(arg: Any) -> Any:
    """Return what stands for a value that a Literal names."""
    if isinstance(arg, enum.Enum):
        return enum_form(arg)
    form = of_kind(type(arg))
    return arg if form is None else form[0](arg)


def number(plain: Any, kind: type) -> Any:
    """Return a bool, int, float or str of a JSON value that says one; else the value itself."""
    if kind is float and type(plain) is int:
        return float(plain)
    if type(plain) is str and kind is not str:  # `data` of a TaskObject is text throughout
        try:
            return _TRUTH[plain] if kind is bool else kind(plain)
        except (KeyError, ValueError):
            return plain
    if kind is int and type(plain) is float and plain.is_integer():
        return int(plain)  # an API server may give 1 back as 1.0
    return plain


def float_form(value: float) -> Any:
    """Return what stands for a finite float where the annotation says that it is one.

    An API server writes a float without a fraction as an integer, and drops the sign of -0.0.
    """
    if value == 0 and str(value)[0] == "-":
        return repr(value)
    return repr(value) if 2**63 <= abs(value) < 1e21 else value


def is_kept(value: float) -> bool:
    """Whether an API server gives a float back as it is, without an annotation."""
    return not value.is_integer() or abs(value) >= 1e21


def _moment(plain: Any) -> datetime.datetime:
    text = _text(plain)
    if text.endswith("Z"):  # fromisoformat knows it from 3.11 on
        text = text[:-1] + "+00:00"
    return datetime.datetime.fromisoformat(text)


def _seconds(value: datetime.timedelta) -> Any:
    seconds = value.total_seconds()
    if datetime.timedelta(seconds=seconds) == value:
        return seconds
    from decimal import Decimal

    return str(Decimal(value // _MICROSECOND).scaleb(-6))  # a float would be inexact


def _duration(plain: Any) -> datetime.timedelta:
    if isinstance(plain, str):
        from decimal import Decimal

        return int(Decimal(plain).scaleb(6)) * _MICROSECOND
    return datetime.timedelta(seconds=plain)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be text, not {type(value).__name__}")
    return value


def _to_base64(value: Any) -> str:
    from base64 import b64encode

    return b64encode(value).decode()


def _from_base64(plain: Any) -> bytes:
    from base64 import b64decode

    return b64decode(_text(plain), validate=True)


_PLAIN = (bool, int, float, str, type(None))
# type: (to JSON, from JSON)
SCALARS: dict[Any, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: (_to_base64, _from_base64),
    bytearray: (_to_base64, lambda plain: bytearray(_from_base64(plain))),
    datetime.datetime: (datetime.datetime.isoformat, _moment),
    datetime.date: (
        datetime.date.isoformat,
        lambda plain: datetime.date.fromisoformat(_text(plain)),
    ),
    datetime.time: (
        datetime.time.isoformat,
        lambda plain: datetime.time.fromisoformat(_text(plain)),
    ),
    datetime.timedelta: (_seconds, _duration),
}
