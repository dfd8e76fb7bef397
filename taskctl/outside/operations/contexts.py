"""Where an operation's workers are to run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_TOPOLOGY: Final = "kubernetes.io/hostname"
_WEIGHT: Final = 100


@dataclass(frozen=True, slots=True)
class PodExecutionContext:
    """Run the workers on a node where pods with a label run already.

    Attributes:
        key: of the label.
        value: of the label.
        required: True: on no other node; False: rather there than elsewhere.
    """

    key: str
    value: str
    required: bool = False


def affinity_of(contexts: Sequence[PodExecutionContext]) -> dict[str, Any]:
    """Return the affinity of the worker pods; empty without contexts."""
    required = [_term(context) for context in contexts if context.required]
    preferred = [
        {"weight": _WEIGHT, "podAffinityTerm": _term(context)}
        for context in contexts
        if not context.required
    ]
    terms: dict[str, Any] = {}
    if required:
        terms["requiredDuringSchedulingIgnoredDuringExecution"] = required
    if preferred:
        terms["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    return {"podAffinity": terms} if terms else {}


def _term(context: PodExecutionContext) -> dict[str, Any]:
    return {
        "labelSelector": {"matchLabels": {context.key: context.value}},
        "topologyKey": _TOPOLOGY,
    }
