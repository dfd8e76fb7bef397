"""Puts in what the variables of a TaskCluster stand for, and judges what comes of it.

The value of ``${USER}`` is ``spec.user``, a declared identity: who may set it to what is a matter
of admission (docs/workers.md). Code that reads ``workspace``, ``volumes`` or ``volumeMounts`` of a
raw TaskCluster reads them through :func:`expanded`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from taskctl.api.variables import (
    FIELDS,
    Location,
    Variable,
    replace_variables,
    texts_of,
)
from taskctl.constants import DNS_SUBDOMAIN, MAX_NAME


def expanded(cluster: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the spec of a raw TaskCluster with its variables replaced.

    One that is unknown or has no value stays as it is written;
    :func:`taskctl.policy.clusterspec.spec_problem` tells, and no worker is made of it.
    """
    spec: Mapping[str, Any] = cluster["spec"]
    found = {field: spec[field] for field in FIELDS if spec.get(field) is not None}
    if not any("$" in text for value in found.values() for _, text in texts_of(value)):
        return spec
    values = _values(cluster)
    return {**spec, **{field: _replaced(value, values) for field, value in found.items()}}


def value_problems(cluster: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with texts of a raw TaskCluster once variables are replaced.

    Each with its path, the text as it is written, and what came of it.
    """
    written = {path: text for field in FIELDS for path, text in _texts(cluster["spec"], field)}
    done = expanded(cluster)
    found = []
    for field in FIELDS:
        for path, text in _texts(done, field):
            for problem in _wrong(path, text):
                shown = repr(text)
                if text != written[path]:
                    shown = f"{written[path]!r} becomes {text!r}, which"
                found.append(f"spec.{_path_text(path)}: {shown} {problem}")
    return found


def _wrong(path: Location, text: str) -> Iterator[str]:
    if path[-1] == "claimName" and (len(text) > MAX_NAME or not re.fullmatch(DNS_SUBDOMAIN, text)):
        yield (
            "cannot be the name of a PersistentVolumeClaim: use lower case letters, digits, '-' "
            "and '.'"
        )
    from taskctl.api.workspace import MOUNT_PATH_MESSAGE, RESERVED_PATHS, inside  # a model: heavy

    if path[-1] == "mountPath" and inside(text, RESERVED_PATHS):
        yield f"cannot be used: {MOUNT_PATH_MESSAGE}"


def _texts(spec: Mapping[str, Any], field: str) -> Iterator[tuple[Location, str]]:
    return texts_of(spec.get(field), (field,))


def _values(cluster: Mapping[str, Any]) -> dict[str, str]:
    metadata = cluster["metadata"]
    values = {
        Variable.USER: cluster["spec"].get("user"),
        Variable.NAMESPACE: metadata.get("namespace"),
        Variable.CLUSTER: metadata["name"],
    }
    return {str(name): str(value) for name, value in values.items() if value}


def _replaced(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return replace_variables(value, values.get) if "$" in value else value
    if isinstance(value, Mapping):
        return {key: _replaced(item, values) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_replaced(item, values) for item in value]
    return value


def _path_text(path: Location) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
