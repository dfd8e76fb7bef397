"""Following objects: a list, then what changes, through breaks of the connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from taskctl.backoff import Backoff
from taskctl.errors import Gone, Throttled, Unavailable

if TYPE_CHECKING:
    from taskctl.kube.client import KubeClient
    from taskctl.kube.resources import Resource

_BACKOFF: Final = Backoff(0.2, 5.0, (0.5, 1.5))
# So often in a row may the API server not answer before the reader is told.
PATIENCE_TRIES = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One step.

    Attributes:
        objects: the new or changed objects.
        deleted: whether they are gone.
        complete: ``objects`` is all there is: forget what was known before.
    """

    objects: list[dict[str, Any]]
    deleted: bool = False
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects to follow: those of a kind in a namespace that selectors match."""

    resource: Resource
    namespace: str | None
    label_selector: str = ""
    field_selector: str = ""


async def follow(client: KubeClient, selection: Selection) -> AsyncGenerator[Change, None]:
    """Yield a complete :class:`Change` first, then one per event; never ends by itself.

    Use ``contextlib.aclosing``.

    Raises:
        ApiError: the API server refuses, or stayed away for PATIENCE_TRIES tries.
    """
    from taskctl.kube.interface import ListOptions

    options = ListOptions(
        label_selector=selection.label_selector, field_selector=selection.field_selector
    )
    tries = 0
    while True:
        try:
            page = await client.list_all(selection.resource, selection.namespace, options=options)
            tries = 0
            yield Change(page.items, complete=True)
            async with aclosing(_watch(client, selection, page.resource_version)) as changes:
                async for change in changes:
                    tries = 0
                    yield change
        except Gone:
            continue
        except (Throttled, Unavailable):
            tries += 1
            if tries >= PATIENCE_TRIES:
                raise
            await asyncio.sleep(_BACKOFF.pause_s(tries, random.random()))


async def _watch(
    client: KubeClient, selection: Selection, version: str
) -> AsyncGenerator[Change, None]:
    """Watch from ``version`` on, resuming when the server ends a stream."""
    from taskctl.kube.interface import EventType, WatchOptions

    while True:
        options = WatchOptions(
            resource_version=version,
            label_selector=selection.label_selector,
            field_selector=selection.field_selector,
        )
        events = client.watch(selection.resource, selection.namespace, options=options)
        async with aclosing(events):
            async for event in events:
                version = event.object["metadata"]["resourceVersion"]
                if event.type is not EventType.BOOKMARK:
                    yield Change([event.object], deleted=event.type is EventType.DELETED)
