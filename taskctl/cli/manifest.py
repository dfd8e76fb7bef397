"""From options and files to objects for the API server."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from taskctl.cli.exits import CliError, UsageError
from taskctl.cli.output import note
from taskctl.cli.yamlread import (
    ManifestError,
    find_wide_integer,
    parse_json,
    read_documents,
    repeated_keys,
)
from taskctl.constants import API_VERSION, GROUP, INLINE_LIMIT_BYTES
from taskctl.policy.labels import label_of

Object = dict[str, Any]
# Kubernetes' alphabet for generated names: no vowels, so no words.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_CHARS = 5
_PREFIX_CHARS = 40
# metav1.ObjectMeta.
METADATA_FIELDS: Final = frozenset(
    (
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    )
)


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Parse ``k=v`` texts.

    Raises:
        UsageError: one has no ``=`` or an empty key, or a key comes twice.
    """
    result: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{option} {pair!r} must be KEY=VALUE")
        if key in result:
            raise UsageError(f"{option} names {key!r} twice; remove one")
        result[key] = value
    return result


def parse_input(text: str) -> Any:
    """Parse ``--input``: JSON, ``@file`` or ``-`` for stdin.

    Raises:
        UsageError: no JSON, no such file, too large for an API object, or a number in it is one
            that Kubernetes would change.
    """
    source = "--input"
    if text == "-" or text.startswith("@"):
        source = "standard input" if text == "-" else text[1:]
        text = _read(text[1:] or text)
    if len(text.encode()) > INLINE_LIMIT_BYTES:
        raise UsageError(
            f"{source} has more than {INLINE_LIMIT_BYTES // 1024} KiB; put the value into a file "
            "of the workspace and pass its path"
        )
    try:
        value = parse_json(text)
    except ManifestError as error:
        hint = "" if "number" in str(error) else "; text needs quotes: --input '\"text\"'"
        raise UsageError(f"{source} {error}{hint}") from error
    wide = find_wide_integer(value)
    if wide is not None:
        raise UsageError(
            f"{source}: {wide} has more than 64 bits, and Kubernetes would round it; write it as "
            "a text"
        )
    for key in repeated_keys(text):
        note(f"{source} names the key {key!r} twice in one object; the last value counts")
    return value


def generate_name(command: Sequence[str]) -> str:
    """Return a name made of the function, script or program of a command and a random suffix."""
    word = label_of(command)
    base = re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")[:_PREFIX_CHARS].strip("-") or "task"
    suffix = "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX_CHARS))
    return f"{base}-{suffix}"


def task_manifest(name: str, spec: Mapping[str, Any]) -> Object:
    """Return a Task; fields of ``spec`` that are None or empty are left out."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Task",
        "metadata": {"name": name},
        "spec": {key: value for key, value in spec.items() if not _is_absent(value)},
    }


def _is_absent(value: Any) -> bool:
    # By identity: 0 equals False, but is a value that the user gave.
    return value is None or value is False or value == [] or value == {}


def read_manifests(paths: Sequence[str]) -> list[Object]:
    """Read the objects in YAML or JSON files (``-``: stdin), Lists unpacked, in order.

    YAML is read as kubectl does (:mod:`taskctl.cli.yamlread`).

    Raises:
        CliError: a file cannot be read, or holds something other than objects.
    """
    objects: list[Object] = []
    for path in paths:
        try:
            documents = read_documents(_read(path), partial(_note_about, path))
        except ManifestError as error:
            raise CliError(f"{_source(path)}: {error}") from error
        for document in documents:
            objects += _objects_of(document, path)
    if not objects:
        raise CliError(f"{', '.join(map(_source, paths))}: no objects in there")
    return objects


def _note_about(path: str, text: str) -> None:
    note(f"{_source(path)}: {text}")


def _source(path: str) -> str:
    return "standard input" if path == "-" else path


def set_params(objects: Sequence[Object], values: Mapping[str, str]) -> None:
    """Set parameters (``spec.params``) of the Tasks that have one of that name, in place.

    Raises:
        UsageError: none has.
    """
    found: dict[str, list[Object]] = {}
    for obj in objects:
        spec = obj.get("spec")
        params = spec.get("params") if obj["kind"] == "Task" and isinstance(spec, dict) else None
        for param in params if isinstance(params, list) else ():
            if isinstance(param, dict) and isinstance(param.get("name"), str):
                found.setdefault(param["name"], []).append(param)
    for name, value in values.items():
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise UsageError(
                f"--param {name}: no Task has a parameter of that name; known: {known}"
            )
        for param in found[name]:
            param["value"] = value


def check_own(objects: Sequence[Object]) -> None:
    """Check the objects of our own kinds before anything is sent.

    Raises:
        CliError: one of them breaks its schema; names the fields.
    """
    from pydantic import ValidationError

    from taskctl.api.crds import KINDS
    from taskctl.api.meta import describe_errors

    models = {info.kind: info.model for info in KINDS}
    for obj in objects:
        _check_metadata(obj)
        model = models.get(obj["kind"])
        if model is None or not obj["apiVersion"].startswith(f"{GROUP}/"):
            continue
        try:
            model.model_validate(obj)
        except ValidationError as error:
            problems = "; ".join(describe_errors(error, model))
            raise CliError(f"{_title(obj)}: {problems}") from error


def _title(obj: Object) -> str:
    return f"{obj['kind']} {obj['metadata'].get('name', '?')}"


def _check_metadata(obj: Object) -> None:
    from taskctl.api.meta import likely_field

    for key in obj["metadata"]:
        if key not in METADATA_FIELDS:
            hint = likely_field(key, METADATA_FIELDS)
            remedy = f"did you mean {hint}?" if hint else "remove it"
            raise CliError(f"{_title(obj)}: metadata.{key}: unknown field; {remedy}")


def _objects_of(document: Any, path: str) -> list[Object]:
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), str) for key in ("apiVersion", "kind")
    ):
        raise CliError(f"{_source(path)}: not a Kubernetes object: apiVersion or kind is missing")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        return [obj for item in document["items"] for obj in _objects_of(item, path)]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        raise CliError(f"{_source(path)}: {document['kind']} without metadata.name")
    own = document["kind"] in ("Task", "TaskObject", "TaskCluster")
    if own and document["apiVersion"] != API_VERSION and "task" in document["apiVersion"]:
        raise CliError(
            f"{_source(path)}: apiVersion {document['apiVersion']} of {document['kind']} is "
            f"not known; change it to {API_VERSION}"
        )
    return [document]


def _read(path: str) -> str:
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {_source(path)}: {error}") from error
