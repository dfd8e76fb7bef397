"""Removing what hostile code has left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskctl.embedded.node import removal

# Deeper than Python recurses and than a process may have files open.
DEEP = 1500


def dig(top: Path, depth: int) -> None:
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_deeply_nested(tmp_path: Path) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    dig(tree, DEEP)
    removal.remove_tree(tree)
    assert list(tmp_path.iterdir()) == []


def test_many_kinds_of_entries(tmp_path: Path) -> None:
    tree, kept = tmp_path / "t", tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(kept)
    (tree / "a" / "b" / "dangling").symlink_to("nowhere")
    (tree / "loop").symlink_to("loop")
    os.mkfifo(tree / "a" / "fifo")
    for number in range(300):
        (tree / "a" / f"d{number}").mkdir()
        (tree / f"f{number}").touch()
    removal.remove_tree(tree)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").exists()


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("/etc")])
def test_what_is_no_directory_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "t")
    with pytest.raises(NotADirectoryError):
        removal.remove_tree(tmp_path / "t")
    with pytest.raises(FileNotFoundError):
        removal.remove_tree(tmp_path / "none")


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root could do without permissions."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65500)
    yield
    if root:
        os.seteuid(0)


def test_permissions_are_no_obstacle(open_tmp: Path, ordinary_user: None) -> None:
    tree = open_tmp / "t"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "f").touch()
    for path, mode in ((tree / "a/b/c", 0), (tree / "a/b", 0o500), (tree / "a", 0), (tree, 0o400)):
        path.chmod(mode)
    removal.remove_tree(tree)
    assert list(open_tmp.iterdir()) == []


def test_a_directory_that_becomes_a_link_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever still runs there swaps it after it was looked at, before it is emptied."""
    victim, tree = tmp_path / "victim", tmp_path / "t"
    victim.mkdir(mode=0o750)
    (victim / "file").touch()
    (tree / "a").mkdir(parents=True)
    real_rename = os.rename

    def rename(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if source == "a":
            os.rmdir(source, dir_fd=src_dir_fd)
            os.symlink(victim, source, dir_fd=src_dir_fd)
        real_rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(NotADirectoryError):
        removal.remove_tree(tree)
    assert (victim / "file").exists()
    assert victim.stat().st_mode & 0o777 == 0o750
    removal.remove_tree(tree)  # the next try finds a link, and removes that
    assert not tree.exists()
    assert (victim / "file").exists()
