"""How errors show values and types."""

from __future__ import annotations

from typing import Any


def shown(plain: Any) -> str:
    """Return a value as Python shows it, cut to a line."""
    try:
        text = repr(plain)
    except Exception:  # noqa: BLE001  (the user's code)
        text = f"a {type(plain).__name__}"
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "..."


def described(value: Any) -> str:
    """Return the type of a value and the value."""
    return f"{kind_of(value)} {shown(value)}"


def kind_of(value: Any) -> str:
    """Return the name of a value's type."""
    return "None" if value is None else type(value).__name__
