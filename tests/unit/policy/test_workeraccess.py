"""The account of workers and its binding."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.policy.workeraccess import (
    RoleKind,
    binding_name,
    binds_worker,
    build_account,
    build_binding,
    worker_account,
)
from tests.unit.policy.build import raw_cluster


def test_account() -> None:
    assert worker_account(raw_cluster()) == "taskctl-worker"
    assert worker_account(raw_cluster(serviceAccountName="robot")) == "robot"
    account = build_account("ns")
    assert account["metadata"]["name"] == "taskctl-worker"
    assert account["automountServiceAccountToken"] is False


def test_names_of_bindings_fit_and_differ() -> None:
    assert binding_name("taskctl-worker") == "taskctl-worker"
    assert binding_name("robot") == "taskctl-worker-robot"
    long, longer = binding_name("a" * 250), binding_name("a" * 251)
    assert len(long) == len(longer) == 253
    assert long != longer
    assert binding_name("a" * 238) == "taskctl-worker-" + "a" * 238


def test_binding_of_an_account() -> None:
    binding = build_binding("ns", "robot")
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "taskctl-worker",
    }
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "robot", "namespace": "ns"}]
    assert binds_worker(binding, "robot")
    assert binds_worker(build_binding("ns", "robot", RoleKind.ROLE), "robot")


@pytest.mark.parametrize(
    ("account", "change"),
    [
        ("other", {}),
        ("robot", {"subjects": None}),
        ("robot", {"subjects": [{"kind": "User", "name": "robot"}]}),
        ("robot", {"subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "x"}]}),
        ("robot", {"roleRef": {"kind": "ClusterRole", "name": "view"}}),
    ],
)
def test_bindings_that_do_not_do(account: str, change: dict[str, Any]) -> None:
    assert not binds_worker(build_binding("ns", "robot") | change, account)
