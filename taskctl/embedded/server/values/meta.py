"""Rules for ``metadata`` that hold for every kind.

After k8s.io/apimachinery ``pkg/api/validation/objectmeta.go`` and
``pkg/util/validation/validation.go``; the sentences are theirs.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.refusals.fields import FieldError

FINALIZER_ORPHAN: Final = "orphan"
FINALIZER_FOREGROUND: Final = "foregroundDeletion"
# In the spec of each namespace, until it is empty.
FINALIZER_NAMESPACE: Final = "kubernetes"
# Those without a domain that Kubernetes knows.
KNOWN_FINALIZERS: Final = frozenset({FINALIZER_ORPHAN, FINALIZER_FOREGROUND, FINALIZER_NAMESPACE})

_LABEL_FMT: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_FMT: Final = rf"{_LABEL_FMT}(\.{_LABEL_FMT})*"
_QUALIFIED_FMT: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL: Final = re.compile(_LABEL_FMT + r"\Z")
_SUBDOMAIN: Final = re.compile(_SUBDOMAIN_FMT + r"\Z")
_QUALIFIED: Final = re.compile(_QUALIFIED_FMT + r"\Z")
_ANNOTATIONS_LIMIT_BYTES: Final = 256 * 1024

_LABEL_MESSAGE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
    f"used for validation is '{_LABEL_FMT}')"
)
_SUBDOMAIN_MESSAGE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{_SUBDOMAIN_FMT}')"
)
_QUALIFIED_MESSAGE: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    f"validation is '{_QUALIFIED_FMT}')"
)
_VALUE_MESSAGE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
UNQUALIFIED: Final = "name is neither a standard finalizer name nor is it fully qualified"
IMMUTABLE: Final = "field is immutable"


class NameRule(StrEnum):
    """What a kind's names must look like."""

    SUBDOMAIN = "subdomain"
    LABEL = "label"
    PATH_SEGMENT = "path segment"


def label_problems(text: str) -> list[str]:
    """Say what keeps ``text`` from being a DNS-1123 label."""
    problems = [] if len(text) <= 63 else ["must be no more than 63 characters"]
    if not _LABEL.match(text):
        dots = _SUBDOMAIN.match(text) is not None
        problems.append("must not contain dots" if dots else _LABEL_MESSAGE)
    return problems


def subdomain_problems(text: str) -> list[str]:
    """Say what keeps ``text`` from being a DNS-1123 subdomain."""
    problems = [] if len(text) <= 253 else ["must be no more than 253 characters"]
    if not _SUBDOMAIN.match(text):
        problems.append(_SUBDOMAIN_MESSAGE)
    return problems


def _segment_problems(text: str) -> list[str]:
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{bad}'" for bad in ("/", "%") if bad in text]


_NAME_RULES: Final[dict[NameRule, Callable[[str], list[str]]]] = {
    NameRule.SUBDOMAIN: subdomain_problems,
    NameRule.LABEL: label_problems,
    NameRule.PATH_SEGMENT: _segment_problems,
}


def qualified_problems(text: str) -> list[str]:
    """Say what keeps ``text`` from being a label key, annotation key or finalizer."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return [
            "a qualified name "
            + _QUALIFIED_MESSAGE.removeprefix("name part ")
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    problems = []
    if slash and not prefix:
        problems.append("prefix part must be non-empty")
    elif prefix:
        problems += [f"prefix part {problem}" for problem in subdomain_problems(prefix)]
    if not name:
        problems.append("name part must be non-empty")
    elif len(name) > 63:
        problems.append("name part must be no more than 63 characters")
    if not _QUALIFIED.match(name):
        problems.append(_QUALIFIED_MESSAGE)
    return problems


def generate_name(base: str) -> str:
    """Append five random characters; cuts ``base`` so that a label's 63 are kept."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: it makes no words
    return base[:58] + "".join(secrets.choice(alphabet) for _ in range(5))


def check_shape(meta: Any) -> list[FieldError]:
    """Check the JSON types inside ``metadata``, so that other code may rely on them.

    What is null or empty is dropped, as Kubernetes' ObjectMeta leaves it out.
    """
    if not isinstance(meta, dict):
        return [fields.type_invalid("metadata", meta, "must be an object")]
    found = [
        fields.type_invalid(f"metadata.{name}", meta[name], "must be a string")
        for name in ("name", "generateName", "namespace", "uid", "resourceVersion")
        if not isinstance(meta.get(name, ""), str | None)
    ]
    for name in ("labels", "annotations"):
        value = meta.get(name)
        if value is None or value == {}:
            meta.pop(name, None)
            continue
        if isinstance(value, dict) and None in value.values():
            value = meta[name] = {key: "" if v is None else v for key, v in value.items()}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            found.append(fields.type_invalid(f"metadata.{name}", value, "must be a map of strings"))
    for name, kind in (("finalizers", str), ("ownerReferences", dict), ("managedFields", dict)):
        value = meta.get(name)
        if value is None or (value == [] and name != "managedFields"):
            meta.pop(name, None)
            continue
        if isinstance(value, list) and None in value:
            value = meta[name] = [kind() if v is None else v for v in value]
        if not isinstance(value, list) or not all(isinstance(v, kind) for v in value):
            found.append(
                fields.type_invalid(f"metadata.{name}", value, f"must be a list of {kind.__name__}")
            )
    return found


def check(
    meta: Json, *, namespaced: bool, rule: NameRule, finalizers: bool = False
) -> list[FieldError]:
    """Check ``metadata`` of an object about to be stored.

    Args:
        meta: the metadata.
        namespaced: objects of the kind have a namespace.
        rule: for the name.
        finalizers: those without a domain must be Kubernetes' own.
    """
    found: list[FieldError] = []
    name = meta.get("name") or ""
    problems_of = _NAME_RULES[rule]
    base = meta.get("generateName") or ""
    if base:
        # The dash it usually ends with will not be the last character.
        masked = base[:-2] + "a" if len(base) > 1 and base.endswith("-") else base
        found += [fields.invalid("metadata.generateName", base, p) for p in problems_of(masked)]
    if not name:
        found.append(fields.required("metadata.name", "name or generateName is required"))
    else:
        found += [fields.invalid("metadata.name", name, p) for p in problems_of(name)]
    if namespaced and not meta.get("namespace"):
        found.append(fields.required("metadata.namespace"))
    elif not namespaced and meta.get("namespace"):
        found.append(fields.forbidden("metadata.namespace", "not allowed on this type"))
    labels = meta.get("labels")
    if labels:
        found += _check_labels(labels)
    annotations = meta.get("annotations")
    if annotations:
        found += _check_annotations(annotations)
    if meta.get("ownerReferences"):
        found += _check_owners(meta["ownerReferences"])
    if meta.get("finalizers"):
        found += _check_finalizers(meta["finalizers"])
        if finalizers:
            found += _check_domains(meta["finalizers"])
    return found


def _check_labels(labels: dict[str, str]) -> list[FieldError]:
    found = []
    for key, value in labels.items():
        found += label_faults("metadata.labels", key, value)
    return found


def label_faults(path: str, key: str, value: str) -> list[FieldError]:
    """Check one label."""
    found = [fields.invalid(path, key, one) for one in qualified_problems(key)]
    if len(value) > 63:
        found.append(fields.invalid(path, value, "must be no more than 63 characters"))
    if value and not _QUALIFIED.match(value):
        found.append(fields.invalid(path, value, _VALUE_MESSAGE))
    return found


def _check_annotations(annotations: dict[str, str]) -> list[FieldError]:
    found = []
    total = 0
    for key, value in annotations.items():
        problems = qualified_problems(key.lower())
        found += [fields.invalid("metadata.annotations", key, p) for p in problems]
        total += len(key) + len(value)
    if total > _ANNOTATIONS_LIMIT_BYTES:
        found.append(fields.too_long("metadata.annotations", _ANNOTATIONS_LIMIT_BYTES))
    return found


def _check_owners(owners: list[Json]) -> list[FieldError]:
    found = []
    controllers = []
    path = "metadata.ownerReferences"
    for owner in owners:
        version = str(owner.get("apiVersion") or "")
        if not version.rpartition("/")[2] or version.count("/") > 1:
            message = "version must not be empty"
            found.append(fields.invalid(f"{path}.apiVersion", version, message))
        found += [
            fields.invalid(f"{path}.{name}", "", "must not be empty")
            for name in ("kind", "name", "uid")
            if not owner.get(name)
        ]
        if version == "v1" and owner.get("kind") == "Event":
            found.append(
                fields.invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner")
            )
        if owner.get("controller"):
            controllers.append(f"{owner.get('kind')}/{owner.get('name')}")
    if len(controllers) > 1:
        found.append(
            fields.invalid(
                path,
                owners,
                'Only one reference can have Controller set to true. Found "true" in references '
                f"for {controllers[0]} and {controllers[1]}",
            )
        )
    return found


def _check_domains(finalizers: list[str]) -> list[FieldError]:
    """Refuse finalizers that are of no domain (core ``ValidateFinalizerName``)."""
    return [
        fields.invalid(f"metadata.finalizers[{index}]", name, UNQUALIFIED)
        for index, name in enumerate(finalizers)
        if "/" not in name and name not in KNOWN_FINALIZERS
    ]


def _check_finalizers(finalizers: list[str]) -> list[FieldError]:
    path = "metadata.finalizers"
    found = [fields.invalid(path, f, p) for f in finalizers for p in qualified_problems(f)]
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        message = "finalizer orphan and foregroundDeletion cannot be both set"
        found.append(fields.invalid(path, finalizers, message))
    return found


def check_update(meta: Json, old: Json) -> list[FieldError]:
    """Check what an update may not do to ``metadata``."""
    found = [
        fields.invalid(f"metadata.{name}", meta.get(name), IMMUTABLE)
        for name in ("name", "namespace", "uid")
        if (meta.get(name) or "") != (old.get(name) or "")
    ]
    if "deletionTimestamp" in old:
        extra = sorted(set(meta.get("finalizers") or ()) - set(old.get("finalizers") or ()))
        if extra:
            listed = ", ".join(f'"{name}"' for name in extra)
            message = (
                "no new finalizers can be added if the object is being deleted, found new "
                f"finalizers []string{{{listed}}}"
            )
            found.append(fields.forbidden("metadata.finalizers", message))
    return found
