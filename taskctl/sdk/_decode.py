"""From JSON values to Python values, led by type annotations; the way back of ``_values``."""

from __future__ import annotations

import enum
import typing
from typing import Any

from taskctl.sdk import _hints, _scalars
from taskctl.sdk._hints import ARRAYS, MAPS, NONE_TYPE, UNIONS, bare, name_of, split
from taskctl.sdk._words import shown
from taskctl.sdk.errors import InputInvalid


def decode(plain: Any, hint: Any, where: str) -> Any:
    """Return the Python value that a JSON value stands for under an annotation.

    Raises:
        InputInvalid: it does not fit.
    """
    hint = bare(hint)
    if hint is Any:
        return plain
    origin, args = split(hint)
    if origin in UNIONS:
        return decode_union(plain, args, where)
    try:
        return _decode_fitting(plain, origin, args, where)
    except InputInvalid:
        raise
    except (RecursionError, _hints.UnreadableHint) as error:
        raise InputInvalid(f"{where[:200]}: cannot be read: {error}") from error
    except Exception as error:  # of a constructor or a validator, which are the user's code
        raise InputInvalid(
            f"{where}: {shown(plain)} is not a valid {name_of(hint)} "
            f"({type(error).__name__}: {error})"
        ) from error


def _decode_fitting(plain: Any, origin: Any, args: tuple[Any, ...], where: str) -> Any:
    if origin is None or origin is NONE_TYPE:
        _require(plain is None, plain, "null", where)
        return None
    if origin is typing.Literal:
        return _decode_literal(plain, args, where)
    if origin in (bool, int, float, str):
        read = _scalars.number(plain, origin)
        _require(type(read) is origin, plain, origin.__name__, where)
        return read
    if origin is tuple or origin in ARRAYS:
        _require(isinstance(plain, list), plain, "an array", where)
        hints = _hints.item_hints(origin, args, len(plain))
        if hints is None:
            raise InputInvalid(f"{where}: has {len(plain)} items, its annotation {len(args)}")
        items = [decode(item, hints[n], f"{where}[{n}]") for n, item in enumerate(plain)]
        return tuple(items) if origin is tuple else ARRAYS[origin](items)
    if origin in MAPS:
        return _decode_map(plain, args or (Any, Any), where)
    fields = _hints.fields(origin, args)
    if fields is not None:
        return _decode_fields(plain, origin, fields, where)
    if isinstance(origin, type) and issubclass(origin, enum.Enum):
        return _scalars.enum_member(plain, origin)
    if _hints.is_model(origin):
        return read_model(plain, origin)
    scalar = _scalars.of_kind(origin)
    if scalar is not None:
        return scalar[1](plain)
    raise InputInvalid(f"{where}: the annotation {name_of(origin)} is not one the SDK knows")


def _decode_map(plain: Any, hints: tuple[Any, ...], where: str) -> dict[Any, Any]:
    _require(isinstance(plain, dict), plain, "an object", where)
    key_hint, value_hint = hints
    made = {
        decode(key, key_hint, f"a key of {where}"): decode(item, value_hint, f"{where}[{key!r}]")
        for key, item in plain.items()
    }
    if len(made) != len(plain):
        raise InputInvalid(f"{where}: two of its keys are the same {name_of(key_hint)}")
    return made


def _decode_literal(plain: Any, args: tuple[Any, ...], where: str) -> Any:
    forms = [(arg, _scalars.literal_form(arg)) for arg in args]
    for arg, form in forms:
        if type(form) is type(plain) and form == plain:
            return arg
    for arg, form in forms:  # `data` of a TaskObject is text throughout
        if type(form) in (int, bool) and plain == str(form).lower():
            return arg
    raise InputInvalid(f"{where}: must be one of {args}, not {shown(plain)}")


def decode_union(plain: Any, args: tuple[Any, ...], where: str) -> Any:
    if plain is None and NONE_TYPE in args:
        return None
    for member in _hints.members(args, type(plain)):
        if member is NONE_TYPE:
            continue
        try:
            return decode(plain, member, where)
        except InputInvalid:
            continue
    names = " | ".join(name_of(member) for member in args)
    raise InputInvalid(f"{where}: {shown(plain)} is none of {names}")


def _decode_fields(plain: Any, kind: Any, fields: dict[str, Any], where: str) -> Any:
    _require(isinstance(plain, dict), plain, "an object", where)
    unknown = sorted(set(plain) - set(fields))
    if unknown:
        raise InputInvalid(f"{where}: {kind.__name__} has no field {unknown[0]!r}")
    values = {name: decode(item, fields[name], f"{where}.{name}") for name, item in plain.items()}
    return kind(**values)


def read_model(plain: Any, kind: Any) -> Any:
    """Return a pydantic model that a JSON value stands for; JSON is read leniently by it."""
    from json import dumps

    return kind.model_validate_json(dumps(plain))


def _require(good: bool, plain: Any, wanted: str, where: str) -> None:
    if not good:
        raise InputInvalid(f"{where}: must be {wanted}, not {shown(plain)}")
