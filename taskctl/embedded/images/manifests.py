"""Reading indexes, manifests and configurations of images (pure; OCI image spec, Docker's form)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from taskctl.embedded.images.bounds import checked_digest
from taskctl.embedded.images.model import (
    LIMITS,
    ImageConfig,
    ImageError,
    Json,
    LayerRef,
    Manifest,
)
from taskctl.embedded.images.reference import parse_reference

_NAME_KEYS: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_INDEX_TYPES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What an index says of an image.

    Attributes:
        digest: of its manifest, or of an index in which there is one for each platform.
        is_index: which of the two.
        names: under which it is known.
        architecture: empty when the index does not say.
    """

    digest: str
    is_index: bool
    names: tuple[str, ...] = ()
    architecture: str = ""


def architecture() -> str:
    """Return this machine's architecture as images name it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def descriptors(index: Json) -> list[Descriptor]:
    """Return the images of an index, without attestations and the like.

    Raises:
        ImageError: it is malformed.
    """
    found = []
    for item in _list(index, "manifests"):
        annotations = item.get("annotations") or {}
        if "vnd.docker.reference.type" in annotations:
            continue
        where = item.get("platform") or {}
        names = tuple(str(annotations[key]) for key in _NAME_KEYS if annotations.get(key))
        found.append(
            Descriptor(
                checked_digest(item.get("digest")),
                item.get("mediaType") in _INDEX_TYPES,
                names,
                str(where.get("architecture") or ""),
            )
        )
    return found


def choose(found: Sequence[Descriptor], wanted: str) -> Descriptor:
    """Return the image that is meant by a name or tag; the only one, whatever its name is.

    Raises:
        ImageError: there are several and none has that name, or there is none.
    """
    if len(found) == 1:
        return found[0]
    matching = [item for item in found if any(same_name(name, wanted) for name in item.names)]
    if matching:
        return matching[0]
    names = ", ".join(name for item in found for name in item.names) or "none has a name"
    raise ImageError(f"{wanted!r} is not among its {len(found)} images ({names})")


def choose_platform(found: Sequence[Descriptor]) -> Descriptor:
    """Return the image for this machine.

    Raises:
        ImageError: there is none.
    """
    for item in found:
        if item.architecture in (architecture(), ""):
            return item
    offered = ", ".join(item.architecture for item in found) or "nothing"
    raise ImageError(f"there is no image for {architecture()}, only for {offered}")


def same_name(name: str, wanted: str) -> bool:
    """Whether a name or tag of an archive is what was asked for."""
    if name == wanted:
        return True
    ours, theirs = parse_reference(wanted), parse_reference(name)
    if ours is None:
        return False
    if theirs is not None and ours.tagged == theirs.tagged:
        return True
    return name == ours.tag  # a layout names its images by tag alone


def parse_config(document: Json) -> ImageConfig:
    """Return what a configuration says of processes.

    Raises:
        ImageError: it is malformed, or for another kind of machine.
    """
    system = document.get("os") or "linux"
    made_for = document.get("architecture") or architecture()
    if system != "linux" or made_for != architecture():
        raise ImageError(f"the image is for {system}/{made_for}, this is linux/{architecture()}")
    config = document.get("config") or {}
    if not isinstance(config, dict):
        raise ImageError("the image's config is not an object")
    variables = {}
    for item in _texts(config, "Env"):
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise ImageError(f"config.Env: {item!r} is not NAME=VALUE")
        variables[name] = value
    working_dir, user = config.get("WorkingDir") or "", config.get("User") or ""
    for key, text in (("WorkingDir", working_dir), ("User", user)):
        if not isinstance(text, str) or "\0" in text:
            raise ImageError(f"config.{key} is not a text")
    if working_dir and not working_dir.startswith("/"):
        working_dir = f"/{working_dir}"
    return ImageConfig(
        env=variables,
        entrypoint=_texts(config, "Entrypoint"),
        cmd=_texts(config, "Cmd"),
        working_dir=working_dir,
        user=user,
    )


def parse_manifest(digest: str, manifest: Json, config: Json) -> Manifest:
    """Return an image from its manifest and configuration.

    Raises:
        ImageError: one of them is malformed, or they do not fit together.
    """
    layers = _list(manifest, "layers")
    blobs = [checked_digest(item.get("digest")) for item in layers]
    types = [str(item.get("mediaType") or "") for item in layers]
    return _with_layers(digest, config, blobs, types)


def parse_docker_entry(entry: Json, config: Json) -> Manifest:
    """Return an image from an entry of ``manifest.json``, as ``docker save`` writes it.

    Raises:
        ImageError: it is malformed.
    """
    blobs = _texts(entry, "Layers")
    return _with_layers("", config, blobs, [""] * len(blobs))


def config_digest(manifest: Json) -> str:
    """Return the digest of a manifest's configuration.

    Raises:
        ImageError: the manifest names none.
    """
    config = manifest.get("config")
    if not isinstance(config, dict):
        raise ImageError("the image's manifest names no config; it is not a container image")
    return checked_digest(config.get("digest"))


def _with_layers(digest: str, config: Json, blobs: Sequence[str], types: Sequence[str]) -> Manifest:
    ids = _texts(config.get("rootfs") or {}, "diff_ids")
    if len(ids) != len(blobs):
        raise ImageError(
            f"the manifest has {len(blobs)} layers, rootfs.diff_ids {len(ids)}; it is not a "
            "container image, or it is damaged"
        )
    if len(blobs) > LIMITS.layers:
        raise ImageError(f"the image has more than {LIMITS.layers} layers")
    refs = [
        LayerRef(blob, checked_digest(diff_id), kind)
        for blob, diff_id, kind in zip(blobs, ids, types, strict=True)
    ]
    return Manifest(digest, parse_config(config), tuple(refs))


def _list(document: Json, key: str) -> list[Json]:
    found: Any = document.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ImageError(f"{key} of the image is not a list of objects")
    return found


def _texts(document: Any, key: str) -> tuple[str, ...]:
    found: Any = document.get(key) if isinstance(document, dict) else None
    found = found or []
    if not isinstance(found, list) or not all(isinstance(t, str) and "\0" not in t for t in found):
        raise ImageError(f"{key} of the image is not a list of texts")
    return tuple(found)
