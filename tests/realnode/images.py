"""Images without a registry: directory trees made an OCI archive by umoci and skopeo."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Part of the key of every image: raise it when what this module writes changes.
FORMAT = 1
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ImageError(Exception):
    """An image cannot be made here; the message says why."""


@dataclass(frozen=True)
class Layer:
    """A tree, and the directory of the image that it goes to."""

    tree: Path
    target: str = "/"


@dataclass(frozen=True)
class Config:
    """What an image says of its processes; what is empty is left as the base has it."""

    user: str = ""
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a program; returns its standard output.

    Raises:
        ImageError: it failed.
    """
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def pack(
    archive: Path,
    name: str,
    layers: Sequence[Layer],
    config: Config | None = None,
    *,
    base: Path | None = None,
) -> None:
    """Make an image.

    Args:
        archive: where to write it, ready for ``ctr images import``.
        name: reference, for example ``localhost/pause:1``.
        layers: go on top of the base, the first one lowest. Owners and modes are taken over.
        config: its user, command and so on.
        base: archive of the image below; its layers are taken over as they are, so that a
            node stores them once.

    Raises:
        ImageError: umoci or skopeo failed.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="work-layout-") as work:
        layout = Path(work) / "layout"
        image = f"{layout}:1"
        if base is None:
            run("umoci", "init", "--layout", str(layout))
            run("umoci", "new", "--image", image)
        else:
            run("skopeo", "copy", "--quiet", f"oci-archive:{base}", f"oci:{image}")
        for layer in layers:
            # Not "umoci insert": what that writes breaks off in the last file's padding.
            written = _write(layer, Path(work) / "layer.tar")
            run("umoci", "raw", "add-layer", "--image", image, str(written))
        run("umoci", "config", "--image", image, *_options(config or Config()))
        archive.unlink(missing_ok=True)
        run("skopeo", "copy", "--quiet", f"oci:{image}", f"oci-archive:{archive}:{name}")


def _write(layer: Layer, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        tar.add(layer.tree, layer.target.strip("/") or ".", filter=_plain)
    return path


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Drop what only this machine knows: names of users, and fractions of a second."""
    member.uname = member.gname = ""
    member.mtime = int(member.mtime)
    return member


def _options(config: Config) -> list[str]:
    options = []
    if config.entrypoint or config.command:
        # As in a Containerfile: an entrypoint ends the base's command. The field must be
        # cleared, not set to nothing: that would be one empty word.
        options += ["--clear=config.entrypoint", "--clear=config.cmd"]
    options += [f"--config.entrypoint={word}" for word in config.entrypoint]
    options += [f"--config.cmd={word}" for word in config.command]
    options += [f"--config.env={name}={value}" for name, value in config.env.items()]
    options += [f"--config.label={name}={value}" for name, value in config.labels.items()]
    if config.user:
        options.append(f"--config.user={config.user}")
    return options


def unpacked(archive: Path) -> Path:
    """Return an image's root file system, beside its archive.

    Unpacking takes longer than anything else that a build does again and again, so the tree
    stays. Whoever adds to it takes that out again.
    """
    root = archive.with_suffix(".root")
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix="work-unpack-") as work:
            image = f"{work}/layout:1"
            run("skopeo", "copy", "--quiet", f"oci-archive:{archive}", f"oci:{image}")
            run("umoci", "raw", "unpack", "--image", image, f"{work}/root")
            Path(work, "root").rename(root)
    return root


def run_in(root: Path, *command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a program of a root file system in it, without this process's environment."""
    words = [f"{name}={value}" for name, value in ({"PATH": PATH} | dict(env or {})).items()]
    return run("chroot", str(root), "/usr/bin/env", "-i", *words, *command)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a tree as ``COPY`` in a Containerfile would: whoever may run it can read it.

    Owners and modes of a checkout depend on who made it, under which umask. The copy belongs
    to whoever runs this, hence to root. Links stay links. Compiled Python is left out.
    """
    target.mkdir(parents=True, exist_ok=True)
    target.chmod(0o755)
    for entry in sorted(source.iterdir()):
        copy = target / entry.name
        if entry.is_symlink():
            copy.symlink_to(entry.readlink())
        elif entry.is_dir():
            if entry.name != "__pycache__":
                copy_tree(entry, copy)
        else:
            copy_file(entry, copy)


def copy_file(source: Path, target: Path) -> None:
    """Copy one file; see :func:`copy_tree`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def busybox() -> Path:
    """Return the path of Debian's static busybox.

    Raises:
        ImageError: it is not installed.
    """
    found = shutil.which("busybox")
    if found is None:
        raise ImageError("busybox is missing: install busybox-static")
    return Path(found)


def busybox_root(directory: Path) -> Path:
    """Make a root with busybox and its applets; returns it."""
    shutil.rmtree(directory, ignore_errors=True)
    binaries = directory / "bin"
    binaries.mkdir(parents=True)
    for folder, mode in ((directory, 0o755), (binaries, 0o755), (directory / "tmp", 0o1777)):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)  # not by mkdir: that asks the umask
    copy_file(busybox(), binaries / "busybox")
    for applet in run(str(binaries / "busybox"), "--list").split():
        if applet != "busybox":
            (binaries / applet).symlink_to("busybox")
    return directory


def pause(work: Path, name: str) -> Path:
    """Make the image of a pod's sandbox, busybox that sleeps; returns the archive."""
    root = busybox_root(work / "pause-root")
    archive = work / "pause.tar"
    pack(archive, name, [Layer(root)], Config(command=["/bin/sleep", "2147483647"]))
    return archive
