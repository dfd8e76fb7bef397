"""Names, owners and labels of children."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.policy.lineage import (
    child_lineage,
    child_metadata,
    child_name,
    depth_refusal,
    input_name,
    is_same_child,
    is_same_object,
    label_value,
    runs_of,
)
from taskctl.policy.view import parse_task
from tests.unit.policy.build import child, raw_task

DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
NAMES = st.from_regex(DNS_SUBDOMAIN, fullmatch=True).filter(lambda name: len(name) <= 253)


def test_children_of_a_root() -> None:
    root = parse_task(raw_task("root"))
    metadata = child_metadata(root, "kid", "k1", depth=1)
    spec = {"lineage": child_lineage(root, "kid", "k1")}
    view = parse_task({"metadata": metadata | {"uid": "uid-kid"}, "spec": spec})
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


MADE = "auto-0123456789abcdef-0"
SQUARE = ["python3", "-m", "taskctl.sdk.run", "sums:square"]


@pytest.mark.parametrize(
    ("key", "command", "word"),
    [
        (MADE, SQUARE, "square-"),
        (MADE, ["python3", "-m", "taskctl.sdk.run", "sums:Some.method_two"], "some-method-two-"),
        (MADE, ["/bin/sh", "-c", "echo a; echo b"], "echo-"),
        (MADE, ["/app/Tool.PY"], "tool-py-"),
        (MADE, ["x" * 100], "x" * 20 + "-"),
        (MADE, ["é"], ""),
        (MADE, [], ""),
        ("part 3/of 9", SQUARE, "part-3-of-9-"),
        ("https://example.org/a/very/long/path", SQUARE, "https-example-org-a-"),
        ("+++", SQUARE, ""),
        ("auto-1", SQUARE, "auto-1-"),
    ],
)
def test_names_say_what_a_child_is(key: str, command: list[str], word: str) -> None:
    root = parse_task(raw_task("root"))
    digest = child_name(root, key).rpartition("-")[2]
    assert child_name(root, key, command) == f"root-{word}{digest}"


def test_a_chosen_key_names_the_same_child_whatever_it_runs() -> None:
    root = parse_task(raw_task("root"))
    assert child_name(root, "k", SQUARE) == child_name(root, "k", ["other"])


@pytest.mark.parametrize(
    ("name", "key", "runs"),
    [
        ("root-square-0", MADE, "square"),
        ("root-part-3-0", "part-3", "square[part-3]"),
        ("root-part-3", "part-3", "square"),  # as the name says
        ("mine", "k" * 100, f"square[{'k' * 40}]"),
        ("mine", "a\x1b[2Jb\nc", "square[a\\x1b[2Jb c]"),
    ],
)
def test_what_a_task_runs(name: str, key: str, runs: str) -> None:
    root = parse_task(raw_task("root"))
    spec = {"command": SQUARE, "lineage": child_lineage(root, name, key)}
    assert runs_of(parse_task(raw_task(name, spec=spec))) == runs
    assert runs_of(parse_task(raw_task("root", spec={"command": SQUARE}))) == "square"


def test_long_root_name_survives_its_label() -> None:
    name = "r" * 150
    root = parse_task(raw_task(name))
    metadata = child_metadata(root, "kid", "k") | {"uid": "x"}
    assert len(metadata["labels"]["taskctl.dev/root"]) <= 63
    spec = {"lineage": child_lineage(root, "kid", "k")}
    assert parse_task({"metadata": metadata, "spec": spec}).root_name == name


def test_labels_make_no_child() -> None:
    """Whoever may edit a Task may label it, or take a child's labels away."""
    kid = child("kid", root="root")
    stranger = raw_task(
        "stranger",
        **{field: kid["metadata"][field] for field in ("labels", "annotations", "ownerReferences")},
    )
    view = parse_task(stranger)
    assert view.is_root
    assert (view.root_uid, view.parent_uid, view.depth) == ("uid-stranger", "", 0)
    del kid["metadata"]["labels"]
    assert parse_task(kid).root_uid == "uid-root"


def test_a_copy_under_another_name_is_a_root() -> None:
    copy = child("kid", root="root")
    copy["metadata"] |= {"name": "copy", "uid": "uid-copy"}
    view = parse_task(copy)
    assert (view.is_root, view.root_uid, view.depth) == (True, "uid-copy", 0)
    assert not is_same_child(copy, parse_task(raw_task("root")), "kid")


def test_same_child() -> None:
    root, stranger = parse_task(raw_task("root")), parse_task(raw_task("other"))
    metadata = child_metadata(root, "kid", "k1")
    existing = {"metadata": metadata, "spec": {"lineage": child_lineage(root, "kid", "k1")}}
    for same in (is_same_child, is_same_object):
        assert same(existing, root, "k1")
        assert not same(existing, root, "k2")
        assert not same(existing, stranger, "k1")
        assert not same({"metadata": {"name": "kid"}}, root, "k1")


def test_depth() -> None:
    def refusal(task: dict[str, object]) -> str:
        return depth_refusal(parse_task(task)) or ""

    assert refusal(raw_task()) == ""
    assert refusal(raw_task(spec={"limits": {"depth": 1}})) == ""
    assert "allows 0" in refusal(raw_task(spec={"limits": {"depth": 0}}))
    assert "depth 2" in refusal(child("t", spec={"limits": {"depth": 1}}))


@given(root=NAMES, key=st.text() | st.just(MADE), program=st.text())
def test_child_names_are_names(root: str, key: str, program: str) -> None:
    name = child_name(parse_task(raw_task(root)), key, [program])
    assert DNS_SUBDOMAIN.fullmatch(name)
    assert len(name) <= 63


@given(NAMES)
def test_label_values_are_label_values(name: str) -> None:
    value = label_value(name)
    assert LABEL.fullmatch(value)
    assert len(value) <= 63
