"""Quantities of resources in the form in which Kubernetes stores them.

After k8s.io/apimachinery ``pkg/api/resource``: ``1000m`` becomes ``1``, ``1024Mi`` becomes
``1Gi``, and what is already in canonical form, by the standards of the quick way through its
parser, stays as it was written.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final

# The longest numbers that the quick way takes (math.go, maxInt64Factors).
_DIGITS_LIMIT: Final = 18
_INT64_MAX: Final = 2**63 - 1
_NANO: Final = -9
_MILLI: Final = -3
# Further out there are no suffixes, and no resource has a number of that length.
_EXPONENT_LIMIT: Final = 1000
_FORM: Final = re.compile(
    r"([+-]?)([0-9]*)(?:\.([0-9]*))?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,9})?", re.ASCII
)
_DECIMAL: Final = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18
}  # fmt: skip
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAMES: Final = {exponent: name for name, exponent in _DECIMAL.items()}
_BINARY_NAMES: Final = {0: "", **{exponent: name for name, exponent in _BINARY.items()}}


class _Form(StrEnum):
    DECIMAL = "decimal"
    BINARY = "binary"
    EXPONENT = "exponent"


def parse(text: str) -> Decimal:
    """Return what a quantity such as ``500m`` or ``1.5Gi`` comes to.

    Raises:
        ValueError: it is not a quantity.
    """
    sign, whole, part, form, exponent = _split(text)
    if form is _Form.BINARY:
        return Decimal(f"{sign}{whole}.{part}") * Decimal(2) ** exponent
    return Decimal(f"{sign}{whole}.{part}e{exponent}")


def _split(text: str) -> tuple[str, str, str, _Form, int]:
    """Return sign, digits before and behind the point, and what the suffix means."""
    found = _FORM.fullmatch(text)
    if found is None or not (found.group(2) or found.group(3)):
        raise ValueError(f"{text!r} is not a quantity; write for example 500m, 2 or 1.5Gi")
    sign, whole, part, suffix = (one or "" for one in found.groups())
    form, exponent = _read_suffix(suffix)
    if abs(exponent) > _EXPONENT_LIMIT:
        raise ValueError(f"the exponent of {text!r} is too large; at most {_EXPONENT_LIMIT}")
    return sign, whole, part, form, exponent


def canonical(text: str, *, to_milli: bool) -> str:
    """Return a quantity in the form in which it is stored.

    Args:
        text: as a client wrote it.
        to_milli: round up to thousandths, as in lists of resources; else to billionths.

    Raises:
        ValueError: it is not a quantity.
    """
    text = text.strip()
    sign, whole, part, form, exponent = _split(text)
    number = whole.lstrip("0") or "0"
    lowest = _MILLI if to_milli else _NANO
    if _is_kept(number, part, form, exponent, lowest):
        return text
    base = 2 if form is _Form.BINARY else 10
    amount = Fraction(int(number + part), 10 ** len(part)) * Fraction(base) ** exponent
    if form is _Form.BINARY:
        amount = min(amount, Fraction(_INT64_MAX))
    amount = _round_up(_round_up(amount, _NANO), lowest)
    written = _write(amount, form)
    return f"-{written}" if sign == "-" and amount else written


def _read_suffix(suffix: str) -> tuple[_Form, int]:
    if suffix in _BINARY:
        return _Form.BINARY, _BINARY[suffix]
    if suffix in _DECIMAL:
        return _Form.DECIMAL, _DECIMAL[suffix]
    return _Form.EXPONENT, int(suffix[1:])


def _is_kept(number: str, part: str, form: _Form, exponent: int, lowest: int) -> bool:
    """Whether Kubernetes' quick way through the parser takes the text for canonical."""
    digits = number + part
    if form is _Form.BINARY:
        if part or 15 - len(number) - exponent * 3 // 10 - 1 < 0:
            return False
        return int(number) << exponent <= _INT64_MAX and int(number) & 7 != 0
    scale = exponent - len(part)
    if len(digits) > _DIGITS_LIMIT or scale < lowest:
        return False
    return scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


def _round_up(amount: Fraction, exponent: int) -> Fraction:
    unit = Fraction(10) ** exponent
    return -(-amount // unit) * unit


def _write(amount: Fraction, form: _Form) -> str:
    if not amount:
        return "0"
    if form is _Form.BINARY and amount >= 1024 and amount.denominator == 1:
        value, exponent = int(amount), 0
        while value % 1024 == 0 and exponent < 60:
            value, exponent = value // 1024, exponent + 10
        return f"{value}{_BINARY_NAMES[exponent]}"
    exponent = _NANO
    value = int(amount / Fraction(10) ** exponent)
    while value % 1000 == 0 and (form is _Form.EXPONENT or exponent < 18):
        value, exponent = value // 1000, exponent + 3
    if form is _Form.EXPONENT:
        return f"{value}e{exponent}" if exponent else str(value)
    return f"{value}{_DECIMAL_NAMES[exponent]}"
