"""Kubernetes quantities: what a text such as ``1.5Gi`` comes to."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

_FACTORS: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
# No resource needs more, and a number may be written out in full.
_EXPONENT_LIMIT: Final = 1000
_QUANTITY: Final = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE])?)")


def parse_quantity(text: str) -> Decimal:
    """Return the value of a quantity such as ``500m`` or ``1.5Gi``.

    Raises:
        ValueError: the text is not a quantity.
    """
    match = _QUANTITY.fullmatch(str(text))
    if match is None or match[1].count(".") > 1 or not any(c.isdigit() for c in match[1]):
        raise ValueError(f"{text!r} is not a quantity; write for example 500m, 2 or 1.5Gi")
    exponent = match[2] or ""
    if abs(int(exponent[1:] or "0")) > _EXPONENT_LIMIT:
        raise ValueError(f"the exponent of {text!r} is too large; at most {_EXPONENT_LIMIT}")
    return Decimal(match[1] + exponent) * _FACTORS[match[3] or ""]


def divide(value: str, divisor: str) -> str:
    """Return value / divisor as a whole number, rounded up (the rule of ``resourceFieldRef``).

    A divisor of 0, which is what a stored empty divisor becomes, counts as 1.

    Raises:
        ValueError: one of the two is not a quantity.
    """
    by = parse_quantity(divisor or "1") or Decimal(1)
    return str(int((parse_quantity(value) / by).to_integral_value(rounding=ROUND_CEILING)))
