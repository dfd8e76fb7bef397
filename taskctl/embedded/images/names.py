"""Which image a name means on this machine (pure): parsing NAME=SOURCE, and looking names up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from taskctl.embedded.images.model import ImageConfig, ImageError, Json
from taskctl.embedded.images.reference import Reference, parse_reference


class SourceKind(StrEnum):
    """Where an image is."""

    PATH = "path"  # a directory or an archive: told apart by looking
    LAYOUT = "oci"
    VENV = "venv"
    REQUIREMENTS = "requirements"
    REGISTRY = "docker"


class ImageKind(StrEnum):
    """How containers of an image are run."""

    TREE = "tree"  # in the unpacked image
    FOLDER = "folder"  # on the host's files, covered by a directory
    VENV = "venv"  # on the host's files, with the programs of a Python environment first
    REGISTRY = "registry"  # pulled when a container needs it


@dataclass(frozen=True, slots=True)
class ImageSource:
    """What stands right of the ``=``.

    Attributes:
        kind: see :class:`SourceKind`.
        value: path or reference; of a registry empty where the image's own reference is pulled.
    """

    kind: SourceKind
    value: str


@dataclass(frozen=True, slots=True)
class Image:
    """What a name stands for.

    Attributes:
        kind: see :class:`ImageKind`.
        source: as the user wrote it, paths made absolute.
        path: of a folder or an environment; None otherwise.
        tree: of an unpacked image, its identity; empty otherwise.
        digest: of the manifest; empty where there is none.
        config: of an unpacked image.
        stamp: tells whether the source has changed since; empty where it cannot.
    """

    kind: ImageKind
    source: str
    path: Path | None = None
    tree: str = ""
    digest: str = ""
    config: ImageConfig = field(default_factory=ImageConfig)
    stamp: str = ""

    def to_json(self) -> Json:
        """Return it as plain data."""
        return {
            "kind": self.kind.value,
            "source": self.source,
            "path": str(self.path) if self.path is not None else "",
            "tree": self.tree,
            "digest": self.digest,
            "config": self.config.to_json(),
            "stamp": self.stamp,
        }

    @classmethod
    def from_json(cls, value: Json) -> Image:
        """Read what :meth:`to_json` returned."""
        return cls(
            kind=ImageKind(value["kind"]),
            source=str(value["source"]),
            path=Path(value["path"]) if value.get("path") else None,
            tree=str(value.get("tree") or ""),
            digest=str(value.get("digest") or ""),
            config=ImageConfig.from_json(value.get("config") or {}),
            stamp=str(value.get("stamp") or ""),
        )


def parse_assignment(text: str) -> tuple[str, ImageSource]:
    """Parse ``NAME=SOURCE``.

    Raises:
        ImageError: malformed; says how it is written.
    """
    name, separator, source = text.partition("=")
    if not separator or not name or not source:
        raise ImageError(
            f"{text!r} must be NAME=DIR, NAME=ARCHIVE, NAME=oci:DIR, NAME=docker://REFERENCE, "
            "NAME=venv:DIR or NAME=requirements:FILE, e.g. counter:latest=./counter.tar"
        )
    parsed = parse_source(source)
    check_name(name, parsed)
    return name, parsed


def parse_source(text: str) -> ImageSource:
    """Parse what stands right of the ``=``; paths are made absolute.

    Raises:
        ImageError: malformed.
    """
    if text.startswith("docker://"):
        reference = text.removeprefix("docker://")
        if reference and parse_reference(reference) is None:
            raise ImageError(f"{text!r}: {reference!r} is not an image reference")
        return ImageSource(SourceKind.REGISTRY, reference)
    for kind in (SourceKind.LAYOUT, SourceKind.VENV, SourceKind.REQUIREMENTS):
        if text.startswith(f"{kind}:"):
            value = text.removeprefix(f"{kind}:")
            if not value:
                raise ImageError(f"{text!r}: a path must follow the colon")
            return ImageSource(kind, str(Path(value).expanduser().absolute()))
    return ImageSource(SourceKind.PATH, str(Path(text).expanduser().absolute()))


def check_name(name: str, source: ImageSource) -> None:
    """Check the name of an image, or of many with a ``*`` at the end.

    Raises:
        ImageError: no container can have such an image.
    """
    if name.endswith("*"):
        if source.kind is not SourceKind.REGISTRY or source.value:
            raise ImageError(
                f"{name!r}: a name with * stands for many images; give it as {name}=docker://"
            )
        if "*" in name[:-1]:
            raise ImageError(f"{name!r}: the * can only be the last character")
    elif parse_reference(name) is None:
        raise ImageError(f"{name!r} is not an image name, e.g. counter:latest")


def key(name: str) -> str:
    """Return the form in which a name is remembered: two that mean the same are one."""
    if name.endswith("*"):
        return name
    found = parse_reference(name)
    if found is None:
        return name
    if found.digest:
        return str(found)
    return f"{found.name}:{found.tag}" if found.tag else found.name


def short(name: str) -> str:
    """Return a remembered name as people write it."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def look_up(names: Mapping[str, Image], reference: str) -> Image | None:
    """Return what an image reference stands for here, None when no image has that name.

    The full reference goes before the name without its tag, which stands for every tag; a longer
    name with ``*`` goes before a shorter one.
    """
    parsed = parse_reference(reference)
    if parsed is None:
        return None
    for candidate in _candidates(parsed):
        if candidate in names:
            return names[candidate]
    return _pattern(names, parsed, reference)


def _candidates(parsed: Reference) -> Iterable[str]:
    if parsed.digest:
        yield str(parsed)
    if parsed.tag or not parsed.digest:
        yield parsed.tagged
    yield parsed.name


def _pattern(names: Mapping[str, Image], parsed: Reference, reference: str) -> Image | None:
    matching = [
        name
        for name in names
        if name.endswith("*")
        and any(text.startswith(name[:-1]) for text in (reference, str(parsed), parsed.tagged))
    ]
    return names[max(matching, key=len)] if matching else None
