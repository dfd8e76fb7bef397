"""What of ``spec.cluster`` a controller makes that cannot see who has created the Task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from taskctl.api.podparts import schema_of
from taskctl.api.taskcluster import TaskClusterSpec
from taskctl.api.workertemplate import WorkerTemplate
from taskctl.api.workspace import Workspace, WorkspaceClaim
from taskctl.policy.runclusterrule import (
    PLAIN_CLAIM,
    PLAIN_FIELDS,
    PLAIN_TEMPLATE,
    PLAIN_VOLUMES,
    PLAIN_WORKSPACE,
    RunClusters,
    problem_with,
)

PLAIN: dict[str, Any] = {
    "replicas": 2,
    "maxReplicas": None,
    "workspace": {"pvc": {"accessModes": ["ReadWriteMany"]}, "reclaim": "Delete"},
    "volumes": [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "secret": {"secretName": "s"}, "hostPath": None},
        {"name": "c", "projected": {"sources": [{"configMap": {"name": "m"}}]}},
    ],
    "template": {
        "resources": {"requests": {"cpu": "1"}},
        "labels": {"kueue.x-k8s.io/queue-name": "q"},
        "securityContext": {
            "runAsUser": 1000,
            "fsGroup": 7,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    },
}
# What could give the author of a Task more than he has, and the path that the refusal names.
TOO_MUCH: list[tuple[dict[str, Any], str]] = [
    ({"serviceAccountName": "admin"}, ".serviceAccountName"),
    ({"workerImage": "evil:1"}, ".workerImage"),
    ({"user": "somebody-else"}, ".user"),
    ({"deploymentName": "other"}, ".deploymentName"),
    ({"fieldOfALaterVersion": 1}, ".fieldOfALaterVersion"),
    ({"workspace": {"hostPath": {"path": "/"}}}, ".workspace.hostPath"),
    ({"workspace": {"nfs": {"server": "s", "path": "/"}}}, ".workspace.nfs"),
    ({"workspace": {"claimName": "of-others"}}, ".workspace.claimName"),
    ({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "hostPath": {"path": "/"}}]},
     ".volumes[1].hostPath"),
    ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
     ".volumes[0].persistentVolumeClaim"),
    ({"workspace": {"pvc": {"selector": {}}}}, ".workspace.pvc.selector"),
    ({"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {
        "accessModes": ["ReadWriteOnce"], "dataSource": {"kind": "PersistentVolumeClaim"}}}}}]},
     ".volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource"),
    ({"volumes": [{"name": "v", "csi": {"driver": "d"}}]}, ".volumes[0].csi"),
    ({"volumes": [{"name": "v", "projected": {"sources": [
        {"secret": {"name": "s"}}, {"serviceAccountToken": {"path": "t"}}]}}]},
     ".volumes[0].projected.sources[1].serviceAccountToken"),
    ({"template": {"priorityClassName": "high"}}, ".template.priorityClassName"),
    ({"template": {"runtimeClassName": "host"}}, ".template.runtimeClassName"),
    ({"template": {"tolerations": [{"operator": "Exists"}]}}, ".template.tolerations"),
    ({"template": {"annotations": {"a": "b"}}}, ".template.annotations"),
    ({"template": {"labels": {"app": "database"}}}, ".template.labels[app]"),
    ({"template": {"securityContext": {"runAsUser": 0}}}, ".template.securityContext.runAsUser"),
    ({"template": {"securityContext": {"runAsNonRoot": False}}},
     ".template.securityContext.runAsNonRoot"),
    ({"template": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}},
     ".template.securityContext.seccompProfile"),
    ({"template": {"securityContext": {"supplementalGroups": [0]}}},
     ".template.securityContext.supplementalGroups"),
    ({"template": {"securityContext": {"sysctls": []}}}, ".template.securityContext.sysctls"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "path"), TOO_MUCH, ids=[path for _, path in TOO_MUCH])
def test_what_could_give_rights_is_refused_with_its_path(more: dict[str, Any], path: str) -> None:
    problem = problem_with({"replicas": 1} | more, RunClusters.PLAIN)
    assert f"spec.cluster{path} is not allowed" in problem
    assert "--run-clusters=plain" in problem
    assert problem_with(more, RunClusters.ANY) == ""


def test_workers_and_a_workspace_are_plain() -> None:
    assert problem_with(PLAIN, RunClusters.PLAIN) == ""
    assert problem_with({}, RunClusters.PLAIN) == ""
    assert "--run-clusters=none" in problem_with({}, RunClusters.NONE)


def fields(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_each_field_is_known_and_decided_on() -> None:
    """A name that is misspelt here would refuse what is meant to be allowed."""
    assert fields(TaskClusterSpec) >= PLAIN_FIELDS
    assert fields(TaskClusterSpec) - PLAIN_FIELDS == {
        "serviceAccountName",
        "deploymentName",
        "user",
        "workerImage",
    }
    assert fields(Workspace) - PLAIN_WORKSPACE == {"claimName", "hostPath", "nfs"}
    assert fields(WorkspaceClaim) - PLAIN_CLAIM == {"selector"}
    assert fields(WorkerTemplate) >= PLAIN_TEMPLATE
    assert fields(WorkerTemplate) - PLAIN_TEMPLATE == {
        "annotations",
        "priorityClassName",
        "runtimeClassName",
        "tolerations",
    }
    volume: Mapping[str, Any] = schema_of("Volume")["properties"]
    assert volume.keys() >= PLAIN_VOLUMES
