"""Workers on a node that is to be emptied get no more tasks."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.policy.nodes import leaving_taints, must_leave

UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def taint(key: str, **more: str) -> dict[str, Any]:
    return {"key": key, "effect": "NoSchedule"} | more


@pytest.mark.parametrize(
    ("spec", "leaves"),
    [
        ({}, False),
        ({"unschedulable": False}, False),
        ({"unschedulable": True}, True),
        ({"taints": [taint(UNSCHEDULABLE)]}, True),
        ({"taints": [taint("ToBeDeletedByClusterAutoscaler", value="1700000000")]}, True),
        ({"taints": [taint("karpenter.sh/disrupted")]}, True),
        ({"taints": [taint("dedicated", value="gpu")]}, False),
        ({"taints": [taint("node.kubernetes.io/not-ready")]}, False),
        ({"taints": None}, False),
    ],
)
def test_what_says_that_a_node_is_to_be_emptied(spec: dict[str, Any], leaves: bool) -> None:
    assert must_leave({"spec": {}}, {"spec": spec}) is leaves
    assert bool(leaving_taints({"spec": spec})) is leaves


@pytest.mark.parametrize(
    ("toleration", "leaves"),
    [
        ({"operator": "Exists"}, False),
        ({"key": UNSCHEDULABLE, "operator": "Exists"}, False),
        ({"key": UNSCHEDULABLE, "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": UNSCHEDULABLE}, False),
        ({"key": UNSCHEDULABLE, "value": "x"}, True),
        ({"key": UNSCHEDULABLE, "operator": "Exists", "effect": "NoExecute"}, True),
        ({"key": "other", "operator": "Exists"}, True),
    ],
)
def test_who_tolerates_it_would_only_come_back(toleration: dict[str, Any], leaves: bool) -> None:
    node = {"spec": {"unschedulable": True}}
    assert must_leave({"spec": {"tolerations": [toleration]}}, node) is leaves


def test_what_is_not_known_stays() -> None:
    assert not must_leave({"spec": {}}, None)
    assert leaving_taints(None) == ()
