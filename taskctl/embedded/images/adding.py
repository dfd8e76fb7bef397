"""From NAME=SOURCE to an image that is remembered: what `taskctl image add` does."""

from __future__ import annotations

import os
from pathlib import Path

from taskctl.embedded.images import environments, sources
from taskctl.embedded.images.model import ImageError
from taskctl.embedded.images.names import Image, ImageKind, ImageSource, SourceKind, key
from taskctl.embedded.images.store import ImageStore, LayerOpener


def add(store: ImageStore, name: str, source: ImageSource) -> Image:
    """Let a name stand for what a source holds; an archive or layout is unpacked now.

    A source that has not changed since it was added is not read again.

    Raises:
        ImageError: the source is not there, broken or hostile.
        OSError: it cannot be read, or the data directory cannot be written.
    """
    with store.locked():  # until the name is there, too: what has none is swept away
        image = _unchanged(store, name, source) or _make(store, name, source)
        store.remember(name, image)
    return image


def archive_names(store: ImageStore, path: Path) -> tuple[str, ...]:
    """Return the names of the images in an archive.

    Raises:
        ImageError: it is none, or its images have no names.
    """
    with store.locked(), store.scratch() as scratch, sources.open_holder(path, scratch) as holder:
        names = sources.image_names(holder)
    if not names:
        raise ImageError(f"the image in {path} has no name; write NAME={path}")
    return names


def unpack_holder(store: ImageStore, holder: sources.Holder, wanted: str, source: str) -> Image:
    """Unpack an image of a layout or archive.

    Raises:
        ImageError: it is not there, broken or hostile.
        OSError: it cannot be read or written.
    """
    manifest, files = sources.read_image(holder, wanted)
    identity = store.unpack(manifest, LayerOpener(holder, files))
    return Image(
        ImageKind.TREE, source, tree=identity, digest=manifest.digest, config=manifest.config
    )


def _make(store: ImageStore, name: str, source: ImageSource) -> Image:
    written = describe(source)
    if source.kind is SourceKind.REGISTRY:
        return Image(ImageKind.REGISTRY, written)
    path = Path(source.value)
    if source.kind is SourceKind.VENV:
        environments.check_environment(path)
        return Image(ImageKind.VENV, written, path=path)
    if source.kind is SourceKind.REQUIREMENTS:
        made = environments.make_environment(store, path)
        return Image(ImageKind.VENV, written, path=made, stamp=_stamp(path))
    wanted = name
    if source.kind is SourceKind.LAYOUT and not path.exists():
        folder, _, tag = source.value.rpartition(":")
        path, wanted = Path(folder), tag
    if not path.exists():
        raise ImageError(f"{name}: {path} is not there")
    if source.kind is SourceKind.PATH and path.is_dir() and not (path / "oci-layout").is_file():
        return Image(ImageKind.FOLDER, written, path=path.resolve())
    stamp = _stamp(path)
    try:
        with store.scratch() as scratch, sources.open_holder(path, scratch) as holder:
            image = unpack_holder(store, holder, wanted, written)
    except ImageError as error:
        raise ImageError(f"{name}={written}: {error}") from error
    return Image(image.kind, written, None, image.tree, image.digest, image.config, stamp)


def describe(source: ImageSource) -> str:
    """Return a source as users write it."""
    prefixes = {SourceKind.PATH: "", SourceKind.REGISTRY: "docker://"}
    return f"{prefixes.get(source.kind, source.kind.value + ':')}{source.value}"


def _unchanged(store: ImageStore, name: str, source: ImageSource) -> Image | None:
    known = store.names().get(key(name))
    if known is None or known.kind is not ImageKind.TREE or not known.stamp:
        return None
    if known.source != describe(source) or not store.tree_path(known.tree).is_dir():
        return None
    return known if known.stamp == _stamp(Path(source.value)) else None


def _stamp(path: Path) -> str:
    """Tell whether an archive was replaced or written to; a layout changes with its index."""
    if path.is_dir():
        path = path / "index.json"
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
