"""Does the controller understand all of a TaskCluster's spec? A worker is made of nothing less.

The API server refuses what the CRD does not allow, but not every way in goes by it: an object may
be older than the CRD, and `kubectl --validate=false` has the API server drop unknown fields in
silence. What is left can mean something else than what was written: a toleration whose key is
misspelt tolerates everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from taskctl.api.meta import describe_errors
from taskctl.api.taskcluster import TaskCluster, TaskClusterSpec
from taskctl.policy.variables import value_problems

# What `kubectl apply` has sent, dropped fields included.
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_SHOWN: Final = 5


def spec_problem(cluster: Mapping[str, Any]) -> str:
    """Return what of a raw TaskCluster's spec is not understood, with paths; empty: nothing."""
    try:
        TaskCluster.model_validate(
            {"metadata": {"name": cluster["metadata"]["name"]}, "spec": cluster["spec"]}
        )
    except ValidationError as error:
        found = _listed(describe_errors(error, TaskCluster))
        return f"{found} No worker is made until it is corrected."
    wrong = value_problems(cluster)
    if wrong:
        return f"{_listed(wrong)} No worker is made until it is corrected."
    dropped = _dropped(cluster)
    if dropped:
        return (
            f"{_listed(dropped)} The API server has dropped that from what was applied with "
            "validation turned off. Correct it and apply again; no worker is made until then."
        )
    return ""


def _dropped(cluster: Mapping[str, Any]) -> list[str]:
    """Return the unknown fields of the manifest that was last applied."""
    text = (cluster["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        applied = json.loads(text) if text else None
    except ValueError:
        return []
    spec = applied.get("spec") if isinstance(applied, dict) else None
    if not isinstance(spec, dict):
        return []
    try:
        TaskClusterSpec.model_validate(spec)
    except ValidationError as error:
        unknown = {
            line
            for item, line in zip(
                error.errors(include_url=False, include_context=False, include_input=False),
                describe_errors(error, TaskClusterSpec),
                strict=False,
            )
            if item["type"] == "extra_forbidden"
        }
        return sorted(f"spec.{line}" for line in unknown)
    return []


def _listed(lines: list[str]) -> str:
    more = len(lines) - _SHOWN
    return "; ".join(lines[:_SHOWN]) + (f"; and {more} more." if more > 0 else ".")
