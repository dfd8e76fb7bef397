"""What pyproject.toml says, and what a wheel may hold."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INFO = f"taskctl-{PROJECT['version']}.dist-info"
SHARED = f"taskctl-{PROJECT['version']}.data/data/share"
PROGRAMS = {path.parent.name for path in (ROOT / "taskctl" / "init").glob("*/*.c")}
# What builds, tests and editors leave behind. None of it is in a wheel.
LEFTOVERS = (
    "taskctl/init/bin/.taskctl-init-x1y2",
    "taskctl/init/bin/program-of-an-older-version",
    "taskctl/__pycache__/old.cpython-311.pyc",
    "taskctl/sdk/__pycache__/old.cpython-311.pyc",
    "tests/test_something.py",
    ".taskctl/token",
)
# The field e_machine of an ELF header.
ELF_MACHINE = {"x86_64": 62, "aarch64": 183}
