"""From options and files to objects for the API server."""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taskctl.cli.exits import CliError, UsageError
from taskctl.constants import API_VERSION, GROUP, INLINE_LIMIT_BYTES

Object = dict[str, Any]
# Kubernetes' alphabet for generated names: no vowels, so no words.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_CHARS = 5
_PREFIX_CHARS = 40


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
        UsageError: no JSON, no such file, or too large for an API object.
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
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{source} is not JSON ({error}); text needs quotes: --input '\"text\"'"
        ) from error


def generate_name(command: Sequence[str]) -> str:
    """Return a name made of the command's own name and a random suffix."""
    word = Path(command[0]).name if command else "task"
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
    # By identity: 0 equals False, and is a value that somebody gave.
    return value is None or value is False or value == [] or value == {}


def read_manifests(paths: Sequence[str]) -> list[Object]:
    """Read the objects in YAML or JSON files (``-``: stdin), Lists unpacked, in order.

    Raises:
        CliError: a file cannot be read, or holds something else than objects.
    """
    import yaml

    objects: list[Object] = []
    for path in paths:
        try:
            documents = list(yaml.safe_load_all(_read(path)))
        except yaml.YAMLError as error:
            raise CliError(f"{path}: {error}") from error
        for document in documents:
            if document is not None:
                objects += _objects_of(document, path)
    if not objects:
        raise CliError(f"{', '.join(paths)}: no objects in there")
    return objects


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
        model = models.get(obj["kind"])
        if model is None or not obj["apiVersion"].startswith(f"{GROUP}/"):
            continue
        try:
            model.model_validate(obj)
        except ValidationError as error:
            name = obj["metadata"].get("name", "?")
            raise CliError(f"{obj['kind']} {name}: {'; '.join(describe_errors(error))}") from error


def _objects_of(document: Any, path: str) -> list[Object]:
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), str) for key in ("apiVersion", "kind")
    ):
        raise CliError(f"{path}: not a Kubernetes object: apiVersion or kind is missing")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        return [obj for item in document["items"] for obj in _objects_of(item, path)]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        raise CliError(f"{path}: {document['kind']} without metadata.name")
    own = document["kind"] in ("Task", "TaskObject", "TaskCluster")
    if own and document["apiVersion"] != API_VERSION and "task" in document["apiVersion"]:
        raise CliError(
            f"{path}: apiVersion {document['apiVersion']} of {document['kind']} is not known; "
            f"change it to {API_VERSION}"
        )
    return [document]


def _read(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {path}: {error}") from error
