"""Keeps a store equal to the API server's state, by list and watch.

The rules are those of client-go's reflector (tools/cache/reflector.go):

- list in pages, newest state (no resourceVersion), so that a restarted process never
  travels back in time; replace the store in one go, announcing what vanished;
- watch from the list's version with bookmarks; remember the version of every event and
  bookmark, and continue from there when the server ends the stream;
- 410, as answer or as event: list again. Other failures: back off and watch from where
  we were; after a few in a row list again, in case the server's history is another one;
- 70 s without a byte means a dead connection, since bookmarks come every 60 s.

What is optional is done without for as long as the server forbids it (403): the store then counts
as in step, and the next try comes after the usual pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from taskctl.backoff import Backoff
from taskctl.errors import ApiError, Forbidden, Gone, Throttled, Unavailable
from taskctl.kube.interface import (
    KubeObject,
    ListerWatcher,
    ListOptions,
    WatchEvent,
    WatchOptions,
)
from taskctl.kube.resources import Resource
from taskctl.kube.responses import is_resource_version_too_large
from taskctl.kube.store import Handler, Store, Transform, keep_metadata, parse_version
from taskctl.kube.timing import SYSTEM_TIMING, Pauses, Timing
from taskctl.kube.watch import resource_version

log = logging.getLogger(__name__)

_PAGE_LIMIT: Final = 500
_FAILURES_BEFORE_RELIST: Final = 4
# Shorter than client-go's 30 s and two minutes: a server that is restarted twice must not
# leave us blind for the minute that the second one would begin with.
OUTAGE_BACKOFF: Final = Backoff(0.8, 10.0, (1.0, 2.0))
_CALM_AFTER_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class InformerOptions:
    """What to watch, and how.

    Attributes:
        label_selector: only objects with these labels.
        field_selector: only objects with these fields.
        metadata_only: ask for metadata and keep nothing else.
        relist_period_s: compare with a full list so often, a cheap guard against our own
            mistakes; 0 for never.
        optional: where the server forbids it, work with an empty store instead of waiting.
        backoff: pauses while the server is away.
    """

    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False
    relist_period_s: float = 3600.0
    optional: bool = False
    backoff: Backoff = OUTAGE_BACKOFF


class Informer:
    """Feeds one store from one list and watch.

    Args:
        client: where to list and watch.
        res: the kind.
        namespace: None for all namespaces.
        options: selectors and habits.
        transform: applied to each object before it is stored.
        timing: clock, sleep and chance.
    """

    def __init__(
        self,
        client: ListerWatcher,
        res: Resource,
        namespace: str | None = None,
        *,
        options: InformerOptions = InformerOptions(),  # frozen
        transform: Transform | None = None,
        timing: Timing = SYSTEM_TIMING,
    ) -> None:
        self.resource = res
        self.namespace = namespace
        self.store = Store(res.plural, _compose(options.metadata_only, transform))
        self.synced = asyncio.Event()
        self._client = client
        self._options = options
        self._timing = timing
        self._pauses = Pauses(options.backoff, timing, reset_after_s=_CALM_AFTER_S)
        self._version = ""
        self._listed_at_s = 0.0
        self._contact_s: float | None = None
        self._last_error = ""
        self._refusal = ""
        self._trouble = ""
        self._stream_events = 0

    @property
    def name(self) -> str:
        """For logs and metrics."""
        return self.resource.plural

    @property
    def last_error(self) -> str:
        """What keeps the informer from its server right now; empty when all is well."""
        return self._last_error

    @property
    def refusal(self) -> str:
        """In which words the server forbids what is optional; empty where it does not."""
        return self._refusal

    @property
    def silent_s(self) -> float:
        """Seconds since the server was last heard of; infinite before the first time."""
        if self._contact_s is None:
            return float("inf")
        return self._timing.clock.monotonic_s() - self._contact_s

    def add_handler(self, handler: Handler) -> None:
        """Call ``handler(old, new)`` on every change; see :class:`Store`."""
        self.store.add_handler(handler)

    async def wait_synced(self, timeout_s: float) -> None:
        """Wait until the store holds a complete list.

        Raises:
            Unavailable: that took longer than ``timeout_s`` seconds.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.synced.wait()
        except TimeoutError as error:
            why = f": {self._last_error}" if self._last_error else ""
            raise Unavailable(
                f"{self.name} could not be listed within {timeout_s:g} s{why}"
            ) from error

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                await self._list()
                await self._follow()
            except Gone as error:
                # A list just taken can be too old at once only if something is wrong.
                log.info("%s: %s; listing again", self.name, error)
                if self._timing.clock.monotonic_s() - self._listed_at_s < 1.0:
                    await self._pause(error)
            except ApiError as error:
                if self._options.optional and isinstance(error, Forbidden):
                    self._do_without(error)
                else:
                    self._warn(error)
                await self._pause(error)

    # --- list ---------------------------------------------------------------------------

    async def _list(self) -> None:
        started_s = self._timing.clock.monotonic_s()
        try:
            objects, version = await self._fetch()
        except Forbidden:
            if self._options.optional and len(self.store):
                # What is no longer watched must not be believed forever.
                self.store.replace([], self._version, trust=True)
            raise
        # Lists without a resourceVersion never go back, unless the server's data did.
        went_back = 0 < parse_version(version) < parse_version(self._version)
        if went_back:
            log.warning(
                "%s: the server's version went back from %s to %s; was its data restored?",
                self.name,
                self._version,
                version,
            )
        self.store.replace(objects, version, trust=went_back)
        self._version = version
        self._listed_at_s = self._timing.clock.monotonic_s()
        self._note_contact()
        log.debug(
            "%s: listed %d objects at version %s in %.3f s",
            self.name,
            len(objects),
            version,
            self._listed_at_s - started_s,
        )
        self.synced.set()

    async def _fetch(self) -> tuple[list[KubeObject], str]:
        options = ListOptions(
            label_selector=self._options.label_selector,
            field_selector=self._options.field_selector,
            limit=_PAGE_LIMIT,
            metadata_only=self._options.metadata_only,
        )
        page = await self._client.list_all(self.resource, self.namespace, options=options)
        return page.items, page.resource_version

    # --- watch --------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Watch, and resume when a stream ends; return when a new list is due."""
        failures, at_once = 0, True
        while not self._relist_due():
            self._stream_events = 0
            error = await self._watch_once()
            if self._stream_events > 0:
                # The server was well again: what follows is another outage, not the same one.
                failures, at_once = 0, True
                self._pauses.reset()
            if isinstance(error, Throttled):
                await self._pause(error)
                continue
            if error is not None:
                failures += 1
                if failures >= _FAILURES_BEFORE_RELIST:
                    raise error
                self._last_error = str(error)
                log.info("%s: %s; resuming from version %s", self.name, error, self._version)
            # The end of a stream is normal and the next one follows at once; but a server
            # that ends each as soon as it begins must not be run against in a tight loop.
            if not at_once:
                await self._timing.sleep(self._pauses.next_s())
            at_once = False

    async def _watch_once(self) -> Throttled | Unavailable | None:
        """Read one stream to its end; return what broke it, or None."""
        options = self._watch_options(self._version)
        try:
            async with aclosing(self._open(options)) as events:
                async for event in events:
                    self._stream_events += 1
                    self.store.apply(event.type, event.object)
                    self._version = resource_version(event.object) or self._version
                    self._note_contact()
                    self._allowed()
        except Throttled as error:
            return error
        except Unavailable as error:
            if is_resource_version_too_large(error):
                raise Gone(str(error), error.status, error.reason) from error
            return error
        self._note_contact()
        self._allowed()
        return None

    def _open(self, options: WatchOptions) -> AsyncGenerator[WatchEvent, None]:
        return self._client.watch(self.resource, self.namespace, options=options)

    def _watch_options(self, version: str) -> WatchOptions:
        return WatchOptions(
            resource_version=version,
            label_selector=self._options.label_selector,
            field_selector=self._options.field_selector,
            metadata_only=self._options.metadata_only,
        )

    def _relist_due(self) -> bool:
        period_s = self._options.relist_period_s
        return period_s > 0 and self._timing.clock.monotonic_s() - self._listed_at_s >= period_s

    def _warn(self, error: ApiError) -> None:
        """Log a trouble once, however often the next tries meet it."""
        level = logging.DEBUG if self._trouble == str(error) else logging.WARNING
        log.log(level, "%s: %s", self.name, error)
        self._trouble = str(error)

    def _note_contact(self) -> None:
        self._contact_s = self._timing.clock.monotonic_s()
        if self._trouble:
            log.info("%s: the API server answers again", self.name)
            self._trouble = ""
        self._last_error = ""

    def _do_without(self, error: Forbidden) -> None:
        if not self._refusal:
            log.warning("%s: %s; working without them, and trying again", self.name, error)
        self._refusal = str(error)
        self._note_contact()  # it answered
        self.synced.set()

    def _allowed(self) -> None:
        """List and watch have both worked."""
        if self._refusal:
            log.info("%s: allowed now", self.name)
        self._refusal = ""

    async def _pause(self, error: ApiError) -> None:
        self._last_error = str(error)
        await self._timing.sleep(max(error.retry_after_s, self._pauses.next_s()))


def _compose(metadata_only: bool, transform: Transform | None) -> Transform | None:
    if not metadata_only:
        return transform
    if transform is None:
        return keep_metadata
    chosen = transform
    return lambda obj: chosen(keep_metadata(obj))
