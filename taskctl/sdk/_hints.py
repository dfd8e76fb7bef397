"""What an annotation says: its origin and arguments, and the fields of record types.

Nothing here depends on the order of a union's members: ``typing`` caches ``List[Union[int, str]]``
and may give back the same type with its members in the order that it saw first.
"""

from __future__ import annotations

import collections.abc
import functools
import typing
from collections.abc import Callable
from typing import Any

UNIONS: tuple[Any, ...] = (typing.Union,)
try:
    from types import UnionType

    UNIONS += (UnionType,)
except ImportError:  # before 3.10
    pass

NONE_TYPE = type(None)
ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.AsyncIterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
# They say something about a field, not about its values. By name: typing_extensions has its own.
_QUALIFIERS = ("Final", "ClassVar", "Required", "NotRequired", "ReadOnly")


class UnreadableHint(Exception):
    """An annotation cannot be evaluated; the message says why and what to do."""


def bare(hint: Any) -> Any:
    """Take Annotated, NewType, Final and the like off a hint; Any for what says nothing."""
    while True:
        if type(hint) is type:  # most are
            return Any if hint is object else hint
        origin = typing.get_origin(hint)
        if hasattr(hint, "__metadata__"):
            hint = hint.__origin__
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif hasattr(hint, "__type_params__") and hasattr(hint, "__value__"):
            hint = hint.__value__  # type X = ...
        elif hasattr(origin, "__type_params__") and hasattr(origin, "__value__"):
            hint = origin.__value__[typing.get_args(hint)]
        elif getattr(origin, "_name", "") in _QUALIFIERS:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.TypeVar):
            return Any
        else:
            return hint


def split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the origin of a bare hint, for example ``list``, and its arguments."""
    return typing.get_origin(hint) or hint, typing.get_args(hint)


def members(args: tuple[Any, ...], exact: type) -> list[Any]:
    """Return a union's members in the order in which they are tried, the same everywhere.

    Args:
        args: the members.
        exact: the type of the value; a member of that type comes first.
    """

    def rank(member: Any) -> tuple[bool, int, str]:
        origin = split(bare(member))[0]
        narrow = (NONE_TYPE, bool, int, float)
        return origin is not exact, narrow.index(origin) if origin in narrow else 4, str(member)

    return sorted(args, key=rank)


def is_typed_dict(kind: Any) -> bool:
    """Whether a type is a TypedDict."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__total__")


def is_named_tuple(kind: Any) -> bool:
    """Whether a type is a NamedTuple."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_model(kind: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(kind, type) and hasattr(kind, "model_dump") and hasattr(kind, "model_fields")


def fields(kind: Any, args: tuple[Any, ...] = ()) -> dict[str, Any] | None:
    """Return name and annotation of each field of a record type; None for other types.

    A record is a dataclass (the fields that its constructor takes), a NamedTuple or a
    TypedDict.

    Args:
        kind: the type.
        args: what a generic one is given, ``(int,)`` for ``Box[int]``.

    Raises:
        UnreadableHint: an annotation cannot be evaluated.
    """
    if not isinstance(kind, type):
        return None
    found = _fields(kind)
    if found is None or not args:
        return found
    known = dict(zip(getattr(kind, "__parameters__", ()), args))
    return {name: _with_arguments(hint, known) for name, hint in found.items()}


def dataclass_fields(kind: type, *, of_constructor: bool = False) -> list[str] | None:
    """Return the names of a dataclass's fields; None for other types.

    Args:
        kind: the type.
        of_constructor: only those that the constructor takes.
    """
    if not hasattr(kind, "__dataclass_fields__"):
        return None
    import dataclasses  # slow to load, and it is loaded where there is a dataclass

    found = dataclasses.fields(kind)
    return [field.name for field in found if field.init or not of_constructor]


@functools.lru_cache(maxsize=1024)
def _fields(kind: type) -> dict[str, Any] | None:
    names = dataclass_fields(kind, of_constructor=True)
    if names is not None:
        hints = evaluated(kind)
        return {name: hints[name] for name in names}
    if is_named_tuple(kind):
        hints = evaluated(kind)
        return {name: hints.get(name, Any) for name in kind._fields}  # type: ignore[attr-defined]
    return evaluated(kind) if is_typed_dict(kind) else None


def evaluated(owner: Any) -> dict[str, Any]:
    """Return the annotations of a class or function, evaluated.

    Raises:
        UnreadableHint: one of them cannot be.
    """
    try:
        return typing.get_type_hints(owner)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise UnreadableHint(
            f"an annotation of {getattr(owner, '__qualname__', owner)} cannot be read: {error}; "
            "define what it names at the top level of the module and import it at run time, not "
            "only under TYPE_CHECKING; before Python 3.10 write Optional and Union"
        ) from error


def _with_arguments(hint: Any, known: dict[Any, Any]) -> Any:
    if isinstance(hint, typing.TypeVar):
        return known.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(known.get(parameter, parameter) for parameter in parameters)]


def item_hints(origin: Any, args: tuple[Any, ...], count: int) -> list[Any] | None:
    """Return the annotation of each item of an array; None if there are too many or too few."""
    if origin is not tuple or not args or args[-1] is Ellipsis:
        return [args[0] if args else Any] * count
    if args == ((),):  # how 3.9 and 3.10 say tuple[()]
        args = ()
    return list(args) if len(args) == count else None


def name_of(hint: Any) -> str:
    """Return a hint as one reads it in source code."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "")
