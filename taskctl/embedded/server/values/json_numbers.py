"""Numbers of custom resources, as Kubernetes decodes and stores them.

There, JSON without Go types becomes int64 where a number is whole and fits, and float64
otherwise (sigs.k8s.io/json). A float that is whole is written without a point, so ``1.0`` and
``1e3`` are stored as ``1`` and ``1000``; what does not fit becomes the nearest float.
"""

from __future__ import annotations

from typing import Any, Final

# How far kube-openapi takes a float for an integer (swag, IsFloat64AJSONInteger).
_EXACT: Final = 2**53 - 1
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


def settle(value: dict[str, Any] | list[Any]) -> None:
    """Change the numbers of an object or list in place."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    changed: list[tuple[Any, int | float]] = []
    for key, one in items:
        kind = one.__class__
        if kind is dict or kind is list:
            settle(one)
        elif kind is float:
            if one.is_integer() and -_EXACT <= one <= _EXACT:
                changed.append((key, int(one)))
        elif kind is int and not _INT64_MIN <= one <= _INT64_MAX:
            changed.append((key, float(one)))
    for key, number in changed:
        value[key] = number
