"""What of the host is made visible again in containers, where it lies below ``/tmp`` or ``/run``.

Where its image is not unpacked, a container runs the host's programs, those of the interpreter that
runs this node among them, and finds its way by the host's name service. A container's ``/tmp`` and
``/run`` are its own: what the host has there would not be visible.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from taskctl.embedded.node.mounts import Bind

# The shim gives each container its own.
PRIVATE: Final = (PurePosixPath("/tmp"), PurePosixPath("/run"))
# Files that many systems keep elsewhere, and reach through a link.
_LINKED: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/localtime", "/etc/nsswitch.conf")
_NETWORK: Final = ("/etc/hosts", "/etc/resolv.conf")
# NixOS has its programs there.
_SYSTEM: Final = ("/run/current-system", "/run/opengl-driver", "/run/wrappers")


def own_directories() -> tuple[Path, ...]:
    """Return where this interpreter, its environment and this package are."""
    package_parent = Path(__file__).resolve().parents[3]
    return (Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), package_parent)


def system_paths() -> tuple[Path, ...]:
    """Return what of the system's own files lies behind a link, without the links."""
    linked = [Path(path) for path in _LINKED]
    found = [path.resolve() for path in linked if path.is_symlink() and path.exists()]
    return (*found, *(Path(path) for path in _SYSTEM if Path(path).exists()))


def network_binds() -> tuple[Bind, ...]:
    """Return what a container in an image needs of the host to find other machines by name.

    The network is the host's, so its names are, too. Container engines do the same.
    """
    found = [Path(path) for path in _NETWORK if Path(path).is_file()]
    return tuple(Bind(path.resolve(), PurePosixPath(path), read_only=True) for path in found)


def program_binds(paths: Iterable[Path]) -> tuple[Bind, ...]:
    """Return read-only binds, each at its own path, of the files and directories that are hidden.

    Args:
        paths: absolute, without symbolic links.
    """
    hidden = sorted({path for path in paths if _is_hidden(path)})
    outermost = [p for p in hidden if not any(p != o and p.is_relative_to(o) for o in hidden)]
    return tuple(Bind(path, PurePosixPath(path), read_only=True) for path in outermost)


def _is_hidden(path: Path) -> bool:
    return any(path != Path(root) and path.is_relative_to(root) for root in PRIVATE)
