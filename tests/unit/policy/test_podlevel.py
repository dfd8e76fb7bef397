"""Resources of a worker's whole pod: in its manifest, in what is counted, and without them."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.policy.podlevel import on_the_agent, pod_resources
from taskctl.policy.resources import (
    Amount,
    capacity_of,
    cluster_resources,
    misfit,
    worker_resources,
)
from taskctl.policy.workerpod import build_worker, parse_frame

POD = {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "4", "memory": "6Gi"}}


def cluster(**template: Any) -> dict[str, Any]:
    metadata = {"name": "c", "namespace": "ns", "uid": "u"}
    return {"metadata": metadata, "spec": {"template": template}}


def agent(pod: dict[str, Any]) -> dict[str, Any]:
    [found] = pod["spec"]["containers"]
    return dict(found)


def test_the_pod_has_them_and_tasks_are_counted_against_them() -> None:
    own = {"requests": {"cpu": "100m", "nvidia.com/gpu": "1"}}
    pod = build_worker(cluster(podResources=POD, resources=own), "c-1")
    assert pod_resources(pod) == POD
    assert agent(pod)["resources"] == own
    frame = parse_frame(pod) or {}
    assert capacity_of(frame["resources"]) == Amount(2000, 4 * 2**30)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ({}, {}),
        ({"resources": POD}, POD),
        ({"podResources": POD, "resources": {"requests": {"cpu": "1"}}}, POD),
        (
            {"podResources": {"limits": {"memory": "1Gi"}}, "resources": {"requests": {"cpu": 1}}},
            {"requests": {"cpu": 1}, "limits": {"memory": "1Gi"}},
        ),
    ],
)
def test_each_resource_is_taken_from_where_it_is_said(
    template: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert worker_resources(template) == wanted


def test_a_task_that_never_fits_is_told_which_field_says_so() -> None:
    resources = cluster_resources(
        cluster(podResources={"limits": {"memory": "1Gi"}}, resources={"requests": {"cpu": "1"}})
    )
    for wanted, field in (
        ({"requests": {"memory": "2Gi"}}, "spec.template.podResources.limits.memory"),
        ({"requests": {"cpu": "2"}}, "spec.template.resources.requests.cpu"),
    ):
        spec = {"resources": wanted}
        assert field in misfit(spec, spec, resources)


def test_without_them_the_node_keeps_as_much_free() -> None:
    own = {
        "requests": {"cpu": "100m", "nvidia.com/gpu": "1"},
        "limits": {"memory": "100Mi", "nvidia.com/gpu": "1"},
    }
    pod = on_the_agent(build_worker(cluster(podResources=POD, resources=own), "c-1"))
    assert pod_resources(pod) is None
    assert agent(pod)["resources"] == {
        "requests": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"},
        "limits": {"nvidia.com/gpu": "1"},
    }
    only_limits = {"limits": {"memory": "1Gi"}}
    pod = on_the_agent(build_worker(cluster(podResources=only_limits), "c-1"))
    assert agent(pod)["resources"] == {"requests": {"memory": "1Gi"}}


def test_both_forms_are_one_template() -> None:
    """Otherwise workers would be replaced for ever where the cluster has none."""
    pod = build_worker(cluster(podResources=POD), "c-1")
    assert on_the_agent(pod)["metadata"] == pod["metadata"]
    plain = build_worker(cluster(), "c-1")
    assert on_the_agent(plain) == plain
