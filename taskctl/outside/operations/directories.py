"""``shared_directory``: ``[CLAIM:]PATH[:MODE]``. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from taskctl.api.variables import NO_STEP_BACK, STEP_BACK_MESSAGE
from taskctl.api.workspace import MOUNT_PATH, MOUNT_PATH_MESSAGE, RESERVED_PATHS, inside
from taskctl.constants import DNS_SUBDOMAIN, MAX_NAME
from taskctl.errors import ConfigError

_SYNTAX: Final = "write [CLAIM:]PATH[:MODE], for example data:/mnt/data:ro"


class DirectoryMode(StrEnum):
    """How a directory is mounted, or which access mode a new claim has."""

    READ_ONLY = "ro"
    READ_WRITE = "rwo"
    READ_WRITE_MANY = "rwx"


@dataclass(frozen=True, slots=True)
class SharedDirectory:
    """A directory that all tasks of an operation see.

    Attributes:
        path: where.
        claim: PersistentVolumeClaim that holds it; empty: a new one.
        mode: read-only, or for which number of nodes a new claim is.
    """

    path: str
    claim: str = ""
    mode: DirectoryMode = DirectoryMode.READ_WRITE

    @classmethod
    def parse(cls, text: str) -> SharedDirectory:
        """Read ``[CLAIM:]PATH[:MODE]``.

        Raises:
            ConfigError: it is none.
        """
        parts = text.split(":")
        mode = DirectoryMode.READ_WRITE
        if len(parts) > 1 and not parts[-1].startswith("/"):
            given = parts.pop()
            if given not in tuple(DirectoryMode):
                raise _wrong(text, "mode", given, f"is not one of {', '.join(DirectoryMode)}")
            mode = DirectoryMode(given)
        claim = ""
        if len(parts) > 1:
            claim = parts.pop(0)
            if len(claim) > MAX_NAME or not re.fullmatch(DNS_SUBDOMAIN, claim):
                raise _wrong(
                    text,
                    "claim",
                    claim,
                    "cannot be the name of a PersistentVolumeClaim: use lower case letters, "
                    "digits, '-' and '.'",
                )
        path = ":".join(parts)
        if not re.fullmatch(MOUNT_PATH, path):
            raise _wrong(text, "path", path, "is not an absolute path without ':'")
        if re.search(NO_STEP_BACK, path):
            raise _wrong(text, "path", path, STEP_BACK_MESSAGE)
        if inside(path, RESERVED_PATHS):
            raise _wrong(text, "path", path, MOUNT_PATH_MESSAGE)
        return cls(path, claim, mode)


def _wrong(text: str, part: str, given: str, why: str) -> ConfigError:
    return ConfigError(f"shared_directory {text!r}: the {part} {given!r} {why}; {_SYNTAX}")


def parse_directories(
    given: str | SharedDirectory | Sequence[str | SharedDirectory] | None,
) -> tuple[SharedDirectory, ...]:
    """Return the directories of an operation.

    Raises:
        ConfigError: one is malformed, or a path or claim is named twice.
    """
    if given is None:
        return ()
    items = [given] if isinstance(given, (str, SharedDirectory)) else list(given)
    found = tuple(
        item if isinstance(item, SharedDirectory) else SharedDirectory.parse(item) for item in items
    )
    for what, names in (
        ("path", [directory.path for directory in found]),
        ("claim", [directory.claim for directory in found if directory.claim]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"shared_directory: the {what} {twice[0]} is named twice")
    return found


def volumes_of(
    directories: Sequence[SharedDirectory], existing_claims: Collection[str]
) -> dict[str, Any]:
    """Return the fields of a TaskCluster for directories: the first is its workspace.

    Args:
        directories: at least one.
        existing_claims: names of the claims that are there; others are made, for the first.

    Raises:
        ConfigError: a further directory needs a claim that does not exist.
    """
    first, *others = directories
    fields: dict[str, Any] = {"workspace": _workspace(first, existing_claims)}
    volumes, mounts = [], []
    for number, directory in enumerate(others, start=1):
        if directory.claim not in existing_claims:
            raise ConfigError(
                f"shared_directory: {directory.claim or 'a new claim'} for {directory.path} is not "
                "there, and only the first directory gets a claim of its own; create it before, "
                "or use a directory below the first one"
            )
        name = f"shared-{number}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": directory.claim}})
        mount: dict[str, Any] = {"name": name, "mountPath": directory.path}
        if directory.mode is DirectoryMode.READ_ONLY:
            mount["readOnly"] = True
        mounts.append(mount)
    if volumes:
        fields |= {"volumes": volumes, "volumeMounts": mounts}
    return fields


def _workspace(directory: SharedDirectory, existing_claims: Collection[str]) -> dict[str, Any]:
    workspace: dict[str, Any] = {"mountPath": directory.path}
    if directory.claim in existing_claims:
        workspace["claimName"] = directory.claim
    elif directory.mode is DirectoryMode.READ_WRITE_MANY:
        workspace["pvc"] = {"accessModes": ["ReadWriteMany"]}
    else:
        workspace["pvc"] = {}
    return workspace
