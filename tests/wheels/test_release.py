"""A release is what its tag says."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from scripts import build_release
from scripts.build_release import STATED, complaints, make
from tests.wheels.project import PROJECT, ROOT

VERSION = PROJECT["version"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Copy the files that state a version, with a changelog that is ready."""
    for name in STATED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {VERSION} (2026-12-01)\n")
    return tmp_path


def test_all_that_state_a_version_agree(tree: Path) -> None:
    assert list(complaints(f"v{VERSION}", tree)) == []


@pytest.mark.parametrize("name", STATED)
def test_each_file_is_looked_at(tree: Path, name: str) -> None:
    path = tree / name
    path.write_text(path.read_text().replace(VERSION, "9.9.9"))
    [complaint] = complaints(f"v{VERSION}", tree)
    assert complaint.startswith(f"{name}: states version 9.9.9; make it {VERSION}")
    path.write_text("")
    [complaint] = complaints(f"v{VERSION}", tree)
    assert "states version none" in complaint


def test_the_changelog_has_a_date(tree: Path) -> None:
    (tree / "CHANGELOG.md").write_text(f"## {VERSION} (unreleased)\n")
    [complaint] = complaints(f"v{VERSION}", tree)
    assert complaint.startswith("CHANGELOG.md")


@pytest.mark.parametrize("tag", ["0.1.0", "v0.1", "v0.1.0-rc1", "latest"])
def test_tags_have_one_form(tree: Path, tag: str) -> None:
    [complaint] = complaints(tag, tree)
    assert "vMAJOR.MINOR.PATCH" in complaint


def test_everything_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"wheel")
    monkeypatch.setattr(build_release, "build", lambda targets, output: iter([wheel]))
    *files, sums = make(tmp_path)
    assert [path.name for path in files] == ["a.whl", "taskctl.cdx.json"]
    said = {name: digest for digest, name in map(str.split, sums.read_text().splitlines())}
    assert said == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
