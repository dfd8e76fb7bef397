"""The node's own programs, made visible in containers where they lie below ``/tmp``.

Images are not unpacked, so a container runs the host's programs, those of the interpreter
that runs this node among them. A container's ``/tmp`` is its own; an environment or checkout
below the host's ``/tmp`` would not be there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from taskctl.embedded.node.mounts import Bind

PRIVATE: Final = PurePosixPath("/tmp")  # the shim gives each container its own


def own_directories() -> tuple[Path, ...]:
    """Return where this interpreter, its environment and this package are."""
    package_parent = Path(__file__).resolve().parents[3]
    return (Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), package_parent)


def program_binds(directories: Iterable[Path]) -> tuple[Bind, ...]:
    """Return read-only binds, each at its own path, of the directories that would be hidden.

    Args:
        directories: absolute, without symbolic links.
    """
    hidden = sorted({d for d in directories if d.is_relative_to(PRIVATE) and d != Path(PRIVATE)})
    outermost = [d for d in hidden if not any(d != o and d.is_relative_to(o) for o in hidden)]
    return tuple(Bind(d, PurePosixPath(d), read_only=True) for d in outermost)
