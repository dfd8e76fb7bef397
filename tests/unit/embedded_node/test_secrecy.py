"""Which paths of the host are hidden from containers."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from taskctl.embedded.node import secrecy
from taskctl.embedded.node.secrecy import HiddenPaths, MountPoint, aliases, parse_mountinfo

DISK = "254:0"
MOUNTINFO = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:20 / /proc rw - proc proc rw
23 21 254:0 /srv/my\\040data /mnt/with\\040blank rw shared:1 - ext4 /dev/vda rw
garbage
"""


def mount(root: str, target: str, device: str = DISK) -> MountPoint:
    return MountPoint(device, PurePosixPath(root), PurePosixPath(target))


def test_mountinfo_is_read() -> None:
    assert parse_mountinfo(MOUNTINFO) == (
        mount("/", "/"),
        mount("/", "/proc", "0:20"),
        mount("/srv/my data", "/mnt/with blank"),
    )


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([], ["/home/me/.taskctl"]),
        ([mount("/", "/")], ["/home/me/.taskctl"]),
        # the whole file system a second time
        ([mount("/", "/"), mount("/", "/mnt")], ["/home/me/.taskctl", "/mnt/home/me/.taskctl"]),
        # a parent of the directory, bound elsewhere
        (
            [mount("/", "/"), mount("/home/me", "/srv/me")],
            ["/home/me/.taskctl", "/srv/me/.taskctl"],
        ),
        # the directory itself, and a part of it
        (
            [
                mount("/", "/"),
                mount("/home/me/.taskctl", "/a"),
                mount("/home/me/.taskctl/db", "/b"),
            ],
            ["/a", "/b", "/home/me/.taskctl"],
        ),
        # /home is a file system of its own
        (
            [mount("/", "/"), mount("/", "/home", "8:1"), mount("/me", "/srv", "8:1")],
            ["/home/me/.taskctl", "/srv/.taskctl"],
        ),
        # others are of no interest
        ([mount("/", "/"), mount("/home", "/x", "8:1")], ["/home/me/.taskctl"]),
        ([mount("/", "/"), mount("/home/other", "/x")], ["/home/me/.taskctl"]),
        # of two mounts on one place the later one is seen
        (
            [
                mount("/", "/"),
                mount("/", "/home", "8:1"),
                mount("/sub", "/home", "8:2"),
                mount("/", "/x", "8:2"),
            ],
            ["/home/me/.taskctl", "/x/sub/me/.taskctl"],
        ),
    ],
)
def test_a_directory_is_found_at_every_path(mounts: list[MountPoint], expected: list[str]) -> None:
    assert [str(p) for p in aliases(Path("/home/me/.taskctl"), mounts)] == expected


@pytest.fixture
def stacks(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Return a registry with two data directories in it."""
    registry, first, second = tmp_path / "registry", tmp_path / "first", tmp_path / "second"
    for data_dir in (first, second):
        data_dir.mkdir()
        secrecy.register(registry, data_dir)
    return registry, first, second


def test_each_stack_hides_all_stacks(stacks: tuple[Path, Path, Path]) -> None:
    registry, first, second = stacks
    hidden = HiddenPaths(first, registry, None).current()
    assert {registry, first, second} <= set(hidden)


def test_a_stack_that_comes_later_is_hidden_too(
    stacks: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    registry, first, second = stacks
    hidden = HiddenPaths(first, registry, None)
    before = hidden.current()
    third = tmp_path / "third"
    third.mkdir()
    secrecy.register(registry, third)
    secrecy.register(registry, third)  # a second start of the same stack
    assert set(hidden.current()) - set(before) == {third}
    second.rmdir()
    assert second not in hidden.current()
    assert len(list(registry.iterdir())) == 2


def test_credentials_at_home_are_hidden(tmp_path: Path) -> None:
    home = tmp_path / "home"
    real = tmp_path / "keys"
    real.mkdir()
    home.mkdir()
    (home / ".ssh").symlink_to(real)
    hidden = HiddenPaths(tmp_path / "data", None, home).current()
    assert real in hidden
    assert home / ".kube" in hidden
