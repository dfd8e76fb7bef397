"""The pod of a worker, made from its TaskCluster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from taskctl.constants import (
    AGENT_CONTAINER,
    ANNOTATION_CLAIM_UID,
    API_VERSION,
    DEFAULT_LOG_LIMIT_BYTES,
    ENV_INLINE_OUTPUTS,
    ENV_LOG_LIMIT,
    ENV_METRICS_PORT,
    ENV_POD_IP,
    ENV_RUNTIME_DIR,
    ENV_STATE_DIR,
    ENV_TRACES,
    ENV_WORKSPACE,
    FINALIZER_EVIDENCE,
    INIT_PATH,
    LABEL_CLUSTER,
    LABEL_CLUSTER_UID,
    LABEL_MANAGED_BY,
    PREPARE_CONTAINER,
    RUNTIME_PATH,
    RUNTIME_VOLUME,
    STATE_PATH,
    STATE_VOLUME,
    TOKEN_PATH,
    TOKEN_VOLUME,
    WORKSPACE_VOLUME,
)
from taskctl.policy.colocation import Sharing, sharing_of
from taskctl.policy.lineage import label_value
from taskctl.policy.resources import worker_resources
from taskctl.policy.variables import expanded
from taskctl.policy.workeraccess import worker_account
from taskctl.policy.workersettings import DEFAULT_WORKERS, WorkerSettings
from taskctl.policy.workspace import WorkspaceVolume, plan_workspace

# What this very pod offers to task containers. Recorded in the pod, because a TaskCluster
# may change while its older workers still serve, and mounts must name volumes of the pod.
ANNOTATION_FRAME: Final = "taskctl.dev/task-frame"
# Fingerprint of the template; a worker with another one is rotated out.
ANNOTATION_TEMPLATE: Final = "taskctl.dev/template"
_HASH_CHARS: Final = 16
# The restricted Pod Security Standard wants a user that is not root. An image's own user is
# unknown, and most images are root's, so one is given: any number serves.
_USER: Final = 65532
_TOKEN_SECONDS: Final = 3600
_HOSTNAME_KEY: Final = "kubernetes.io/hostname"
DEFAULT_PULL_POLICY: Final = "IfNotPresent"
# https://kueue.sigs.k8s.io/docs/tasks/run/plain_pods/
LABEL_KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"
METRICS_PORT_NAME: Final = "metrics"


def cluster_owner(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """Return the owner reference to a TaskCluster, as its managing controller."""
    return {
        "apiVersion": API_VERSION,
        "kind": "TaskCluster",
        "name": cluster["metadata"]["name"],
        "uid": cluster["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def worker_prefix(cluster: Mapping[str, Any]) -> str:
    """Return what worker names begin with, without the dash."""
    return str(cluster["spec"].get("deploymentName") or cluster["metadata"]["name"])


def build_worker(
    cluster: Mapping[str, Any],
    name: str,
    settings: WorkerSettings = DEFAULT_WORKERS,
    claim_uid: str = "",
    sharing: Sharing | None = None,
) -> dict[str, Any]:
    """Return the manifest of a worker pod.

    Args:
        cluster: the raw TaskCluster.
        name: the pod's name.
        settings: what all workers have in common.
        claim_uid: UID of the workspace's claim; empty: there is none, or it is not known.
        sharing: what the claims of the workers allow, see :func:`worker_template`.
    """
    template = worker_template(cluster, settings, sharing)
    metadata = cluster["metadata"]
    annotations = dict(template["metadata"]["annotations"])
    annotations[ANNOTATION_TEMPLATE] = template_hash(template)
    if claim_uid:
        annotations[ANNOTATION_CLAIM_UID] = claim_uid
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": dict(template["metadata"].get("labels") or {}) | _labels(cluster),
            "annotations": annotations,
            "finalizers": [FINALIZER_EVIDENCE],
            "ownerReferences": [cluster_owner(cluster)],
        },
        "spec": template["spec"],
    }


def worker_template(
    cluster: Mapping[str, Any],
    settings: WorkerSettings = DEFAULT_WORKERS,
    sharing: Sharing | None = None,
) -> dict[str, Any]:
    """Return what all workers of a TaskCluster have in common: annotations and spec.

    Args:
        cluster: the raw TaskCluster.
        settings: what all workers have in common.
        sharing: what the claims that they use allow; None: those of users count as if there
            were none, as their access modes are not known.
    """
    workspace = plan_workspace(cluster)
    cluster = {**cluster, "spec": expanded(cluster)}
    if sharing is None:
        own = workspace.claim
        sharing = sharing_of([] if own is None else [own["spec"]["accessModes"]])
    security = _pod_security(cluster)
    frame = task_frame(cluster, workspace, security)
    template = cluster["spec"].get("template") or {}
    annotations = dict(template.get("annotations") or {}) | {ANNOTATION_FRAME: _json(frame)}
    metadata: dict[str, Any] = {"annotations": annotations}
    labels = _given_labels(cluster, template)
    if labels:
        metadata["labels"] = labels
    spec = _pod_spec(cluster, workspace, security, settings, sharing)
    return {"metadata": metadata, "spec": spec}


def _given_labels(cluster: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, str]:
    """Labels that are not ours. Kueue's queue is named on the object that makes the pods."""
    labels = cluster["metadata"].get("labels") or {}
    queue = {LABEL_KUEUE_QUEUE: labels[LABEL_KUEUE_QUEUE]} if labels.get(LABEL_KUEUE_QUEUE) else {}
    return queue | dict(template.get("labels") or {})


def template_hash(template: Mapping[str, Any]) -> str:
    """Return the fingerprint of :func:`worker_template`."""
    return hashlib.sha256(_json(template).encode()).hexdigest()[:_HASH_CHARS]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def task_frame(
    cluster: Mapping[str, Any], workspace: WorkspaceVolume, pod_security: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what task containers get in these workers: mounts, security context, room."""
    spec = cluster["spec"]
    mounts: list[dict[str, Any]] = [
        {"name": RUNTIME_VOLUME, "mountPath": RUNTIME_PATH, "readOnly": True}
    ]
    if workspace.volume is not None:
        mounts.append({"name": WORKSPACE_VOLUME, "mountPath": workspace.mount_path})
    mounts += [dict(mount) for mount in spec.get("volumeMounts") or ()]
    if spec.get("serviceAccountName"):
        mounts.append({"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True})
    frame: dict[str, Any] = {"volumeMounts": mounts}
    policy = (spec.get("template") or {}).get("imagePullPolicy")
    if policy:
        frame["imagePullPolicy"] = policy
    security = _container_security(pod_security)
    if security:
        frame["securityContext"] = security
    resources = _frame_resources(spec.get("template") or {})
    if resources:
        frame["resources"] = resources
    return frame


def _frame_resources(template: Mapping[str, Any]) -> Any:
    """What is counted. Without `podResources` the text stays as earlier versions wrote it."""
    return worker_resources(template) if template.get("podResources") else template.get("resources")


def parse_frame(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the frame recorded in a worker pod; None where there is none to be read."""
    text = (pod["metadata"].get("annotations") or {}).get(ANNOTATION_FRAME)
    try:
        frame = json.loads(text) if text else None
    except ValueError:
        return None
    return frame if isinstance(frame, dict) else None


def _labels(cluster: Mapping[str, Any]) -> dict[str, str]:
    return {
        LABEL_MANAGED_BY: "taskctl",
        LABEL_CLUSTER: label_value(cluster["metadata"]["name"]),
        LABEL_CLUSTER_UID: cluster["metadata"]["uid"],
    }


def _pod_spec(
    cluster: Mapping[str, Any],
    workspace: WorkspaceVolume,
    security: Mapping[str, Any],
    settings: WorkerSettings,
    sharing: Sharing,
) -> dict[str, Any]:
    spec = cluster["spec"]
    template = spec.get("template") or {}
    base = _own_container(spec.get("workerImage") or settings.image, security, template)
    result: dict[str, Any] = {
        "restartPolicy": "Always",
        "serviceAccountName": worker_account(cluster),
        # It would be mounted in all containers; only the agent is to have it.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": dict(security),
        "initContainers": [base | _prepare(), *_pulls(cluster, base)],
        "containers": [base | _agent(cluster, workspace, settings)],
        "volumes": _volumes(cluster, workspace),
    }
    for field in (
        "nodeSelector",
        "tolerations",
        "imagePullSecrets",
        "priorityClassName",
        "runtimeClassName",
    ):
        if template.get(field):
            result[field] = template[field]
    if template.get("podResources"):
        result["resources"] = template["podResources"]
    affinity = _affinity(cluster, template.get("affinity") or {}, sharing)
    if affinity:
        result["affinity"] = affinity
    spread = _spread(cluster, template, sharing)
    if spread:
        result["topologySpreadConstraints"] = spread
    return result


def _own_container(
    image: str, pod_security: Mapping[str, Any], template: Mapping[str, Any]
) -> dict[str, Any]:
    """What the containers of taskctl's image have in common; they write to volumes only."""
    policy = template.get("imagePullPolicy") or DEFAULT_PULL_POLICY
    container: dict[str, Any] = {"image": image, "imagePullPolicy": policy}
    security = _container_security(pod_security)
    if security:
        container["securityContext"] = security | {"readOnlyRootFilesystem": True}
    return container


def _prepare() -> dict[str, Any]:
    """Return the init container that brings taskctl-init: a task must never come before it.

    An ephemeral container whose command does not exist fails for good, and the agent's
    container is Running a moment before the agent has copied anything.
    """
    return {
        "name": PREPARE_CONTAINER,
        "command": ["taskctl", "agent-prepare"],
        "env": [{"name": ENV_RUNTIME_DIR, "value": RUNTIME_PATH}],
        "volumeMounts": [{"name": RUNTIME_VOLUME, "mountPath": RUNTIME_PATH}],
    }


def _pulls(cluster: Mapping[str, Any], base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return init containers that have the node pull ``spec.images``.

    An image may hold no program at all, so each runs taskctl-init, which says its version.
    """
    mounts = [{"name": RUNTIME_VOLUME, "mountPath": RUNTIME_PATH, "readOnly": True}]
    return [
        {
            **base,
            "name": f"pull-{number}",
            "image": image,
            "command": [INIT_PATH, "version"],
            "volumeMounts": mounts,
        }
        for number, image in enumerate(cluster["spec"].get("images") or (), start=1)
    ]


def _spread(
    cluster: Mapping[str, Any], template: Mapping[str, Any], sharing: Sharing
) -> list[dict[str, Any]]:
    """Return how to spread the workers: as asked for, or over nodes where all may share a claim."""
    selector = {"matchLabels": {LABEL_CLUSTER_UID: cluster["metadata"]["uid"]}}
    given = template.get("topologySpreadConstraints")
    if given is not None:
        return [{"labelSelector": selector, **constraint} for constraint in given]
    if sharing is not Sharing.MANY_NODES:
        return []
    constraint = {"maxSkew": 1, "topologyKey": _HOSTNAME_KEY, "whenUnsatisfiable": "ScheduleAnyway"}
    return [constraint | {"labelSelector": selector}]


def _agent(
    cluster: Mapping[str, Any], workspace: WorkspaceVolume, settings: WorkerSettings
) -> dict[str, Any]:
    spec = cluster["spec"]
    mounts: list[dict[str, Any]] = [
        {"name": RUNTIME_VOLUME, "mountPath": RUNTIME_PATH},
        {"name": STATE_VOLUME, "mountPath": STATE_PATH},
        {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True},
    ]
    if workspace.volume is not None:
        mounts.append({"name": WORKSPACE_VOLUME, "mountPath": workspace.mount_path})
    mounts += [dict(mount) for mount in spec.get("volumeMounts") or ()]
    env: list[dict[str, Any]] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in (
            ("POD_NAME", "metadata.name"),
            ("POD_NAMESPACE", "metadata.namespace"),
            ("POD_UID", "metadata.uid"),
            ("NODE_NAME", "spec.nodeName"),
        )
    ]
    env.append({"name": "TASKCTL_CLUSTER", "value": cluster["metadata"]["name"]})
    # Where a node has no mount namespaces it rewrites values that name a mount path.
    env.append({"name": ENV_RUNTIME_DIR, "value": RUNTIME_PATH})
    env.append({"name": ENV_STATE_DIR, "value": STATE_PATH})
    if workspace.volume is not None:
        env.append({"name": ENV_WORKSPACE, "value": workspace.mount_path})
        limit = (spec.get("workspace") or {}).get("logLimitBytes")
        if limit is not None and limit != DEFAULT_LOG_LIMIT_BYTES:
            env.append({"name": ENV_LOG_LIMIT, "value": str(limit)})
    if spec.get("inlineOutputs"):
        env.append({"name": ENV_INLINE_OUTPUTS, "value": "1"})
    if settings.traces:
        env.append({"name": ENV_TRACES, "value": "1"})
    agent: dict[str, Any] = {
        "name": AGENT_CONTAINER,
        "command": ["taskctl", "agent"],
        "env": env,
        "volumeMounts": mounts,
    }
    if settings.metrics_port:
        address = {"fieldRef": {"fieldPath": "status.podIP"}}
        env.append({"name": ENV_POD_IP, "valueFrom": address})
        env.append({"name": ENV_METRICS_PORT, "value": str(settings.metrics_port)})
        port = {"name": METRICS_PORT_NAME, "containerPort": settings.metrics_port}
        agent["ports"] = [port | {"protocol": "TCP"}]
    resources = (spec.get("template") or {}).get("resources")
    if resources:
        agent["resources"] = resources
    return agent


def _volumes(cluster: Mapping[str, Any], workspace: WorkspaceVolume) -> list[dict[str, Any]]:
    spec = cluster["spec"]
    volumes: list[dict[str, Any]] = [
        {"name": RUNTIME_VOLUME, "emptyDir": {}},
        {"name": STATE_VOLUME, "emptyDir": {}},
        _token_volume(),
    ]
    if workspace.volume is not None:
        volumes.append(workspace.volume)
    return volumes + [dict(volume) for volume in spec.get("volumes") or ()]


def _token_volume() -> dict[str, Any]:
    # What Kubernetes' service-account admission would add by itself, at pod creation, under a
    # generated name, to all containers but ephemeral ones: here chosen ones mount it.
    token = {"path": "token", "expirationSeconds": _TOKEN_SECONDS}
    namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
    # Not optional: in a namespace made a moment ago it may yet have to come. The kubelet waits
    # for it; an agent without it fails, and is started again after ever longer pauses.
    authority = {
        "name": "kube-root-ca.crt",
        "items": [{"key": "ca.crt", "path": "ca.crt"}],
    }
    sources = [
        {"serviceAccountToken": token},
        {"downwardAPI": {"items": [namespace]}},
        {"configMap": authority},
    ]
    return {"name": TOKEN_VOLUME, "projected": {"sources": sources}}


def _affinity(
    cluster: Mapping[str, Any], given: Mapping[str, Any], sharing: Sharing
) -> dict[str, Any]:
    affinity = dict(given)
    if sharing is not Sharing.ONE_NODE:
        return affinity
    # A ReadWriteOnce claim can be mounted on one node: keep the workers together. The
    # scheduler lets the first pod pass, as it matches its own selector.
    selector = {"matchLabels": {LABEL_CLUSTER_UID: cluster["metadata"]["uid"]}}
    term = {"labelSelector": selector, "topologyKey": _HOSTNAME_KEY}
    pods = dict(affinity.get("podAffinity") or {})
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    pods[required] = [*(pods.get(required) or ()), term]
    affinity["podAffinity"] = pods
    return affinity


def _pod_security(cluster: Mapping[str, Any]) -> dict[str, Any]:
    """The restricted Pod Security Standard, wherever the template does not say otherwise."""
    given = (cluster["spec"].get("template") or {}).get("securityContext") or {}
    security: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    wants_root = given.get("runAsUser") == 0 or given.get("runAsNonRoot") is False
    if not wants_root:
        security["runAsNonRoot"] = True
        user = given.get("runAsUser", _USER)
        security |= {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    return security | dict(given)


def _container_security(pod_security: Mapping[str, Any]) -> dict[str, Any]:
    # Root without capabilities or privilege escalation is not what someone who asks for
    # root expects (chown, setuid helpers), so the container-level rules go with the user.
    if pod_security.get("runAsUser") == 0 or not pod_security.get("runAsNonRoot"):
        return {}
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
