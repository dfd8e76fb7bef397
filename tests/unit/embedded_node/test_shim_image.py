"""A container whose root is an image, as root and as an ordinary user."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from taskctl.init import shim_binary_path
from tests.embedded.images_common import BUSYBOX
from tests.unit.embedded_node.shim_box import Outcome, ShimBox, gone, wait_for

pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox")


@pytest.fixture(params=["root", "sanitized", "user"])
def any_box(request: pytest.FixtureRequest, open_tmp: Path) -> tuple[ShimBox, str]:
    if request.param == "user":
        box: ShimBox = request.getfixturevalue("user_box")
        return box, "umpf"
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param == "sanitized":
        return ShimBox(open_tmp, request.getfixturevalue("sanitized_shim")), "mpf"
    return ShimBox(open_tmp, shim_binary_path()), "mpf"


@pytest.fixture
def root(any_box: tuple[ShimBox, str], open_tmp: Path) -> Path:
    """Return an image's root with hostile links beside what the tests need."""
    assert BUSYBOX is not None
    path = open_tmp / "image"
    for name in ("bin", "dev", "proc", "sys", "etc", "tmp", "data"):
        (path / name).mkdir(parents=True)
    (path / "bin" / "busybox").write_bytes(BUSYBOX.read_bytes())
    (path / "bin" / "busybox").chmod(0o755)
    (path / "bin" / "sh").symlink_to("busybox")
    (path / "outside").symlink_to(open_tmp / "host")
    (path / "old").symlink_to(f"/.old-root{open_tmp}/host")
    (path / "made-up").symlink_to("/proc/self/fd/3")
    (path / "cwd").symlink_to("/proc/self/cwd")
    (path / "data").chmod(0o777)
    (open_tmp / "host").mkdir(mode=0o777)
    (open_tmp / "host").chmod(0o777)
    if any_box[0].prefix:  # as if that user had unpacked it
        user = any_box[0].prefix[2]
        subprocess.run(["chown", "-hR", f"{user}:{user}", str(path)], check=True)
    return path


def run(box: tuple[ShimBox, str], root: Path, script: str, extra: Sequence[str] = ()) -> Outcome:
    tokens = ["rootfs", str(root), *extra]
    return box[0].run(box[1], "/bin/sh", "-c", script, extra=tokens)


def test_the_root_is_the_image(any_box: tuple[ShimBox, str], root: Path) -> None:
    found = run(any_box, root, "echo *; echo x >/data/mine; cat /data/mine")
    assert found.exit.code == 0, found
    names = "bin cwd data dev etc made-up old outside proc sys tmp"
    assert found.stdout == [names, "x"]
    assert not (root / "data" / "mine").exists()


@pytest.mark.parametrize("uid", [0, 1000, 4_000_000_000])
def test_the_program_is_the_user(any_box: tuple[ShimBox, str], root: Path, uid: int) -> None:
    script = "busybox id -u; busybox id -g; busybox grep -E 'Cap(Eff|Bnd)' /proc/self/status"
    found = run(any_box, root, script, ["user", str(uid), "77", "group", "5"])
    none = "0000000000000000"
    assert found.stdout == [str(uid), "77", f"CapEff:\t{none}", f"CapBnd:\t{none}"]


def test_standard_output_can_be_opened(any_box: tuple[ShimBox, str], root: Path) -> None:
    found = run(any_box, root, "echo a >/dev/stdout; echo b >/dev/stderr", ["user", "5", "5"])
    assert (found.stdout, found.stderr) == (["a"], "b")


def test_a_container_ends_with_its_shim(any_box: tuple[ShimBox, str], root: Path) -> None:
    """A change of user makes the kernel forget that; the shim asks for it again."""
    box, isolate = any_box
    directory = box.directory(
        *("isolate", isolate, "rootfs", str(root), "user", "1000", "1000"),
        *("arg", "/bin/sh", "arg", "-c", "arg", "while :; do busybox sleep 0.1; done"),
    )
    process = box.start(directory)
    wait_for(directory / "started", "started_ns")
    pid = int((directory / "started").read_text().split()[1])
    shim = int((directory / "claim").read_text())
    os.kill(shim, signal.SIGKILL)
    process.wait()
    gone(pid)


@pytest.mark.parametrize("target", ["/outside/x", "/old/x", "/made-up/x", "/cwd/x"])
def test_links_of_the_image_lead_nowhere(
    any_box: tuple[ShimBox, str], root: Path, open_tmp: Path, target: str
) -> None:
    (open_tmp / "volume").mkdir()
    bind = ["bind", "rw", str(open_tmp / "volume"), target]
    run(any_box, root, "true", bind)
    run(any_box, root, "true", ["cwd", target])
    assert list((open_tmp / "host").iterdir()) == []
    assert list((open_tmp / "volume").iterdir()) == []


@pytest.mark.parametrize("path", ["/proc/self/fd/3", "/proc/1/cwd", "/cwd", "/made-up"])
def test_no_working_directory_through_the_kernel_s_own_links(
    any_box: tuple[ShimBox, str], root: Path, path: str
) -> None:
    found = run(any_box, root, "true", ["cwd", path])
    assert found.exit.start_error
    assert "link" in found.exit.message or "working directory" in found.exit.message


def test_volumes_below_what_the_image_has(
    any_box: tuple[ShimBox, str], root: Path, open_tmp: Path
) -> None:
    volume = open_tmp / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    (volume / "f").write_text("v")
    extra = ["bind", "ro", str(volume), "/etc/a/b", "bind", "rw", str(volume), "/data/x"]
    extra += ["root", "ro"]
    script = "! echo x >/etc/a/b/f; ! echo x >/etc/n; echo y >/data/x/new; busybox cat /etc/a/b/f"
    found = run(any_box, root, script, extra)
    assert found.stdout[-1] == "v"
    assert (volume / "new").read_text() == "y\n"
    assert not (root / "etc" / "a").exists()
