"""What a subPath is, in a volume where hostile code makes links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from taskctl.embedded.node import subpaths
from taskctl.embedded.node.mounts import Bind
from taskctl.embedded.node.payloads import PayloadFile, write_payload

TARGET = PurePosixPath("/v")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.mkdir()
    path.chmod(0o777)
    (tmp_path / "outside").mkdir()
    return path


def settle(volume: Path, sub: str) -> Path:
    settled = subpaths.settle(Bind(volume / sub, TARGET, read_only=False, volume=volume))
    assert settled.volume == volume
    return settled.source


def test_what_is_missing_is_made_like_the_volume(volume: Path) -> None:
    before = os.umask(0o077)
    try:
        assert settle(volume, "a/b") == volume / "a" / "b"
    finally:
        os.umask(before)
    assert [(volume / d).stat().st_mode & 0o777 for d in ("a", "a/b")] == [0o777, 0o777]


def test_what_is_there_stays(volume: Path) -> None:
    (volume / "file").write_text("x")
    assert settle(volume, "file").read_text() == "x"
    (volume / "d").mkdir(mode=0o700)
    assert settle(volume, "d").stat().st_mode & 0o777 == 0o700
    whole = Bind(volume, TARGET, read_only=True)
    assert subpaths.settle(whole) == whole


def test_links_within_the_volume_lead_where_they_point(volume: Path) -> None:
    write_payload(volume, {"key": PayloadFile(b"value", 0o644)})
    found = settle(volume, "key")
    assert found.read_bytes() == b"value"
    assert not any(p.is_symlink() for p in (found, *found.parents) if p.is_relative_to(volume))


@pytest.mark.parametrize(
    "make",
    [
        lambda v: (v / "s").symlink_to("../outside"),
        lambda v: (v / "s").symlink_to("/etc"),
        lambda v: (v / "s").symlink_to("/nowhere/at/all"),
        lambda v: (v / "s").symlink_to("s"),
        lambda v: (v / "s").touch(),
        lambda v: os.mkfifo(v / "s"),
    ],
    ids=["relative", "absolute", "dangling", "loop", "file on the way", "fifo on the way"],
)
def test_ways_out_are_refused(volume: Path, make: Callable[[Path], None]) -> None:
    make(volume)
    with pytest.raises(subpaths.SubPathError, match=r"subPath"):
        settle(volume, "s/x")
    assert list((volume.parent / "outside").iterdir()) == []
    assert not Path("/nowhere").exists()


def test_a_directory_that_becomes_a_link_while_others_are_made(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_mkdir = os.mkdir

    def mkdir(name: str, mode: int, *, dir_fd: int) -> None:
        real_mkdir(name, mode, dir_fd=dir_fd)
        if name == "a":
            os.rmdir(name, dir_fd=dir_fd)
            os.symlink("../outside", name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(subpaths.SubPathError):
        settle(volume, "a/b")
    assert list((volume.parent / "outside").iterdir()) == []
