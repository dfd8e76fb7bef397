"""The image as its users build it: from the Containerfile, by buildah.

    scripts/containerfile [--check]

Prints the path of an OCI archive. Layers, the base and Zig's cache stay in the user's cache, so
that only the first build takes minutes. Where no registry answers, a stand-in takes the place of
``docker.io/library/python:3.12-slim``: the Debian of scripts/image with this machine's Python 3.12
in /usr/local, which is where the original has it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskctl import __version__
from tests.realnode.binary import cache_dir
from tests.realnode.image_build import build, contents
from tests.realnode.image_containerfile import parse
from tests.realnode.image_recipes import CONTAINERFILE, PYTHON, ROOT
from tests.realnode.images import PATH, ImageError, copy_file, copy_tree, run, run_in

BASE: Final = "docker.io/library/python:3.12-slim"
PYTHON_VERSION: Final = "3.12"
# Not the name that scripts/image uses: a node may hold both.
REFERENCE: Final = f"docker.io/library/taskctl:{__version__}-next"
# What asks for the least of the machine: no cgroups, no runc.
ISOLATION: Final = "chroot"
# Zig holds each of musl's 1,300 objects open. buildah's own limit is 1,024.
OPEN_FILES: Final = 20_000
# Of one build some ten are new. More than that, and all are made anew.
MOST_IMAGES: Final = 120
KEPT: Final = 2
PULL_S: Final = 60
BUILD_S: Final = 1500
CERTIFICATES: Final = Path("/etc/ssl/certs")
# What of pip's configuration says where packages come from.
PIP_OPTIONS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy")
NOT_IN_PYTHON: Final = ("site-packages", "test", "idlelib", "turtledemo", "__pycache__")


class Buildah:
    """buildah with a storage of its own.

    Args:
        directory: of that storage, which outlives a build.
        scratch: what lives as long as one build.
    """

    def __init__(self, directory: Path, scratch: Path) -> None:
        self._start = ("buildah", f"--root={directory}", f"--runroot={scratch}")

    def __call__(self, *words: str, timeout_s: float = 300) -> str:
        """Run a verb; returns what it prints.

        Raises:
            ImageError: it failed, or took too long; with its words.
        """
        try:
            done = subprocess.run(
                [*self._start, *words],
                capture_output=True, text=True, timeout=timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ImageError(f"buildah {words[0]} took more than {timeout_s:.0f} s") from error
        if done.returncode != 0:
            end = (done.stderr or done.stdout).strip().splitlines()[-40:]
            raise ImageError(f"buildah {' '.join(words)}: " + "\n".join(end))
        return done.stdout.strip()

    @contextlib.contextmanager
    def container(self, image: str) -> Iterator[tuple[str, Path]]:
        """Make a container of an image, and remove it in the end; yields its name and its root."""
        name = self("from", "--pull-never", image)
        try:
            yield name, Path(self("mount", name))
        finally:
            self("rm", name)


@contextlib.contextmanager
def opened() -> Iterator[Buildah]:
    """Open the storage in the user's cache, which one build at a time may use.

    Raises:
        ImageError: there is no buildah, or this is not root.
    """
    if shutil.which("buildah") is None:
        raise ImageError("buildah is not installed: apt-get install buildah")
    if os.geteuid() != 0:
        raise ImageError("the base is made by root")
    directory = cache_dir() / "buildah"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with tempfile.TemporaryDirectory(prefix="taskctl-buildah-") as scratch:
            yield Buildah(directory / "storage", Path(scratch))


def check() -> None:
    """Raise ImageError, with what is missing, if the image cannot be built here."""
    with opened() as buildah:
        with buildah.container("scratch"):
            pass
        if not _pulled(buildah):
            _interpreter()


def archive() -> Path:
    """Return the image's OCI archive; builds it if it is not there.

    Raises:
        ImageError: it cannot be built.
    """
    with opened() as buildah:
        path = cache_dir() / "buildah" / f"taskctl-{_key()}.tar"
        if not path.exists():
            _build(buildah, path)
            made = sorted(path.parent.glob("taskctl-*.tar"), key=lambda one: one.stat().st_mtime)
            for old in made[:-KEPT]:
                old.unlink()
        return path


def _key() -> str:
    """Return the hash of what the image is made of."""
    stages = parse((ROOT / CONTAINERFILE).read_text())
    copies = [copy for stage in stages for copy in stage.copies if not copy.stage]
    inputs = {source for copy in copies for source in copy.sources}
    own = Path(__file__).relative_to(ROOT).as_posix()
    digest = hashlib.sha256(platform.machine().encode())
    for path, content in contents(ROOT, (CONTAINERFILE, ".dockerignore", own, *sorted(inputs))):
        digest.update(f"\0{path}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _build(buildah: Buildah, path: Path) -> None:
    if len(buildah("images", "--all", "--quiet").split()) > MOST_IMAGES:
        buildah("rmi", "--all", "--force")
    if not _pulled(buildah):
        _make_base(buildah)
    zig = Path.home() / ".cache" / "zig"
    zig.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="taskctl-pip-") as folder:
        settings = Path(folder, "pip.conf")
        settings.write_text(_pip_settings())
        buildah(
            "build", "--layers", "--pull-never", f"--isolation={ISOLATION}", "--network=host",
            f"--ulimit=nofile={OPEN_FILES}:{OPEN_FILES}",
            f"--volume={settings}:/etc/pip.conf:ro", f"--volume={zig}:/root/.cache/zig:rw",
            *([f"--volume={CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.is_dir() else []),
            f"--file={ROOT / CONTAINERFILE}", f"--tag={REFERENCE}", str(ROOT),
            timeout_s=BUILD_S,
        )  # fmt: skip
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        target = f"oci-archive:{temporary}:{REFERENCE}"
        buildah("push", "--disable-compression", "--quiet", REFERENCE, target)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _pulled(buildah: Buildah) -> bool:
    """Whether a registry gives the base, or gave it before."""
    with contextlib.suppress(ImageError):
        buildah("pull", "--quiet", "--policy=newer", BASE, timeout_s=PULL_S)
        made = json.loads(buildah("inspect", "--type=image", BASE))
        labels = made["OCIv1"]["config"].get("Labels") or {}
        return STAND_IN not in labels
    return False


# Labels the stand-in.
STAND_IN: Final = "dev.taskctl.stand-in"


def _make_base(buildah: Buildah) -> None:
    """Make what stands for the base, unless the storage has it."""
    python = _interpreter()
    [debian] = build([PYTHON])
    kept = f"localhost/taskctl-base:{_base_key(debian, python)}"
    if not buildah("images", "--quiet", f"--filter=reference={kept}"):
        below = buildah("pull", "--quiet", f"oci-archive:{debian}").splitlines()[-1]
        with buildah.container(below) as (name, root):
            _add_python(python, root)
            paths = f"PATH={PATH}"
            buildah("config", f"--label={STAND_IN}=true", f"--env={paths}", name)
            buildah("commit", "--quiet", name, kept)
    buildah("tag", kept, BASE)


def _base_key(debian: Path, python: Path) -> str:
    words = (debian.name, str(python), python.stat().st_mtime_ns, NOT_IN_PYTHON)
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


def _add_python(python: Path, root: Path) -> None:
    """Put an interpreter, its library and pip into /usr/local."""
    prefix, local = python.parents[1], root / "usr/local"
    copy_file(python.resolve(), local / f"bin/python{PYTHON_VERSION}")
    for name, target in (("python3", f"python{PYTHON_VERSION}"), ("python", "python3")):
        (local / "bin" / name).symlink_to(target)
    for shared in prefix.glob(f"lib/libpython{PYTHON_VERSION}.so*"):
        copy_file(shared, local / "lib" / shared.name)
    library = local / f"lib/python{PYTHON_VERSION}"
    copy_tree(prefix / f"lib/python{PYTHON_VERSION}", library)
    for name in NOT_IN_PYTHON:
        shutil.rmtree(library / name, ignore_errors=True)
    (library / "site-packages").mkdir()
    for name, mode in (("tmp", 0o1777), ("dev", 0o755)):
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(mode)
    null = root / "dev/null"
    null.touch()  # ensurepip opens it; whatever mounts /dev puts the real one there
    run("ldconfig", "-r", str(root))
    run_in(root, "/usr/local/bin/python3", "-m", "ensurepip")
    null.unlink()
    (local / "bin/pip").symlink_to("pip3")


def _interpreter() -> Path:
    """Return this machine's Python 3.12: of pyenv, or on PATH.

    Raises:
        ImageError: there is none.
    """
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    name = f"python{PYTHON_VERSION}"
    found = [*sorted(versions.glob(f"{PYTHON_VERSION}.*/bin/{name}"))]
    if on_path := shutil.which(name):
        found.append(Path(on_path).resolve())
    for each in found:
        if (each.parents[1] / f"lib/{name}/ensurepip").is_dir():
            return each
    raise ImageError(f"no registry gives {BASE}, and there is no {name} to make a stand-in of")


def _pip_settings() -> str:
    """Return a configuration for the pip in the build: the same index as this machine's."""
    lines = ["[global]"]
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in PIP_OPTIONS:
            lines.append(f"{option} = {ast.literal_eval(value)}".replace("\n", "\n    "))
    bundle = CERTIFICATES / "ca-certificates.crt"
    if bundle.exists():
        lines.append(f"cert = {bundle}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Build the image, or say whether it can be built."""
    parser = argparse.ArgumentParser(prog="containerfile", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it can be built")
    args = parser.parse_args()
    try:
        if args.check:
            check()
        else:
            print(archive())
    except (ImageError, OSError, subprocess.SubprocessError) as error:
        print(f"containerfile: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
