"""Events in their two forms: core/v1, in which they are stored, and events.k8s.io/v1.

Which field is which: kubernetes/kubernetes ``pkg/apis/events/v1/conversion.go``.
"""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

CORE_VERSION: Final = "v1"
EVENTS_GROUP: Final = "events.k8s.io"
EVENTS_VERSION: Final = f"{EVENTS_GROUP}/v1"
# core/v1 → events.k8s.io/v1; fields that are not here have the same name in both.
_NAMES: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK: Final = {new: old for old, new in _NAMES.items()}
# Go writes these in core/v1 also where they are empty, and not in events.k8s.io/v1.
_OMITTED: Final = ("reportingController", "reportingInstance")
# Field selectors of events.k8s.io/v1 → path in the stored form.
SELECTORS: Final[dict[str, tuple[str, ...]]] = {
    **{
        f"regarding.{name}": ("involvedObject", name)
        for name in (
            "kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"
        )
    },
    "reportingController": ("reportingComponent",),
    "reason": ("reason",),
    "type": ("type",),
}  # fmt: skip


def to_events(obj: Json) -> Json:
    """Return a stored event as events.k8s.io/v1 has it."""
    out: Json = {"kind": "Event", "apiVersion": EVENTS_VERSION}
    for name, value in obj.items():
        if name not in out:
            out[_NAMES.get(name, name)] = value
    for name in _OMITTED:
        if out.get(name) == "":
            del out[name]
    return out


def to_core(obj: Json) -> Json:
    """Return an event of events.k8s.io/v1 as it is stored."""
    out: Json = {"kind": "Event", "apiVersion": CORE_VERSION}
    for name, value in obj.items():
        if name not in out:
            out[_BACK.get(name, name)] = value
    for name, empty in ALWAYS.items():
        if out.get(name) is None:
            out[name] = {} if empty == {} else empty
    return out


# Fields that Go's core/v1 Event always writes.
ALWAYS: Final[Json] = {
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
