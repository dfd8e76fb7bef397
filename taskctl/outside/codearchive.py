"""A folder of code as an archive that depends on its content alone. Blocking."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskctl.errors import ConfigError

MAX_FILES: Final = 5000
MAX_UNPACKED_BYTES: Final = 128 * 1024 * 1024
MAX_ARCHIVE_BYTES: Final = 8 * 1024 * 1024
# A part travels as base64 in a TaskObject, which etcd takes up to 1.5 MiB.
PART_BYTES: Final = 640 * 1024
_LEFT_OUT: Final = frozenset(
    {"__pycache__", "node_modules", "venv", "env", "build", "dist", "site-packages"}
)
_LEFT_OUT_SUFFIXES: Final = (".pyc", ".pyo", ".egg-info")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder as one zip file.

    Attributes:
        root: the folder.
        content: the file.
        sha256: of the content.
    """

    root: str
    content: bytes
    sha256: str

    def parts(self) -> list[bytes]:
        """Return the content in pieces that fit an object."""
        return [
            self.content[start : start + PART_BYTES]
            for start in range(0, max(1, len(self.content)), PART_BYTES)
        ]


def archive_of(folder: Path) -> Archive:
    """Pack a folder: its regular files, without hidden ones, caches and environments.

    Raises:
        ConfigError: it is not a folder, or has too much in it.
    """
    root = Path(os.path.realpath(folder))
    if not root.is_dir():
        raise ConfigError(f"code: {folder} is not a folder")
    buffer = io.BytesIO()
    count = size = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path, status in _files(root):
            count, size = count + 1, size + status.st_size
            if count > MAX_FILES or size > MAX_UNPACKED_BYTES:
                raise ConfigError(
                    f"code: {folder} has more than {MAX_FILES} files or {MAX_UNPACKED_BYTES} "
                    "bytes; name a folder that holds the code alone, and keep data in the "
                    "workspace"
                )
            entry = zipfile.ZipInfo(str(path.relative_to(root)), _EPOCH)
            executable = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            entry.external_attr = (stat.S_IFREG | executable) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    content = buffer.getvalue()
    if len(content) > MAX_ARCHIVE_BYTES:
        raise ConfigError(
            f"code: {folder} has {len(content)} bytes, compressed; at most {MAX_ARCHIVE_BYTES} are "
            "uploaded: name a folder that holds the code alone, and keep data in the workspace"
        )
    return Archive(str(root), content, hashlib.sha256(content).hexdigest())


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        # Hidden files are caches, histories, and secrets.
        if entry.name.startswith(".") or entry.name in _LEFT_OUT:
            continue
        if entry.name.endswith(_LEFT_OUT_SUFFIXES):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path), entry.stat(follow_symlinks=False)
