"""Decoding of a watch stream: bytes to lines to events; no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from taskctl.errors import Unavailable
from taskctl.kube.interface import EventType, KubeObject, WatchEvent
from taskctl.kube.responses import error_from_status
from taskctl.kube.timing import Timing

# A pod near etcd's 1.5 MiB limit is some 3 MiB of JSON; what is far above is not an event.
MAX_LINE_BYTES: Final = 32 * 1024 * 1024

# The server sends a bookmark about every 60 s and remembers 75 s of history (apiserver,
# cacher.go): silence beyond 70 s means a dead connection, with time left to resume.
INACTIVITY_LIMIT_S: Final = 70.0

# client-go's minWatchTimeout and twice that (reflector.go).
_MIN_TIMEOUT_S: Final = 300.0


def pick_timeout_s(timing: Timing) -> float:
    """Return a watch timeout between 5 and 10 minutes, so that streams end out of step."""
    return _MIN_TIMEOUT_S * (1.0 + timing.random())


class LineBuffer:
    """Cuts a stream of chunks into lines, in time linear in the bytes fed."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._max_line_bytes = max_line_bytes

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that ``chunk`` completes, without their line ends.

        Raises:
            Unavailable: a line grows past the limit.
        """
        *complete, rest = chunk.split(b"\n")
        for end in complete:
            if self._parts:
                self._parts.append(end)
                line = b"".join(self._parts)
                self._parts.clear()
                self._size = 0
            else:
                line = end
            if line:
                yield line
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > self._max_line_bytes:
                raise Unavailable(f"a watch event is longer than {self._max_line_bytes} bytes")

    @property
    def pending(self) -> bool:
        """Whether the stream stands in the middle of a line."""
        return bool(self._parts)


def decode_event(line: bytes) -> WatchEvent:
    """Decode one line of a watch.

    Raises:
        ApiError: the line is an ERROR event; ``Gone`` means that the resource version is
            too old and a new list is due.
        Unavailable: the line is not a watch event: cut short, or not from an API server.
    """
    try:
        raw = orjson.loads(line)
        event_type = EventType(raw["type"])
        obj = raw["object"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"a line of the watch is not an event: {_excerpt(line)}") from error
    if not isinstance(obj, dict):
        raise Unavailable(f"a watch event has no object: {_excerpt(line)}")
    if event_type is EventType.ERROR:
        raise error_from_status(obj)
    return WatchEvent(event_type, obj)


def resource_version(obj: KubeObject) -> str:
    """Return ``metadata.resourceVersion``; empty where there is none."""
    metadata = obj.get("metadata")
    version: Any = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) else ""


def _excerpt(line: bytes) -> str:
    # Short: an event may carry what should not be in a log.
    return f"{len(line)} bytes beginning {line[:40]!r}"
