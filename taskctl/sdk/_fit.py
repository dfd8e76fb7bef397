"""Whether a value fits an annotation, checks of plain values, and what errors say."""

from __future__ import annotations

import enum
import math
from typing import Any

from taskctl.sdk import _hints, _scalars
from taskctl.sdk._hints import ARRAYS, MAPS, bare, name_of, split
from taskctl.sdk._path import Path
from taskctl.sdk._words import kind_of, shown
from taskctl.sdk.errors import Unsendable


def fits(value: Any, origin: Any) -> bool:
    """Whether a value is what an annotation would turn back: subclasses would not return."""
    kind = type(value)
    if origin is float:
        return kind in (int, float)
    if _hints.is_typed_dict(origin) or origin in MAPS:
        return kind is dict
    if origin in ARRAYS:
        return kind is ARRAYS[origin]
    if kind is origin:
        return True
    known = _scalars.of_kind(origin) is not None and not _scalars.is_exact(origin)
    return (known or _is_enum(origin)) and origin in kind.__mro__


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def misfit(value: Any, hint: Any, path: Path) -> Unsendable:
    text = f"{path}: is {kind_of(value)}, but its annotation is {name_of(hint)}"
    origin = split(hint)[0]
    if origin in type(value).__mro__:
        text += ", which is what it would come back as: annotate it with exactly its type"
    elif hasattr(value, "__next__"):
        text += "; make it a list, since what it yields can be read only once"
    return Unsendable(text)


def none_fits(value: Any, args: Any, refusals: list[Any], path: Path) -> Unsendable:
    names = " | ".join(name_of(member) for member in args)
    text = f"{path}: is {kind_of(value)}, but its annotation is {names}"
    for member, error in refusals:
        if fits(value, split(bare(member))[0]):  # what is wrong lies deeper
            return Unsendable(str(error))
    return Unsendable(text)


def plain_scalar(value: Any, path: Path) -> Any:
    kind = type(value)
    if kind is str:
        return plain_text(value, path)
    if kind is int and not -(2**63) <= value < 2**63:
        raise Unsendable(f"{path}: {shown(value)} has over 64 bits; send it as text")
    if kind is float and not math.isfinite(value):
        raise Unsendable(f"{path}: {value} has no JSON form; use None")
    if value is None or kind in (bool, int, float):
        return value
    raise Unsendable(f"{path}: {kind_of(value)} has no JSON form; send it as text")


def plain_float(value: Any, path: Path) -> Any:
    if type(value) is float:
        return _scalars.float_form(plain_scalar(value, path))
    try:
        exact = float(value) == value
    except OverflowError:
        exact = False
    if not exact:
        raise Unsendable(f"{path}: {shown(value)} has no equal float; annotate it with int")
    return _scalars.float_form(float(value)) if abs(value) >= 2**63 else value


def unkept(value: float, path: Path) -> Any:
    plain_scalar(value, path)
    raise Unsendable(
        f"{path}: {value} is a float without a fraction and has no annotation, so it would come "
        "back as an int: annotate it with float, or send an int"
    )


def plain_text(value: str, path: Path) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Unsendable(
                f"{path}: {shown(value)} is not valid Unicode text (a lone surrogate, as in the "
                "name of a file that is not UTF-8); send it as bytes, by os.fsencode()"
            ) from error
    return value


def no_key(key: Any, path: Path) -> Unsendable:
    return Unsendable(
        f"{path}: a key is {kind_of(key)}; JSON has text keys only, annotate dict[...] with a key "
        "type that has a text or number for it"
    )


def in_order(items: list[Any]) -> list[Any]:
    """Order what came from a set, so that the same set always makes the same spawn key."""
    from json import dumps

    return sorted(items, key=lambda item: dumps(item, sort_keys=True))
