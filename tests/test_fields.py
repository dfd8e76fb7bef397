"""No field of the CRDs is accepted and ignored.

A field of ours is named in what decides or acts (``READERS``); what pods and claims get as it
stands is found there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.crds import load_all
from taskctl.policy.entry import Ticket, build_entry
from taskctl.policy.workerpod import build_worker
from taskctl.policy.workspace import plan_workspace
from tests.unit.policy.build import raw_cluster, view

Json = dict[str, Any]
PACKAGE = Path(__file__).resolve().parents[1] / "taskctl"
READERS = ("agent", "controllers", "placement", "policy")
SCHEMAS: dict[str, Json] = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for crd in load_all()
}
CLUSTER: Json = SCHEMAS["TaskCluster"]["properties"]["spec"]["properties"]
TEMPLATE: Json = CLUSTER["template"]["properties"]
WORKSPACE: Json = CLUSTER["workspace"]["properties"]
HANDED_ON = {f"template.{name}": schema for name, schema in TEMPLATE.items()} | {
    "volumes": CLUSTER["volumes"],
    "volumeMounts": CLUSTER["volumeMounts"],
    "workspace.emptyDir": WORKSPACE["emptyDir"],
}
SELECTOR: Json = WORKSPACE["pvc"]["properties"]["selector"]
ENV: Json = SCHEMAS["Task"]["properties"]["spec"]["properties"]["env"]
ELSEWHERE = ("workspace.pvc.selector", "env[].valueFrom")
# What has another name in a pod.
RENAMED = {"podResources": "resources"}
# It names fields without reading them: those that a run's TaskCluster may have.
NAMES_ONLY = "runclusterrule.py"
# Fields that nothing reads. There must be none.
IGNORED: frozenset[str] = frozenset()


def paths(schema: Json, above: str = "") -> Iterator[str]:
    """Yield the paths of all fields, down to the parts that are handed on."""
    for name, below in (schema.get("properties") or {}).items():
        path = f"{above}.{name}"
        yield path
        if not any(path.endswith(f".{part}") for part in (*HANDED_ON, *ELSEWHERE)):
            yield from paths(below, path)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(schema.get(key), dict):
            yield from paths(schema[key], above + mark)


@cache
def words() -> frozenset[str]:
    """Return the words in all strings of the readers' code, docstrings left out."""
    found: set[str] = set()
    for folder in READERS:
        for file in (PACKAGE / folder).glob("**/*.py"):
            if file.name == NAMES_ONLY:
                continue
            tree = ast.parse(file.read_text())
            said = {
                id(node.value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            }
            for node in ast.walk(tree):
                text = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and id(node) not in said:
                    found.update(re.findall(r"\w+", text))
    return frozenset(found)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_is_read(kind: str) -> None:
    fields = {path for path in paths(SCHEMAS[kind]) if path.count(".") > 1 or kind == "TaskObject"}
    assert len(fields) > 4
    unread = {
        f"{kind}{path}"
        for path in fields
        if path.rpartition(".")[2] not in words() | {"apiVersion", "kind", "metadata"}
    }
    assert unread == IGNORED


def sample(schema: Json) -> Any:
    """Return a value with each field that a schema has."""
    if schema.get("enum"):
        return schema["enum"][-1]
    if schema.get("x-kubernetes-int-or-string"):
        return "30%"
    match schema.get("type"):
        case "object" if schema.get("properties"):
            return {name: sample(below) for name, below in schema["properties"].items()}
        case "object":
            return {"example.org/key": sample(schema.get("additionalProperties") or {})}
        case "array":
            return [sample(schema["items"])]
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case _:
            return "value"


def is_within(part: Any, whole: Any) -> bool:
    """Tell whether ``whole`` has all that ``part`` has."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_within(below, whole[key]) for key, below in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return all(any(is_within(one, other) for other in whole) for one in part)
    return bool(part == whole)


def values(node: Any, name: str) -> Iterator[Any]:
    """Yield what stands anywhere under a field name."""
    if isinstance(node, dict):
        if name in node:
            yield node[name]
        for below in node.values():
            yield from values(below, name)
    elif isinstance(node, list):
        for below in node:
            yield from values(below, name)


@pytest.mark.parametrize("path", HANDED_ON)
def test_what_is_handed_on_is_in_the_worker_pod(path: str) -> None:
    value = sample(HANDED_ON[path])
    above, _, name = path.rpartition(".")
    cluster = raw_cluster(**({above: {name: value}} if above else {name: value}))
    pod = build_worker(cluster, "c-1")
    there = RENAMED.get(name, name)
    assert any(is_within(value, found) for found in values(pod, there)), value


def test_the_selector_of_a_claim_is_in_the_claim() -> None:
    selector = sample(SELECTOR)
    claim = plan_workspace(raw_cluster(workspace={"pvc": {"selector": selector}})).claim
    assert claim is not None
    assert claim["spec"]["selector"] == selector


def test_variables_from_elsewhere_are_in_the_container() -> None:
    (variable,) = sample(ENV)
    del variable["value"]
    ticket = Ticket(attempt=1, nonce="0" * 32, placed="2030-01-01T12:00:00.000000Z")
    entry = build_entry(view(spec={"env": [variable]}), ticket, {})
    assert variable in entry["env"]
