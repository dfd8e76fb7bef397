"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from taskctl.cli.exits import CliError


def write_whole(path: Path, text: str) -> None:
    """Put a file there whole or not at all, for its owner only. Blocking.

    Raises:
        CliError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Logs and outputs may hold what is not for everybody.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CliError(f"{path} cannot be written: {error.strerror or error}") from error
