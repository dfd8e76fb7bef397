"""What is particular to events, of either group.

The rules are those of kubernetes/kubernetes ``pkg/apis/core/validation/events.go``. Events that
have no ``eventTime`` are of the old kind, of which little is asked.
"""

from __future__ import annotations

from typing import Final

from taskctl.embedded.server.kinds import event_forms
from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.strategies.strategy import Strategy
from taskctl.embedded.server.values import meta

_WORD_LIMIT: Final = 128
_NOTE_LIMIT: Final = 1024
_NAMESPACES: Final = ("default", "kube-system")
# What events.k8s.io/v1 has only for events of the old kind.
_UNSET: Final = ("firstTimestamp", "lastTimestamp", "count", "source")
_FIXED: Final = (
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count",
    "type", "eventTime", "action", "related", "reportingComponent", "reportingInstance",
)  # fmt: skip
_RENAMED: Final = {"reportingComponent": "reportingController"}


class EventStrategy(Strategy):
    """Events of the core group."""

    creates_on_update = True

    def prepare_create(self, obj: Json) -> None:
        """Show what was left out, as Kubernetes does here."""
        for name, empty in event_forms.ALWAYS.items():
            if obj.get(name) is None:
                obj[name] = {} if empty == {} else empty

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Show what was left out, as Kubernetes does here."""
        self.prepare_create(obj)

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check where the event lies, and what events with an ``eventTime`` must say."""
        return _check_either(obj, "reportingComponent")

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Check it again."""
        return self.check_create(obj)


class NewEventStrategy(Strategy):
    """Events of events.k8s.io."""

    creates_on_update = True

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Everything may be sent; :meth:`check_update` says what may change."""

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check what every event made here must say (ValidateEventCreate)."""
        core = event_forms.to_core(obj)
        found = _check_either(core, "reportingController")
        found += _check_series(core)
        if not core.get("eventTime"):
            found.append(fields.required("eventTime"))
        if core.get("type") not in ("Normal", "Warning"):
            message = f"has invalid value: {core.get('type') or ''}"
            found.append(fields.invalid("type", "", message))
        found += [fields.invalid(one, "", "needs to be unset") for one in _UNSET if core.get(one)]
        return found

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Only the series and the metadata may change (ValidateEventUpdate)."""
        core, before = event_forms.to_core(obj), event_forms.to_core(old)
        found = _check_either(core, "reportingController")
        if core.get("series") != before.get("series"):
            found += _check_series(core)
        for name in _FIXED:
            if (core.get(name) or None) != (before.get(name) or None):
                path = _RENAMED.get(name, name)
                found.append(fields.invalid(path, core.get(name), "field is immutable"))
        return found


def _check_either(obj: Json, reporter: str) -> list[FieldError]:
    """Check an event in the stored form (legacyValidateEvent).

    Args:
        obj: the event.
        reporter: what ``reportingComponent`` is called in refusals.
    """
    about = (obj.get("involvedObject") or {}).get("namespace") or ""
    namespace = obj["metadata"].get("namespace") or ""
    misplaced = fields.invalid("involvedObject.namespace", about, "does not match event.namespace")
    if not obj.get("eventTime"):
        # Of cluster-scoped objects the events are in the namespace "default".
        return [misplaced] if (about or "default") != namespace else []
    found = [misplaced] if not about and namespace not in _NAMESPACES else []
    component = obj.get("reportingComponent") or ""
    if not component:
        found.append(fields.required(reporter))
    found += [
        fields.invalid(reporter, component, one) for one in meta.qualified_problems(component)
    ]
    for name in ("reportingInstance", "action", "reason"):
        value = obj.get(name) or ""
        if not value:
            found.append(fields.required(name))
        if len(value.encode()) > _WORD_LIMIT:
            message = f"can have at most {_WORD_LIMIT} characters"
            found.append(fields.invalid(name, "", message))
    if len((obj.get("message") or "").encode()) > _NOTE_LIMIT:
        message = f"can have at most {_NOTE_LIMIT} characters"
        found.append(fields.invalid("message", "", message))
    return found


def _check_series(obj: Json) -> list[FieldError]:
    series = obj.get("series")
    if series is None:
        return []
    found = []
    if (series.get("count") or 0) < 2:
        found.append(fields.invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        found.append(fields.required("series.lastObservedTime"))
    return found
