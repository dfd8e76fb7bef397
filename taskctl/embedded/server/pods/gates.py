"""Scheduling gates: what holds a new pod back, and what of the pod may change meanwhile.

After Kubernetes ``pkg/apis/core/validation/validation.go`` (ValidatePodUpdate,
validateSchedulingGates); the sentences are theirs.
"""

from __future__ import annotations

from typing import Any, Final

from taskctl.embedded.server.pods.containers import semantic
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.values import meta

_GATES: Final = "spec.schedulingGates"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_TERMS: Final = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"


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
    """Check what of a pod may change because of its gates, and give it back its former form.

    Args:
        spec: the new one; becomes like ``before`` in what is checked here.
        before: the stored one.
    """
    found = _check_removed(spec, before)
    spec["schedulingGates"] = before.get("schedulingGates")
    if not before.get("schedulingGates"):
        return found
    found += _check_selector(spec.get("nodeSelector"), before.get("nodeSelector") or {})
    spec["nodeSelector"] = before.get("nodeSelector")
    now, then = _node_affinity(spec), _node_affinity(before)
    if semantic(now) != semantic(then):
        found += _check_terms(_terms(now), _terms(then))
        spec["affinity"] = {**(spec.get("affinity") or {}), "nodeAffinity": then}
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


def _check_removed(spec: Json, before: Json) -> list[FieldError]:
    known = set(_names(before))
    return [
        fields.forbidden(
            f"{_GATES}[{index}].name",
            f"only deletion is allowed, but found new scheduling gate '{name}'",
        )
        for index, name in enumerate(_names(spec))
        if name not in known
    ]


def _check_selector(now: Json | None, then: Json) -> list[FieldError]:
    if then.items() <= (now or {}).items():
        return []
    message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    return [fields.invalid("spec.nodeSelector", now, message)]


def _node_affinity(spec: Json) -> Json | None:
    return (spec.get("affinity") or {}).get("nodeAffinity") or None


def _terms(affinity: Json | None) -> list[Json]:
    required = (affinity or {}).get(_REQUIRED) or {}
    return list(required.get("nodeSelectorTerms") or ())


def _check_terms(now: list[Json], then: list[Json]) -> list[FieldError]:
    """Where the pod had no terms they are free; else each may only become narrower."""
    if not then:
        return []
    if len(now) != len(then):
        message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        return [fields.invalid(_TERMS, [_shown(one) for one in now] or None, message)]
    message = "only additions are allowed (no mutations or deletions)"
    return [
        fields.invalid(f"{_TERMS}[{index}]", _shown(new), message)
        for index, (new, old) in enumerate(zip(now, then, strict=True))
        if not _is_narrower(new, old)
    ]


def _is_narrower(new: Json, old: Json) -> bool:
    names = ("matchExpressions", "matchFields")
    if not any(old.get(name) for name in names):
        # An empty term selects nothing; with expressions it would select something.
        return not any(new.get(name) for name in names)
    return all(
        list(new.get(name) or ())[: len(old.get(name) or ())] == list(old.get(name) or ())
        for name in names
    )


def _shown(term: Json) -> Json:
    """Return the term as refusals show it: with the names of Go's fields."""

    def all_of(requirements: Any) -> list[Json] | None:
        return [
            {"Key": one.get("key"), "Operator": one.get("operator"), "Values": one.get("values")}
            for one in requirements or ()
        ] or None

    return {
        "MatchExpressions": all_of(term.get("matchExpressions")),
        "MatchFields": all_of(term.get("matchFields")),
    }
