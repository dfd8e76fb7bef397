"""Semantic versions in CEL, after k8s.io/apiserver ``pkg/cel/library/semverlib.go``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

# Grammar and order: semver.org, version 2.0.0.
_NUMBER: Final = "(0|[1-9][0-9]*)"
_LABEL: Final = "(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_LABEL}(?:\.{_LABEL})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_MAX_DIGITS: Final = 20
_MAX_NUMBER: Final = 2**64


@dataclass(frozen=True, slots=True)
class Semver:
    """A version.

    Attributes:
        numbers: major, minor and patch.
        order: what versions are compared by, which leaves the build out.
    """

    numbers: tuple[int, int, int] = field(compare=False)
    order: tuple[Any, ...]


def _label_order(label: str) -> tuple[int, int, str]:
    return (0, int(label), "") if label.isdigit() else (1, 0, label)


def parse(text: str, normalize: bool = False) -> Semver:
    """Parse a version.

    Args:
        text: for example ``1.2.3-rc.1``.
        normalize: take ``v1.0`` and ``01.2`` as well.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str) or not isinstance(normalize, bool):
        raise TypeError("semver takes a text and a bool")
    found = _VERSION.fullmatch(_normalized(text) if normalize else text)
    if found is None or any(len(one) > _MAX_DIGITS for one in found.groups()[:3]):
        raise ValueError("No Major.Minor.Patch elements found")
    numbers = (int(found.group(1)), int(found.group(2)), int(found.group(3)))
    if max(numbers) >= _MAX_NUMBER:
        raise ValueError("a number of the version exceeds 64 bits")
    labels = tuple(map(_label_order, found.group(4).split("."))) if found.group(4) else ()
    return Semver(numbers, (numbers, not labels, labels))


def _normalized(text: str) -> str:
    plain = text.removeprefix("v")
    end = min((plain.find(mark) for mark in "-+" if mark in plain), default=len(plain))
    numbers = [one.lstrip("0") or "0" if one else one for one in plain[:end].split(".")]
    numbers += ["0"] * (3 - len(numbers))
    return ".".join(numbers) + plain[end:]


def is_semver(text: str, normalize: bool = False) -> bool:
    """Tell whether a text is a version."""
    try:
        parse(text, normalize)
    except ValueError:
        return False
    return True


def compare(left: Semver, right: Semver) -> int:
    """Return -1, 0 or 1, as ``left`` is before, the same as or after ``right``."""
    return (left.order > right.order) - (left.order < right.order)


def _number(place: int) -> Callable[[Semver], int]:
    return lambda version: version.numbers[place]


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "semver": parse,
    "isSemver": is_semver,
    "major": _number(0),
    "minor": _number(1),
    "patch": _number(2),
}
