from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.node.env import (
    EnvError,
    EnvSources,
    build_env,
    expand,
    field_value,
    references,
)
from taskctl.quantity import divide, parse_quantity
from tests.unit.embedded_node.builders import container, pod

SOURCES = EnvSources(
    config_maps={"cm": {"data": {"a": "1", "b": "2"}}},
    secrets={"s": {"k": b"hidden"}},
    allocatable={"cpu": "4", "memory": "1024Ki"},
)
SUBJECT = pod(
    meta={"labels": {"l": "v"}, "annotations": {"x/y": "z"}}, nodeName="n", serviceAccountName="sa"
)


def env_of(*entries: dict[str, Any], **fields: Any) -> dict[str, str]:
    subject = container("c", env=list(entries), **fields)
    return build_env(SUBJECT, subject, base={"BASE": "b"}, sources=SOURCES)


def source(name: str, **value_from: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": value_from}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)-$(B)", "1-2"),
        ("$(NO)", "$(NO)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $(A", "$A ${A} $(A"),
        ("50$", "50$"),
        ("$()", "$()"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


def test_values_refer_to_what_is_defined_before() -> None:
    found = env_of(
        {"name": "X", "value": "$(Y)"}, {"name": "Y", "value": "$(BASE)"}, {"name": "EMPTY"}
    )
    assert found == {"BASE": "b", "X": "$(Y)", "Y": "b", "EMPTY": ""}


def test_env_goes_before_env_from() -> None:
    found = env_of(
        {"name": "P_a", "value": "mine"},
        envFrom=[
            {"prefix": "P_", "configMapRef": {"name": "cm"}},
            {"secretRef": {"name": "s"}},
            {"configMapRef": {"name": "none", "optional": True}},
        ],
    )
    assert found == {"BASE": "b", "P_a": "mine", "P_b": "2", "k": "hidden"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['l']", "v"),
        ("metadata.annotations['x/y']", "z"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "n"),
        ("spec.serviceAccountName", "sa"),
        ("status.podIP", "127.0.0.1"),
        ("status.hostIP", "127.0.0.1"),
        ("metadata.labels", 'l="v"'),
    ],
)
def test_fields_of_the_pod(path: str, value: str) -> None:
    assert field_value(SUBJECT, path, sources=SOURCES) == value


def test_keys_of_objects() -> None:
    found = env_of(
        source("A", configMapKeyRef={"name": "cm", "key": "a"}),
        source("S", secretKeyRef={"name": "s", "key": "k"}),
        source("O", secretKeyRef={"name": "s", "key": "none", "optional": True}),
    )
    assert found == {"BASE": "b", "A": "1", "S": "hidden"}


@pytest.mark.parametrize(
    ("value_from", "message"),
    [
        ({"secretKeyRef": {"name": "x", "key": "k"}}, 'secret "x" not found'),
        ({"secretKeyRef": {"name": "s", "key": "x"}}, "couldn't find key x in Secret s"),
        ({"configMapKeyRef": {"name": "x", "key": "k"}}, 'configmap "x" not found'),
        ({"fieldRef": {"fieldPath": "spec.priority"}}, "spec.priority"),
        ({"resourceFieldRef": {"resource": "limits.gpu"}}, "limits.gpu"),
        ({"fileKeyRef": {}}, "not supported"),
    ],
)
def test_what_is_missing_is_named(value_from: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvError, match=message):
        env_of(source("X", **value_from))


def test_missing_env_from_is_named() -> None:
    with pytest.raises(EnvError, match='secret "x" not found'):
        env_of(envFrom=[{"secretRef": {"name": "x"}}])


def test_resources_default_to_the_node() -> None:
    subject = container("c", resources={"limits": {"cpu": "250m"}, "requests": {"memory": "3Mi"}})
    entries = [
        source("CPU", resourceFieldRef={"resource": "limits.cpu"}),
        source("MILLI", resourceFieldRef={"resource": "limits.cpu", "divisor": "1m"}),
        source("MEM", resourceFieldRef={"resource": "limits.memory", "divisor": "1Ki"}),
        source("REQ", resourceFieldRef={"resource": "requests.memory", "divisor": "1Mi"}),
    ]
    found = build_env(pod(subject), {**subject, "env": entries}, base={}, sources=SOURCES)
    assert found == {"CPU": "1", "MILLI": "250", "MEM": "1024", "REQ": "3"}


def test_nul_is_refused() -> None:
    with pytest.raises(EnvError, match="NUL"):
        env_of({"name": "X", "value": "a\0b"})


def test_references_name_what_must_be_read() -> None:
    subject = container(
        "c",
        env=[source("A", configMapKeyRef={"name": "m"}), source("B", secretKeyRef={"name": "s"})],
        envFrom=[{"configMapRef": {"name": "m2"}}],
    )
    assert references(subject) == ({"m", "m2"}, {"s"})


@pytest.mark.parametrize(
    ("text", "value"), [("500m", "0.5"), ("1.5Gi", "1610612736"), ("2e3", "2000"), ("7", "7")]
)
def test_quantities(text: str, value: str) -> None:
    assert parse_quantity(text) == parse_quantity(value)


@pytest.mark.parametrize("text", ["", "x", "1.2.3", ".", "5 Gi", "1KiB"])
def test_malformed_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


def test_division_rounds_up() -> None:
    assert divide("1500m", "1") == "2"
    assert divide("1500m", "0") == "2"
