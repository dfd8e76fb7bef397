"""What a container's image is on this node: unpacked, a folder, an environment, or nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from taskctl import beneath
from taskctl.embedded.images import adding, registry, sources
from taskctl.embedded.images.model import ImageConfig, ImageError
from taskctl.embedded.images.names import Image, ImageKind, key, look_up, short
from taskctl.embedded.images.process import Accounts
from taskctl.embedded.images.reference import Reference, image_name, parse_reference
from taskctl.embedded.images.store import ImageStore

__all__ = ["NodeImages", "PodPullPolicy", "PullError", "RunImage", "image_name", "used_images"]

log = logging.getLogger(__name__)

_ACCOUNTS_LIMIT: Final = 4 * 1024 * 1024
# Kept secrets of a pod, and only asked for when something is pulled.
Secrets = Callable[[], Awaitable[list[bytes]]]


class PodPullPolicy(StrEnum):
    """``imagePullPolicy``."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class PullError(Exception):
    """An image is not here and cannot be had (now).

    Attributes:
        reason: the kubelet's word, for ``state.waiting``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RunImage:
    """How a container of an image runs.

    Attributes:
        note: one sentence for an Event.
        root: of the unpacked image; None: the host's programs are run.
        folder: covers the host's files, or None.
        environment: a Python environment whose programs go first, or None.
        config: of the unpacked image.
        accounts: its users.
        image_id: for the status; empty where the host's programs are run.
    """

    note: str
    root: Path | None = None
    folder: Path | None = None
    environment: Path | None = None
    config: ImageConfig = field(default_factory=ImageConfig)
    accounts: Accounts = field(default_factory=Accounts)
    image_id: str = ""


class NodeImages:
    """Finds out what a container's image is, and pulls it where it is to be pulled.

    Args:
        store: of the data directory.
        folders: image name to a directory that covers the host's root.
        obstacle: why no container can run in an image here; empty: it can.
    """

    def __init__(
        self, store: ImageStore, folders: Mapping[str, Path] | None = None, obstacle: str = ""
    ) -> None:
        self._store = store
        self._folders = {
            key(name): Image(ImageKind.FOLDER, str(path), path=path)
            for name, path in (folders or {}).items()
        }
        self._obstacle = obstacle
        self._pulls = asyncio.Lock()  # one at a time, as the kubelet does by default

    def runs_in_image(self, reference: str) -> bool:
        """Whether containers of an image run in it, and not on the host's files."""
        try:
            found = self._find(reference)
        except (ImageError, OSError):
            return False  # the start of the container tells
        kinds = (ImageKind.TREE, ImageKind.REGISTRY)
        return found is not None and found.kind in kinds and not self._obstacle

    async def resolve(self, reference: str, policy: PodPullPolicy, secrets: Secrets) -> RunImage:
        """Return how containers of an image run; pulls it if it must.

        Args:
            reference: the container's ``image``, of valid syntax.
            policy: when to pull.
            secrets: returns the content of the pod's pull secrets.

        Raises:
            PullError: it is not here and cannot be had.
            ImageError: the names of images cannot be read.
            OSError: it cannot be read or written.
        """
        found = await asyncio.to_thread(self._find, reference)
        if found is None:
            return RunImage(_not_unpacked(reference, "no image of this name was added"))
        if found.kind is ImageKind.FOLDER:
            note = _not_unpacked(reference, f"{found.path} covers the host's files")
            return RunImage(note, folder=found.path)
        if found.kind is ImageKind.VENV:
            note = _not_unpacked(reference, f"those of {found.path} go first")
            return RunImage(note, environment=found.path)
        if self._obstacle:
            return RunImage(_not_unpacked(reference, self._obstacle))
        parsed = parse_reference(reference)
        assert parsed is not None, reference
        if found.kind is ImageKind.REGISTRY:
            found = await self._pulled(parsed, found, policy, secrets)
        elif parsed.digest and parsed.digest != found.digest:
            raise PullError(
                "ErrImagePull",
                f'image "{reference}" was added from {found.source}, which has the digest '
                f"{found.digest or 'of no manifest'}",
            )
        return await asyncio.to_thread(self._in_image, reference, found)

    def _find(self, reference: str) -> Image | None:
        return look_up({**self._store.names(), **self._folders}, reference)

    def _in_image(self, reference: str, image: Image) -> RunImage:
        root = self._store.tree_path(image.tree)
        if not root.is_dir():
            raise PullError(
                "ErrImageNeverPull",
                f'image "{reference}" is not unpacked any more: add it again with '
                f"`taskctl image add {short(key(reference))}={image.source}`",
            )
        identity = image.digest or f"sha256:{image.tree}"
        return RunImage(
            note=f'image "{reference}" is unpacked ({image.source}, {identity[:19]}): its '
            "containers run in it",
            root=root,
            config=image.config,
            accounts=Accounts.parse(_read(root, "etc/passwd"), _read(root, "etc/group")),
            image_id=identity,
        )

    # --- registries

    async def _pulled(
        self, reference: Reference, named: Image, policy: PodPullPolicy, secrets: Secrets
    ) -> Image:
        target = _target(reference, named)
        here = await asyncio.to_thread(self._here, target)
        if here is not None and policy is not PodPullPolicy.ALWAYS:
            return here
        if policy is PodPullPolicy.NEVER:
            raise PullError(
                "ErrImageNeverPull",
                f'Container image "{reference}" is not present with pull policy of Never',
            )
        async with self._pulls:
            try:
                return await self._pull(target, await secrets(), policy)
            except (ImageError, OSError) as error:
                raise PullError(
                    "ErrImagePull", f'Failed to pull image "{reference}": {error}'
                ) from error

    async def _pull(self, target: Reference, secrets: list[bytes], policy: PodPullPolicy) -> Image:
        here = await asyncio.to_thread(self._here, target)  # another container had it pulled
        if here is not None and policy is not PodPullPolicy.ALWAYS:
            return here
        scratch = self._store.scratch()
        directory = await asyncio.to_thread(scratch.__enter__)
        try:
            auth_file = None
            if secrets:
                auth_file = directory / "auth.json"
                registry.write_auth_file(auth_file, registry.auth_document(secrets))
            digest = await registry.remote_digest(target, auth_file)
            if here is not None and here.digest == digest:
                return here
            layout = directory / "layout"
            await registry.download(target, layout, auth_file)
            return await asyncio.to_thread(self._unpack, target, layout, digest)
        finally:
            await asyncio.to_thread(scratch.__exit__, None, None, None)

    def _unpack(self, target: Reference, layout: Path, digest: str) -> Image:
        source = f"docker://{short(str(target))}"
        with self._store.locked():
            holder = sources.LayoutFolder(layout)
            image = adding.unpack_holder(self._store, holder, "1", source)
            image = Image(image.kind, source, None, image.tree, digest, image.config)
            self._store.remember_pulled(str(target), image)
        log.info("pulled %s, %s", target, digest)
        return image

    def _here(self, target: Reference) -> Image | None:
        found = self._store.pulled().get(str(target))
        return found if found and self._store.tree_path(found.tree).is_dir() else None


def used_images(pods: Path, images: Path) -> frozenset[str]:
    """Return the trees and environments that containers on this disk were started with.

    Args:
        pods: directory of all pods.
        images: directory of the images.
    """
    used: set[str] = set()
    for spec in pods.glob("*/containers/*/*/spec"):
        try:
            tokens = spec.read_bytes().split(b"\0")
        except OSError:
            continue
        for token in tokens:
            path = Path(token.decode("utf-8", "surrogateescape"))
            if path.is_absolute() and path.is_relative_to(images) and path != images:
                parts = path.relative_to(images).parts
                used.update(parts[1:2])
    return frozenset(used)


def _target(reference: Reference, named: Image) -> Reference:
    written = named.source.removeprefix("docker://")
    if not written:
        return reference
    target = parse_reference(written)
    assert target is not None, written
    if target.tag or target.digest:
        return target
    return Reference(target.domain, target.path, reference.tag, reference.digest)


def _not_unpacked(reference: str, why: str) -> str:
    return f'image "{reference}" is not unpacked: the local node runs the host\'s programs; {why}'


def _read(root: Path, name: str) -> str:
    """Read a small file of an image, which may be anything but a file."""
    try:
        with beneath.regular_file(root, name) as (fd, status):
            if status.st_size > _ACCOUNTS_LIMIT:
                return ""
            with open(fd, "rb", closefd=False) as file:
                return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
