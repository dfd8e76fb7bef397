"""The wheels of all platforms, built once from a copy of this working copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.build_hook import TARGETS, own_target
from tests.wheels.project import LEFTOVERS, ROOT


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the wheel of each target, from a copy with leftovers in it."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy2(ROOT / name, source / name)
    for name in ("taskctl", "scripts"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    for name in LEFTOVERS:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left behind\n")
    # With a proxy that leads nowhere, a build that downloads something fails.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, str(source / "scripts" / "build_wheels.py"), "--output", str(output)],
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = [Path(line) for line in done.stdout.splitlines()]
    assert sorted(output.iterdir()) == sorted(built)
    return dict(zip(TARGETS, built, strict=True))


@pytest.fixture(scope="session")
def wheel(wheels: dict[str, Path]) -> Path:
    """Return the wheel for this machine."""
    return wheels[own_target()]
