"""The ``spec`` file that tells a shim what to run (the format is described in ``shim/main.c``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from taskctl.embedded.images.process import Identity
from taskctl.embedded.node.mounts import Bind, MountOp
from taskctl.embedded.node.privileges import NONE, Privileges

# As the kubelet's containerLogMaxSize; of each container two such files are kept.
LOG_LIMIT_BYTES = 10 * 1024 * 1024


class Isolation(StrEnum):
    """What separates a container from the host; the letters are those of the shim's ``isolate``.

    In order of preference. A trailing ``o`` stands for the mount calls of kernels before 5.12.
    """

    FULL = "mpf"
    FULL_HOST_PROC = "mp"
    USER = "umpf"
    USER_HOST_PROC = "ump"
    MOUNT = "m"
    USER_MOUNT = "um"
    FULL_OLD = "mpfo"
    USER_OLD = "umpfo"
    USER_HOST_PROC_OLD = "umpo"
    NONE = "-"

    @property
    def mounts(self) -> bool:
        """Whether a container sees its volumes at their mount paths."""
        return "m" in self.value

    @property
    def images(self) -> bool:
        """Whether a container can have the root of an image."""
        return self.mounts and "o" not in self.value


@dataclass(frozen=True, slots=True)
class ShimSpec:
    """One container, ready to run.

    Attributes:
        args: the program and its arguments, at least the program.
        env: the whole environment.
        cwd: working directory; empty for ``/``.
        isolation: see :class:`Isolation`.
        mounts: binds and masks in order; must be empty without mount namespaces.
        image_root: directory that covers the host's root, or None.
        rootfs: directory that is the root, and nothing of the host's; None: the host's files are.
        identity: who the program runs as; None: the user who runs the node.
        read_only_root: the root itself refuses new files.
        privileges: what it keeps of the kernel's powers.
    """

    args: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    isolation: Isolation
    mounts: Sequence[MountOp] = ()
    image_root: Path | None = None
    rootfs: Path | None = None
    identity: Identity | None = None
    read_only_root: bool = False
    privileges: Privileges = NONE

    def encode(self) -> bytes:
        """Return the content of the spec file."""
        tokens: list[str] = ["isolate", self.isolation.value, "log-limit", str(LOG_LIMIT_BYTES)]
        for argument in self.args:
            tokens += ["arg", argument]
        for name, value in self.env.items():
            tokens += ["env", f"{name}={value}"]
        if self.cwd:
            tokens += ["cwd", self.cwd]
        if self.image_root is not None:
            tokens += ["image", str(self.image_root)]
        tokens += self._image_tokens()
        for op in self.mounts:
            if isinstance(op, Bind):
                mode = "ro" if op.read_only else "rw"
                if op.volume is None or op.source == op.volume:
                    tokens += ["bind", mode, str(op.source), str(op.target)]
                else:
                    below = str(op.source.relative_to(op.volume))
                    tokens += ["below", mode, str(op.volume), below, str(op.target)]
            else:
                tokens += ["mask", str(op.target)]
        if self.read_only_root:
            tokens += ["root", "ro"]
        if self.privileges.privileged:
            tokens += ["privileged", "yes"]
        for number in sorted(self.privileges.capabilities):
            tokens += ["cap", str(number)]
        if self.privileges.all_calls:
            tokens += ["calls", "all"]
        return b"".join(_token(text) for text in tokens)

    def _image_tokens(self) -> list[str]:
        tokens: list[str] = []
        if self.rootfs is not None:
            tokens += ["rootfs", str(self.rootfs)]
        if self.identity is not None:
            tokens += ["user", str(self.identity.uid), str(self.identity.gid)]
            for group in self.identity.groups:
                tokens += ["group", str(group)]
        return tokens


def _token(text: str) -> bytes:
    if "\0" in text:
        raise ValueError(f"{text!r} holds a NUL character; remove it")
    return text.encode("utf-8", "surrogateescape") + b"\0"
