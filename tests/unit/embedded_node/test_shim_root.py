"""What a container sees of the file system, as root and as an ordinary user."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from taskctl.init import shim_binary_path
from tests.unit.embedded_node.shim_box import Outcome, ShimBox

MODES = ["mpf", "mp", "m", "mpfo", "umpf", "ump", "um", "umpfo"]
USER_MODES = [mode for mode in MODES if "u" in mode]


@pytest.fixture(params=["root", "root, sanitized", "user"])
def any_box(request: pytest.FixtureRequest, open_tmp: Path) -> ShimBox:
    if request.param == "user":
        found: ShimBox = request.getfixturevalue("user_box")
        return found
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param == "root":
        return ShimBox(open_tmp, shim_binary_path())
    return ShimBox(open_tmp, request.getfixturevalue("sanitized_shim"))


def run(box: ShimBox, mode: str, script: str, *extra: str) -> Outcome:
    if box.prefix and mode not in USER_MODES:
        pytest.skip("an ordinary user needs a user namespace")
    result = box.run(mode, "sh", "-c", script, extra=extra)
    if mode in USER_MODES and "create the process" in result.exit.message:
        pytest.skip(f"no user namespaces here: {result.exit.message}")
    return result


def volume(box: ShimBox, name: str, **files: str) -> Path:
    path = box.base / name
    path.mkdir()
    path.chmod(0o777)
    for file, content in files.items():
        (path / file).write_text(content)
    return path


def binds(*mounts: tuple[str, Path, str]) -> Sequence[str]:
    return [text for mode, source, target in mounts for text in ("bind", mode, str(source), target)]


@pytest.mark.parametrize("mode", MODES)
def test_host_is_visible_and_read_only(any_box: ShimBox, mode: str) -> None:
    script = "test -r /etc/passwd && for d in / /usr /etc /usr/bin; do touch $d/x && echo $d; done"
    result = run(any_box, mode, script)
    assert result.stdout == ["/"]  # the root itself is the container's own, and goes with it
    refusals = ("Read-only file system", "Permission denied")  # the latter: not root anyway
    assert sum(result.stderr.count(text) for text in refusals) == 3
    assert not Path("/x").exists()


@pytest.mark.parametrize("mode", MODES)
def test_first_process_of_a_pid_namespace(any_box: ShimBox, mode: str) -> None:
    result = run(any_box, mode, "echo $$; ls -d /proc/[0-9]* | wc -l")
    pid, visible = (int(text) for text in result.stdout)
    assert (pid == 1) == ("p" in mode)
    if "f" in mode:
        assert visible < 5
    else:
        assert visible > 5


def test_user_keeps_the_own_identity(any_box: ShimBox) -> None:
    result = run(any_box, "umpf", "id -u; touch /tmp/made; stat -c %u /tmp/made")
    expected = any_box.prefix[2] if any_box.prefix else str(os.geteuid())
    assert result.stdout == [expected, expected]


@pytest.mark.parametrize("mode", MODES)
def test_volumes_are_mounted_where_asked(any_box: ShimBox, mode: str) -> None:
    work = volume(any_box, "work", inside="hello")
    config = volume(any_box, "config", key="value")
    script = (
        "cat /workspace/inside; touch /workspace/new; cat /etc/config/deep/key;"
        " touch /etc/config/deep/no; test -r /etc/passwd && echo host"
    )
    mounts = binds(("rw", work, "/workspace"), ("ro", config, "/etc/config/deep"))
    result = run(any_box, mode, script, *mounts)
    assert "".join(result.stdout) == "hellovaluehost"
    assert "Read-only file system" in result.stderr
    assert (work / "new").exists()
    assert not (config / "no").exists()
    assert not Path("/etc/config").exists()


@pytest.mark.parametrize("mode", ["mpf", "umpf", "umpfo"])
def test_mounts_within_mounts(any_box: ShimBox, mode: str) -> None:
    outer = volume(any_box, "outer", a="outer")
    sealed = volume(any_box, "sealed", b="sealed")
    inner = volume(any_box, "inner", c="inner")
    script = (
        "cat /v/a /v/in/c /s/b /s/deep/in/c; touch /v/in/x;"
        " touch /s/no; touch /s/deep/no; touch /s/deep/in/yes"
    )
    mounts = binds(
        ("rw", outer, "/v"),
        ("ro", sealed, "/s"),
        ("rw", inner, "/v/in"),
        ("rw", inner, "/s/deep/in"),
    )
    result = run(any_box, mode, script, *mounts)
    assert "".join(result.stdout) == "outerinnersealedinner"
    assert result.stderr.count("Read-only file system") == 2
    assert {p.name for p in inner.iterdir()} == {"c", "x", "yes"}
    assert not (sealed / "deep").exists()


@pytest.mark.parametrize("mode", ["mpf", "umpf", "umpfo"])
def test_a_part_of_a_volume(any_box: ShimBox, mode: str) -> None:
    work = volume(any_box, "work")
    (work / "a" / "b").mkdir(parents=True)
    (work / "a" / "b").chmod(0o777)
    (work / "a" / "file").write_text("text")
    extra = ["below", "rw", str(work), "a/b", "/v/sub", "below", "ro", str(work), "a/file", "/v/f"]
    result = run(any_box, mode, "touch /v/sub/new; cat /v/f; ls /v; echo no > /v/f", *extra)
    assert result.stdout == ["textf", "sub"]
    assert "Read-only file system" in result.stderr
    assert (work / "a" / "b" / "new").exists()


@pytest.mark.parametrize("mode", ["mpf", "umpf", "umpfo"])
@pytest.mark.parametrize(
    "sub", ["link", "link/x", "d/link", "d/../../secret", "..", "d//x", "none"]
)
def test_a_part_of_a_volume_that_became_a_link(any_box: ShimBox, mode: str, sub: str) -> None:
    """The node has seen a directory there; a container has put a link in its place since."""
    secret = volume(any_box, "secret", x="hidden")
    work = volume(any_box, "work")
    (work / "d").mkdir()
    (work / "link").symlink_to(secret)
    (work / "d" / "link").symlink_to("../../secret/x")
    result = run(any_box, mode, "cat /v /v/x", "below", "ro", str(work), sub, "/v")
    assert (result.exit.code, result.exit.start_error) == (128, True)
    assert "open the source of a mount" in result.exit.message
    assert result.stdout == []


def test_a_part_of_a_volume_while_a_container_swaps_it(any_box: ShimBox) -> None:
    secret = volume(any_box, "secret", x="hidden")
    work = volume(any_box, "work")
    (work / "d").mkdir()
    (work / "d" / "x").write_text("mine")
    (work / "link").symlink_to(secret)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            (work / "d").rename(work / "aside")
            (work / "link").rename(work / "d")
            (work / "d").rename(work / "link")
            (work / "aside").rename(work / "d")

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        seen = {
            (*result.stdout, result.exit.code)
            for _ in range(40)
            for result in [run(any_box, "umpf", "cat /v/x", "below", "ro", str(work), "d", "/v")]
        }
    finally:
        over.set()
        racer.join()
    assert seen <= {("mine", 0), (128,)}


@pytest.mark.parametrize("mode", ["mpf", "umpf", "umpfo"])
def test_mount_point_behind_a_symlink_and_in_dev(any_box: ShimBox, mode: str) -> None:
    token = volume(any_box, "token", token="secret")
    message = any_box.base / "message"
    message.touch()
    message.chmod(0o666)
    script = (
        "cat /var/run/secrets/x/token; echo bye > /dev/termination-log;"
        " echo lost > /dev/null; head -c 4 /dev/zero | wc -c; test -c /dev/null && echo device"
    )
    mounts = binds(("ro", token, "/var/run/secrets/x"), ("rw", message, "/dev/termination-log"))
    result = run(any_box, mode, script, *mounts)
    assert "".join(result.stdout) == "secret4device"
    assert message.read_text() == "bye\n"
    assert not Path("/dev/termination-log").exists()


@pytest.mark.parametrize("mode", ["mpf", "umpf", "umpfo"])
def test_masked_paths_are_hidden(any_box: ShimBox, mode: str) -> None:
    secret = volume(any_box, "secret", token="do not read")
    tree = volume(any_box, "tree", plain="plain")
    (tree / "sub").mkdir()
    (tree / "sub" / "key").write_text("hidden")
    script = "ls -A /tree/sub | wc -l; cat /tree/plain; ls -A /etc/apt | wc -l; cat /s/token"
    mounts = [*binds(("rw", tree, "/tree"), ("ro", secret, "/s")), "mask", "/tree/sub"]
    result = run(any_box, mode, script, "mask", "/etc/apt", "mask", "/no/such/path", *mounts)
    assert "".join(result.stdout) == "0plain0do not read"


def test_image_root_covers_the_host(any_box: ShimBox) -> None:
    image = volume(any_box, "image")
    (image / "app").mkdir()
    program = image / "app" / "counter"
    program.write_text("#!/bin/sh\necho counted\n")
    program.chmod(0o755)
    (image / "srv").mkdir()
    (image / "link").symlink_to("app")
    script = "/app/counter; /link/counter; ls -A /srv | wc -l; touch /app/x"
    result = run(any_box, "umpf", script, "image", str(image))
    assert result.stdout == ["counted", "counted", "0"]
    assert "Read-only file system" in result.stderr


def test_tmp_is_private_and_writable(any_box: ShimBox) -> None:
    result = run(any_box, "umpf", "ls -A /tmp | wc -l; echo x > /tmp/f; stat -c %a /tmp")
    assert result.stdout == ["0", "1777"]
    assert (result.directory / "tmp" / "f").read_text() == "x\n"


def test_working_directory_is_made(any_box: ShimBox) -> None:
    assert run(any_box, "umpf", "pwd", "cwd", "/not/there").stdout == ["/not/there"]


def test_root_can_be_read_only(any_box: ShimBox) -> None:
    result = run(any_box, "umpf", "touch /x", "root", "ro")
    assert "Read-only file system" in result.stderr


def test_missing_source_of_a_mount_is_a_start_error(any_box: ShimBox) -> None:
    result = run(any_box, "umpf", "true", *binds(("rw", any_box.base / "nothing", "/v")))
    assert result.exit.start_error
    assert "nothing" in result.exit.message


def test_root_loses_the_power_to_undo_it(any_box: ShimBox) -> None:
    if any_box.prefix:
        pytest.skip("an ordinary user has none to lose")
    result = run(any_box, "mpf", "mount -o remount,rw,bind /usr || echo refused")
    assert result.stdout == ["refused"]
    kept = run(any_box, "mpf", "mount -t tmpfs none /mnt && echo mounted", "privileged", "yes")
    assert kept.stdout == ["mounted"]


def test_ordinary_user_without_namespaces_is_told(user_box: ShimBox) -> None:
    if not user_box.prefix:
        pytest.skip("needs root, to become an ordinary user")
    result = user_box.run("mpf", "true")
    assert result.exit.start_error
    assert "create the process" in result.exit.message


@pytest.mark.parametrize("mode", ["umpf", "umpfo"])
def test_mount_below_a_directory_of_another_user(
    user_box: ShimBox, open_tmp: Path, mode: str
) -> None:
    """Another user's mounts, such as a container runtime's, are none of our business."""
    if os.geteuid() != 0:
        pytest.skip("making a mount needs root")
    closed = open_tmp / "closed"
    mounted = closed / "mounted"
    mounted.mkdir(parents=True)
    closed.chmod(0o700)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(mounted)], check=True)
    try:
        result = run(user_box, mode, f"touch {mounted}/x 2>/dev/null || echo refused")
        assert result.stdout == ["refused"]
        assert not (mounted / "x").exists()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
