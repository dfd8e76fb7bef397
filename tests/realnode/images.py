"""Images without a registry: a root file system made an OCI archive by umoci and skopeo."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def pack(work: Path, root: Path, name: str, *, command: Sequence[str] = (), user: str = "") -> Path:
    """Make an image of a directory tree.

    Args:
        work: folder for the layout and the result.
        root: the tree; its files become the image's only layer.
        name: reference, for example ``localhost/pause:1``.
        command: the image's command; none: the pod must name one.
        user: ``uid:gid`` that its processes run as.

    Returns:
        The archive, ready for ``ctr images import``.
    """
    flat = name.replace("/", "_").replace(":", "_")
    layout, archive = work / f"{flat}.oci", work / f"{flat}.tar"
    shutil.rmtree(layout, ignore_errors=True)
    archive.unlink(missing_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    image = f"{layout}:1"
    _run("umoci", "init", "--layout", str(layout))
    _run("umoci", "new", "--image", image)
    _run("umoci", "insert", "--image", image, str(root), "/")
    config = ["umoci", "config", "--image", image, "--clear=config.entrypoint"]
    for word in command:
        config += ["--config.cmd", word]
    if user:
        config += ["--config.user", user]
    _run(*config)
    _run("skopeo", "copy", f"oci:{image}", f"oci-archive:{archive}:{name}")
    return archive


def busybox_root(directory: Path) -> Path:
    """Make a root with busybox and its applets; returns it."""
    shutil.rmtree(directory, ignore_errors=True)
    binaries = directory / "bin"
    binaries.mkdir(parents=True)
    (directory / "tmp").mkdir(mode=0o1777)
    shutil.copy2(shutil.which("busybox") or "/bin/busybox", binaries / "busybox")
    applets = subprocess.run(
        [str(binaries / "busybox"), "--list"], capture_output=True, text=True, check=True
    )
    for applet in applets.stdout.split():
        if applet != "busybox":
            (binaries / applet).symlink_to("busybox")
    return directory


def pause(work: Path, name: str) -> Path:
    """Make the image of a pod's sandbox: busybox that sleeps."""
    root = busybox_root(work / "pause-root")
    return pack(work, root, name, command=["/bin/sleep", "2147483647"])
