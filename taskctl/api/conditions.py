"""Conditions as Kubernetes writes them (metav1.Condition), on plain JSON. Pure.

The rules are those of ``meta.SetStatusCondition`` in k8s.io/apimachinery:
``lastTransitionTime`` moves only when ``status`` does, and a list holds each type once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskctl.api.states import ConditionStatus
from taskctl.clock import format_seconds
from taskctl.constants import MESSAGE_LIMIT_CHARS
from taskctl.safetext import visible

_ELLIPSIS = " …"


@dataclass(frozen=True, slots=True)
class ConditionUpdate:
    """What a condition is to say.

    Attributes:
        type: one of :class:`~taskctl.api.states.ConditionType`, or another CamelCase word.
        status: True, False or Unknown.
        reason: CamelCase word for machines; Kubernetes demands at least one character.
        message: for people; cut at ``MESSAGE_LIMIT_CHARS``.
        observed_generation: ``metadata.generation`` the status was computed from.
    """

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    observed_generation: int = 0


def cap_message(text: str, *, limit_chars: int = MESSAGE_LIMIT_CHARS) -> str:
    """Return ``text`` fit for a status: safe on terminals, and cut to ``limit_chars`` characters.

    Characters that a terminal would act on are escaped; a cut is marked.
    """
    text = visible(text)
    if len(text) <= limit_chars:
        return text
    return text[: limit_chars - len(_ELLIPSIS)] + _ELLIPSIS


def find_condition(
    conditions: Sequence[Mapping[str, Any]] | None, condition_type: str
) -> Mapping[str, Any] | None:
    """Return the condition of that type, or None."""
    for condition in conditions or ():
        if condition.get("type") == condition_type:
            return condition
    return None


def condition_is(
    conditions: Sequence[Mapping[str, Any]] | None, condition_type: str, status: ConditionStatus
) -> bool:
    """Whether the condition of that type exists and has that status."""
    found = find_condition(conditions, condition_type)
    return found is not None and found.get("status") == status


def set_condition(
    conditions: Sequence[Mapping[str, Any]] | None, update: ConditionUpdate, *, now: datetime
) -> list[dict[str, Any]]:
    """Return a new list in which ``update`` holds; the order of the others is kept.

    When nothing changes, the result equals the argument, so the caller can compare the
    two and save the write.
    """
    entry: dict[str, Any] = {
        "type": str(update.type),
        "status": str(update.status),
        "reason": str(update.reason),
        "message": cap_message(update.message),
        "lastTransitionTime": format_seconds(now),
    }
    if update.observed_generation:
        entry["observedGeneration"] = update.observed_generation
    old = find_condition(conditions, update.type)
    if old is None:
        return [*(dict(c) for c in conditions or ()), entry]
    if old.get("status") == entry["status"] and old.get("lastTransitionTime"):
        entry["lastTransitionTime"] = old["lastTransitionTime"]
    return [entry if c.get("type") == update.type else dict(c) for c in conditions or ()]
