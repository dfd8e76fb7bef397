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
)
from taskctl.policy.view import parse_task
from tests.unit.policy.build import child, raw_task

DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
NAMES = st.from_regex(DNS_SUBDOMAIN, fullmatch=True).filter(lambda name: len(name) <= 253)


def test_children_of_a_root() -> None:
    metadata = child_metadata(parse_task(raw_task("root")), "kid", "k1", depth=1)
    view = parse_task({"metadata": metadata | {"uid": "uid-kid"}, "spec": {}})
    assert (view.root_name, view.root_uid) == ("root", "uid-root")
    assert (view.parent_name, view.parent_uid, view.depth) == ("root", "uid-root", 1)
    assert metadata["annotations"]["taskctl.dev/spawn-key"] == "k1"
    assert not view.is_root


def test_grandchildren_belong_to_the_root() -> None:
    metadata = child_metadata(parse_task(child("kid")), input_name("grandkid"), "k")
    assert metadata["name"] == "grandkid-input"
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Task", "root", "uid-root")
    assert owner["blockOwnerDeletion"] is False
    assert metadata["annotations"]["taskctl.dev/parent"] == "kid"
    assert "taskctl.dev/depth" not in metadata["annotations"]


def test_names_come_from_parent_and_key() -> None:
    root, other = parse_task(raw_task("root")), parse_task(raw_task("other"))
    assert child_name(root, "k") == child_name(root, "k")
    assert len({child_name(root, "k"), child_name(root, "k2"), child_name(other, "k")}) == 3


def test_long_root_name_survives_its_label() -> None:
    name = "r" * 150
    metadata = child_metadata(parse_task(raw_task(name)), "kid", "k") | {"uid": "x"}
    assert len(metadata["labels"]["taskctl.dev/root"]) <= 63
    assert parse_task({"metadata": metadata}).root_name == name


def test_same_child() -> None:
    root, stranger = parse_task(raw_task("root")), parse_task(raw_task("other"))
    existing = {"metadata": child_metadata(root, "kid", "k1")}
    assert is_same_child(existing, root, "k1")
    assert not is_same_child(existing, root, "k2")
    assert not is_same_child(existing, stranger, "k1")
    assert not is_same_child({"metadata": {}}, root, "k1")


def test_depth() -> None:
    def refusal(task: dict[str, object]) -> str:
        return depth_refusal(parse_task(task)) or ""

    assert refusal(raw_task()) == ""
    assert refusal(raw_task(spec={"limits": {"depth": 1}})) == ""
    assert "allows 0" in refusal(raw_task(spec={"limits": {"depth": 0}}))
    assert "depth 2" in refusal(child("t", spec={"limits": {"depth": 1}}))


@given(root=NAMES, key=st.text())
def test_child_names_are_names(root: str, key: str) -> None:
    name = child_name(parse_task(raw_task(root)), key)
    assert DNS_SUBDOMAIN.fullmatch(name)
    assert len(name) <= 63


@given(NAMES)
def test_label_values_are_label_values(name: str) -> None:
    value = label_value(name)
    assert LABEL.fullmatch(value)
    assert len(value) <= 63
