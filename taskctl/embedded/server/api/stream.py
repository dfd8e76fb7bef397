"""Watches: a stream of events, one JSON object a line, until the client or the deadline ends it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web

from taskctl.embedded.server.api.encode import Bytes, Encoder
from taskctl.embedded.server.core import Core, resource_of
from taskctl.embedded.server.http import pacing, websockets
from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.requests.options import ListOptions
from taskctl.embedded.server.storage.eventlog import Past
from taskctl.embedded.server.storage.hub import Sight, WatchEnd, Watcher, classify
from taskctl.embedded.server.storage.records import Event, Record
from taskctl.embedded.server.storage.selectors import Selector
from taskctl.embedded.server.storage.versions import Reader

# k8s.io/apiserver pkg/storage/cacher: a bookmark comes a little before the deadline.
_BOOKMARK_BEFORE_END_S: Final = 2.0
_MIN_TIMEOUT_S: Final = 1800  # kube-apiserver --min-request-timeout; watches last 1-2 times that


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """A watch, understood.

    Attributes:
        namespace: None for all.
        selector: what must match.
        options: of the request.
        encoder: makes the lines.
        bookmark_interval_s: seconds between bookmarks.
    """

    namespace: str | None
    selector: Selector
    options: ListOptions
    encoder: Encoder
    bookmark_interval_s: float


class _Lines:
    """Makes the lines of one watch. The first says what a table's columns are, no other does."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._first = True

    def event(self, sight: Sight, event: Event) -> bytes:
        return self._encoder.event(sight, event, first=self._is_first())

    def initial(self, record: Record) -> Iterator[Bytes]:
        return self._encoder.initial(record, first=self._is_first())

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        return self._encoder.bookmark(revision, initial_end=initial_end, first=self._is_first())

    def _is_first(self) -> bool:
        first, self._first = self._first, False
        return first


async def serve(
    request: web.BaseRequest, core: Core, pacer: pacing.Pacer, watch: WatchRequest
) -> web.StreamResponse:
    """Answer a watch.

    As on a Kubernetes server, a start that lies before the kept history is answered with 200 and
    an ERROR event of code 410.

    Raises:
        errors.StatusError: 504, the start lies in the future.
    """
    transport = request.transport
    watcher = Watcher(
        resource_of(watch.encoder.kind),
        watch.namespace,
        watch.selector,
        on_slow=transport.abort if transport is not None else lambda: None,
    )
    lines = _Lines(watch.encoder)
    try:
        first = _begin(core, watch, lines)
        # No await between the snapshot and this line: nothing can happen in between.
        core.hub.add(watcher)
    except errors.StatusError as error:
        if error.code != 410:
            raise
        # The watcher is not with the hub, so that the stream ends after this line.
        first = iter([orjson.dumps({"type": "ERROR", "object": error.body()}) + b"\n"])
        watcher.end(WatchEnd.STOPPED)
    response = _response(request, lambda: watcher.end(WatchEnd.STOPPED))
    try:
        with pacing.begun(request):
            await response.prepare(request)
            await pacer.send_parts(request, response, first)
            await _follow(request, response, core, watch, watcher, lines)
            await response.write_eof()
    except ConnectionError:
        pass  # the client has gone, which is how most watches end
    finally:
        core.hub.discard(watcher)
    return response


def _response(request: web.BaseRequest, on_gone: Callable[[], None]) -> web.StreamResponse:
    if websockets.is_asked_for(request):
        return websockets.LineSocket(on_gone)
    return web.StreamResponse(headers={"Content-Type": "application/json"})


def _begin(core: Core, watch: WatchRequest, lines: _Lines) -> Iterator[Bytes]:
    """Return the lines that are sent before anything new happens, to be made while sending."""
    options = watch.options
    resource = resource_of(watch.encoder.kind)
    revision = options.revision or 0
    if revision > core.store.head:
        raise errors.future_revision(revision, core.store.head)
    initial = options.initial_events
    if initial is None:
        initial = revision == 0
    if not initial:
        since = core.store.events_since(resource, revision) if revision else []
        return _replayed(since, watch, lines)
    records = core.store.records(resource, watch.namespace)
    until = core.store.head if options.initial_events and options.bookmarks else None
    return _initial(records, watch, lines, until)


def _replayed(since: Sequence[Past], watch: WatchRequest, lines: _Lines) -> Iterator[Bytes]:
    reader = Reader()
    for past in since:
        sight = classify(past, watch.namespace, watch.selector)
        if sight is not None:
            yield lines.event(sight, past.event(reader))


def _initial(
    records: Sequence[Record], watch: WatchRequest, lines: _Lines, until: int | None
) -> Iterator[Bytes]:
    for record in records:
        if watch.selector.matches(record):
            yield from lines.initial(record)
    if until is not None:
        yield lines.bookmark(until, initial_end=True)


async def _follow(
    request: web.BaseRequest,
    response: web.StreamResponse,
    core: Core,
    watch: WatchRequest,
    watcher: Watcher,
    lines: _Lines,
) -> None:
    loop = asyncio.get_running_loop()
    timeout_s = watch.options.timeout_s or random.randint(_MIN_TIMEOUT_S, 2 * _MIN_TIMEOUT_S)
    ends_at = loop.time() + timeout_s
    bookmark_at = _next_bookmark(loop.time(), ends_at, watch)
    while True:
        watcher.wake.clear()
        seen = watcher.take(pacing.PIECE_BYTES)
        if seen:
            piece = b"".join(lines.event(*one) for one in seen)
            await pacing.write(request, response, piece)
            continue
        if watcher.ended is not None or loop.time() >= ends_at:
            return
        if loop.time() >= bookmark_at:
            # Everything up to the head has been offered and sent: nothing is pending.
            await pacing.write(request, response, lines.bookmark(core.store.head))
            bookmark_at = _next_bookmark(loop.time(), ends_at, watch)
            continue
        try:
            async with asyncio.timeout_at(min(ends_at, bookmark_at)):
                await watcher.wake.wait()
        except TimeoutError:
            pass


def _next_bookmark(now_s: float, ends_at: float, watch: WatchRequest) -> float:
    if not watch.options.bookmarks:
        return ends_at + 1
    regular = now_s + watch.bookmark_interval_s
    last = ends_at - _BOOKMARK_BEFORE_END_S
    return min(regular, last) if last > now_s else regular
