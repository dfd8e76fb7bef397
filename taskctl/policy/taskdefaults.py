"""What a Task takes from its TaskCluster (``spec.taskDefaults``) where it leaves a field out.

Its own spec is never changed. While it waits, the defaults of its TaskCluster as they are now
count. What an attempt was placed with goes along in its container's entry, and the claim writes
it to ``status.defaults``: from then on that counts, for the agent as for everybody who reads the
Task, whatever becomes of the TaskCluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_FIELDS: Final = (
    "image",
    "workingDir",
    "retry",
    "timeoutSeconds",
    "startDeadlineSeconds",
    "ttlSecondsAfterFinished",
    "resources",
    "limits",
)
# Fields whose null says something other than their absence: never.
NULLABLE: Final = frozenset(("ttlSecondsAfterFinished",))
_COMMAND: Final = "command"
_ARGS: Final = "args"
_ENV: Final = "env"


def defaults_of(cluster: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return ``spec.taskDefaults`` of a raw TaskCluster; empty where there is none."""
    return {} if cluster is None else (cluster["spec"].get("taskDefaults") or {})


def taken(spec: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the defaults counts for a Task: fields that its own spec leaves out.

    A field that is there counts as a whole, also ``null``. ``env`` is merged by name; ``args``
    go with their ``command``.
    """
    found = {name: defaults[name] for name in _FIELDS if name in defaults and name not in spec}
    if not spec.get(_COMMAND) and defaults.get(_COMMAND):
        found[_COMMAND] = defaults[_COMMAND]
        if _ARGS in defaults and _ARGS not in spec:
            found[_ARGS] = defaults[_ARGS]
    named = {variable["name"] for variable in spec.get(_ENV) or ()}
    variables = [one for one in defaults.get(_ENV) or () if one["name"] not in named]
    if variables:
        found[_ENV] = variables
    return found


def filled(spec: Mapping[str, Any], defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a Task's spec with the defaults in the gaps; the same object where there are none."""
    if not defaults:
        return spec
    found = taken(spec, defaults)
    if not found:
        return spec
    if _ENV in found:
        found[_ENV] = [*found[_ENV], *(spec.get(_ENV) or ())]
    return {**spec, **found}


def missing_field(spec: Mapping[str, Any]) -> str:
    """Return the path of what a filled spec lacks to run, from ``spec`` on; empty: nothing."""
    tasks: Sequence[Mapping[str, Any]] = spec.get("tasks") or ()
    for name in ("image", _COMMAND):
        if spec.get(name):
            continue
        if not tasks:
            return f"spec.{name}"
        for index, task in enumerate(tasks):
            if not task.get(name):
                return f"spec.tasks[{index}].{name}"
    return ""


def to_text(defaults: Mapping[str, Any]) -> str:
    """Return what :func:`taken` found, as it stands in a container's entry."""
    return json.dumps(defaults, sort_keys=True, separators=(",", ":"))


def from_text(text: str) -> dict[str, Any]:
    """Read :func:`to_text` back; empty where there is nothing, or something else."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
