"""The recorder of the history: off unless it is asked for."""

from __future__ import annotations

from typing import Any, Final

from taskctl.history.asking import PORT_NAME, SERVICE, TOKEN_KEY, TOKEN_SECRET, VIEW_ROLE
from taskctl.install import rules
from taskctl.install.controller import (
    health_probes,
    one_replica,
    own_container,
    own_pod,
    token_volume,
)
from taskctl.install.options import InstallOptions, Scope
from taskctl.install.page import PAGE
from taskctl.install.rights import PART_LABELS, bind, own_account, role
from taskctl.policy.workeraccess import RoleKind

Manifest = dict[str, Any]
# Deployment, account, claim and Service are all called so.
HISTORY: Final = SERVICE
_SELECTOR: Final = {"app.kubernetes.io/name": HISTORY}
_LABELS: Final = _SELECTOR | PART_LABELS
_DIRECTORY: Final = "/var/lib/taskctl-history"
_TOKEN_DIRECTORY: Final = "/etc/taskctl-history"
_PORT: Final = 8081
_HEALTH_PORT: Final = 8080
_GROUP: Final = 65532
# The last lines get five seconds.
_GRACE_S: Final = 30
# As much as the page: it holds all Tasks as well.
_REQUESTS: Final = {"cpu": "20m", "memory": "128Mi"}


def history(options: InstallOptions) -> list[Manifest]:
    """Return everything of the recorder: account, rights, claim, Deployment, Service."""
    where = options.namespace
    everywhere = options.scope is Scope.CLUSTER
    kind = RoleKind.CLUSTER_ROLE if everywhere else RoleKind.ROLE
    objects = [
        own_account(_metadata(options)),
        role(kind, HISTORY, rules.recorder_rules(), None if everywhere else where),
        bind(kind, HISTORY, where, everywhere=everywhere, account=HISTORY),
        role(RoleKind.ROLE, VIEW_ROLE, rules.history_view_rules(), where),
        _claim(options),
        _deployment(options),
        _service(options),
    ]
    return [*objects, page_binding(options)] if options.page else objects


def page_binding(options: InstallOptions) -> Manifest:
    """Return what lets the page show what is gone."""
    return bind(RoleKind.ROLE, VIEW_ROLE, options.namespace, account=PAGE)


def _metadata(options: InstallOptions) -> Manifest:
    return {"name": HISTORY, "namespace": options.namespace, "labels": dict(_LABELS)}


def _claim(options: InstallOptions) -> Manifest:
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": options.history_storage}},
    }
    if options.history_storage_class:
        spec["storageClassName"] = options.history_storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(options),
        "spec": spec,
    }


def _deployment(options: InstallOptions) -> Manifest:
    spec = own_pod(HISTORY)
    # A new volume belongs to root; the kubelet gives it to this group.
    spec["securityContext"] |= {"fsGroup": _GROUP, "fsGroupChangePolicy": "OnRootMismatch"}
    spec |= {
        "terminationGracePeriodSeconds": _GRACE_S,
        "containers": [_container(options)],
        "volumes": [
            {"name": "history", "persistentVolumeClaim": {"claimName": HISTORY}},
            token_volume(TOKEN_SECRET, TOKEN_KEY),
        ],
    }
    # One node at a time may mount the claim, and one process at a time may write.
    return one_replica(_metadata(options), spec, strategy={"type": "Recreate"})


def _container(options: InstallOptions) -> Manifest:
    arguments = [
        f"--directory={_DIRECTORY}",
        f"--token-file={_TOKEN_DIRECTORY}/{TOKEN_KEY}",
        "--host=$(POD_IP)",
        f"--port={_PORT}",
        "--health-host=$(POD_IP)",
        f"--health-port={_HEALTH_PORT}",
        f"--history-size={options.history_mb}",
        f"--history-age={options.history_age}",
    ]
    if options.scope is Scope.NAMESPACE:
        arguments.append("--namespace=$(POD_NAMESPACE)")
    own = own_container(options, "recorder", ["taskctl", "recorder"], arguments)
    return own | {
        "ports": [
            {"name": PORT_NAME, "containerPort": _PORT, "protocol": "TCP"},
            {"name": "health", "containerPort": _HEALTH_PORT, "protocol": "TCP"},
        ],
        **health_probes(),
        "resources": {"requests": dict(_REQUESTS)},
        "volumeMounts": [
            {"name": "history", "mountPath": _DIRECTORY},
            {"name": "token", "mountPath": _TOKEN_DIRECTORY, "readOnly": True},
        ],
    }


def _service(options: InstallOptions) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(options),
        "spec": {
            "selector": dict(_SELECTOR),
            "ports": [
                {"name": PORT_NAME, "port": _PORT, "targetPort": PORT_NAME},
                {"name": "metrics", "port": _HEALTH_PORT, "targetPort": "health"},
            ],
        },
    }
