"""The controller's Deployment, and what belongs to it."""

from __future__ import annotations

from typing import Any, Final

from taskctl.install.options import InstallOptions, Scope
from taskctl.install.rights import (
    CONTROLLER,
    CONTROLLER_LABELS,
    CONTROLLER_SELECTOR,
    PART_LABELS,
)
from taskctl.policy.hostlist import ALLOW_OPTION
from taskctl.policy.workeraccess import WorkerAccess

Manifest = dict[str, Any]
_PORT: Final = 8080
_PORT_NAME: Final = "health"
# OpenTelemetry's default for a Prometheus exporter. A worker's containers share their ports.
WORKER_METRICS_PORT: Final = 9464
_USER: Final = 65532
# Work under way and the last Events get 10 s each (ManagerOptions.stop_grace_s), giving the
# Lease back 2 s.
_GRACE_S: Final = 30
# 60 MB when idle, 4 kB for each Task; 127 MB just after a start that met 10,000 of them. There
# is no limit: a controller that was killed at its limit would meet the same Tasks again.
_REQUESTS: Final = {"cpu": "100m", "memory": "128Mi"}


def namespace(options: InstallOptions) -> Manifest:
    """Return the Namespace that the controller lives in."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": options.namespace,
            "labels": PART_LABELS | {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }


def deployment(options: InstallOptions) -> Manifest:
    """Return the Deployment of the controllers: one leads, the others stand by."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(options),
        "spec": {
            "replicas": options.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": dict(CONTROLLER_SELECTOR)},
            # The old leader ends once the new pods have listed everything; it gives its Lease back.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": dict(CONTROLLER_LABELS)},
                "spec": _pod_spec(options),
            },
        },
    }


def disruption_budget(options: InstallOptions) -> Manifest:
    """Return the PodDisruptionBudget: one at a time; a single controller may be moved too."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(options),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": dict(CONTROLLER_SELECTOR)},
            # A controller that does not work must not hold up a node's drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def metrics_service(options: InstallOptions) -> Manifest:
    """Return the Service by which a monitoring system finds the metrics of each replica."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(options),
        "spec": {
            "clusterIP": "None",
            # Also of those that are not ready: that is when they are looked at.
            "publishNotReadyAddresses": True,
            "selector": dict(CONTROLLER_SELECTOR),
            "ports": [{"name": "metrics", "port": _PORT, "targetPort": _PORT_NAME}],
        },
    }


def _metadata(options: InstallOptions) -> Manifest:
    return {
        "name": CONTROLLER,
        "namespace": options.namespace,
        "labels": dict(CONTROLLER_LABELS),
    }


def _pod_spec(options: InstallOptions) -> Manifest:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(CONTROLLER_SELECTOR)},
        # Of the pods of one version: those on their way out should not count.
        "matchLabelKeys": ["pod-template-hash"],
    }
    return own_pod(CONTROLLER) | {
        "terminationGracePeriodSeconds": _GRACE_S,
        "topologySpreadConstraints": [spread],
        "containers": [_container(options)],
    }


def own_pod(account: str) -> Manifest:
    """Return what the pods of an installation have in common; they meet the level restricted."""
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def own_container(
    options: InstallOptions, name: str, command: list[str], arguments: list[str]
) -> Manifest:
    """Return what their containers have in common."""
    return {
        "name": name,
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "args": arguments,
        "env": [
            {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for variable, path in (
                ("POD_IP", "status.podIP"),
                ("POD_NAMESPACE", "metadata.namespace"),
            )
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _container(options: InstallOptions) -> Manifest:
    own = own_container(options, "controller", ["taskctl", "controller"], _arguments(options))
    return own | {
        "ports": [{"name": _PORT_NAME, "containerPort": _PORT, "protocol": "TCP"}],
        **health_probes(),
        "resources": {"requests": dict(_REQUESTS)},
    }


def one_replica(metadata: Manifest, spec: Manifest, **more: Any) -> Manifest:
    """Return a Deployment of one pod: its labels are the Deployment's, its name selects it.

    Args:
        metadata: of the Deployment.
        spec: of the pod.
        more: fields of the Deployment's spec.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            **more,
            "selector": {"matchLabels": {"app.kubernetes.io/name": metadata["name"]}},
            "template": {"metadata": {"labels": dict(metadata["labels"])}, "spec": spec},
        },
    }


def token_volume(secret: str, key: str) -> Manifest:
    """Return the volume ``token`` of a pod: one key of a Secret, as a file of that name."""
    return {
        "name": "token",
        "secret": {"secretName": secret, "items": [{"key": key, "path": key}]},
    }


def health_probes() -> Manifest:
    """Return the probes of a process that serves its health on the port of that name.

    Alive: the loop answers at all, within a minute, whatever the API server does. Ready: the caches
    are in step, also of a controller that stands by.
    """
    return {
        "startupProbe": _probe("/healthz", periodSeconds=2, failureThreshold=60),
        "livenessProbe": _probe("/healthz", periodSeconds=10, failureThreshold=6),
        "readinessProbe": _probe("/readyz", periodSeconds=5, failureThreshold=3),
    }


def _arguments(options: InstallOptions) -> list[str]:
    arguments = [
        # The pod's own address, whatever the IP family; loopback is out of a kubelet's reach.
        "--health-host=$(POD_IP)",
        f"--health-port={_PORT}",
        "--lease-namespace=$(POD_NAMESPACE)",
        f"--worker-image={options.image}",
        *([f"--worker-metrics-port={WORKER_METRICS_PORT}"] if options.monitoring else []),
        f"--run-clusters={options.run_clusters_mode}",
    ]
    arguments += [f"{ALLOW_OPTION}={host}" for host in options.notify_allow]
    if options.scope is Scope.NAMESPACE:
        arguments += ["--namespace=$(POD_NAMESPACE)", f"--worker-access={WorkerAccess.NONE}"]
    return arguments


def _probe(path: str, **times: int) -> Manifest:
    return {"httpGet": {"path": path, "port": _PORT_NAME}, "timeoutSeconds": 5, **times}
