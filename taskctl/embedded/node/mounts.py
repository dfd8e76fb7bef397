"""From a container's ``volumeMounts`` to the binds and masks of its shim (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from taskctl.embedded.node.env import expand
from taskctl.embedded.node.model import Json

DEFAULT_TERMINATION_PATH = "/dev/termination-log"


class MountError(Exception):
    """A volume mount cannot be done; the container waits with ``CreateContainerConfigError``."""


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """Where a prepared volume is on the host.

    Attributes:
        path: file or directory, without symlinks.
        read_only: whatever the mount says (ConfigMaps, Secrets and the like).
    """

    path: Path
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Bind:
    """Show ``source`` of the host at ``target`` of the container.

    Attributes:
        source: file or directory of the host.
        target: absolute path in the container.
        read_only: the container cannot write there.
        volume: the volume that ``source`` is a part of by a ``subPath``; None: it is all of it.
            Containers may write to a volume, so no link is followed on the way from there.
    """

    source: Path
    target: PurePosixPath
    read_only: bool
    volume: Path | None = None


@dataclass(frozen=True, slots=True)
class Mask:
    """Hide ``target`` of the container."""

    target: PurePosixPath


MountOp = Bind | Mask


def volume_binds(
    container: Json, volumes: Mapping[str, VolumeSource], variables: Mapping[str, str]
) -> tuple[Bind, ...]:
    """Return one bind per volume mount, parents before what is mounted below them.

    Args:
        container: with ``volumeMounts``.
        volumes: the pod's volumes by name.
        variables: the container's environment, for ``subPathExpr``.

    Raises:
        MountError: a volume is not there, a path is not absolute, or a subPath leaves its volume.
    """
    binds = []
    for mount in container.get("volumeMounts") or ():
        volume = volumes.get(mount["name"])
        if volume is None:
            raise MountError(f"volumeMounts: the pod has no volume {mount['name']!r}")
        target = PurePosixPath(mount["mountPath"])
        if not target.is_absolute() or ".." in target.parts:
            raise MountError(f"mountPath {mount['mountPath']!r}: write an absolute path without ..")
        source, within = volume.path, None
        if sub := mount.get("subPath") or expand(mount.get("subPathExpr") or "", variables):
            source, within = _below(volume.path, sub), volume.path
        read_only = volume.read_only or bool(mount.get("readOnly"))
        binds.append(Bind(source, target, read_only, within))
    return tuple(sorted(binds, key=lambda bind: len(bind.target.parts)))


def with_masks(
    binds: Sequence[Bind], hidden: Sequence[Path], *, host_root: bool = True
) -> tuple[MountOp, ...]:
    """Hide these paths of the host, also where a mounted directory would show them again.

    What is itself mounted, or lies in a hidden directory and is mounted, stays visible at its
    mount path: the pod asks for exactly that.

    Args:
        binds: in order.
        hidden: paths of the host.
        host_root: the container's root shows the host's files; an image's root does not.
    """
    ops: list[MountOp] = [Mask(PurePosixPath(path)) for path in hidden] if host_root else []
    for bind in binds:
        ops.append(bind)
        ops.extend(
            Mask(bind.target / path.relative_to(bind.source))
            for path in hidden
            if path != bind.source and path.is_relative_to(bind.source)
        )
    return tuple(ops)


def to_host_path(text: str, binds: Sequence[Bind]) -> str:
    """Rewrite a path below a mount to where it is on the host; other text stays as it is.

    For nodes whose kernel allows no mount namespaces: there, nothing is at the mount paths.
    """
    for bind in reversed(binds):
        target = str(bind.target)
        if text == target or text.startswith(target.rstrip("/") + "/"):
            return str(bind.source) + text[len(target) :]
    return text


def _below(base: Path, sub: str) -> Path:
    parts = PurePosixPath(sub)
    if parts.is_absolute() or ".." in parts.parts:
        raise MountError(f"subPath {sub!r}: write a relative path without ..")
    return base / parts
