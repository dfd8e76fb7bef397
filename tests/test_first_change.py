"""docs/first-change.md: its two patches fit the files of today, and do what the page says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "first-change.md").read_text()
PATCHES = re.findall(r"^git apply <<'END'\n(.*?)^END$", PAGE, re.DOTALL | re.MULTILINE)
TEST, CODE = "tests/unit/cli/test_durations.py", "taskctl/cli/durations.py"

# Each of two runs of pytest loads a part of the command line.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", TEST, "-q", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_patches_apply_and_the_test_fails_before_and_passes_after(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "taskctl", tmp_path / "taskctl")
    for name in ("tests/__init__.py", "tests/unit/__init__.py", "tests/unit/cli/__init__.py", TEST):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    test, code = PATCHES
    results = []
    for patch in (test, code):
        subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch, text=True, check=True)
        results.append(run(tmp_path))
    before, after = results
    assert before.returncode == 1, before.stdout
    assert "3 failed" in before.stdout
    assert "must be seconds or a duration" in before.stdout
    assert after.returncode == 0, after.stdout


def test_the_scripts_that_it_names_are_there() -> None:
    scripts = set(re.findall(r"\./scripts/\w+", PAGE))
    assert "./scripts/check" in scripts
    assert [name for name in scripts if not (ROOT / name).exists()] == []
