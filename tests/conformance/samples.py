"""Objects that several files of cases use, and what is often done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.conformance.target import STRATEGIC, Api, Json, Reply

# No scheduler answers to this name: such a pod stays where the case wants it, also where there
# is a real one.
NOBODY = "conformance.taskctl.test"
FINALIZER = "test.taskctl.test/hold"
# What follows the errors of an object whose CEL rules were not run because of them.
RULES_NOT_CHECKED = (
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was "
    "invalid; correct the existing errors to complete validation",
)


def pod(name: str = "p", **spec: Any) -> Json:
    """Return a pod that nobody schedules, with an init container and a volume."""
    main = {
        "name": "main",
        "image": "example.test/main:1",
        "volumeMounts": [{"name": "work", "mountPath": "/work"}],
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "schedulerName": NOBODY,
            "containers": [main],
            "initContainers": [{"name": "first", "image": "example.test/first:1"}],
            "volumes": [{"name": "work", "emptyDir": {}}],
            **spec,
        },
    }


def ephemeral(name: str, **fields: Any) -> Json:
    """Return an entry for ``spec.ephemeralContainers``."""
    return {"name": name, "image": "example.test/tool:1", "command": ["true"], **fields}


async def add(api: Api, *entries: Json, kind: str = STRATEGIC, **metadata: Any) -> Reply:
    """Patch ephemeral containers into the pod ``p``."""
    body: Json = {"spec": {"ephemeralContainers": list(entries)}}
    if metadata:
        body["metadata"] = metadata
    return await api.patch(api.core("pods", "p", "ephemeralcontainers"), body, kind)


def entry_names(body: Json) -> list[str]:
    """Return the names of a pod's ephemeral containers."""
    return [one["name"] for one in body["spec"].get("ephemeralContainers", ())]


async def bind(api: Api, **fields: Any) -> Reply:
    """Bind the pod ``p`` to a node that has the name of the case's namespace.

    No node has that name, and no other case uses it. A real server's pod garbage collector deletes
    the pods of a missing node 40 seconds after it first missed it: with one name for all cases, a
    case loses its pod whenever a pass of the collector falls into it.
    """
    body = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": api.namespace},
        **fields,
    }
    return await api.create(api.core("pods", "p", "binding"), body)


def config_map(name: str, **data: str) -> Json:
    """Return a ConfigMap."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": data,
    }


def messages(refusal: Json) -> list[tuple[str, str]]:
    """Return (field, message) of a refusal's causes, each once."""
    causes = [(one["field"], one["message"]) for one in refusal["details"]["causes"]]
    # Kubernetes checks some things twice and then tells of them twice.
    return list(dict.fromkeys(causes))


def real_definition(plural: str, group: str) -> Json:
    """Return a definition of taskctl's under another group."""
    crds = Path(__file__).resolve().parents[2] / "crds"
    crd: Json = yaml.safe_load((crds / f"taskctl.dev_{plural}.yaml").read_text())
    crd["metadata"]["name"] = f"{plural}.{group}"
    crd["spec"]["group"] = group
    names = crd["spec"]["names"]
    crd["spec"]["names"] = {key: names[key] for key in ("kind", "plural")}
    return crd
