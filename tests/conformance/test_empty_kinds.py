"""Kinds that clients list beside what they are about."""

from __future__ import annotations

import pytest

from tests.conformance.target import Api

LISTED = [
    ("/api/v1", "services", "ServiceList"),
    ("/api/v1", "endpoints", "EndpointsList"),
    ("/api/v1", "replicationcontrollers", "ReplicationControllerList"),
    ("/api/v1", "limitranges", "LimitRangeList"),
    ("/api/v1", "resourcequotas", "ResourceQuotaList"),
    ("/apis/apps/v1", "daemonsets", "DaemonSetList"),
    ("/apis/apps/v1", "deployments", "DeploymentList"),
    ("/apis/apps/v1", "replicasets", "ReplicaSetList"),
    ("/apis/apps/v1", "statefulsets", "StatefulSetList"),
    ("/apis/autoscaling/v1", "horizontalpodautoscalers", "HorizontalPodAutoscalerList"),
    ("/apis/autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscalerList"),
    ("/apis/batch/v1", "cronjobs", "CronJobList"),
    ("/apis/batch/v1", "jobs", "JobList"),
    ("/apis/discovery.k8s.io/v1", "endpointslices", "EndpointSliceList"),
    ("/apis/networking.k8s.io/v1", "ingresses", "IngressList"),
    ("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicyList"),
    ("/apis/policy/v1", "poddisruptionbudgets", "PodDisruptionBudgetList"),
]


@pytest.mark.parametrize(("prefix", "plural", "kind"), LISTED)
async def test_lists_of_what_is_not_there(api: Api, prefix: str, plural: str, kind: str) -> None:
    path = api.path(prefix, plural)
    listed = (await api.get(path)).ok()
    assert (listed["kind"], listed["items"]) == (kind, [])
    version = prefix.removeprefix("/apis/").removeprefix("/api/")
    assert listed["apiVersion"] == version
    assert listed["metadata"]["resourceVersion"]
    assert (await api.get(f"{prefix}/{plural}")).status == 200
    (await api.get(f"{path}/none")).refused(404, "NotFound")
    found = (await api.get(prefix)).ok()["resources"]
    assert {"get", "list", "watch"} <= set(next(x for x in found if x["name"] == plural)["verbs"])
    async with api.watch(path, timeoutSeconds="1") as events:
        assert await events.next_or_end() is None


async def test_a_local_access_review(api: Api) -> None:
    path = api.path("/apis/authorization.k8s.io/v1", "localsubjectaccessreviews")
    attributes = {"verb": "get", "resource": "pods", "namespace": api.namespace}
    spec = {"user": "someone", "resourceAttributes": attributes}
    body = {"metadata": {"namespace": api.namespace}, "spec": spec}
    made = (await api.create(path, body)).ok()
    assert made["kind"] == "LocalSubjectAccessReview"
    assert isinstance(made["status"]["allowed"], bool)
    elsewhere = {**spec, "resourceAttributes": {**attributes, "namespace": "other"}}
    (await api.create(path, {**body, "spec": elsewhere})).refused(422, "Invalid")
