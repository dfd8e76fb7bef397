"""What the layers of an image make together (pure; OCI image spec, layer.md).

Each layer is applied to what is below it: first its whiteouts, which hide only what is below, then
its entries. A path may lead through a symbolic link to a directory of the image, as it does with
container engines; ``/`` is then the image's own root. Whatever would lead elsewhere is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from taskctl.embedded.images.model import Entry, EntryKind, ImageError, Meta

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
_RESERVED: Final = ".wh..wh."  # what aufs kept for itself
_NAME_BYTES: Final = 255
_DEPTH: Final = 128
_LINKS: Final = 40  # as Linux
_DIRECTORY: Final = Meta(0o755)
# Where a container's own file systems are mounted, and the files that are the node's.
_MOUNT_POINTS: Final = ("dev", "proc", "sys")
_NODE_FILES: Final = ("hostname", "hosts", "resolv.conf")


@dataclass(slots=True, eq=False)
class File:
    """A regular file.

    Attributes:
        layer: ordinal of its layer; -1: an empty file of the node's own.
        number: of its content there.
    """

    layer: int
    number: int


@dataclass(slots=True, eq=False)
class Symlink:
    """A symbolic link."""

    target: str
    meta: Meta


@dataclass(slots=True, eq=False)
class Fifo:
    """A named pipe."""

    meta: Meta


@dataclass(slots=True, eq=False)
class Directory:
    """A directory and what it holds."""

    meta: Meta = _DIRECTORY
    children: dict[str, Node] = field(default_factory=dict)


Node = File | Symlink | Fifo | Directory


def merge(layers: Iterable[Sequence[Entry]]) -> Directory:
    """Return the root that layers make, the lowest first.

    A node may be in it several times: these are hard links.

    Raises:
        ImageError: an entry leads out of the root, through what is not a directory, or nowhere.
    """
    root = Directory()
    for ordinal, entries in enumerate(layers):
        parsed = [(entry, split(entry.path)) for entry in entries]
        for entry, parts in parsed:
            if parts and parts[-1].startswith(WHITEOUT):
                _white_out(root, entry, parts)
        for entry, parts in parsed:
            if not any(part.startswith(WHITEOUT) for part in parts):
                _add(root, entry, parts, ordinal)
            elif not (parts[-1].startswith(WHITEOUT) or parts[0].startswith(_RESERVED)):
                raise ImageError(f"entry {entry.path!r}: a whiteout is not a directory")
    return root


def add_mount_points(root: Directory) -> None:
    """Make sure that the node's own file systems and files have a place that is not a link."""
    for name in _MOUNT_POINTS:
        if not isinstance(root.children.get(name), Directory):
            root.children[name] = Directory()
    etc = root.children.setdefault("etc", Directory())
    if isinstance(etc, Directory):
        for name in _NODE_FILES:
            if not isinstance(etc.children.get(name), File):
                etc.children[name] = File(-1, -1)


def split(path: str) -> tuple[str, ...]:
    """Return the parts of an entry's path; none for the root itself.

    Raises:
        ImageError: it is absolute, leads upwards, or no file system could hold it.
    """
    if path.startswith("/"):
        raise ImageError(f"entry {path!r}: the path is absolute; it must be relative to the root")
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ImageError(f"entry {path!r}: the path has a `..`")
    if len(parts) > _DEPTH:
        raise ImageError(f"entry {path[:80]!r}…: the path has more than {_DEPTH} parts")
    if any(len(part.encode("utf-8", "surrogateescape")) > _NAME_BYTES for part in parts):
        raise ImageError(f"entry {path[:80]!r}…: a name has more than {_NAME_BYTES} bytes")
    return parts


def find(root: Directory, path: str) -> Node | None:
    """Return what a path of the image leads to, through links; None where there is nothing."""
    try:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        found = _walk(root, parts, path, make=False)
    except ImageError:
        return None
    return found


def _white_out(root: Directory, entry: Entry, parts: tuple[str, ...]) -> None:
    name = parts[-1]
    hidden = name.removeprefix(WHITEOUT)
    if name != OPAQUE and not name.startswith(_RESERVED) and hidden in ("", ".", ".."):
        raise ImageError(f"entry {entry.path!r}: it hides nothing that could exist")
    directory: Node | None = root
    for part in parts[:-1]:
        # Not through links: where the layer below has one, this layer has a new directory.
        directory = directory.children.get(part) if isinstance(directory, Directory) else None
    if not isinstance(directory, Directory):
        return  # nothing is there to be hidden
    if name == OPAQUE:
        directory.children.clear()
    elif not name.startswith(_RESERVED):
        directory.children.pop(hidden, None)


def _add(root: Directory, entry: Entry, parts: tuple[str, ...], ordinal: int) -> None:
    if not parts:
        if entry.kind is not EntryKind.DIRECTORY:
            raise ImageError(f"entry {entry.path!r}: the root must be a directory")
        root.meta = entry.meta
        return
    parent = _walk(root, parts[:-1], entry.path, make=True)
    if not isinstance(parent, Directory):
        raise ImageError(f"entry {entry.path!r}: it lies below what is not a directory")
    name, before = parts[-1], parent.children.get(parts[-1])
    if entry.kind is EntryKind.DIRECTORY and isinstance(before, Directory):
        before.meta = entry.meta
        return
    parent.children[name] = _node(root, entry, ordinal)


def _node(root: Directory, entry: Entry, ordinal: int) -> Node:
    if entry.kind is EntryKind.FILE:
        return File(ordinal, entry.number)
    if entry.kind is EntryKind.DIRECTORY:
        return Directory(entry.meta)
    if entry.kind is EntryKind.FIFO:
        return Fifo(entry.meta)
    if entry.kind is EntryKind.SYMLINK:
        if not entry.target:
            raise ImageError(f"entry {entry.path!r}: the link leads nowhere")
        return Symlink(entry.target, entry.meta)
    target = split(entry.target)
    holder = _walk(root, target[:-1], entry.path, make=False) if target else None
    found = holder.children.get(target[-1]) if isinstance(holder, Directory) else None
    if found is None or isinstance(found, Directory):
        raise ImageError(
            f"entry {entry.path!r}: it is a hard link to {entry.target!r}, which is not a file of "
            "the image"
        )
    return found


def _walk(root: Directory, parts: Sequence[str], path: str, *, make: bool) -> Node | None:
    """Follow a path from the root, through symbolic links; None where there is nothing.

    Args:
        root: of the image.
        parts: the path.
        path: the entry's, for messages.
        make: make directories that are missing, but none that only a link leads to.

    Raises:
        ImageError: the path leads out of the root, in circles, or to nothing by a link.
    """
    above: list[Directory] = []
    here: Node = root
    waiting = list(reversed(parts))
    links = 0
    plain = len(waiting)  # the parts beyond these come from a link
    while waiting:
        of_link = len(waiting) > plain
        part = waiting.pop()
        plain = min(plain, len(waiting))
        if part == "..":
            if not above:
                raise ImageError(f"entry {path!r}: a link on its way leads out of the image")
            here = above.pop()
            continue
        if not isinstance(here, Directory):
            raise ImageError(f"entry {path!r}: it lies below what is not a directory")
        found = here.children.get(part)
        if found is None:
            if of_link and make:
                raise ImageError(f"entry {path!r}: a link on its way leads to nothing")
            if not make:
                return None
            found = here.children[part] = Directory()
        if isinstance(found, Symlink):
            links += 1
            if links > _LINKS:
                raise ImageError(f"entry {path!r}: links on its way lead in a circle")
            if found.target.startswith("/"):
                above, here = [], root
            steps = [step for step in found.target.split("/") if step not in ("", ".")]
            waiting.extend(reversed(steps))
            continue
        above.append(here)
        here = found
    return here
