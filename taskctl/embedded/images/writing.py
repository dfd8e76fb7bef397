"""Writing the tree of an image as directories, links, and hard links to the layers' files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from taskctl.embedded.images.bounds import Meter
from taskctl.embedded.images.layer import file_path, own
from taskctl.embedded.images.model import ImageError, Meta
from taskctl.embedded.images.tree import Directory, Fifo, File, Node, Symlink

_OWNER: Final = 0o700  # an ordinary user must be able to remove it again


def write_tree(root: Directory, path: Path, layers: Sequence[Path], meter: Meter) -> None:
    """Write a tree; blocking.

    Every name is made in a directory that was made just before, so none leads through a link.

    Args:
        root: of the image.
        path: does not exist yet.
        layers: the directories of the layers, the lowest first.
        meter: counts.

    Raises:
        ImageError: a file system cannot hold it.
        OSError: it cannot be written.
    """
    made: list[tuple[str, Meta]] = []
    waiting: list[tuple[str, Directory]] = [(str(path), root)]
    try:
        while waiting:
            target, directory = waiting.pop()
            os.mkdir(target, _OWNER)
            made.append((target, directory.meta))
            for name, node in directory.children.items():
                below = f"{target}/{name}"
                if isinstance(node, Directory):
                    waiting.append((below, node))
                else:
                    meter.entry()
                    _write(node, below, layers)
        # The outer ones last: what is made in a directory changes its time.
        for target, meta in reversed(made):
            own(Path(target), _writable(meta))
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise ImageError(f"this file system cannot hold the image: {error}") from error
        raise


def _writable(meta: Meta) -> Meta:
    mode = meta.mode if os.geteuid() == 0 else meta.mode | _OWNER
    return Meta(mode, meta.uid, meta.gid, meta.mtime_s)


def _write(node: Node, target: str, layers: Sequence[Path]) -> None:
    if isinstance(node, File):
        if node.layer < 0:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            own(Path(target), Meta(0o644))
            return
        source = file_path(layers[node.layer], node.number)
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EMLINK, errno.EPERM):
                raise
            shutil.copy2(source, target)
    elif isinstance(node, Symlink):
        os.symlink(node.target, target)
        own(Path(target), node.meta)
    elif isinstance(node, Fifo):
        os.mkfifo(target)
        own(Path(target), node.meta)
