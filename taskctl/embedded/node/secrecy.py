"""Which paths of the host no container may see: data directories of local stacks, private keys.

A container sees the host's files read-only. That must not include what would give it a right:
the database, keys and tokens of this stack and of others of the same user, and the credentials
that people keep in their home directory. A volume that mounts such a path shows it all the same:
that was asked for.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

log = logging.getLogger(__name__)

MOUNTINFO: Final = Path("/proc/self/mountinfo")
# Credentials of the programs that people of this field use.
PRIVATE_IN_HOME: Final = (
    ".aws", ".azure", ".config/gcloud", ".config/gh", ".config/helm", ".docker", ".git-credentials",
    ".gnupg", ".kube", ".netrc", ".npmrc", ".pgpass", ".pypirc", ".ssh",
)  # fmt: skip
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of ``/proc/self/mountinfo`` (proc(5)).

    Attributes:
        device: ``major:minor`` of the file system.
        root: which directory of the file system is shown.
        target: where.
    """

    device: str
    root: PurePosixPath
    target: PurePosixPath


def parse_mountinfo(text: str) -> tuple[MountPoint, ...]:
    """Return the mounts that a ``mountinfo`` file lists."""
    found = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) < 5:
            continue
        root, target = (PurePosixPath(_unescape(field)) for field in fields[3:5])
        found.append(MountPoint(fields[2], root, target))
    return tuple(found)


def aliases(path: Path, mounts: Iterable[MountPoint]) -> tuple[Path, ...]:
    """Return every path at which the mounts show a directory, or a part of it.

    The same file system can be mounted at several places, whole or in part. A copy through
    another file system (overlay, FUSE) cannot be told and is not found.

    Args:
        path: absolute, without symbolic links.
        mounts: all mounts, the later over the earlier.
    """
    mounts = tuple(mounts)
    holders = [mount for mount in mounts if path.is_relative_to(mount.target)]
    if not holders:
        return (path,)
    depth = max(len(mount.target.parts) for mount in holders)
    holder = [mount for mount in holders if len(mount.target.parts) == depth][-1]
    inside = holder.root / path.relative_to(holder.target)
    found = {path}
    for mount in mounts:
        if mount.device != holder.device:
            continue
        if inside.is_relative_to(mount.root):
            found.add(Path(mount.target / inside.relative_to(mount.root)))
        elif mount.root.is_relative_to(inside) and not mount.target.is_relative_to(path):
            found.add(Path(mount.target))
    return tuple(sorted(found))


class HiddenPaths:
    """Works out what to hide whenever a container starts; blocking, but quick.

    Args:
        data_dir: of this stack, without symbolic links.
        registry: directory of links to the data directories of all stacks of this user, or None.
        home: of the user, or None.
    """

    def __init__(self, data_dir: Path, registry: Path | None, home: Path | None) -> None:
        self._data_dir = data_dir
        self._registry = registry
        self._home = home
        self._seen: tuple[str, tuple[Path, ...]] | None = None
        self._found: tuple[Path, ...] = ()

    def current(self) -> tuple[Path, ...]:
        """Return the paths to hide, outer ones before those within them."""
        try:
            mountinfo = MOUNTINFO.read_text(errors="surrogateescape")
        except OSError as error:
            log.warning(
                "%s cannot be read, other mounts of it are not hidden: %s", MOUNTINFO, error
            )
            mountinfo = ""
        roots = self._roots()
        if self._seen != (mountinfo, roots):
            mounts = parse_mountinfo(mountinfo)
            found = {alias for root in roots for alias in aliases(root, mounts)}
            self._found = tuple(sorted(found))
            self._seen = (mountinfo, roots)
        return self._found

    def _roots(self) -> tuple[Path, ...]:
        roots = {self._data_dir}
        if self._registry is not None:
            roots.add(self._registry)
            roots.update(registered(self._registry))
        if self._home is not None:
            roots.update(self._home / name for name in PRIVATE_IN_HOME)
        return tuple(sorted(_real(root) for root in roots))


def register(registry: Path, data_dir: Path) -> None:
    """Tell the other stacks of this user which directory to hide from their containers.

    Raises:
        OSError: the registry cannot be written.
    """
    registry.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = data_dir.stat()
    link = registry / f"{info.st_dev:x}-{info.st_ino:x}"
    temporary = registry / f".{link.name}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(data_dir)
    temporary.replace(link)


def registered(registry: Path) -> tuple[Path, ...]:
    """Return the data directories of all stacks, and forget those that are gone."""
    found = []
    try:
        links = [entry for entry in registry.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return ()
    for link in links:
        if link.exists():
            found.append(link.resolve())
        else:
            link.unlink(missing_ok=True)
    return tuple(found)


def _real(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
