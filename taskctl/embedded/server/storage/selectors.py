"""Label and field selectors: parsing and matching.

Grammar and error sentences follow k8s.io/apimachinery ``pkg/labels`` and ``pkg/fields``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.values import meta


class Operator(StrEnum):
    """How a requirement compares."""

    EQUALS = "="
    NOT_EQUALS = "!="
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    MISSING = "!"
    GREATER = "gt"
    LESS = "lt"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One comparison of a label or field."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, values: Mapping[str, str]) -> bool:
        """Tell whether a set of labels satisfies this requirement."""
        found = values.get(self.key)
        match self.operator:
            case Operator.EQUALS | Operator.IN:
                return found is not None and found in self.values
            case Operator.NOT_EQUALS | Operator.NOT_IN:
                return found is None or found not in self.values
            case Operator.EXISTS:
                return found is not None
            case Operator.MISSING:
                return found is None
        return found is not None and self._compare(found)

    def _compare(self, found: str) -> bool:
        (limit,) = self.values
        try:
            left, right = int(found), int(limit)
        except ValueError:
            return False
        return left > right if self.operator is Operator.GREATER else left < right


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements on labels and on fields; an object must satisfy all of them."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    @property
    def everything(self) -> bool:
        """True if any object matches."""
        return not self.labels and not self.fields

    def matches(self, record: Record) -> bool:
        """Tell whether an object satisfies all requirements."""
        return all(r.matches(record.labels) for r in self.labels) and all(
            r.matches(record.fields) for r in self.fields
        )

    def matching(self, records: Iterable[Record]) -> Iterable[Record]:
        """Return those of many objects that satisfy all requirements, one by one, in their order.

        Most lists ask for one value of one field. Comparing it here takes a fifth of the time of a
        call for each object.
        """
        if self.everything:
            return records
        pin = self.pinned_field()
        if pin is None or self.labels or len(self.fields) > 1:
            return (record for record in records if self.matches(record))
        key, value = pin
        return (record for record in records if record.fields.get(key) == value)

    def pinned_field(self) -> tuple[str, str] | None:
        """Return a (field, value) that every match must have, so that watches can be indexed."""
        for requirement in self.fields:
            if requirement.operator is Operator.EQUALS:
                (value,) = requirement.values
                return requirement.key, value
        return None


EVERYTHING: Final = Selector()

_OBJECT_META_FIELDS: Final = {"metadata.name", "metadata.namespace"}
_SYMBOLS: Final = frozenset({"==", "!=", "=", "!", "(", ")", ",", "<", ">"})
_TOKEN: Final = re.compile(r"\s*(?:(?P<symbol>==|!=|=|!|\(|\)|,|<|>)|(?P<word>[^\s=!(),<>]+)|\Z)")


@lru_cache(maxsize=4096)
def parse_labels(text: str) -> tuple[Requirement, ...]:
    """Parse a label selector such as ``a=b,c in (d,e),!f``.

    Raises:
        errors.StatusError: 400.
    """
    parser = _LabelParser(text)
    return parser.requirements()


class _LabelParser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.end() == position:
                raise self._error(f"unexpected character at {position}")
            token = match["symbol"] or match["word"]
            if token:
                self._tokens.append(token)
            position = match.end()
        self._next = 0

    def requirements(self) -> tuple[Requirement, ...]:
        found: list[Requirement] = []
        if not self._tokens:
            return ()
        while True:
            found.append(self._requirement())
            token = self._take()
            if token == "":
                return tuple(found)
            if token != ",":
                raise self._error(f"found '{token}', expected: ',' or 'end of string'")
            if self._peek() == "":
                raise errors.bad_request("found '', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._take()
            return Requirement(self._key(), Operator.MISSING)
        key = self._key()
        token = self._peek()
        if token in ("", ","):
            return Requirement(key, Operator.EXISTS)
        self._take()
        match token:
            case "=" | "==":
                return Requirement(key, Operator.EQUALS, frozenset({self._value(key)}))
            case "!=":
                return Requirement(key, Operator.NOT_EQUALS, frozenset({self._value(key)}))
            case ">" | "<":
                operator = Operator.GREATER if token == ">" else Operator.LESS
                return Requirement(key, operator, frozenset({self._integer(key)}))
            case "in" | "notin":
                return Requirement(key, Operator(token), self._values(key))
        raise self._error(f"found '{token}', expected: in, notin, =, ==, !=, gt, lt")

    def _key(self) -> str:
        key = self._take()
        if key == "" or key in _SYMBOLS:
            expected = "!, identifier, or 'end of string'"
            raise errors.bad_request(f"found '{key}', expected: {expected}")
        for problem in meta.qualified_problems(key):
            raise self._invalid("<nil>", key, problem)
        return key

    def _value(self, key: str) -> str:
        if self._peek() in ("", ",", ")"):
            return ""
        value = self._take()
        if value in _SYMBOLS:
            raise self._error(f"found '{value}', expected: identifier")
        for problem in meta.label_faults(f"values[0][{key}]", "x", value):
            raise self._error(str(problem))
        return value

    def _integer(self, key: str) -> str:
        value = self._value(key)
        if not re.fullmatch(r"-?\d+", value):
            message = "for 'Gt', 'Lt' operators, the value must be an integer"
            raise self._invalid("values[0]", value, message)
        return value

    def _values(self, key: str) -> frozenset[str]:
        if (token := self._take()) != "(":
            raise self._error(f"found '{token}' expected: '('")
        values = {self._value(key)}
        while (token := self._take()) == ",":
            values.add(self._value(key))
        if token != ")":
            raise self._error(f"found '{token}', expected: ',' or ')'")
        return frozenset(values)

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def _invalid(self, where: str, value: str, why: str) -> errors.StatusError:
        return self._error(str(fields.invalid(where, value, why)))

    def _error(self, why: str) -> errors.StatusError:
        return errors.bad_request(f"unable to parse requirement: {why}")


@lru_cache(maxsize=4096)
def _split_fields(text: str) -> tuple[tuple[str, str, str], ...]:
    terms = []
    for term in re.split(r"(?<!\\),", text):
        if not term:
            continue
        match = re.match(r"(?P<key>[^=!]+)(?P<operator>==|!=|=)(?P<value>.*)\Z", term, re.DOTALL)
        if match is None:
            raise errors.bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        value = re.sub(r"\\([\\,=])", r"\1", match["value"])
        if re.search(r"(?<!\\)=", match["value"]):
            raise errors.bad_request(
                f"invalid field selector: unescaped character in value: {ord('=')}"
            )
        terms.append((match["key"].strip(), match["operator"], value))
    return tuple(terms)


def parse_fields(text: str, supported: Collection[str]) -> tuple[Requirement, ...]:
    """Parse a field selector such as ``status.podName=a,metadata.name!=b``.

    Args:
        text: the selector.
        supported: dotted names of the fields that may be selected by.

    Raises:
        errors.StatusError: 400.
    """
    found = []
    for key, operator, value in _split_fields(text):
        if key not in supported:
            raise errors.bad_request(_unsupported(key, supported))
        kind = Operator.NOT_EQUALS if operator == "!=" else Operator.EQUALS
        found.append(Requirement(key, kind, frozenset({value})))
    return tuple(found)


def _unsupported(key: str, supported: Collection[str]) -> str:
    if set(supported) <= _OBJECT_META_FIELDS:
        return f'"{key}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    return f"field label not supported: {key}"


def parse(label_text: str, field_text: str, supported: Collection[str]) -> Selector:
    """Parse both selectors of a list or watch.

    Raises:
        errors.StatusError: 400.
    """
    if not label_text and not field_text:
        return EVERYTHING
    return Selector(parse_labels(label_text), parse_fields(field_text, supported))
