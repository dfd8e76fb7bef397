"""Large values in a workspace that is a directory here, which hostile code writes to. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskctl import beneath
from taskctl.agent.workspace import object_path


def read_object(directory: Path, reference: Mapping[str, Any]) -> bytes:
    """Return the file of a checked reference; its hash is the caller's to check.

    Raises:
        OSError: it is not a regular file below the workspace, has another size, or cannot be read.
    """
    size = reference["size"]
    with (
        open_object(directory, reference["sha256"], size) as fd,
        os.fdopen(os.dup(fd), "rb") as file,
    ):
        return file.read(size + 1)


@contextmanager
def open_object(directory: Path, sha256: str, size: int) -> Iterator[int]:
    """Open the file of a large value and yield its descriptor.

    Raises:
        OSError: it is not a regular file below the workspace, or has another size.
    """
    with beneath.regular_file(directory, object_path(sha256)) as (fd, status):
        if status.st_size != size:
            raise OSError(0, f"has {status.st_size} bytes, not {size}")
        yield fd
