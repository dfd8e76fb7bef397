#!/usr/bin/env python3
"""Write embedded/server/protobuf/data/protobuf_tables.json from Kubernetes' definitions.

The Go modules k8s.io/api, k8s.io/apimachinery and k8s.io/apiextensions-apiserver hold each
message twice: ``generated.proto`` tells numbers and types on the wire, the struct tags in
``types.go`` tell the JSON name, whether a zero is left out, and whether the field is a pointer.
Both are read from Go's module cache; without them there is nothing to compare with:

    go mod download k8s.io/api@v0.34.4 k8s.io/apimachinery@v0.34.4 \\
        k8s.io/apiextensions-apiserver@v0.34.4
    python scripts/gen_protobuf_tables.py
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts.definitions import reachable

VERSION: Final = "v0.34.4"
TARGET: Final = (
    Path(__file__).parent.parent / "taskctl/embedded/server/protobuf/data/protobuf_tables.json"
)
# Proto package → directory in the module cache.
_API: Final = f"k8s.io/api@{VERSION}"
_MACHINERY: Final = f"k8s.io/apimachinery@{VERSION}/pkg"
PACKAGES: Final = {
    "k8s.io.apimachinery.pkg.runtime": f"{_MACHINERY}/runtime",
    "k8s.io.apimachinery.pkg.api.resource": f"{_MACHINERY}/api/resource",
    "k8s.io.apimachinery.pkg.util.intstr": f"{_MACHINERY}/util/intstr",
    "k8s.io.apimachinery.pkg.apis.meta.v1": f"{_MACHINERY}/apis/meta/v1",
    "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1": (
        f"k8s.io/apiextensions-apiserver@{VERSION}/pkg/apis/apiextensions/v1"
    ),
} | {
    f"k8s.io.api.{name}.v1": f"{_API}/{name}/v1"
    for name in (
        "authentication", "authorization", "autoscaling", "coordination", "core", "events",
        "policy", "rbac", "storage",
    )
}  # fmt: skip
PREFIXES: Final = (
    "k8s.io.apimachinery.pkg.apis.", "k8s.io.apimachinery.pkg.api.",
    "k8s.io.apimachinery.pkg.util.", "k8s.io.apimachinery.pkg.",
    "k8s.io.apiextensions_apiserver.pkg.apis.", "k8s.io.api.",
)  # fmt: skip
_RBAC: Final = "rbac.authorization.k8s.io/v1"
# apiVersion/kind → message, of everything that may be a request's body.
KINDS: Final = {
    f"v1/{kind}": f"core.v1.{kind}"
    for kind in (
        "Binding", "ConfigMap", "Event", "Namespace", "Node", "PersistentVolume",
        "PersistentVolumeClaim", "Pod", "Secret", "ServiceAccount",
    )
} | {
    "apiextensions.k8s.io/v1/CustomResourceDefinition": "apiextensions.v1.CustomResourceDefinition",
    "authentication.k8s.io/v1/SelfSubjectReview": "authentication.v1.SelfSubjectReview",
    "authentication.k8s.io/v1/TokenRequest": "authentication.v1.TokenRequest",
    "authentication.k8s.io/v1/TokenReview": "authentication.v1.TokenReview",
    "authorization.k8s.io/v1/LocalSubjectAccessReview": "authorization.v1.LocalSubjectAccessReview",
    "authorization.k8s.io/v1/SelfSubjectAccessReview": "authorization.v1.SelfSubjectAccessReview",
    "authorization.k8s.io/v1/SelfSubjectRulesReview": "authorization.v1.SelfSubjectRulesReview",
    "authorization.k8s.io/v1/SubjectAccessReview": "authorization.v1.SubjectAccessReview",
    "autoscaling/v1/Scale": "autoscaling.v1.Scale",
    "coordination.k8s.io/v1/Lease": "coordination.v1.Lease",
    "events.k8s.io/v1/Event": "events.v1.Event",
    "policy/v1/Eviction": "policy.v1.Eviction",
    f"{_RBAC}/ClusterRole": "rbac.v1.ClusterRole",
    f"{_RBAC}/ClusterRoleBinding": "rbac.v1.ClusterRoleBinding",
    f"{_RBAC}/Role": "rbac.v1.Role",
    f"{_RBAC}/RoleBinding": "rbac.v1.RoleBinding",
    "storage.k8s.io/v1/StorageClass": "storage.v1.StorageClass",
    # Registered in every group (metav1.AddToGroupVersion).
    "/DeleteOptions": "meta.v1.DeleteOptions",
    "/ListMeta": "meta.v1.ListMeta",
}  # fmt: skip
# Messages that protobuf.py knows by name, since their JSON is not an object of their fields.
SPECIAL: Final = frozenset(
    {
        "apiextensions.v1.JSON", "apiextensions.v1.JSONSchemaPropsOrArray",
        "apiextensions.v1.JSONSchemaPropsOrBool", "apiextensions.v1.JSONSchemaPropsOrStringArray",
        "intstr.IntOrString", "meta.v1.FieldsV1", "meta.v1.MicroTime", "meta.v1.Time",
        "meta.v1.Duration", "resource.Quantity", "runtime.RawExtension",
    }
)  # fmt: skip
_WRAPPED: Final = "apiextensions.v1.JSONSchemaProps"
_SCALARS: Final = {
    "string": "string", "bytes": "bytes", "bool": "bool", "double": "double",
    "int32": "int", "int64": "int", "uint32": "int", "uint64": "int",
}  # fmt: skip
_MESSAGE: Final = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.M | re.S)
_FIELD: Final = re.compile(
    r"^\s+(optional|repeated|required|)\s*(map<string,\s*([.\w]+)>|[.\w]+) (\w+) = (\d+);", re.M
)
_STRUCT: Final = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
_TAGGED: Final = re.compile(
    r"^\s+(?:\w+\s+)?(\*?)[\w.\[\]*]+\s+`(?=[^`]*protobuf:)[^`]*json:\"([^\"]*)\"[^`]*`", re.M
)
_NUMBER: Final = re.compile(r'protobuf:"\w+,(\d+),')


def short_name(full: str) -> str:
    """Return the name in the tables: ``core.v1.Pod``."""
    for prefix in PREFIXES:
        if full.startswith(prefix):
            return full.removeprefix(prefix)
    return full


def read_tags(directory: Path) -> dict[tuple[str, int], tuple[str, str]]:
    """Return (struct, number) → (JSON name, flags) for the structs of a Go package.

    Flags: ``?`` pointer, ``^`` inline, ``!`` written also where it is zero.
    """
    found = {}
    for path in sorted(directory.glob("*.go")):
        if path.name.startswith(("generated", "zz_")) or path.name.endswith("_test.go"):
            continue
        for struct in _STRUCT.finditer(path.read_text()):
            for field in _TAGGED.finditer(struct.group(2)):
                number = _NUMBER.search(field.group(0))
                if number is None:
                    continue
                name, *options = field.group(2).split(",")
                flags = "?" if field.group(1) else ""
                if "inline" in options:
                    flags = "^"
                elif "omitempty" not in options and not flags:
                    flags = "!"
                found[struct.group(1), int(number.group(1))] = (name, flags)
    return found


def read_package(package: str, directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield (message, lines) of a package. A line: ``4 name type`` with flags at its end."""
    tags = read_tags(directory)
    for message in _MESSAGE.finditer((directory / "generated.proto").read_text()):
        name, lines = message.group(1), []
        for label, wire, below, field, number in _FIELD.findall(message.group(2)):
            json_name, flags = tags.get((name, int(number)), (field, ""))
            kind = _type(package, below or wire)
            kind = f"{{{kind}}}" if below else kind
            if label == "repeated":
                flags = "*"
            elif below:
                flags = ""
            lines.append(f"{number} {json_name or '-'} {kind} {flags}".rstrip())
        yield short_name(f"{package}.{name}"), lines


def _type(package: str, wire: str) -> str:
    if wire in _SCALARS:
        return _SCALARS[wire]
    full = wire.removeprefix(".")
    return short_name(full if "." in full else f"{package}.{full}")


def generate(cache: Path) -> str:
    """Return the file's text."""
    messages: dict[str, list[str]] = {}
    for package, directory in PACKAGES.items():
        messages.update(read_package(package, cache / directory))
    used = reachable({*KINDS.values(), _WRAPPED}, lambda name: references(name, messages))
    content: dict[str, Any] = {
        "version": VERSION,
        "kinds": dict(sorted(KINDS.items())),
        "messages": {name: messages[name] for name in sorted(used - SPECIAL)},
    }
    return json.dumps(content, indent=1) + "\n"


def references(name: str, messages: dict[str, list[str]]) -> list[str]:
    """Return the messages that one refers to itself."""
    if name in SPECIAL:
        return []
    types = (line.split()[2].strip("{}") for line in messages[name])
    return [one for one in types if "." in one]


def main() -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when the file is out of date")
    checking = parser.parse_args().check
    cache = module_cache()
    if cache is None:
        print(f"the Go modules k8s.io/*@{VERSION} are not here: nothing to compare or make")
        return 0 if checking else 1
    text = generate(cache)
    if checking:
        if TARGET.read_text() != text:
            print(f"{TARGET} is out of date: run python scripts/gen_protobuf_tables.py")
            return 1
        return 0
    TARGET.write_text(text)
    return 0


def module_cache() -> Path | None:
    """Return Go's module cache if it holds the modules."""
    found = os.environ.get("GOMODCACHE", "")
    if not found:
        try:
            asked = subprocess.run(
                ["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True, timeout=30
            )
        except (OSError, subprocess.SubprocessError):
            return None
        found = asked.stdout.strip()
    cache = Path(found)
    return cache if all((cache / one).is_dir() for one in PACKAGES.values()) else None


if __name__ == "__main__":
    sys.exit(main())
