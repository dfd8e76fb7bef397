"""Files of the data directory that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step; readable by its owner only.

    Raises:
        OSError: it cannot be written; the old file stays, and nothing else is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def update_private(path: Path, content: bytes) -> None:
    """As :func:`write_private`, but leave a file alone that has this content already.

    Raises:
        OSError: it cannot be written.
    """
    with suppress(OSError):
        if path.read_bytes() == content:
            return
    write_private(path, content)
