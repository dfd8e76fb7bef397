"""Readers that stop at a limit: tar headers, sizes, digests, room on the disk."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import zlib
from pathlib import Path
from typing import IO, Final, Protocol

from taskctl.embedded.images.model import GIB, MIB, ImageError, ImageLimits

_HEADER_BYTES: Final = MIB
_GLOBAL_KEYS: Final = 1000
_LOOK_EVERY_BYTES: Final = 16 * MIB
_CHUNK: Final = 256 * 1024
_DIGEST: Final = re.compile(r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")


class ByteSource(Protocol):
    """What is read from: a file, or another reader."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""


class SafeTarInfo(tarfile.TarInfo):
    """A member whose header cannot fill the memory.

    ``tarfile`` reads extended headers whole, however long they say they are. ``_proc_member`` is
    the entry point that it documents for subclasses.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extended = (
            *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
            *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        )
        if self.type in extended and not 0 <= self.size <= _HEADER_BYTES:
            raise ImageError(f"a header of the archive has {self.size} bytes; it is not an image")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise ImageError(
                f"{self.name!r} is a sparse file of GNU tar; make the layer without --sparse"
            )
        if self.size < 0:
            raise ImageError(f"{self.name!r} has the size {self.size}; it is not an image")
        if len(archive.pax_headers) > _GLOBAL_KEYS:
            raise ImageError("the archive has too many global headers; it is not an image")
        # Not in typeshed: the entry point for subclasses.
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found


def checked_digest(text: object) -> str:
    """Return a digest that can be checked and be part of a path.

    Raises:
        ImageError: it is none, or of an algorithm that this node does not know.
    """
    if not isinstance(text, str) or not _DIGEST.match(text):
        raise ImageError(f"{text!r} is not a sha256 or sha512 digest; the image is broken")
    return text


class HashedReader:
    """Passes on what it reads, and knows its digest at the end.

    Args:
        source: read to its end.
        digest: what it should have; empty: any.
        what: for messages.
    """

    def __init__(self, source: ByteSource, digest: str, what: str) -> None:
        self._source = source
        self._expected = digest
        self._hash = hashlib.new(digest.partition(":")[0] or "sha256")
        self._what = what
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes."""
        data = self._source.read(size)
        self._hash.update(data)
        self.count += len(data)
        return data

    def finish(self) -> None:
        """Read what is left and compare.

        Raises:
            ImageError: the content is not what the digest says.
        """
        while self.read(_CHUNK):
            pass
        found = f"{self._hash.name}:{self._hash.hexdigest()}"
        if self._expected and found != self._expected:
            raise ImageError(
                f"{self._what} has the digest {found}, not {self._expected}: it is damaged or was "
                "changed; fetch the image again"
            )


class Decompressed:
    """The bytes of a layer without its compression, told by its first bytes.

    Args:
        source: the blob.

    Raises:
        ImageError: compressed in a way that this node cannot undo.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._head = source.read(4)
        self._engine: zlib._Decompress | None = None
        self._zstd: ByteSource | None = None
        if self._head[:2] == b"\x1f\x8b":
            self._engine = zlib.decompressobj(wbits=31)
        elif self._head == b"\x28\xb5\x2f\xfd":
            self._zstd = _zstd_reader(_Again(self._head, source))
            self._head = b""
        elif self._head[:3] == b"BZh" or self._head == b"\xfd7zX":
            raise ImageError("a layer is compressed with bzip2 or xz; only gzip and zstd are known")
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes; none at the end.

        Raises:
            ImageError: the compressed data is broken.
        """
        if size < 0:
            raise ValueError("the size must be given: the content may be of any length")
        if self._zstd is not None:
            return self._zstd.read(size)
        if self._engine is None:
            return self._raw(size)
        try:
            return self._gunzip(size)
        except zlib.error as error:
            raise ImageError(f"a layer is damaged ({error}); fetch the image again") from error

    def _gunzip(self, size: int) -> bytes:
        while True:
            assert self._engine is not None
            if self._engine.eof:
                # Another member may follow, as pigz and estargz write them.
                self._rest = self._engine.unused_data or self._raw(_CHUNK)
                if not self._rest.strip(b"\0"):
                    return b""
                self._engine = zlib.decompressobj(wbits=31)
            data = self._rest or self._raw(_CHUNK)
            out = self._engine.decompress(data, size)
            self._rest = self._engine.unconsumed_tail
            if out:
                return out
            if not data and not self._engine.eof:
                raise ImageError("a layer ends too early; fetch the image again")

    def _raw(self, size: int) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._source.read(size)


class _Again:
    """A source whose first bytes have been looked at."""

    def __init__(self, head: bytes, source: ByteSource) -> None:
        self._head = head
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._source.read(size)


def _zstd_reader(source: ByteSource) -> ByteSource:
    try:
        import zstandard
    except ImportError as error:
        raise ImageError(
            "a layer is compressed with zstd; run `pip install zstandard` in taskctl's environment"
        ) from error
    engine = zstandard.ZstdDecompressor(max_window_size=2**27)
    reader: ByteSource = engine.stream_reader(source, read_across_frames=True)  # type: ignore[arg-type]
    return reader


class Meter:
    """Counts what an image takes, and refuses more than its limits.

    Args:
        limits: the limits.
        directory: on the disk that is written to.
    """

    def __init__(self, limits: ImageLimits, directory: Path) -> None:
        self._limits = limits
        self._directory = directory
        self._unlooked = _LOOK_EVERY_BYTES
        self.entries = 0
        self.bytes = 0

    def entry(self) -> None:
        """Count an entry.

        Raises:
            ImageError: there are too many.
        """
        self.entries += 1
        if self.entries > self._limits.entries:
            raise ImageError(f"the image has more than {self._limits.entries:,} entries")
        self._look(4096)

    def wrote(self, count: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            ImageError: there are too many, or the disk is about to be full.
        """
        self.bytes += count
        if self.bytes > self._limits.bytes:
            raise ImageError(f"the image's files have more than {self._limits.bytes / GIB:g} GiB")
        self._look(count)

    def check_ratio(self, packed: int, unpacked: int) -> None:
        """Compare a layer with its compressed form.

        Raises:
            ImageError: it is made to be large.
        """
        if unpacked > self._limits.ratio_from_bytes and unpacked > packed * self._limits.ratio:
            raise ImageError(
                f"a layer of {packed:,} bytes is more than {self._limits.ratio} times larger when "
                "it is unpacked; it is not unpacked"
            )

    def _look(self, count: int) -> None:
        self._unlooked += count
        if self._unlooked >= _LOOK_EVERY_BYTES:
            self._unlooked = 0
            check_room(self._directory, self._limits)


def check_room(directory: Path, limits: ImageLimits) -> None:
    """Make sure that images leave room on the disk for everything else.

    Raises:
        ImageError: less than the reserve is free.
    """
    found = os.statvfs(directory)
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    reserve = min(GIB, whole // 20) if limits.reserve_bytes is None else limits.reserve_bytes
    if free < reserve + _LOOK_EVERY_BYTES:
        raise ImageError(
            f"{directory} has {free / MIB:,.0f} MiB left, and {reserve / MIB:,.0f} MiB are kept "
            "free; make room, or remove images with `taskctl image rm`"
        )


def copy(source: ByteSource, target: IO[bytes], size: int, meter: Meter) -> None:
    """Copy exactly ``size`` bytes.

    Raises:
        ImageError: the source ends before, or a limit is reached.
    """
    left = size
    while left:
        data = source.read(min(left, _CHUNK))
        if not data:
            raise ImageError("the image ends in the middle of a file; fetch it again")
        meter.wrote(len(data))
        target.write(data)
        left -= len(data)
