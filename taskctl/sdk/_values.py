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
``Enum``                                its value; ``Flag``: its number
``datetime date time``                  ISO 8601 text
``timedelta``                           seconds
``bytes bytearray``                     base64 text
``Path Decimal UUID``                   text
``X | Y``, ``Optional``                 the member that gives the value back
none, ``Any``                           plain JSON only: nothing would turn it back
======================================  =========================================

The rule for all of them: what :func:`encode` returns, :func:`decode` turns back into an equal
value of the same types, or :func:`encode` refuses. For plain values under plain annotations
the code below proves it; whatever else there is, is decoded and compared before it is sent.
"""

from __future__ import annotations

import enum
import math
import typing
from collections.abc import Callable
from typing import Any

from taskctl.sdk import _hints, _scalars
from taskctl.sdk._decode import decode, decode_union, read_model
from taskctl.sdk._fit import (
    fits,
    in_order,
    misfit,
    no_key,
    none_fits,
    plain_float,
    plain_scalar,
    plain_text,
    unkept,
)
from taskctl.sdk._hints import ARRAYS, MAPS, NONE_TYPE, UNIONS, bare, name_of, split
from taskctl.sdk._path import Path
from taskctl.sdk._same import difference
from taskctl.sdk._stored import MAX_NESTING, is_plain
from taskctl.sdk._words import described, kind_of
from taskctl.sdk.errors import InputInvalid, Unsendable


class _TooDeep(Unsendable):
    """Nested too deeply, or in itself: no other member of a union will do."""


def encode_free(value: Any, where: str) -> Any:
    """Return the JSON value of a value that is not decoded again: its own type says how.

    Raises:
        Unsendable: it has no JSON form.
    """
    return _guarded(lambda: _Encoder(free=True).encode(value, Any, Path(None, where), 0), where)


def encode(value: Any, hint: Any, where: str, depth: int = 0) -> Any:
    """Return the JSON value of a Python value.

    Args:
        value: what to send.
        hint: the annotation that will turn it back; ``Any`` if there is none.
        where: what it is, for errors: ``count(): n``.
        depth: how many arrays and objects it will be in.

    Raises:
        Unsendable: it has no JSON form, does not fit the hint, or would not come back as an
            equal value of the same type.
    """

    def checked() -> Any:
        encoder, path = _Encoder(free=False), Path(None, where)
        plain = encoder.encode(value, hint, path, depth)
        if encoder.unproven:
            _check_return(value, plain, hint, path)
        return plain

    return _guarded(checked, where)


def encode_result(value: Any, hint: Any, where: str) -> Any:
    """Return the JSON value of what a function returned.

    Its annotation leads where it says all; where it leaves something open, the value goes by
    its own type.

    Raises:
        Unsendable: it has no JSON form, or is not what the annotation says.
    """
    if _says_all(hint):
        return encode(value, hint, where)
    try:
        return encode(value, hint, where)
    except Unsendable:
        pass
    return encode_free(value, where)


def _guarded(work: Callable[[], Any], where: str) -> Any:
    try:
        return work()
    except _hints.UnreadableHint as error:
        raise Unsendable(f"{where}: {error}") from error
    except RecursionError as error:
        raise Unsendable(f"{where}: is nested too deeply, or contains itself") from error


def _check_return(value: Any, plain: Any, hint: Any, path: Path) -> None:
    """Decode what will be sent and compare.

    Raises:
        Unsendable: it would not come back as it was.
    """
    for form in (plain, *_settled(plain)):
        try:
            back = decode(form, hint, str(path))
        except InputInvalid as error:
            raise Unsendable(f"{error}; so {path} would not come back") from error
        found = difference(value, back, path)
        if found is not None:
            where, sent, got = found
            raise Unsendable(
                f"{where}: {described(sent)} would come back as {described(got)}; annotate it "
                "with exactly that type, or send what it is made from (text, numbers, lists)"
            )


def _settled(plain: Any) -> tuple[Any, ...]:
    """Return the form that an API server may give back, if it is another: 1 for 1.0."""
    changed = False

    def settle(item: Any) -> Any:
        nonlocal changed
        if type(item) is float and not _scalars.is_kept(item):
            changed = True
            return int(item)
        if type(item) is list:
            return [settle(part) for part in item]
        if type(item) is dict:
            return {key: settle(part) for key, part in item.items()}
        return item

    form = settle(plain)
    return (form,) if changed else ()


class _Encoder:
    """Makes JSON of one value.

    Args:
        free: go by a value's own type where no annotation says more.

    Attributes:
        unproven: whether something must be decoded and compared to know that it comes back.
    """

    def __init__(self, *, free: bool) -> None:
        self.free = free
        self.unproven = False

    def encode(self, value: Any, hint: Any, path: Path, depth: int) -> Any:
        """Return the JSON value; ``depth`` counts the arrays and objects around it."""
        if depth >= MAX_NESTING:
            raise _TooDeep(
                f"{path}: is nested more than {MAX_NESTING} levels deep, or contains itself"
            )
        hint = bare(hint)
        if hint is Any:
            return self._unhinted(value, path, depth)
        origin, args = split(hint)
        if origin in UNIONS:
            return self._union(value, args, path, depth)
        if origin is typing.Literal:
            return self._literal(value, args, path)
        if hint is None or origin is NONE_TYPE:
            if value is None:
                return None
            raise misfit(value, hint, path)
        if not fits(value, origin):
            raise misfit(value, hint, path)
        return self._fitting(value, origin, args, path, depth)

    def _fitting(self, value: Any, origin: Any, args: Any, path: Path, depth: int) -> Any:
        if origin in (bool, str, int):
            return plain_scalar(value, path)
        if origin is float:
            return plain_float(value, path)
        if origin is tuple or origin in ARRAYS:
            return self._array(value, origin, args, path, depth)
        if origin in MAPS:
            key_hint, value_hint = args or (Any, Any)
            return self._map(value, key_hint, value_hint, path, depth)
        self.unproven = True
        fields = _hints.fields(origin, args)
        if fields is not None:
            return self._record(value, fields, path, depth)
        if isinstance(origin, type) and issubclass(origin, enum.Enum):
            return self._plain_form(_scalars.enum_form(value), path)
        if _hints.is_model(origin):
            return _model(value, path, depth)
        scalar = _scalars.of_kind(origin)
        if scalar is not None:
            return self._plain_form(scalar[0](value), path)
        raise Unsendable(
            f"{path}: the annotation {name_of(origin)} is not one that the SDK turns back; "
            "make it a dataclass, or send what it is made from (text, numbers, lists)"
        )

    def _plain_form(self, plain: Any, path: Path) -> Any:
        """Return what stands for a value: plain, but not yet checked."""
        if type(plain) is list:
            return [plain_scalar(item, path) for item in plain]
        return plain_scalar(plain, path)

    def _array(self, value: Any, origin: Any, args: Any, path: Path, depth: int) -> Any:
        hints = _hints.item_hints(origin, args, len(value))
        if hints is None:
            wanted = 0 if args == ((),) else len(args)
            raise Unsendable(f"{path}: has {len(value)} items, its annotation {wanted}")
        items = [
            self.encode(item, hints[number], Path(path, number), depth + 1)
            for number, item in enumerate(value)
        ]
        return in_order(items) if isinstance(value, (set, frozenset)) else items

    def _map(self, value: Any, key_hint: Any, value_hint: Any, path: Path, depth: int) -> Any:
        made: dict[str, Any] = {}
        for key, item in value.items():
            text = self._key(key, key_hint, path)
            if text in made:
                raise Unsendable(
                    f"{path}: two keys are {text!r} as JSON text, one of them {described(key)}; "
                    "give them different names"
                )
            made[text] = self.encode(item, value_hint, Path(path, key, is_key=True), depth + 1)
        return made

    def _key(self, key: Any, hint: Any, path: Path) -> str:
        hint = bare(hint)
        if type(key) is str and hint in (Any, str):
            return plain_text(key, path)
        self.unproven = True
        if hint is Any:
            if self.free and isinstance(key, (str, enum.Enum)):
                plain = self._by_type(key, path, 0)
                if isinstance(plain, str):
                    return plain
            raise no_key(key, path)
        plain = self.encode(key, hint, path, 0)
        if isinstance(plain, str):
            return plain
        if isinstance(plain, (bool, int)):
            return str(plain).lower()
        if isinstance(plain, float):
            return repr(plain)
        raise no_key(key, path)

    def _record(self, value: Any, fields: dict[str, Any], path: Path, depth: int) -> Any:
        if isinstance(value, dict):  # a TypedDict
            strange = [key for key in value if key not in fields]
            if strange:
                raise Unsendable(
                    f"{path}: has a key {strange[0]!r}, which its annotation lacks; add it there"
                )
            return {
                name: self.encode(item, fields[name], Path(path, name, is_key=True), depth + 1)
                for name, item in value.items()
            }
        return {
            name: self.encode(getattr(value, name, None), kind, Path(path, name), depth + 1)
            for name, kind in fields.items()
        }

    def _literal(self, value: Any, args: Any, path: Path) -> Any:
        for arg in args:
            if type(arg) is type(value) and arg == value:
                self.unproven = self.unproven or type(arg) not in (str, NONE_TYPE)
                return _scalars.literal_form(arg)
        raise Unsendable(f"{path}: is {described(value)}, not one of {args}")

    def _union(self, value: Any, args: Any, path: Path, depth: int) -> Any:
        if value is None and NONE_TYPE in args:
            self.unproven = self.unproven or len(args) > 2
            return None
        ordered = [item for item in _hints.members(args, type(value)) if item is not NONE_TYPE]
        self.unproven = self.unproven or len(ordered) > 1
        forms, refusals = [], []
        for member in ordered:
            try:
                forms.append(self.encode(value, member, path, depth))
            except _TooDeep:  # noqa: PERF203  (each member is tried)
                raise
            except Unsendable as error:
                refusals.append((member, error))
        if type(value) is float and forms and float in ordered:
            forms.append(repr(value))  # tells 2.0 from 2
        if not forms:
            raise none_fits(value, args, refusals, path)
        return forms[0] if len(forms) == 1 else _that_returns(value, forms, args, path)

    def _unhinted(self, value: Any, path: Path, depth: int) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str, int):
            return plain_scalar(value, path)
        if kind is float:
            if self.free or (math.isfinite(value) and _scalars.is_kept(value)):
                return plain_scalar(value, path)
            return unkept(value, path)
        if kind is list:
            return self._array(value, list, (), path, depth)
        if kind is dict:
            return self._map(value, Any, Any, path, depth)
        if not self.free:
            raise Unsendable(
                f"{path}: is {kind_of(value)} and has no annotation that says so, so it would not "
                "come back as one: annotate it"
            )
        return self._by_type(value, path, depth)

    def _by_type(self, value: Any, path: Path, depth: int) -> Any:
        """Encode a value that is not plain JSON and has no annotation."""
        kind = type(value)
        fields = _free_fields(value)
        if fields is not None:
            return {
                name: self.encode(getattr(value, name), Any, Path(path, name), depth + 1)
                for name in fields
            }
        if isinstance(value, (set, frozenset, tuple)):
            return self._array(value, kind if kind in ARRAYS else tuple, (), path, depth)
        if (
            _scalars.of_kind(kind) is not None
            or isinstance(value, enum.Enum)
            or _hints.is_model(kind)
        ):
            return self._fitting(value, kind, (), path, depth)
        plain: Any
        for plain in (int, float, str, list, dict):  # a subclass, for example OrderedDict
            if isinstance(value, plain):
                return self._unhinted(plain(value), path, depth)
        raise Unsendable(
            f"{path}: {kind_of(value)} has no JSON form; make it a dataclass, or write it to a "
            "file in the workspace and send the path"
        )


def _free_fields(value: Any) -> list[str] | None:
    """Return the names of all fields of a record, also of those that no constructor takes."""
    kind = type(value)
    if _hints.is_named_tuple(kind):
        return list(value._fields)
    names = getattr(kind, "__dataclass_fields__", None)
    if names is None:
        return None
    import dataclasses

    return [field.name for field in dataclasses.fields(kind)]


def _model(value: Any, path: Path, depth: int) -> Any:
    """Return a pydantic model's own JSON, in the first form that it reads back."""
    first = None
    for options in (
        {},
        {"by_alias": True},
        {"round_trip": True},
        {"by_alias": True, "round_trip": True},
    ):
        try:
            plain = value.model_dump(mode="json", warnings=False, **options)
            found = difference(value, read_model(plain, type(value)), path)
        except Exception as error:  # noqa: BLE001  (validators are the user's code)
            first = first or f"{type(error).__name__}: {error}"
            continue
        if found is None:
            return plain if is_plain(plain, str(path), depth) else encode_free(plain, str(path))
        where, sent, got = found
        first = first or f"{where}: {described(sent)} would come back as {described(got)}"
    raise Unsendable(
        f"{path}: {type(value).__name__} does not read back what it writes as JSON ({first}); "
        "secrets, excluded fields and subclasses in a field do not: send such values separately, "
        "or say in the model how they are written"
    )


def _that_returns(value: Any, forms: list[Any], args: Any, path: Path) -> Any:
    """Return the first form of a union's value that comes back as it was."""
    for form in forms:
        for plain in (form, *_settled(form)):
            try:
                back = decode_union(plain, args, "")
            except InputInvalid:
                break
            if difference(value, back, path) is not None:
                break
        else:
            return form
    return forms[0]  # the comparison of the whole says what comes back


def _says_all(hint: Any) -> bool:
    """Whether an annotation says of all parts what they are, in words that the SDK knows."""
    hint = bare(hint)
    origin, args = split(hint)
    if hint is Any or isinstance(origin, str):
        return False
    if origin in UNIONS or origin is tuple or origin in ARRAYS or origin in MAPS:
        return bool(args) and all(_says_all(arg) for arg in args if arg not in (Ellipsis, ()))
    if origin in (None, NONE_TYPE, bool, int, float, str, typing.Literal):
        return True
    known = _hints.is_model(origin) or _scalars.of_kind(origin) is not None
    try:
        return known or _hints.fields(origin) is not None or issubclass(origin, enum.Enum)
    except (_hints.UnreadableHint, TypeError):
        return False
