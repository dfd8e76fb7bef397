"""The SDK as the agent copies it, and the interpreters that images may bring."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYTHONS = ("python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14")


def find_python(name: str) -> str:
    """Return the path of an interpreter, which is named as in PYTHONS or by its path.

    Skips the test where that interpreter is not installed; the oldest one is required where
    TASKCTL_REQUIRE_OLDEST_PYTHON=1 says so.
    """
    candidates: list[Path | str | None] = [shutil.which(name)]
    if name in PYTHONS:
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
        candidates += pyenv.glob(f"{name.removeprefix('python')}.*/bin/{name}")
    for path in candidates:
        if (
            path is not None
            and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0
        ):
            return str(path)
    if name == PYTHONS[0] and os.environ.get("TASKCTL_REQUIRE_OLDEST_PYTHON") == "1":
        pytest.fail(f"TASKCTL_REQUIRE_OLDEST_PYTHON=1, but there is no {name}")
    pytest.skip(f"no {name} here")


def bundle(folder: Path) -> Path:
    """Copy what docs/protocol.md says that the agent copies."""
    import msgpack

    target = folder / "python"
    (target / "taskctl" / "sdk").mkdir(parents=True)
    vendor = target / "taskctl" / "_vendor" / "msgpack"
    vendor.mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "wire.py"):
        shutil.copy(ROOT / "taskctl" / name, target / "taskctl")
    for path in (ROOT / "taskctl" / "sdk").glob("*.py"):
        shutil.copy(path, target / "taskctl" / "sdk")
    for path in Path(msgpack.__file__).parent.glob("*.py"):
        shutil.copy(path, vendor)
    return target
