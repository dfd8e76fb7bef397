"""Where images lie on this machine: OCI layouts, and archives of ``docker save`` or in OCI form."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import posixpath
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Final, Protocol

from taskctl import beneath
from taskctl.embedded.images import manifests
from taskctl.embedded.images.bounds import HashedReader, Meter, SafeTarInfo
from taskctl.embedded.images.model import LIMITS, ImageError, Json, LayerRef, Manifest

_MEMBERS: Final = 100_000
_LINKS: Final = 10


class Holder(Protocol):
    """Named files that make an image."""

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open one for reading.

        Raises:
            ImageError: it is not there.
        """

    def has(self, name: str) -> bool:
        """Whether there is one of this name."""


class LayoutFolder:
    """An OCI image layout in a directory, which may be anybody's.

    Args:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file of the layout; links in it are not followed."""
        try:
            with (
                beneath.regular_file(self._path, name) as (fd, _),
                os.fdopen(os.dup(fd), "rb") as file,
            ):
                yield file
        except FileNotFoundError as error:
            raise ImageError(f"{self._path} has no {name}; the layout is incomplete") from error

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self._path / name).is_file()


class ArchiveFile:
    """A tar archive that is not compressed.

    Args:
        path: of the archive, for messages.
        file: it.

    Raises:
        ImageError: it is not such an archive.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=SafeTarInfo) as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]
                    self._members[posixpath.normpath(member.name)] = member
                    if len(self._members) > _MEMBERS:
                        raise ImageError(f"{path} has more than {_MEMBERS:,} members")
        except (tarfile.TarError, RecursionError, UnicodeError, ValueError) as error:
            raise ImageError(f"{path} is not a tar archive: {error}") from error

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a member; links are followed within the archive."""
        member = self._find(name)
        if member is None:
            raise ImageError(f"{self._path} has no {name}; the archive is incomplete")
        yield _Part(self._file, member.offset_data, member.size)  # type: ignore[misc]

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        return self._find(name) is not None

    def _find(self, name: str) -> tarfile.TarInfo | None:
        for _ in range(_LINKS):
            member = self._members.get(posixpath.normpath(name))
            if member is None or member.isreg():
                return member
            if member.islnk():
                name = member.linkname
            elif member.issym():  # docker save has used them for layers that are the same
                name = posixpath.join(posixpath.dirname(name), member.linkname)
            else:
                return None
        return None


class _Part:
    """A part of a file, read from its beginning."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self._file = file
        self._at = offset
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        count = self._left if size < 0 else min(size, self._left)
        self._file.seek(self._at)
        data = self._file.read(count)
        self._at += len(data)
        self._left -= len(data)
        return data


@contextlib.contextmanager
def open_holder(path: Path, scratch: Path) -> Iterator[Holder]:
    """Open a layout or an archive, which may be compressed with gzip.

    Args:
        path: a directory or a file.
        scratch: where a compressed archive is unpacked to.

    Raises:
        ImageError: it is neither.
    """
    if path.is_dir():
        yield LayoutFolder(path)
        return
    try:
        with path.open("rb") as file:
            if file.read(2) != b"\x1f\x8b":
                file.seek(0)
                yield ArchiveFile(path, file)
                return
            file.seek(0)
            with _gunzipped(path, file, scratch) as plain:
                yield ArchiveFile(path, plain)
    except FileNotFoundError as error:
        raise ImageError(f"{path} is not there") from error
    except IsADirectoryError as error:  # pragma: no cover - it was replaced meanwhile
        raise ImageError(f"{path} is a directory") from error


@contextlib.contextmanager
def _gunzipped(path: Path, file: IO[bytes], scratch: Path) -> Iterator[IO[bytes]]:
    meter = Meter(LIMITS, scratch)
    target = scratch / "archive.tar"
    try:
        with gzip.open(file) as packed, target.open("xb") as out:
            while data := packed.read(1024 * 1024):
                meter.wrote(len(data))
                meter.check_ratio(file.tell(), meter.bytes)
                out.write(data)
        with target.open("rb") as plain:
            yield plain
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(f"{path} is damaged: {error}") from error
    finally:
        target.unlink(missing_ok=True)


def read_image(holder: Holder, wanted: str) -> tuple[Manifest, dict[str, str]]:
    """Return an image of a layout or archive, and by which file each of its blobs is held.

    Args:
        holder: of the files.
        wanted: its name or tag; of a single image any will do.

    Raises:
        ImageError: it is not there or malformed.
    """
    if holder.has("index.json"):
        return _read_oci(holder, wanted)
    if holder.has("manifest.json"):
        return _read_docker(holder, wanted)
    raise ImageError(
        "it has neither index.json nor manifest.json: it is neither an OCI layout nor an archive "
        "of `docker save` (an archive of `docker export` has no image)"
    )


def image_names(holder: Holder) -> tuple[str, ...]:
    """Return the full names of the images in an archive; there may be none."""
    if holder.has("index.json"):
        found = manifests.descriptors(_read_json(holder, "index.json"))
        names = [item.names[0] for item in found if item.names]
    else:
        names = [str(tag) for entry in _entries(holder) for tag in (entry.get("RepoTags") or ())]
    return tuple(name for name in names if ":" in name or "/" in name)


def blob_file(digest: str) -> str:
    """Return the name of a blob in a layout."""
    return "blobs/" + digest.replace(":", "/")


def open_layer(
    holder: Holder, files: dict[str, str], layer: LayerRef
) -> AbstractContextManager[HashedReader]:
    """Open the blob of a layer; its digest is compared at the end where it has one."""
    return _hashed(holder, files[layer.blob], layer.blob if ":" in layer.blob else "")


@contextlib.contextmanager
def _hashed(holder: Holder, name: str, digest: str) -> Iterator[HashedReader]:
    with holder.open(name) as file:
        yield HashedReader(file, digest, name)


def _read_oci(holder: Holder, wanted: str) -> tuple[Manifest, dict[str, str]]:
    chosen = manifests.choose(manifests.descriptors(_read_json(holder, "index.json")), wanted)
    digest, document = chosen.digest, _read_blob(holder, chosen.digest)
    for _ in range(2):
        if "manifests" not in document:
            break
        inner = manifests.choose_platform(manifests.descriptors(document))
        document = _read_blob(holder, inner.digest)
    config = _read_blob(holder, manifests.config_digest(document))
    manifest = manifests.parse_manifest(digest, document, config)
    return manifest, {layer.blob: blob_file(layer.blob) for layer in manifest.layers}


def _read_docker(holder: Holder, wanted: str) -> tuple[Manifest, dict[str, str]]:
    entries = _entries(holder)
    if not entries:
        raise ImageError("manifest.json names no image")
    matching = [
        entry
        for entry in entries
        if any(manifests.same_name(str(tag), wanted) for tag in entry.get("RepoTags") or ())
    ]
    if not matching and len(entries) > 1:
        names = ", ".join(str(tag) for entry in entries for tag in entry.get("RepoTags") or ())
        raise ImageError(f"{wanted!r} is not among its {len(entries)} images ({names})")
    entry = (matching or entries)[0]
    config = _read_json(holder, str(entry.get("Config") or ""))
    manifest = manifests.parse_docker_entry(entry, config)
    return manifest, {layer.blob: layer.blob for layer in manifest.layers}


def _entries(holder: Holder) -> list[Json]:
    entries = _read_any(holder, "manifest.json")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ImageError("manifest.json is not a list of objects")
    return entries


def _read_blob(holder: Holder, digest: str) -> Json:
    return _read_json(holder, blob_file(digest), digest)


def _read_json(holder: Holder, name: str, digest: str = "") -> Json:
    found = _read_any(holder, name, digest)
    if not isinstance(found, dict):
        raise ImageError(f"{name} of the image is not an object")
    return found


def _read_any(holder: Holder, name: str, digest: str = "") -> Any:
    with holder.open(name) as file:
        reader = HashedReader(file, digest, name)
        data = reader.read(LIMITS.document_bytes + 1)
        if len(data) > LIMITS.document_bytes:
            raise ImageError(f"{name} of the image has more than {LIMITS.document_bytes:,} bytes")
        reader.finish()
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{name} of the image is not JSON: {error}") from error


def remove(path: Path) -> None:
    """Remove a directory of images, also where an image took write permission away."""
    if not path.is_dir():
        return
    path.chmod(0o700)
    for root, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(root, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(path)
