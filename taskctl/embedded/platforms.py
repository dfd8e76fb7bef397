"""How Kubernetes names the machine."""

from __future__ import annotations

import platform
from typing import Final

# Where the names of Go and of the kernel differ.
_ARCHITECTURES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
}


def architecture() -> str:
    """Return the machine's architecture as Kubernetes names it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())
