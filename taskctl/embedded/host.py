"""What a machine must be to run pods itself."""

from __future__ import annotations

import sys
from typing import Final

from taskctl.errors import ConfigError

_NAMES: Final = {"darwin": "macOS", "win32": "Windows"}


def require_linux() -> None:
    """Make sure that this machine can run pods as processes.

    Raises:
        ConfigError: its kernel is not Linux; the message says what works there.
    """
    if sys.platform != "linux":
        raise ConfigError(
            "the local stack needs Linux, as it runs tasks in namespaces of its kernel; this is "
            f"{_NAMES.get(sys.platform, sys.platform)}. Use a cluster here (--kubeconfig FILE), or "
            "run the local stack in a virtual machine or container with Linux"
        )
