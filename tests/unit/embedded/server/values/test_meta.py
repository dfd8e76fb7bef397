from __future__ import annotations

import pytest

from taskctl.embedded.server.values import meta
from taskctl.embedded.server.values.meta import NameRule


@pytest.mark.parametrize(
    ("rule", "name", "good"),
    [
        (NameRule.SUBDOMAIN, "a.b-c.9", True),
        (NameRule.SUBDOMAIN, "a" * 253, True),
        (NameRule.SUBDOMAIN, "a" * 254, False),
        (NameRule.SUBDOMAIN, "A", False),
        (NameRule.SUBDOMAIN, "a..b", False),
        (NameRule.SUBDOMAIN, "-a", False),
        (NameRule.SUBDOMAIN, "a\n", False),
        (NameRule.LABEL, "a-b", True),
        (NameRule.LABEL, "a.b", False),
        (NameRule.LABEL, "a" * 64, False),
        (NameRule.PATH_SEGMENT, "system:Node", True),
        (NameRule.PATH_SEGMENT, "a/b", False),
        (NameRule.PATH_SEGMENT, "..", False),
        (NameRule.PATH_SEGMENT, "a%b", False),
    ],
)
def test_names(rule: NameRule, name: str, good: bool) -> None:
    assert (meta.check({"name": name}, namespaced=False, rule=rule) == []) is good


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"labels": {"-": "v"}}, "metadata.labels"),
        ({"labels": {"a": "b c"}}, "metadata.labels"),
        ({"labels": {"a": "x" * 64}}, "metadata.labels"),
        ({"labels": {"/a": "b"}}, "metadata.labels"),
        ({"labels": {"a/b/c": "d"}}, "metadata.labels"),
        ({"labels": {"a/": "d"}}, "metadata.labels"),
        ({"labels": {"a" * 64: "d"}}, "metadata.labels"),
        ({"annotations": {"a b": ""}}, "metadata.annotations"),
        ({"annotations": {"a": "x" * 262144}}, "metadata.annotations"),
        ({"finalizers": ["a b"]}, "metadata.finalizers"),
        ({"finalizers": ["orphan", "foregroundDeletion"]}, "metadata.finalizers"),
        ({"ownerReferences": [{"kind": "K", "name": "n", "uid": "u"}]},
         "metadata.ownerReferences.apiVersion"),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "n", "uid": "u"}]},
         "metadata.ownerReferences"),
        ({"ownerReferences": [
            {"apiVersion": "v1", "kind": "K", "name": n, "uid": n, "controller": True}
            for n in ("a", "b")
        ]}, "metadata.ownerReferences"),
        ({"ownerReferences": [{"apiVersion": "a/b/c", "kind": "K", "name": "n", "uid": "u"}]},
         "metadata.ownerReferences.apiVersion"),
        ({"generateName": "A_"}, "metadata.generateName"),
        ({"namespace": ""}, "metadata.namespace"),
        ({"name": ""}, "metadata.name"),
    ],
)  # fmt: skip
def test_faults(fields: dict[str, object], path: str) -> None:
    metadata = {"name": "a", "namespace": "ns", **fields}
    found = meta.check(metadata, namespaced=True, rule=NameRule.SUBDOMAIN)
    assert {one.path for one in found} == {path}


def test_what_is_fine() -> None:
    metadata = {
        "name": "a",
        "namespace": "ns",
        "labels": {"a": "", "x.y/z": "A_b.c-1"},
        "annotations": {"Some/Key": "any text\n"},
        "finalizers": ["x.y/z", "orphan"],
    }
    assert meta.check(metadata, namespaced=True, rule=NameRule.SUBDOMAIN) == []


@pytest.mark.parametrize(
    "metadata",
    [
        "text",
        {"name": 5},
        {"labels": []},
        {"labels": {"a": 1}},
        {"annotations": {"a": 1}},
        {"finalizers": "x"},
        {"finalizers": [1]},
        {"ownerReferences": ["x"]},
        {"managedFields": [1]},
    ],
)
def test_wrong_shapes(metadata: object) -> None:
    assert meta.check_shape(metadata)


def test_nulls_are_absent() -> None:
    metadata = {"name": "a", "labels": None, "annotations": None, "finalizers": None}
    assert meta.check_shape(metadata) == []
    assert metadata == {"name": "a"}


def test_generated_names_fit_a_label() -> None:
    assert len(meta.generate_name("x" * 200)) == 63
    assert len({meta.generate_name("a-") for _ in range(50)}) > 45


def test_immutable_metadata() -> None:
    old = {
        "name": "a",
        "namespace": "n",
        "uid": "u",
        "deletionTimestamp": "t",
        "finalizers": ["x/y"],
    }
    found = meta.check_update({**old, "name": "b", "uid": "v", "finalizers": ["x/y", "x/z"]}, old)
    assert [one.path for one in found] == ["metadata.name", "metadata.uid", "metadata.finalizers"]
    assert meta.check_update({**old, "finalizers": []}, old) == []
