"""How deeply values may be nested.

Kubernetes reads 10,000 levels. Here much is done by functions that call themselves for what is
below, and no object that serves a purpose comes near this limit.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

MAX_DEPTH: Final = 128
# orjson writes nothing that is nested deeper.
_ORJSON_DEPTH: Final = 254


def too_deep(value: Any) -> bool:
    """Tell whether a value is nested deeper than the server walks."""
    for _ in range(_ORJSON_DEPTH - MAX_DEPTH):
        value = [value]
    try:
        orjson.dumps(value)  # at the speed of C
    except orjson.JSONEncodeError:
        return True
    return False
