"""The files of ConfigMap, Secret, downward API and projected volumes.

What a source turns into is pure; :func:`write_payload` puts it on disk as the kubelet's atomic
writer does (kubernetes/pkg/volume/util/atomic_writer.go): a reader sees all of the old files or
all of the new ones.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from taskctl.embedded.node import removal
from taskctl.embedded.node.env import EnvError, EnvSources, field_value, resource_value
from taskctl.embedded.node.model import Json

DEFAULT_MODE: Final = 0o644
_DATA_LINK: Final = "..data"


class PayloadError(Exception):
    """A volume's content cannot be put together; the pod waits and the node tries again."""


@dataclass(frozen=True, slots=True)
class PayloadFile:
    """A file to be.

    Attributes:
        content: bytes.
        mode: permission bits.
    """

    content: bytes
    mode: int = DEFAULT_MODE


Payload = dict[str, PayloadFile]


def secret_data(secret: Json) -> dict[str, bytes]:
    """Return a Secret's data, decoded."""
    return {k: base64.b64decode(v) for k, v in (secret.get("data") or {}).items()}


def config_map_data(config_map: Json) -> dict[str, bytes]:
    """Return a ConfigMap's ``data`` and ``binaryData`` as bytes."""
    result = {k: str(v).encode() for k, v in (config_map.get("data") or {}).items()}
    for key, value in (config_map.get("binaryData") or {}).items():
        result[key] = base64.b64decode(value)
    return result


def select(data: Mapping[str, bytes] | None, source: Json, *, kind: str, mode: int) -> Payload:
    """Return the files of a ConfigMap or Secret source.

    Args:
        data: of the object, or None when it does not exist.
        source: with ``items`` and ``optional``.
        kind: for the message.
        mode: for files whose item has none.

    Raises:
        PayloadError: the object or a key is missing and not optional.
    """
    name = source.get("name") or source.get("secretName") or ""
    optional = bool(source.get("optional"))
    if data is None:
        if optional:
            return {}
        raise PayloadError(f'{kind} "{name}" not found')
    items = source.get("items")
    if not items:
        return {key: PayloadFile(content, mode) for key, content in data.items()}
    result: Payload = {}
    for item in items:
        if item["key"] in data:
            path = checked_path(item["path"])
            result[path] = PayloadFile(data[item["key"]], item.get("mode") or mode)
        elif not optional:
            raise PayloadError(f"{kind} {name!r} has no key {item['key']!r}")
    return result


def downward(pod: Json, items: list[Json], *, sources: EnvSources, mode: int) -> Payload:
    """Return the files of a downward API source.

    Raises:
        PayloadError: an item refers to something that does not exist.
    """
    result: Payload = {}
    for item in items:
        try:
            if ref := item.get("fieldRef"):
                text = field_value(pod, ref["fieldPath"], sources=sources)
            else:
                text = resource_value(pod, {}, item.get("resourceFieldRef") or {}, sources=sources)
        except EnvError as error:
            raise PayloadError(str(error)) from error
        file = PayloadFile(text.encode(), item.get("mode") or mode)
        result[checked_path(item["path"])] = file
    return result


def checked_path(path: str) -> str:
    """Return the path if it stays inside its volume.

    Raises:
        PayloadError: it does not.
    """
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or parts.parts[0].startswith(".."):
        raise PayloadError(f"path {path!r}: write a relative path without ..")
    return str(parts)


def write_payload(directory: Path, payload: Payload) -> None:
    """Make the directory show exactly these files; blocking.

    Raises:
        OSError: the disk says no.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    link = directory / _DATA_LINK
    old = directory / os.readlink(link) if link.is_symlink() else None
    if old is not None and _read(old) == payload:
        return
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    fresh.chmod(0o755)
    for name, file in payload.items():
        path = fresh / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode)
    temporary = directory / "..data_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(fresh.name)
    temporary.replace(link)
    _link_names(directory, payload)
    if old is not None and old.is_dir():
        removal.remove_tree(old)


def _link_names(directory: Path, payload: Payload) -> None:
    wanted = {PurePosixPath(name).parts[0] for name in payload}
    for entry in list(directory.iterdir()):
        if not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    for name in wanted:
        path = directory / name
        if not path.is_symlink():
            path.symlink_to(f"{_DATA_LINK}/{name}")


def _read(directory: Path) -> Payload:
    return {
        str(path.relative_to(directory)): PayloadFile(
            path.read_bytes(), path.stat().st_mode & 0o7777
        )
        for path in directory.rglob("*")
        if path.is_file()
    }
