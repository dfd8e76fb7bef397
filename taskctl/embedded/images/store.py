"""Images in the data directory: layers and trees on the disk, and the names that stand for them.

::

    images/names.json      what each name stands for; replaced whole
    images/layers/<id>/    a layer's files, under numbers; <id> is its diff_id
    images/trees/<id>/     what an image's layers make together, of hard links to their files
    images/envs/<id>/      Python environments made of requirements
    images/lock            held by the process that adds or removes

``names.json`` is how a running node learns of what `taskctl image` does: it looks at the file
whenever a container starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from taskctl.embedded.images import sources, tree
from taskctl.embedded.images.bounds import HashedReader, Meter, check_room
from taskctl.embedded.images.layer import read_entries, unpack_layer
from taskctl.embedded.images.model import LIMITS, ImageError, ImageLimits, LayerRef, Manifest
from taskctl.embedded.images.names import Image, ImageKind, key, look_up
from taskctl.embedded.images.writing import write_tree

_FORMAT: Final = "1"
_NEW: Final = ".new-"


class LayerOpener:
    """Opens the layers of one image.

    Args:
        holder: of the files.
        files: by which file each blob is held.
    """

    def __init__(self, holder: sources.Holder, files: dict[str, str]) -> None:
        self._holder = holder
        self._files = files

    def open(self, layer: LayerRef) -> AbstractContextManager[HashedReader]:
        """Open a layer's blob."""
        return sources.open_layer(self._holder, self._files, layer)


class ImageStore:
    """The images of a data directory. All methods block.

    Args:
        directory: ``images`` in the data directory; made when something is put into it.
        limits: what one image may take.
    """

    def __init__(self, directory: Path, limits: ImageLimits = LIMITS) -> None:
        self.directory = directory
        self._limits = limits
        self._seen: tuple[int, int, int] | None = None
        self._names: dict[str, Image] = {}
        self._pulled: dict[str, Image] = {}
        self._reading = threading.Lock()  # short; the other is held while an image is unpacked
        self._lock = threading.RLock()
        self._depth = 0

    @property
    def _file(self) -> Path:
        return self.directory / "names.json"

    def tree_path(self, identity: str) -> Path:
        """Return the root directory of an unpacked image."""
        return self.directory / "trees" / identity

    def env_path(self, identity: str) -> Path:
        """Return where a Python environment is made."""
        return self.directory / "envs" / identity

    def names(self) -> Mapping[str, Image]:
        """Return what each name stands for, as it is remembered now.

        Raises:
            ImageError: the file that remembers it is damaged.
        """
        with self._reading:
            self._load()
            return self._names

    def pulled(self) -> Mapping[str, Image]:
        """Return what was pulled from registries, by the full reference.

        Raises:
            ImageError: the file that remembers it is damaged.
        """
        with self._reading:
            self._load()
            return self._pulled

    def _load(self) -> None:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            self._names, self._pulled, self._seen = {}, {}, None
            return
        stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        if stamp == self._seen:
            return
        try:
            document = json.loads(self._file.read_text("utf-8"))
            self._names = {n: Image.from_json(v) for n, v in document["images"].items()}
            self._pulled = {n: Image.from_json(v) for n, v in document["pulled"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ImageError(
                f"{self._file} is damaged ({error}); remove it and add the images again"
            ) from error
        self._seen = stamp

    def remember(self, name: str, image: Image) -> None:
        """Let a name stand for an image from now on."""
        with self.locked():
            self._save({**self.names(), key(name): image}, self.pulled())

    def remember_pulled(self, reference: str, image: Image) -> None:
        """Note what a full reference was when it was pulled."""
        with self.locked():
            self._save(self.names(), {**self.pulled(), reference: image})

    def forget(self, name: str) -> bool:
        """Let a name stand for nothing; False when it did not before."""
        with self.locked():
            names = dict(self.names())
            known = names.pop(key(name), None) is not None
            if known:
                self._save(names, self.pulled())
        return known

    def unpack(self, manifest: Manifest, layers: LayerOpener) -> str:
        """Unpack an image, unless it is there already; returns the identity of its tree.

        Raises:
            ImageError: it is broken, hostile or too large.
            OSError: it cannot be written.
        """
        identity = _identity(manifest)
        target = self.tree_path(identity)
        if target.is_dir():
            return identity
        with self.locked():
            if target.is_dir():
                return identity
            check_room(self.directory, self._limits)
            meter = Meter(self._limits, self.directory)
            paths = [self._layer(layer, layers, meter) for layer in manifest.layers]
            root = tree.merge(read_entries(path) for path in paths)
            tree.add_mount_points(root)
            with self._new("trees") as new:
                write_tree(root, new / "root", paths, Meter(self._limits, self.directory))
                # After a power cut there must be no tree whose files are empty.
                os.sync()
                (new / "root").rename(target)
        return identity

    def sweep(self, used: frozenset[str]) -> list[str]:
        """Remove trees that no name stands for, and layers that no tree is made of.

        Args:
            used: identities of trees and environments that containers run in.

        Returns:
            The identities of the trees that are gone.
        """
        if not self.directory.is_dir():
            return []
        with self.locked():
            known = [*self.names().values(), *self.pulled().values()]
            wanted = {image.tree for image in known} | used
            gone = []
            for path in _children(self.directory / "scratch"):
                sources.remove(path)
            for path in _children(self.directory / "trees"):
                if path.name not in wanted:
                    sources.remove(path)
                    gone.append(path.name)
            for path in _children(self.directory / "layers"):
                if path.name.startswith(_NEW) or not _is_linked(path):
                    sources.remove(path)
            kept = {image.path for image in known}
            for path in _children(self.directory / "envs"):
                if path not in kept and path.name not in used:
                    sources.remove(path)
        return gone

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from adding and removing meanwhile; may be nested."""
        with self._lock:
            if self._depth:
                yield
                return
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                self._depth += 1
                yield
            finally:
                self._depth = 0
                os.close(fd)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a directory that is gone afterwards."""
        with self._new("scratch") as path:
            yield path

    def _layer(self, layer: LayerRef, layers: LayerOpener, meter: Meter) -> Path:
        target = self.directory / "layers" / layer.diff_id.replace(":", "-")
        if not target.is_dir():
            with self._new("layers") as new, layers.open(layer) as blob:
                content = new / "layer"
                content.mkdir(mode=0o700)
                unpack_layer(blob, layer.diff_id, content, meter)
                content.rename(target)
        return target

    @contextlib.contextmanager
    def _new(self, kind: str) -> Iterator[Path]:
        parent = self.directory / kind
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
        try:
            yield path
        finally:
            sources.remove(path)

    def _save(self, names: Mapping[str, Image], pulled: Mapping[str, Image]) -> None:
        # What no name would be pulled for any more is forgotten, and so swept away.
        kept = {
            reference: image
            for reference, image in pulled.items()
            if (found := look_up(names, reference)) and found.kind is ImageKind.REGISTRY
        }
        document = {
            "version": 1,
            "images": {name: names[name].to_json() for name in sorted(names)},
            "pulled": {name: kept[name].to_json() for name in sorted(kept)},
        }
        temporary = self._file.with_suffix(f".tmp{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._file)


def _identity(manifest: Manifest) -> str:
    """Images of the same layers share a tree, whatever their configurations say."""
    text = "\n".join([_FORMAT, *(layer.diff_id for layer in manifest.layers)])
    return hashlib.sha256(text.encode()).hexdigest()


def _children(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else []


def _is_linked(layer: Path) -> bool:
    """Whether a tree still shares a file of a layer."""
    for root, _, names in os.walk(layer):
        for name in names:
            if os.stat(os.path.join(root, name)).st_nlink > 1:
                return True
    return False
