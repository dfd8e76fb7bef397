"""Reading manifests as kubectl reads them: YAML 1.1 by go-yaml's rules, or JSON.

The same file must make the same object, whichever of the two tools reads it. Where kubectl
drops something without a word (a key that comes twice, what follows ``...``, bytes that are no
UTF-8), the reader here refuses the file.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from taskctl.cli.yamlscalars import (
    INT64_MAX,
    INT64_MIN,
    Resolved,
    SpecialScalar,
    as_json_number,
    is_timestamp,
    key_text,
    resolve,
)

MAX_DEPTH: Final = 200
# What aliases may add: nine levels of nine aliases each would be 400 million values.
MAX_ALIASED_NODES: Final = 100_000
# A double ends at 1.8e308; Python refuses to read integers of more than 4,300 digits.
_INTEGER_DIGITS: Final = 310
_TAG: Final = "tag:yaml.org,2002:"

Note = Callable[[str], None]


class ManifestError(ValueError):
    """A file that is not a manifest; the message says where and why."""


def read_documents(text: str, note: Note) -> list[Any]:
    """Return the documents of a file; empty ones are left out.

    Args:
        text: YAML or, if it begins with ``{``, JSON; several documents may follow each other.
        note: told of numbers that are kept with fewer digits than they are written with.

    Raises:
        ManifestError: it cannot be read, or has no place in JSON.
    """
    text = text.removeprefix("\ufeff")
    try:
        if text.lstrip().startswith("{"):
            documents = _json_documents(text, note)
        else:
            documents = _yaml_documents(text, note)
    except RecursionError:
        raise ManifestError(f"is nested deeper than {MAX_DEPTH} levels") from None
    return [document for document in documents if document is not None]


# --- JSON ---------------------------------------------------------------------------


def parse_json(text: str) -> Any:
    """Parse a JSON text as RFC 8259 has it, in which every number is finite.

    Raises:
        ManifestError: it is none; NaN, Infinity, numbers that no double holds, and half
            surrogates are none either.
    """
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_json_float, parse_int=_json_integer
        )
        check_texts(value)
    except RecursionError:
        raise ManifestError(f"is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise ManifestError(f"is not JSON ({error})") from error
    return value


def find_wide_integer(value: Any) -> int | None:
    """Return an integer in a JSON value that has no place in 64 bits with a sign, or None."""
    if isinstance(value, dict | list):
        items = value.values() if isinstance(value, dict) else value
        return next((w for item in items if (w := find_wide_integer(item)) is not None), None)
    if type(value) is int and not INT64_MIN <= value <= INT64_MAX:
        return value
    return None


def repeated_keys(text: str) -> list[str]:
    """Return the keys that a JSON text gives twice in one object."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) < len(pairs):
            keys = [key for key, _ in pairs]
            found.extend(key for key in result if keys.count(key) > 1)
        return result

    json.loads(text, object_pairs_hook=look)
    return found


def _json_documents(text: str, note: Note) -> list[Any]:
    decoder = json.JSONDecoder(
        object_pairs_hook=_distinct,
        parse_constant=_refuse_constant,
        parse_float=_json_float,
        parse_int=_json_integer,
    )
    documents, position = [], 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if text.startswith("---", position):
            position += 3
            continue
        if position == len(text):
            break
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise ManifestError(f"begins with {{, so it must be JSON: {error}") from error
        check_texts(value)
        documents.append(_canonical(value, [], note))
    return documents


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ManifestError(f"names the key {key!r} twice in one object; remove one")
        result[key] = value
    return result


def _refuse_constant(name: str) -> Any:
    raise ManifestError(f"has the number {name}, which JSON does not have; write null or a text")


def _json_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ManifestError(f"has the number {text}, which is out of range; write it as a text")
    return value


def _json_integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS:
        raise ManifestError(f"has a number of {len(text)} digits, which is out of range")
    return int(text)


def check_texts(value: Any, path: str = "", depth: int = 0) -> None:
    """Refuse texts that UTF-8 cannot carry, and values that are nested too deeply.

    Raises:
        ManifestError: half of a surrogate pair is in a text or a key; names its path.
    """
    if depth > MAX_DEPTH:
        raise ManifestError(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            check_texts(key, path, depth)
            check_texts(item, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            check_texts(item, f"{path}[{number}]", depth + 1)
    elif isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        where = f"{path}: " if path else ""
        raise ManifestError(
            f"{where}{value!r} is not Unicode text: it has half of a surrogate pair"
        )


def _canonical(value: Any, path: list[str], note: Note) -> Any:
    """Return a JSON value with its numbers as Kubernetes keeps them."""
    if isinstance(value, dict):
        return {key: _canonical(item, [*path, f".{key}"], note) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item, [*path, f"[{number}]"], note) for number, item in enumerate(value)]
    return _number(value, path, note) if type(value) in (int, float) else value


def _number(value: float, path: Sequence[str], note: Note) -> float:
    try:
        kept = as_json_number(value)
    except OverflowError:
        raise ManifestError(f"{_where(path)}the number is out of range; quote it") from None
    # -0.0 is the one float without a fraction that has no integer.
    if kept == 0 and math.copysign(1, value) < 0:
        return value
    if isinstance(value, int) and kept is not value and not INT64_MIN <= value <= INT64_MAX:
        note(
            f"{_where(path)}{value} has more than 64 bits; Kubernetes keeps {kept!r}. "
            "Quote it to keep all digits"
        )
    return kept


def _where(path: Sequence[str]) -> str:
    text = "".join(path).removeprefix(".")
    return f"{text}: " if text else ""


# --- YAML ---------------------------------------------------------------------------


def _yaml_documents(text: str, note: Note) -> list[Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        reader = _Reader(yaml.parse(text, Loader=loader), note)
        return list(reader.documents())
    except yaml.YAMLError as error:
        raise ManifestError(str(error)) from error


class _Reader:
    """Builds JSON values from the events of a YAML parser."""

    def __init__(self, events: Iterator[Any], note: Note) -> None:
        self._events = events
        self._note = note
        self._anchors: dict[str, Any] = {}
        self._open: set[str] = set()
        self._path: list[str] = []
        self._aliased = 0

    def documents(self) -> Iterator[Any]:
        """Yield the value of each document."""
        import yaml

        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                value = self._value(next(self._events))
                if isinstance(value, SpecialScalar):
                    value = value.value
                yield value

    def _value(self, event: Any) -> Any:
        """Return the JSON value that begins with an event."""
        import yaml

        if len(self._path) > MAX_DEPTH:
            raise self._error(event, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        anchor = event.anchor
        if anchor is not None:
            self._open.add(anchor)
        if isinstance(event, yaml.SequenceStartEvent):
            value: Any = self._sequence()
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(event)
        else:
            value = self._json_scalar(event)
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = value
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor in self._open:
            raise self._error(event, f"anchor {event.anchor!r} contains itself")
        if event.anchor not in self._anchors:
            raise self._error(event, f"there is no anchor {event.anchor!r}")
        return self._copy(self._anchors[event.anchor], event)

    def _copy(self, value: Any, event: Any) -> Any:
        self._aliased += 1
        if self._aliased > MAX_ALIASED_NODES:
            raise self._error(event, f"aliases add more than {MAX_ALIASED_NODES} values")
        if isinstance(value, dict):
            return {key: self._copy(item, event) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copy(item, event) for item in value]
        return value

    def _sequence(self) -> list[Any]:
        import yaml

        result: list[Any] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            self._path.append(f"[{len(result)}]")
            result.append(self._value(event))
            self._path.pop()
        return result

    def _mapping(self, start: Any) -> dict[str, Any]:
        import yaml

        result: dict[str, Any] = {}
        given: set[str] = set()
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if self._is_merge(event):
                # As in go-yaml v2: what a merge brings counts from where the merge stands.
                self._path.append(".<<")
                result.update(self._merged(next(self._events)))
                self._path.pop()
                continue
            key = self._key(event)
            self._path.append(f".{key}")
            if key in given:
                raise self._error(event, "is given twice; remove one")
            given.add(key)
            result[key] = self._value(next(self._events))
            self._path.pop()
        return result

    def _is_merge(self, event: Any) -> bool:
        import yaml

        if not isinstance(event, yaml.ScalarEvent) or event.value != "<<":
            return False
        return event.tag == f"{_TAG}merge" or (event.tag is None and event.implicit[0])

    def _merged(self, event: Any) -> dict[str, Any]:
        value = self._value(event)
        parts = value[::-1] if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            raise self._error(event, "a merge takes a map or a list of maps")
        result: dict[str, Any] = {}
        for part in parts:  # of a list, the first one counts
            result.update(part)
        return result

    def _key(self, event: Any) -> str:
        import yaml

        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.AliasEvent):
            value = self._alias(event)
        else:
            raise self._error(event, "a map or a list cannot be a key")
        if isinstance(value, dict | list):
            raise self._error(event, "a map or a list cannot be a key")
        if isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
            self._anchors[event.anchor] = value
        try:
            return key_text(event.value if isinstance(value, SpecialScalar) else value)
        except ValueError as error:
            raise self._error(event, f"{error} cannot be a key; quote it") from None

    def _json_scalar(self, event: Any) -> Any:
        value = self._scalar(event)
        if isinstance(value, SpecialScalar):
            return event.value
        if type(value) not in (int, float):
            return value
        assert isinstance(value, int | float)
        if not math.isfinite(value):
            raise self._error(event, f"JSON has no number {event.value}; write null or quote it")
        if value == 0:  # "-0" is read as the integer 0 again
            return 0
        return _number(value, self._path, self._note)

    def _scalar(self, event: Any) -> Resolved:
        """Return what a scalar is, by its tag or its looks."""
        tag, text = event.tag, event.value
        if tag in (None, "!"):
            return resolve(text) if tag is None and event.implicit[0] else text
        kind = tag.removeprefix(_TAG)
        if kind == tag or kind not in _KINDS:
            return str(text)
        if kind == "str":
            return str(text)
        if kind == "binary":
            return self._binary(event)
        if kind == "timestamp":
            if not is_timestamp(text):
                raise self._error(event, f"cannot read {text!r} as a !!timestamp")
            return str(text)
        value = resolve(text)
        if kind == "float" and type(value) is int:
            return float(value)
        if not isinstance(value, _KINDS[kind]) or (kind != "bool" and isinstance(value, bool)):
            raise self._error(event, f"cannot read {text!r} as a !!{kind}")
        return value

    def _binary(self, event: Any) -> str:
        try:
            return base64.b64decode(event.value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise self._error(event, f"!!binary must be a text in base64: {error}") from None

    def _error(self, event: Any, message: str) -> ManifestError:
        return ManifestError(f"line {event.start_mark.line + 1}: {_where(self._path)}{message}")


_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "binary": (str,),
    "timestamp": (str,),
    "int": (int,),
    "float": (float,),
    "bool": (bool,),
    "null": (type(None),),
    "merge": (SpecialScalar,),
}
