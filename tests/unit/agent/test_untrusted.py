"""Whatever a task sends, the answer is a value or a refusal: nothing else gets out."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.agent.childspec import build_child
from taskctl.agent.exits import parse_exit
from taskctl.agent.refusals import Refusal
from taskctl.agent.values import Content, canonical, parse_content, parse_ref
from taskctl.api import meta
from taskctl.api.task import Task
from taskctl.api.taskobject import TaskObject
from taskctl.policy.lineage import label_value
from taskctl.policy.view import parse_task

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.binary(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
PARENT = parse_task(
    {
        "metadata": {"name": "job", "namespace": "ns", "uid": "u"},
        "spec": {"clusterName": "c", "image": "i", "command": ["x"]},
    }
)
EXIT_FIELDS = (
    "uid",
    "attempt",
    "code",
    "signal",
    "reason",
    "message",
    "started_us",
    "exited_us",
    "user_us",
    "system_us",
    "max_rss_kb",
    "tail",
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(EXIT_FIELDS, ANYTHING)))
def test_any_exit(message: dict[str, Any]) -> None:
    with contextlib.suppress(Refusal):
        parse_exit(message)


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("value", "json", "data", "ref"), ANYTHING))
)
def test_any_content(message: dict[str, Any]) -> None:
    with contextlib.suppress(Refusal):
        content = parse_content(message)
        if content is not None:
            content.digest()
            json.dumps(content.body, allow_nan=False)


@given(ANYTHING)
def test_any_ref(value: Any) -> None:
    with contextlib.suppress(Refusal):
        parse_ref(value, "ref")


@given(
    st.fixed_dictionaries(
        {"key": st.text(min_size=1, max_size=30)},
        optional={
            "name": st.text(max_size=30) | ANYTHING,
            "value": ANYTHING,
            "input_object": st.text(max_size=30) | ANYTHING,
            "overrides": st.dictionaries(
                st.sampled_from(["image", "command", "env", "retry", "slots", "group", "runAfter"])
                | st.text(max_size=10),
                ANYTHING,
                max_size=3,
            )
            | ANYTHING,
        },
    )
)
def test_any_child(spec: dict[str, Any]) -> None:
    with contextlib.suppress(Refusal):
        child = build_child(PARENT, spec, "tasks[0]")
        Task.model_validate(child.task)
        assert len(child.task["metadata"]["name"]) <= meta.MAX_NAME


@given(JSON)
def test_json_values_survive(value: Any) -> None:
    content = parse_content({"value": value})
    assert content is not None
    assert json.loads(content.encoded) == value
    TaskObject.model_validate({"metadata": {"name": "o"}, content.field: content.body})
    again = parse_content({"json": content.encoded.decode()})
    assert again is not None
    assert again.digest() == content.digest(), "as text or as a value, it is the same"


@given(st.dictionaries(st.text(max_size=5), st.integers(-1000, 1000), max_size=5))
def test_equal_values_have_one_digest(value: dict[str, int]) -> None:
    turned = {key: float(value[key]) for key in reversed(value)}
    assert Content("value", value).digest() == Content("value", turned).digest()
    assert canonical(value) == canonical(turned)


@pytest.mark.parametrize("length", [1, 62, 63, 64, 100, 253])
def test_label_values_fit(length: int) -> None:
    names = {"a" * length, "a" * (length - 1) + "b", "a" * max(length - 1, 0) + "c"}
    values = {label_value(name) for name in names}
    assert len(values) == len(names)
    assert all(len(value) <= meta.MAX_LABEL for value in values)


SECRET = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"env": [SECRET]}, "overrides.env[0].valueFrom"),
        ({"clusterName": "other"}, "overrides.clusterName"),
    ],
)
def test_a_child_gets_no_rights_that_its_parent_lacks(
    overrides: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refusal) as caught:
        build_child(PARENT, {"key": "k", "overrides": overrides}, "tasks[0]")
    assert named in caught.value.message


def test_a_child_may_have_the_sources_of_its_parent() -> None:
    spec = {"clusterName": "c", "image": "i", "command": ["x"], "env": [SECRET]}
    parent = parse_task({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec})
    renamed = {"name": "MINE", "valueFrom": SECRET["valueFrom"]}
    child = build_child(parent, {"key": "k", "overrides": {"env": [renamed]}}, "tasks[0]")
    assert child.task["spec"]["env"] == [renamed]
