"""``shared_directory``: ``[CLAIM:]PATH[:MODE]``. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

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
            try:
                mode = DirectoryMode(parts.pop())
            except ValueError as error:
                known = ", ".join(DirectoryMode)
                raise ConfigError(
                    f"shared_directory: {text!r} has a mode that is not one of {known}; {_SYNTAX}"
                ) from error
        claim = parts.pop(0) if len(parts) > 1 else ""
        if len(parts) != 1 or not parts[0].startswith("/") or (text.startswith(":")):
            raise ConfigError(
                f"shared_directory: {text!r} has no absolute path where it belongs; {_SYNTAX}"
            )
        return cls(parts[0], claim, mode)


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
