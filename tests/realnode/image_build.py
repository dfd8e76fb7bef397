"""Builds images without a registry and keeps them in the user's cache.

    scripts/image NAME... | all [--output DIR]

Prints the path of one OCI archive per image. What was built from the same inputs is not built
again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts.build_hook import CompileError
from tests.realnode.binary import cache_dir
from tests.realnode.image_recipes import PACKAGES, ROOT, Recipe, Source, recipes
from tests.realnode.images import FORMAT, ImageError, copy_file, copy_tree, pack
from tests.realnode.node import NodeError, install_packages

TOOLS = ("debootstrap", "umoci", "skopeo", "busybox")
# Of one image, beside the one that was asked for last: other checkouts, other branches.
KEPT = 2
# Made by the build, not for it.
NOT_INPUTS = ("taskctl/init/bin",)


class Store:
    """The archives, named after what they were made of; several processes may use it at once."""

    def __init__(self, directory: Path, known: dict[str, Recipe], root: Path = ROOT) -> None:
        self.directory = directory
        self._known = known
        self._root = root

    def archive(self, name: str) -> Path:
        """Return the archive of an image; builds it if it is not there.

        Raises:
            ImageError: it cannot be built.
        """
        path = self._path(name, self._root)
        if path.exists():
            path.touch()
            return path
        with self._lock():
            return self._build(name)

    def key(self, name: str, root: Path) -> str:
        """Return the hash of what an image is made of, as it lies below ``root``."""
        recipe = self._known[name]
        below = self.key(recipe.base, root) if recipe.base else ""
        made = (FORMAT, platform.machine(), recipe.reference, recipe.config, recipe.values, below)
        digest = hashlib.sha256(repr(made).encode())
        for path, content in contents(root, recipe.inputs):
            mode = "x" if os.access(root / path, os.X_OK) else "-"
            digest.update(f"\0{path}\0{mode}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()[:16]

    def _path(self, name: str, root: Path) -> Path:
        return self.directory / f"{name}-{self.key(name, root)}.tar"

    def _build(self, name: str) -> Path:
        """Build from a copy of the inputs: somebody may be editing them."""
        with self._folder() as folder:
            tree = folder / "source"
            for each in self._below(name):
                _copy_inputs(self._root, tree, self._known[each].inputs)
            return self._built(name, tree, folder)

    def _built(self, name: str, tree: Path, folder: Path) -> Path:
        path = self._path(name, tree)
        if path.exists():
            path.touch()
            return path
        recipe = self._known[name]
        base = self._built(recipe.base, tree, folder) if recipe.base else None
        print(f"Building the image {name} ...", file=sys.stderr, flush=True)
        work = folder / name
        work.mkdir()
        layers = recipe.make(Source(tree, work, base))
        pack(folder / path.name, recipe.reference, layers, recipe.config, base=base)
        (folder / path.name).rename(path)
        shutil.rmtree(work)
        self._forget(name)
        return path

    def _below(self, name: str) -> Iterator[str]:
        each: str | None = name
        while each:
            yield each
            each = self._known[each].base

    def _forget(self, name: str) -> None:
        """Remove the oldest archives of an image."""
        made = [path for path in self.directory.glob(f"{name}-*.tar") if _name(path) == name]
        for path in sorted(made, key=lambda path: path.stat().st_mtime)[: -KEPT - 1]:
            path.unlink()
            shutil.rmtree(path.with_suffix(".root"), ignore_errors=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for path in self.directory.glob("work-*"):  # of builds that were killed
                shutil.rmtree(path, ignore_errors=True)
            yield

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.directory, prefix="work-") as folder:
            yield Path(folder)


def _name(archive: Path) -> str:
    return archive.stem.rpartition("-")[0]


def contents(root: Path, inputs: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every input file, each once, in one order."""
    files = {file for name in inputs for file in _files(root, root / name)}
    for file in sorted(files):
        path = root / file
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        yield file, content


def _files(root: Path, path: Path) -> Iterator[str]:
    relative = path.relative_to(root).as_posix()
    if relative in NOT_INPUTS or path.name == "__pycache__":
        return
    if path.is_dir() and not path.is_symlink():
        for entry in path.iterdir():
            yield from _files(root, entry)
    else:
        yield relative


def _copy_inputs(root: Path, target: Path, inputs: tuple[str, ...]) -> None:
    for name in inputs:
        if (root / name).is_dir():
            copy_tree(root / name, target / name)
        else:
            copy_file(root / name, target / name)
    for name in NOT_INPUTS:
        shutil.rmtree(target / name, ignore_errors=True)


def build(names: list[str], output: Path | None = None) -> Iterator[Path]:
    """Build images and yield their archives.

    Args:
        names: keys of :func:`recipes`, or ``all`` for every one that is of use by itself.
        output: folder to put them in, as ``NAME.tar``; default: the cache's own paths.

    Raises:
        ImageError: an image cannot be built.
        NodeError: a program is missing and cannot be installed.
    """
    if os.geteuid() != 0:
        raise ImageError("images are built by root: debootstrap needs it. Use docker or podman.")
    os.umask(0o022)
    install_packages(TOOLS)
    known = recipes()
    offered = [name for name in known if name != PACKAGES]
    unknown = [name for name in names if name not in (*offered, "all")]
    if unknown:
        raise ImageError(f"no image {', '.join(unknown)}; there are: all, {', '.join(offered)}")
    store = Store(cache_dir() / "images", known)
    for name in offered if "all" in names else dict.fromkeys(names):
        archive = store.archive(name)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            archive = Path(shutil.copyfile(archive, output / f"{name}.tar"))
        yield archive


def main() -> int:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(prog="image", description=__doc__)
    parser.add_argument("name", nargs="+", help="or: all")
    parser.add_argument("--output", type=Path, help="folder for NAME.tar; default: the cache")
    args = parser.parse_args()
    try:
        for archive in build(args.name, args.output):
            print(archive, flush=True)
    except (ImageError, NodeError, CompileError, OSError, subprocess.SubprocessError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
