"""What the Events about an object say is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_WARNING: Final = "Warning"


def newest_words(events: Iterable[Mapping[str, Any]], uid: str, *, normal: bool = False) -> str:
    """Return reason and message of the newest warning about an object; empty: there is none.

    Args:
        events: core/v1 Events, of other objects too.
        uid: of the object.
        normal: where there is no warning, take the newest Event of any type: of a claim that
            waits, Kubernetes says it so (ExternalProvisioning, WaitForFirstConsumer).
    """
    about = [e for e in events if (e.get("involvedObject") or {}).get("uid") == uid]
    warnings = [event for event in about if event.get("type") == _WARNING]
    newest = max(warnings or (about if normal else ()), key=_time, default=None)
    if newest is None:
        return ""
    parts = (newest.get("reason"), " ".join(str(newest.get("message") or "").split()))
    return ": ".join(part for part in parts if part)


def _time(event: Mapping[str, Any]) -> str:
    """When it was last seen: RFC 3339 in UTC, so the texts' order is the times'."""
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )
