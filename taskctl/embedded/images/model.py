"""What an image is made of: plain values, and the limits that they are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from taskctl.errors import ConfigError

Json = dict[str, Any]
GIB: Final = 1024**3
MIB: Final = 1024**2


class ImageError(ConfigError):
    """An image cannot be used. The message names what is wrong with it and the remedy."""


class EntryKind(StrEnum):
    """What an entry of a layer is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Meta:
    """Owner, permissions and time of a file.

    Attributes:
        mode: permission bits; files never have set-user-ID or set-group-ID.
        uid: numeric owner.
        gid: numeric group.
        mtime_s: seconds since 1970.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    mtime_s: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer.

    Attributes:
        path: relative, as the layer names it; its parts are checked by :mod:`tree`.
        kind: what it is.
        meta: its owner and permissions.
        target: of a symbolic or hard link.
        number: of a file: under which its content is stored.
    """

    path: str
    kind: EntryKind
    meta: Meta
    target: str = ""
    number: int = -1


@dataclass(frozen=True, slots=True)
class LayerRef:
    """A layer as a manifest names it.

    Attributes:
        blob: digest of the blob, or in a ``docker save`` archive the name of the member.
        diff_id: digest of the layer when it is not compressed.
        media_type: empty when the manifest does not say.
    """

    blob: str
    diff_id: str
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says of its processes (OCI image spec, config.md).

    Attributes:
        env: variable to value.
        entrypoint: program and first arguments; may be empty.
        cmd: default arguments, or the whole command.
        working_dir: empty: ``/``.
        user: ``user``, ``uid``, ``user:group`` and so on; empty: root.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""

    def to_json(self) -> Json:
        """Return it as plain data."""
        return {
            "env": dict(self.env),
            "entrypoint": list(self.entrypoint),
            "cmd": list(self.cmd),
            "workingDir": self.working_dir,
            "user": self.user,
        }

    @classmethod
    def from_json(cls, value: Json) -> ImageConfig:
        """Read what :meth:`to_json` returned."""
        return cls(
            env=value.get("env") or {},
            entrypoint=tuple(value.get("entrypoint") or ()),
            cmd=tuple(value.get("cmd") or ()),
            working_dir=value.get("workingDir") or "",
            user=value.get("user") or "",
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image for this machine, ready to be unpacked.

    Attributes:
        digest: of the manifest or index that the image is known by; empty in archives of
            ``docker save`` in the old format, which have none.
        config: see :class:`ImageConfig`.
        layers: the lowest first.
    """

    digest: str
    config: ImageConfig
    layers: tuple[LayerRef, ...]


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may take of this machine.

    Attributes:
        entries: files, directories and links of all layers together.
        bytes: size of all files together.
        ratio: how many times larger than its compressed form a layer may be, from
            ``ratio_from_bytes`` on: beyond that it is a bomb, not an image.
        ratio_from_bytes: see ``ratio``.
        layers: number of layers.
        document_bytes: size of a manifest, index or config.
        reserve_bytes: what must stay free on the disk; None: a twentieth of it, at most 1 GiB.
    """

    entries: int = 1_000_000
    bytes: int = 64 * GIB
    ratio: int = 250
    ratio_from_bytes: int = GIB
    layers: int = 500
    document_bytes: int = 8 * MIB
    reserve_bytes: int | None = None


LIMITS: Final = ImageLimits()
