"""Field errors, worded as Kubernetes words them.

The texts follow k8s.io/apimachinery ``pkg/util/validation/field/errors.go``; clients and
people match on them, so they are kept to the letter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

Token = str | int
Path = tuple[Token, ...]

NO_PATH: Final = "<nil>"


class FieldReason(StrEnum):
    """``Status.details.causes[].reason`` of a field error."""

    NOT_FOUND = "FieldValueNotFound"
    REQUIRED = "FieldValueRequired"
    DUPLICATE = "FieldValueDuplicate"
    INVALID = "FieldValueInvalid"
    NOT_SUPPORTED = "FieldValueNotSupported"
    FORBIDDEN = "FieldValueForbidden"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"
    TYPE_INVALID = "FieldValueTypeInvalid"
    INTERNAL = "InternalError"


_TITLES: Final = {
    FieldReason.NOT_FOUND: "Not found",
    FieldReason.REQUIRED: "Required value",
    FieldReason.DUPLICATE: "Duplicate value",
    FieldReason.INVALID: "Invalid value",
    FieldReason.NOT_SUPPORTED: "Unsupported value",
    FieldReason.FORBIDDEN: "Forbidden",
    FieldReason.TOO_LONG: "Too long",
    FieldReason.TOO_MANY: "Too many",
    FieldReason.TYPE_INVALID: "Invalid value",
    FieldReason.INTERNAL: "Internal error",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One rule that one field breaks.

    Attributes:
        path: for example ``spec.containers[0].name``; ``<nil>`` for the whole object.
        reason: machine-readable, a :class:`FieldReason` value.
        message: the text without the path, for example ``Required value``.
    """

    path: str
    reason: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def format_path(path: Iterable[Token]) -> str:
    """Write a path as validation messages do: ``spec.items[0].name``."""
    text = ""
    for token in path:
        if isinstance(token, int):
            text += f"[{token}]"
        else:
            text += f".{token}" if text else token
    return text or NO_PATH


def render(value: Any) -> str:
    """Render a bad value as Go's field errors do: quoted strings, JSON for the rest."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _body(reason: FieldReason, shown: str | None, detail: str) -> str:
    parts = [_TITLES[reason], shown, detail or None]
    return ": ".join(part for part in parts if part is not None)


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """``Invalid value``: malformed, out of bounds, or against a rule."""
    return FieldError(path, FieldReason.INVALID, _body(FieldReason.INVALID, render(value), detail))


def type_invalid(path: str, value: Any, detail: str) -> FieldError:
    """``Invalid value`` because of the JSON type."""
    body = _body(FieldReason.TYPE_INVALID, render(value), detail)
    return FieldError(path, FieldReason.TYPE_INVALID, body)


def required(path: str, detail: str = "") -> FieldError:
    """``Required value``."""
    return FieldError(path, FieldReason.REQUIRED, _body(FieldReason.REQUIRED, None, detail))


def missing(path: str, value: Any) -> FieldError:
    """``Not found``: it names something that is not there."""
    body = _body(FieldReason.NOT_FOUND, render(value), "")
    return FieldError(path, FieldReason.NOT_FOUND, body)


def forbidden(path: str, detail: str) -> FieldError:
    """``Forbidden``: well-formed, but not allowed here."""
    return FieldError(path, FieldReason.FORBIDDEN, _body(FieldReason.FORBIDDEN, None, detail))


def duplicate(path: str, value: Any) -> FieldError:
    """``Duplicate value`` in a list that must be a set or a map."""
    body = _body(FieldReason.DUPLICATE, render(value), "")
    return FieldError(path, FieldReason.DUPLICATE, body)


def not_supported(path: str, value: Any, supported: Iterable[Any]) -> FieldError:
    """``Unsupported value``: not one of the enumerated ones."""
    names = (one if isinstance(one, str) else json.dumps(one) for one in supported)
    listed = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
    detail = f"supported values: {listed}" if listed else ""
    body = _body(FieldReason.NOT_SUPPORTED, render(value), detail)
    return FieldError(path, FieldReason.NOT_SUPPORTED, body)


def too_long(path: str, limit: int) -> FieldError:
    """``Too long``; the value itself is left out."""
    unit = "byte" if limit == 1 else "bytes"
    detail = f"may not be more than {limit} {unit}"
    return FieldError(path, FieldReason.TOO_LONG, _body(FieldReason.TOO_LONG, None, detail))


def too_many(path: str, actual: int, limit: int) -> FieldError:
    """``Too many`` items or properties."""
    unit = "item" if limit == 1 else "items"
    detail = f"must have at most {limit} {unit}"
    body = _body(FieldReason.TOO_MANY, str(actual), detail)
    return FieldError(path, FieldReason.TOO_MANY, body)


def internal(path: str, detail: str) -> FieldError:
    """``Internal error``: the check itself failed."""
    return FieldError(path, FieldReason.INTERNAL, _body(FieldReason.INTERNAL, None, detail))
