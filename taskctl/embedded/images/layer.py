"""One layer, unpacked once: its files under numbers, and a list of what they are called.

The standard library's extraction filters do not fit: ``data`` refuses absolute symbolic links,
which every distribution's image has. So ``tarfile`` only reads here, and no name of the archive
becomes a path on this machine.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from taskctl.embedded.images.bounds import Decompressed, HashedReader, Meter, SafeTarInfo, copy
from taskctl.embedded.images.model import Entry, EntryKind, ImageError, Meta

ENTRIES_FILE: Final = "entries.json"
_FILES_PER_DIRECTORY: Final = 1000
_ID_LIMIT: Final = 2**32 - 2
_TEXT_LIMIT: Final = 4096
_TIME_LIMIT_S: Final = 2**33
_SET_ID_BITS: Final = 0o6000


def file_path(layer: Path, number: int) -> Path:
    """Return where the content of file ``number`` of a layer is."""
    return layer / str(number // _FILES_PER_DIRECTORY) / str(number)


def unpack_layer(blob: HashedReader, diff_id: str, directory: Path, meter: Meter) -> None:
    """Unpack a layer; blocking.

    Args:
        blob: the blob, perhaps compressed; is read to its end and checked.
        diff_id: digest of its uncompressed form; empty where the image does not say.
        directory: empty; is filled.
        meter: counts what it takes.

    Raises:
        ImageError: it is broken, not what the digests say, or takes too much.
        OSError: it cannot be written.
    """
    plain = HashedReader(_Watched(Decompressed(blob), blob, meter), diff_id, "a layer")
    try:
        entries = list(_entries(plain, directory, meter))
    except (tarfile.TarError, RecursionError, UnicodeError, OverflowError, ValueError) as error:
        raise ImageError(f"a layer is not a tar archive ({error}); fetch it again") from error
    plain.finish()
    blob.finish()
    with (directory / ENTRIES_FILE).open("w", encoding="ascii") as file:
        json.dump([_to_json(entry) for entry in entries], file)


def read_entries(layer: Path) -> list[Entry]:
    """Return what :func:`unpack_layer` noted of a layer."""
    with (layer / ENTRIES_FILE).open(encoding="ascii") as file:
        return [_from_json(item) for item in json.load(file)]


class _Watched:
    """What a layer unpacks to, for as long as it is not out of proportion."""

    def __init__(self, source: Decompressed, blob: HashedReader, meter: Meter) -> None:
        self._source = source
        self._blob = blob
        self._meter = meter
        self._count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._count += len(data)
        self._meter.check_ratio(self._blob.count, self._count)
        return data


def _entries(plain: HashedReader, directory: Path, meter: Meter) -> Iterator[Entry]:
    number = 0
    with tarfile.open(fileobj=plain, mode="r|", tarinfo=SafeTarInfo) as archive:  # type: ignore[call-overload]
        while (member := archive.next()) is not None:
            archive.members = []  # it keeps them all otherwise
            meter.entry()
            if any(len(text) > _TEXT_LIMIT or "\0" in text for text in _texts(member)):
                raise ImageError(f"an entry's name has more than {_TEXT_LIMIT} characters")
            if (kind := _kind(member)) is None:
                continue
            meta = _meta(member)
            if kind is not EntryKind.FILE:
                yield Entry(member.name, kind, meta, target=member.linkname)
                continue
            content = archive.extractfile(member)
            if content is None or member.issparse():
                raise ImageError(f"{member.name!r} is a sparse file; make the layer without them")
            path = file_path(directory, number)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with path.open("xb") as file:
                copy(content, file, member.size, meter)
            own(path, meta)
            yield Entry(member.name, kind, meta, number=number)
            number += 1


def _texts(member: tarfile.TarInfo) -> tuple[str, str]:
    return member.name, member.linkname


def _kind(member: tarfile.TarInfo) -> EntryKind | None:
    """None: a device, which no container gets from an image."""
    if member.isdir():
        return EntryKind.DIRECTORY
    if member.issym():
        return EntryKind.SYMLINK
    if member.islnk():
        return EntryKind.HARDLINK
    if member.isfifo():
        return EntryKind.FIFO
    if member.ischr() or member.isblk():
        return None
    if member.isreg():
        return EntryKind.FILE
    raise ImageError(f"{member.name!r} is of the unknown kind {member.type!r}")


def _meta(member: tarfile.TarInfo) -> Meta:
    if not (0 <= member.uid <= _ID_LIMIT and 0 <= member.gid <= _ID_LIMIT):
        raise ImageError(f"{member.name!r} belongs to {member.uid}:{member.gid}: no such ids exist")
    mode = member.mode & (0o7777 if member.isdir() else 0o7777 & ~_SET_ID_BITS)
    return Meta(mode, member.uid, member.gid, max(0, min(int(member.mtime), _TIME_LIMIT_S)))


def own(path: Path, meta: Meta) -> None:
    """Give a file its owner, permissions and time; only root can give it another owner.

    An ordinary user's own group must be set, too: a new file may have got that of its directory,
    which does not exist in the user namespace of a container.
    """
    uid, gid = (meta.uid, meta.gid) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, uid, gid, follow_symlinks=False)
    if not path.is_symlink():
        os.chmod(path, meta.mode)
    os.utime(path, (meta.mtime_s, meta.mtime_s), follow_symlinks=False)


def _to_json(entry: Entry) -> list[object]:
    meta = entry.meta
    ids = [meta.mode, meta.uid, meta.gid, meta.mtime_s]
    return [entry.path, entry.kind.value, ids, entry.target, entry.number]


def _from_json(item: list[Any]) -> Entry:
    path, kind, ids, target, number = item
    return Entry(str(path), EntryKind(kind), Meta(*ids), str(target), int(number))
