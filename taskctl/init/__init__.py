"""taskctl-init, the first process of every task container (C), and where to find it.

Both programs are static: they run in any image, also in an empty one. They are compiled by
``scripts/build_hook.py`` when the package is built or installed.
"""

from __future__ import annotations

import os
from pathlib import Path

from taskctl.errors import ConfigError

__all__ = ["init_binary_path", "shim_binary_path"]

_BIN = Path(__file__).resolve().parent / "bin"


def init_binary_path() -> Path:
    """Return the path of ``taskctl-init``, the supervisor in a task container.

    Raises:
        ConfigError: it was not compiled; the message says how to do that.
    """
    return _binary("taskctl-init")


def shim_binary_path() -> Path:
    """Return the path of ``shim``, the local node's supervisor of one container.

    Raises:
        ConfigError: it was not compiled; the message says how to do that.
    """
    return _binary("shim")


def _binary(name: str) -> Path:
    path = _BIN / name
    if not os.access(path, os.X_OK):
        raise ConfigError(
            f"{path} is missing or not executable; in a source tree run "
            "`python scripts/build_hook.py` (needs `pip install ziglang`, or a C compiler), "
            "otherwise install taskctl again"
        )
    return path
