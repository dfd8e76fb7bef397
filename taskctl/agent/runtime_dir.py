"""Filling the runtime volume, which every task container mounts read-only.

::

    bin/taskctl-init          the first process of every task container
    python -> .python-<hash>  the SDK, msgpack and cloudpickle, for PYTHONPATH
    agent.sock                see server.py
    ready                     there while the agent answers

All of it is put in place by a rename, because tasks of an agent's former life may be using it.
All functions block; call them in a thread.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskctl.agent.files import replace_file
from taskctl.errors import ConfigError
from taskctl.init import init_binary_path

READY_NAME: Final = "ready"
# What the SDK imports; tests/test_imports.py holds it to that.
_SDK_FILES: Final = ("__init__.py", "errors.py", "wire.py", "py.typed")


def fill(runtime_dir: Path) -> None:
    """Put taskctl-init and the SDK in place; what is there already is left alone.

    Raises:
        ConfigError: taskctl-init was not built, or msgpack is not installed as files.
        OSError: the volume cannot be written.
    """
    bin_dir = runtime_dir / "bin"
    bin_dir.mkdir(mode=0o755, exist_ok=True)
    _copy_program(init_binary_path(), bin_dir / "taskctl-init")
    _place_python(runtime_dir)


def mark_ready(runtime_dir: Path) -> None:
    """Say that the agent answers; a readiness probe looks for this file."""
    replace_file(runtime_dir / READY_NAME, b"", mode=0o644, durable=False)


def clear_ready(runtime_dir: Path) -> None:
    """Take that back."""
    (runtime_dir / READY_NAME).unlink(missing_ok=True)


def _copy_program(source: Path, target: Path) -> None:
    content = source.read_bytes()
    with contextlib.suppress(FileNotFoundError):
        if target.read_bytes() == content and os.access(target, os.X_OK):
            return
    # Not synced: after a power cut the agent starts, compares and copies again.
    replace_file(target, content, mode=0o755, durable=False)


def _place_python(runtime_dir: Path) -> None:
    files = dict(_python_files())
    name = f".python-{_digest(files)}"
    link = runtime_dir / "python"
    if link.is_symlink() and link.readlink() == Path(name) and link.is_dir():
        return
    staging = runtime_dir / f"{name}.{secrets.token_hex(4)}.tmp"
    try:
        for relative, source in files.items():
            target = staging / relative
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(0o644)
        # The volume is read-only for tasks, so none could keep what it compiled.
        compileall.compile_dir(staging, quiet=2, stripdir=str(staging), prependdir=str(link))
        _move(staging, runtime_dir / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    temporary = runtime_dir / f".python.{secrets.token_hex(4)}.tmp"
    temporary.symlink_to(name)
    temporary.replace(link)
    # Trees of other versions stay: a task may be about to import from one. There is one for
    # each change of the worker image within the life of a pod.


def _move(staging: Path, target: Path) -> None:
    if target.exists():  # an agent was killed before it could set the link
        shutil.rmtree(target)
    staging.rename(target)


def _python_files() -> Iterator[tuple[str, Path]]:
    """Yield where each file goes, and where it comes from."""
    package = Path(__file__).resolve().parent.parent
    for name in _SDK_FILES:
        yield f"taskctl/{name}", package / name
    for path in sorted((package / "sdk").rglob("*.py")):
        yield f"taskctl/{path.relative_to(package).as_posix()}", path
    yield from _vendored_msgpack()
    yield from _vendored_cloudpickle()


def _vendored_cloudpickle() -> Iterator[tuple[str, Path]]:
    """For functions that are sent by value; without it only those are refused."""
    spec = importlib.util.find_spec("cloudpickle")
    if spec is None or spec.origin is None:
        return
    for path in sorted(Path(spec.origin).parent.glob("*.py")):
        yield f"taskctl/_vendor/cloudpickle/{path.name}", path


def _vendored_msgpack() -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec("msgpack")
    if spec is None or spec.origin is None:
        raise ConfigError("the msgpack package cannot be found; install taskctl with its packages")
    # Without the compiled module: tasks bring any interpreter, on any C library. Below the
    # SDK, so that it never hides a compiled one that the image has.
    for path in sorted(Path(spec.origin).parent.glob("*.py")):
        yield f"taskctl/_vendor/msgpack/{path.name}", path


def _digest(files: dict[str, Path]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for relative, source in files.items():
        content = source.read_bytes()
        digest.update(f"{relative}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
