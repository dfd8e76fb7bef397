"""A Python environment as an image: the host's programs, those of the environment first."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from taskctl.embedded.images import sources
from taskctl.embedded.images.bounds import check_room
from taskctl.embedded.images.model import LIMITS, MIB, ImageError
from taskctl.embedded.images.store import ImageStore

_TIMEOUT_S: Final = 1800.0
_FILE_LIMIT: Final = MIB
_TAIL: Final = 12


def check_environment(path: Path) -> None:
    """Make sure that a directory is a Python environment.

    Raises:
        ImageError: it is none.
    """
    if not (path / "bin" / "python").exists():
        raise ImageError(
            f"{path} has no bin/python: it is not a Python environment; make one with "
            f"`python3 -m venv {path}`"
        )


def base_directory(path: Path) -> Path | None:
    """Return where the interpreter of an environment is installed, None when it does not say."""
    try:
        return (path / "bin" / "python").resolve(strict=True).parent.parent
    except (OSError, RuntimeError):
        return None


def make_environment(store: ImageStore, requirements: Path) -> Path:
    """Return an environment with these requirements in it, made once; blocking, up to 30 minutes.

    It is made by ``uv`` where that is installed, else by ``venv`` and ``pip``.

    Raises:
        ImageError: the file cannot be read, or a requirement cannot be installed.
        OSError: the data directory cannot be written.
    """
    try:
        if requirements.stat().st_size > _FILE_LIMIT:
            raise ImageError(f"{requirements} has more than {_FILE_LIMIT:,} bytes")
        content = requirements.read_bytes()
    except OSError as error:
        raise ImageError(f"{requirements} cannot be read: {error.strerror}") from error
    identity = hashlib.sha256(sys.version.encode() + b"\0" + content).hexdigest()
    target = store.env_path(identity[:16])
    if (target / "complete").exists():
        return target
    with store.locked():
        # Scripts name the path of their interpreter, so it is made where it stays.
        sources.remove(target)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for command in _commands(target, requirements):
                check_room(target.parent, LIMITS)
                _run(command)
            (target / "complete").touch()
        except BaseException:
            sources.remove(target)
            raise
    return target


def _commands(target: Path, requirements: Path) -> list[list[str]]:
    uv, python = shutil.which("uv"), sys.executable
    if uv is not None:
        install = [uv, "pip", "install", "--python", str(target / "bin" / "python")]
        return [[uv, "venv", "--python", python, str(target)], [*install, "-r", str(requirements)]]
    pip = [str(target / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    return [[python, "-m", "venv", str(target)], [*pip, "install", "-r", str(requirements)]]


def _run(command: list[str]) -> None:
    # Not the environment that taskctl itself runs in.
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            env=variables,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(
            f"`{' '.join(command)}` did not end within {_TIMEOUT_S / 60:.0f} minutes"
        ) from error
    if done.returncode != 0:
        lines = done.stdout.decode(errors="replace").splitlines()[-_TAIL:]
        raise ImageError("\n  ".join([f"`{' '.join(command)}` failed:", *lines]))
