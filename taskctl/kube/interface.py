"""What a program may ask of Kubernetes, as protocols and plain values.

Code takes the narrowest protocol that serves it (:class:`Reader`, :class:`Writer`,
:class:`StatusWriter`, :class:`Watcher`), so that a test can stand in for the server.
Objects are plain dicts as decoded from JSON: typed models cost 17 to 60 times as much.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from taskctl.kube.resources import Resource

KubeObject = dict[str, Any]


class EventType(StrEnum):
    """The type of a watch event. ``ERROR`` never reaches a caller: it is raised."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


class PatchType(StrEnum):
    """How a PATCH body is to be read; the value is its content type."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class Propagation(StrEnum):
    """What a delete does to the objects that name this one as owner."""

    BACKGROUND = "Background"
    FOREGROUND = "Foreground"
    ORPHAN = "Orphan"


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of a list.

    Attributes:
        label_selector: for example ``app=web,tier!=db``.
        field_selector: for example ``spec.nodeName=node-1``.
        limit: objects a page; 0 lets the server send everything at once.
        continue_token: of the page before.
        resource_version: empty asks for the newest state; ``0`` takes whatever the
            server has cached, which may be old.
        metadata_only: ask for PartialObjectMetadata, which leaves out spec and status.
    """

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    metadata_only: bool = False


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Options of a watch.

    Attributes:
        resource_version: start after this version; empty starts at "now", preceded by
            an ADDED event for each object there is.
        label_selector: as in a list.
        field_selector: as in a list.
        timeout_s: seconds after which the server ends the stream; 0 picks a random time
            between 5 and 10 minutes, as client-go does, so that streams do not all
            end at once and a hung one heals.
        bookmarks: ask for BOOKMARK events. They keep the resource version young and
            prove about once a minute that the connection lives.
        metadata_only: as in a list.
        send_initial_events: begin with the present objects, then a BOOKMARK with the
            annotation ``k8s.io/initial-events-end`` (KEP-3157, Kubernetes 1.32).
    """

    resource_version: str = ""
    label_selector: str = ""
    field_selector: str = ""
    timeout_s: float = 0.0
    bookmarks: bool = True
    metadata_only: bool = False
    send_initial_events: bool = False


@dataclass(frozen=True, slots=True)
class PatchOptions:
    """Options of a PATCH.

    Attributes:
        type: how the body is to be read.
        subresource: for example ``status`` or ``ephemeralcontainers``.
        field_manager: who writes; required by the server for APPLY.
        force: take over fields from other managers; APPLY only.
        idempotent: the caller's word that sending the patch twice does no harm. Only
            then is it sent again after an answer that leaves the outcome unknown.
        strict: refuse fields that the server does not know, instead of dropping them.
    """

    type: PatchType = PatchType.MERGE
    subresource: str | None = None
    field_manager: str = ""
    force: bool = False
    idempotent: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Options of a delete.

    Attributes:
        uid: refuse (Conflict) unless the object has this UID.
        resource_version: refuse (Conflict) unless the object has this version.
        grace_s: seconds a pod gets to end; None leaves it to the object.
        propagation: what happens to owned objects; None leaves it to the server.
    """

    uid: str = ""
    resource_version: str = ""
    grace_s: int | None = None
    propagation: Propagation | None = None


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Options of a container's log.

    Attributes:
        follow: continue until the container ends.
        previous: of the instance before the last restart.
        tail_lines: only so many lines from the end.
        since_s: only lines of the last so many seconds.
        timestamps: put an RFC 3339 time before each line.
        limit_bytes: stop after so many bytes.
    """

    follow: bool = False
    previous: bool = False
    tail_lines: int | None = None
    since_s: int | None = None
    timestamps: bool = False
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ListPage:
    """The answer to a list.

    Attributes:
        items: the objects, each with ``apiVersion`` and ``kind`` filled in.
        resource_version: of the collection; a watch begins here.
        continue_token: for the next page; empty on the last one.
        size_bytes: of the body; tells how large the next page may be asked for.
    """

    items: list[KubeObject]
    resource_version: str
    continue_token: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch.

    Attributes:
        type: never ``ERROR``.
        object: the object after the change (before it, for DELETED); for BOOKMARK only
            its ``metadata.resourceVersion`` means something.
    """

    type: EventType
    object: KubeObject


class Lister(Protocol):
    """May list."""

    async def list_all(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: ListOptions = ListOptions(),  # frozen
    ) -> ListPage:
        """Return all pages as one."""
        ...


class Reader(Lister, Protocol):
    """May look."""

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> KubeObject:
        """Return one object."""
        ...

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: ListOptions = ListOptions(),  # frozen
    ) -> ListPage:
        """Return one page; ``namespace=None`` means all namespaces."""
        ...


class Writer(Protocol):
    """May change."""

    async def create(
        self, res: Resource, obj: KubeObject, namespace: str | None = None, *, dry_run: bool = False
    ) -> KubeObject:
        """Create an object and return it as stored."""
        ...

    async def replace(
        self, res: Resource, obj: KubeObject, *, subresource: str | None = None
    ) -> KubeObject:
        """Replace an object; with a resourceVersion in it, only if it is still that version."""
        ...

    async def patch(
        self,
        res: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        options: PatchOptions = PatchOptions(),  # frozen
    ) -> KubeObject:
        """Patch an object and return it as stored."""
        ...

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions = DeleteOptions(),  # frozen
    ) -> KubeObject:
        """Delete an object; return its last state, or the server's Status."""
        ...


class StatusWriter(Protocol):
    """May change statuses and nothing else."""

    async def patch_status(
        self, res: Resource, name: str, namespace: str | None, body: KubeObject
    ) -> KubeObject:
        """Merge-patch the status subresource; ``body`` is ``{"status": {...}}``, with a
        ``metadata.resourceVersion`` where the write must fail if the object has changed.
        """
        ...


class Watcher(Protocol):
    """May watch."""

    def watch(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: WatchOptions = WatchOptions(),  # frozen
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield events until the server ends the stream."""
        ...


class ListerWatcher(Lister, Watcher, Protocol):
    """What an informer needs."""


class Client(Reader, Writer, StatusWriter, Watcher, Protocol):
    """All of it."""
