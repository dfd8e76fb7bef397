"""Scheduling gates: what holds a new pod back.

After Kubernetes ``pkg/apis/core/validation/validation.go`` (ValidatePodUpdate,
validateSchedulingGates); the sentences are theirs. nodeSelector and affinity of a held pod may not
change here: only queueing controllers such as Kueue send that, and they need admission webhooks.
"""

from __future__ import annotations

from typing import Final

from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.values import meta

_GATES: Final = "spec.schedulingGates"


def condition(now: str) -> Json:
    """Return the condition of a new pod that has gates."""
    return {
        "type": "PodScheduled",
        "status": "False",
        "lastTransitionTime": now,
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }


def check(spec: Json) -> list[FieldError]:
    """Check the names of a pod's gates."""
    found, seen = [], set()
    for index, name in enumerate(_names(spec)):
        where = f"{_GATES}[{index}]"
        found += [fields.invalid(where, name, one) for one in meta.qualified_problems(name)]
        if name in seen:
            found.append(fields.duplicate(where, name))
        seen.add(name)
    return found


def check_create(spec: Json) -> list[FieldError]:
    """A new pod cannot be held back and have a node."""
    if not spec.get("schedulingGates") or not spec.get("nodeName"):
        return []
    message = "cannot be set until all schedulingGates have been cleared"
    return [fields.forbidden("spec.nodeName", message)]


def check_update(spec: Json, before: Json) -> list[FieldError]:
    """Check that a pod gets no new gates.

    Args:
        spec: the new one; gets the gates of ``before``.
        before: the stored one.
    """
    known = set(_names(before))
    found = [
        fields.forbidden(
            f"{_GATES}[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{name}'",
        )
        for index, name in enumerate(_names(spec))
        if name not in known
    ]
    spec["schedulingGates"] = before.get("schedulingGates")
    return found


def refuse_binding(name: str, spec: Json) -> None:
    """Refuse to give a node to a pod that is held back.

    Raises:
        errors.StatusError: 409.
    """
    if spec.get("schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
        raise errors.conflict(Resource("", "pods/binding"), name, why)


def _names(spec: Json) -> list[str]:
    return [str(gate.get("name") or "") for gate in spec.get("schedulingGates") or ()]
