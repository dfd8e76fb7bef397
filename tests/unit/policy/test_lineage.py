"""Names, owners and labels of children."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.lineage import (
    child_metadata,
    child_name,
    depth_refusal,
    input_name,
    is_same_child,
    label_value,
    lineage_of,
    object_metadata,
    output_name,
)
from taskctl.policy.view import parse_task
from tests.unit.policy.build import child, raw_task

DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def test_children_of_a_root() -> None:
    lineage = lineage_of(parse_task(raw_task("root")))
    metadata = child_metadata(lineage, "kid", "k1", group="g")
    view = parse_task({"metadata": metadata | {"uid": "uid-kid"}, "spec": {}})
    assert (view.root_name, view.root_uid) == ("root", "uid-root")
    assert (view.parent_name, view.parent_uid, view.depth) == ("root", "uid-root", 1)
    assert metadata["labels"]["taskctl.dev/group"] == "g"
    assert metadata["annotations"]["taskctl.dev/spawn-key"] == "k1"
    assert not view.is_root


def test_grandchildren_belong_to_the_root() -> None:
    lineage = lineage_of(parse_task(child("kid")))
    metadata = object_metadata(lineage, input_name("grandkid"))
    assert metadata["name"] == "grandkid-input"
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Task", "root", "uid-root")
    assert owner["blockOwnerDeletion"] is False
    assert metadata["annotations"]["taskctl.dev/depth"] == "2"
    assert metadata["annotations"]["taskctl.dev/parent"] == "kid"


def test_names() -> None:
    assert child_name("u", "k", "root") == child_name("u", "k", "root")
    assert child_name("u", "k", "root") != child_name("u", "k2", "root")
    assert [output_name("t", n) for n in (1, 2)] == ["t-output", "t-output-2"]


def test_long_root_name_survives_its_label() -> None:
    name = "r" * 150
    lineage = lineage_of(parse_task(raw_task(name)))
    metadata = child_metadata(lineage, "kid", "k") | {"uid": "x"}
    assert len(metadata["labels"]["taskctl.dev/root"]) == 63
    assert parse_task({"metadata": metadata}).root_name == name


def test_same_child() -> None:
    lineage = lineage_of(parse_task(raw_task("root")))
    existing = {"metadata": child_metadata(lineage, "kid", "k1")}
    assert is_same_child(existing, lineage, "k1")
    assert not is_same_child(existing, lineage, "k2")
    stranger = lineage_of(parse_task(raw_task("other")))
    assert not is_same_child(existing, stranger, "k1")
    assert not is_same_child({"metadata": {}}, lineage, "k1")


def test_depth() -> None:
    assert depth_refusal(raw_task()) is None
    assert depth_refusal(raw_task(spec={"limits": {"depth": 1}})) is None
    assert "limits.depth is 0" in (depth_refusal(raw_task(spec={"limits": {"depth": 0}})) or "")
    assert depth_refusal(child("t", spec={"limits": {"depth": 1}})) is not None


@given(
    root=st.from_regex(DNS_SUBDOMAIN, fullmatch=True).filter(lambda s: len(s) <= 253), key=st.text()
)
def test_child_names_are_names(root: str, key: str) -> None:
    name = child_name("uid", key, root)
    assert DNS_SUBDOMAIN.fullmatch(name)
    assert len(output_name(name, 10_000)) <= 253


@given(st.text())
def test_label_values_are_label_values(text: str) -> None:
    value = label_value(text)
    assert LABEL.fullmatch(value)
    assert len(value) <= 63
