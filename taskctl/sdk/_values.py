"""Python values as JSON values and back, led by type annotations.

Loaded only where a value is more than plain JSON, or a function's annotations have to be
read: :func:`is_plain` and the file part are in :mod:`taskctl.sdk._stored`.

======================================  =========================================
annotation                              JSON
======================================  =========================================
``bool int float str None``             the same; text that says a number or truth is
                                        accepted for one, since ``data`` is all text
``list set frozenset tuple``            array
``dict``                                object; keys that are numbers or enums become text
dataclass, NamedTuple, TypedDict        object
pydantic model                          what its ``model_dump(mode="json")`` says
``Enum``                                its value
``datetime date time``                  ISO 8601 text
``timedelta``                           seconds
``bytes``                               base64 text
``Path Decimal UUID``                   text
``X | Y``, ``Optional``                 the first member that fits
none, ``Any``                           plain JSON only: nothing would turn it back
======================================  =========================================
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import typing
import uuid
from collections.abc import Callable
from typing import Any

from taskctl.sdk.errors import InputInvalid, Unsendable

_UNIONS: tuple[Any, ...] = (typing.Union,)
try:
    from types import UnionType

    _UNIONS += (UnionType,)
except ImportError:  # before 3.10
    pass

_ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: set,
}
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
# type: (to JSON, from JSON)
_SCALARS: dict[Any, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: (lambda v: base64.b64encode(v).decode(), lambda t: base64.b64decode(t, validate=True)),
    datetime.datetime: (lambda v: v.isoformat(), lambda t: _moment(t)),
    datetime.date: (lambda v: v.isoformat(), datetime.date.fromisoformat),
    datetime.time: (lambda v: v.isoformat(), datetime.time.fromisoformat),
    datetime.timedelta: (lambda v: v.total_seconds(), lambda t: datetime.timedelta(seconds=t)),
    decimal.Decimal: (str, lambda t: decimal.Decimal(_text(t))),
    uuid.UUID: (str, lambda t: uuid.UUID(_text(t))),
}
_TRUTH = {"true": True, "false": False}


def _moment(text: Any) -> datetime.datetime:
    plain = _text(text)
    if plain.endswith("Z"):  # fromisoformat knows it from 3.11 on
        plain = plain[:-1] + "+00:00"
    return datetime.datetime.fromisoformat(plain)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"must be text, not {type(value).__name__}")
    return value


def encode_free(value: Any, where: str) -> Any:
    """Return the JSON value of a value that nobody turns back: it goes by its own type.

    Raises:
        Unsendable: it has no JSON form.
    """
    return encode(value, Any, where, free=True)


def encode(value: Any, hint: Any, where: str, *, free: bool = False) -> Any:
    """Return the JSON value of a Python value.

    Args:
        value: what to send.
        hint: the annotation that will turn it back; ``Any`` if there is none.
        where: what it is, for errors: ``n of count()``.
        free: without a hint, go by the value's own type: nobody turns it back automatically.

    Raises:
        Unsendable: it has no JSON form, or does not fit the hint.
    """
    hint = _bare(hint)
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any:
        return _encode_unhinted(value, where, free)
    if origin in _UNIONS:
        return _encode_union(value, args, where, free)
    if value is None or hint is None or hint is type(None):
        if value is None and hint in (None, type(None)):
            return None
        raise Unsendable(f"{where}: is {_name(value)}, but its annotation is {_hint_name(hint)}")
    if origin is typing.Literal:
        if value not in args:
            raise Unsendable(f"{where}: is {value!r}, not one of {args}")
        return _encode_unhinted(value, where, free)
    if not _fits(value, origin):
        raise Unsendable(f"{where}: is {_name(value)}, but its annotation is {_hint_name(hint)}")
    return _encode_fitting(value, origin, args, where)


def _encode_fitting(value: Any, origin: Any, args: tuple[Any, ...], where: str) -> Any:
    if origin is tuple or origin in _ARRAYS:
        hints = _item_hints(origin, args, len(value), where)
        return [encode(item, hints[n], f"{where}[{n}]") for n, item in enumerate(value)]
    if origin in _MAPS:
        key_hint, value_hint = args or (Any, Any)
        return {
            _encode_key(key, key_hint, where): encode(item, value_hint, f"{where}[{key!r}]")
            for key, item in value.items()
        }
    fields = _fields(origin)
    if fields is not None:
        return {
            name: encode(_member(value, name), kind, f"{where}.{name}")
            for name, kind in fields.items()
            if not isinstance(value, dict) or name in value
        }
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return _encode_unhinted(value.value, where, True)
    if hasattr(origin, "model_dump"):
        return value.model_dump(mode="json")
    scalar = _scalar(origin)
    if scalar is not None:
        return scalar[0](value)
    return _encode_unhinted(value, where, False)


def _encode_unhinted(value: Any, where: str, free: bool) -> Any:
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        if not -(2**63) <= value < 2**63:
            raise Unsendable(f"{where}: {value} has over 64 bits; send it as text")
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise Unsendable(f"{where}: {value} has no JSON form; use None")
        return value
    if type(value) in (list, tuple):
        return [encode(item, Any, f"{where}[{n}]", free=free) for n, item in enumerate(value)]
    if type(value) is dict:
        return {
            _encode_key(key, Any, where): encode(item, Any, f"{where}[{key!r}]", free=free)
            for key, item in value.items()
        }
    if not free:
        raise Unsendable(
            f"{where}: is {_name(value)} and has no annotation that says so, so it would not "
            "come back as one: annotate it"
        )
    return _encode_by_type(value, where)


def _encode_by_type(value: Any, where: str) -> Any:
    if isinstance(value, (set, frozenset, tuple)) and not hasattr(value, "_fields"):
        return [encode(item, Any, f"{where}[{n}]", free=True) for n, item in enumerate(value)]
    if _is_known(type(value)):
        fields = _fields(type(value))
        if fields is not None:
            return {
                name: encode(_member(value, name), Any, f"{where}.{name}", free=True)
                for name in fields
            }
        return _encode_fitting(value, type(value), (), where)
    plain: Any
    for plain in (bool, int, float, str, list, dict):  # a subclass, for example OrderedDict
        if isinstance(value, plain):
            return _encode_unhinted(plain(value), where, True)
    raise Unsendable(
        f"{where}: {_name(value)} has no JSON form; make it a dataclass, or write it to a file "
        "in the workspace and send the path"
    )


def _encode_union(value: Any, members: tuple[Any, ...], where: str, free: bool) -> Any:
    if value is None and type(None) in members:
        return None
    # An exact fit first: True must not be taken for the int of `int | bool`.
    ordered = sorted(members, key=lambda member: _bare(member) is not type(value))
    for member in ordered:
        try:
            return encode(value, member, where, free=free)
        except Unsendable:  # noqa: PERF203  (each member is tried)
            continue
    names = " | ".join(_hint_name(member) for member in members)
    raise Unsendable(f"{where}: is {_name(value)}, but its annotation is {names}")


def _encode_key(key: Any, hint: Any, where: str) -> str:
    plain = key if isinstance(key, str) and hint in (Any, str) else encode(key, hint, where)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, (bool, int)) and hint is not Any:
        return str(plain).lower()
    raise Unsendable(f"{where}: a key is {_name(key)}; JSON has text keys only, annotate dict[...]")


def decode(plain: Any, hint: Any, where: str) -> Any:
    """Return the Python value that a JSON value stands for under an annotation.

    Raises:
        InputInvalid: it does not fit.
    """
    hint = _bare(hint)
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any:
        return plain
    if origin in _UNIONS:
        return _decode_union(plain, args, where)
    try:
        return _decode_fitting(plain, origin, args, where)
    except InputInvalid:
        raise
    except (TypeError, ValueError, ArithmeticError, KeyError) as error:
        raise InputInvalid(
            f"{where}: {_shown(plain)} is no {_hint_name(hint)} ({type(error).__name__}: {error})"
        ) from error


def _decode_fitting(plain: Any, origin: Any, args: tuple[Any, ...], where: str) -> Any:
    if origin is None or origin is type(None):
        _require(plain is None, plain, "null", where)
        return None
    if origin is typing.Literal:
        _require(plain in args, plain, f"one of {args}", where)
        return plain
    if origin in (bool, int, float, str):
        return _decode_plain(plain, origin, where)
    if origin is tuple or origin in _ARRAYS:
        _require(isinstance(plain, list), plain, "an array", where)
        hints = _item_hints(origin, args, len(plain), where)
        items = [decode(item, hints[n], f"{where}[{n}]") for n, item in enumerate(plain)]
        return tuple(items) if origin is tuple else _ARRAYS[origin](items)
    if origin in _MAPS:
        _require(isinstance(plain, dict), plain, "an object", where)
        key_hint, value_hint = args or (Any, Any)
        return {
            decode(key, key_hint, f"a key of {where}"): decode(
                item, value_hint, f"{where}[{key!r}]"
            )
            for key, item in plain.items()
        }
    fields = _fields(origin)
    if fields is not None:
        return _decode_fields(plain, origin, fields, where)
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return _decode_enum(plain, origin)
    if hasattr(origin, "model_validate"):
        return origin.model_validate(plain)
    scalar = _scalar(origin)
    if scalar is not None:
        return scalar[1](plain)
    raise InputInvalid(f"{where}: the annotation {_hint_name(origin)} is not one the SDK knows")


def _decode_plain(plain: Any, kind: type, where: str) -> Any:
    if kind is float and type(plain) is int:
        return float(plain)
    if type(plain) is str and kind is not str:  # `data` of a TaskObject is text throughout
        try:
            return _TRUTH[plain] if kind is bool else kind(plain)
        except (KeyError, ValueError):
            pass
    if kind is int and type(plain) is float and plain.is_integer():
        return int(plain)  # an API server may give 1 back as 1.0
    _require(type(plain) is kind, plain, kind.__name__, where)
    return plain


def _decode_union(plain: Any, members: tuple[Any, ...], where: str) -> Any:
    if plain is None and type(None) in members:
        return None
    ordered = sorted(members, key=lambda member: _bare(member) is not type(plain))
    for member in ordered:
        if member is type(None):
            continue
        try:
            return decode(plain, member, where)
        except InputInvalid:
            continue
    names = " | ".join(_hint_name(member) for member in members)
    raise InputInvalid(f"{where}: {_shown(plain)} is none of {names}")


def _decode_fields(plain: Any, kind: Any, fields: dict[str, Any], where: str) -> Any:
    _require(isinstance(plain, dict), plain, "an object", where)
    unknown = sorted(set(plain) - set(fields))
    if unknown:
        raise InputInvalid(f"{where}: {kind.__name__} has no field {unknown[0]!r}")
    values = {name: decode(item, fields[name], f"{where}.{name}") for name, item in plain.items()}
    return kind(**values)


def _decode_enum(plain: Any, kind: type[enum.Enum]) -> enum.Enum:
    for member in kind:
        if plain in (member.value, str(member.value)):
            return member
    raise ValueError(f"it has {', '.join(str(member.value) for member in kind)}")


def _bare(hint: Any) -> Any:
    """Take Annotated, NewType, Final and the like off a hint; Any for what says nothing."""
    while True:
        if hasattr(hint, "__metadata__"):
            hint = hint.__origin__
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif hint is object or isinstance(hint, typing.TypeVar):
            return Any
        else:
            return hint


def _fits(value: Any, origin: Any) -> bool:
    if origin is float:
        return type(value) in (int, float)
    if origin in (int, bool, str):
        return type(value) is origin
    if _is_typed_dict(origin):
        return isinstance(value, dict)
    if origin in _ARRAYS and isinstance(value, (str, bytes)):
        return False
    return isinstance(origin, type) and isinstance(value, origin)


def _item_hints(origin: Any, args: tuple[Any, ...], count: int, where: str) -> list[Any]:
    if origin is not tuple or not args or args[-1] is Ellipsis:
        return [args[0] if args else Any] * count
    if args == ((),):  # how 3.8 to 3.10 say tuple[()]
        args = ()
    if len(args) != count:
        raise InputInvalid(f"{where}: has {count} items, its annotation {len(args)}")
    return list(args)


def _is_typed_dict(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def _fields(kind: Any) -> dict[str, Any] | None:
    """Return name and annotation of each field of a record type; None for other types."""
    if not isinstance(kind, type):
        return None
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.init}
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind)
        return {name: hints.get(name, Any) for name in kind._fields}
    return typing.get_type_hints(kind) if _is_typed_dict(kind) else None


def _member(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, dict) else getattr(value, name)


def _scalar(kind: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | None:
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return str, lambda text: kind(_text(text))
    return _SCALARS.get(kind)


def _is_known(kind: type) -> bool:
    return (
        _scalar(kind) is not None
        or _fields(kind) is not None
        or issubclass(kind, enum.Enum)
        or hasattr(kind, "model_dump")
    )


def _require(good: bool, plain: Any, wanted: str, where: str) -> None:
    if not good:
        raise InputInvalid(f"{where}: must be {wanted}, not {_shown(plain)}")


def _shown(plain: Any) -> str:
    text = repr(plain)
    return text if len(text) <= 60 else text[:57] + "..."


def _name(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _hint_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
