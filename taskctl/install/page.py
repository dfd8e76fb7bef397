"""The page as a Service: off unless it is asked for, and read-only."""

from __future__ import annotations

from typing import Any, Final

from taskctl.install import rules
from taskctl.install.controller import (
    one_replica,
    own_container,
    own_pod,
    token_volume,
)
from taskctl.install.options import InstallOptions, Scope
from taskctl.install.rights import PART_LABELS, bind, own_account, role
from taskctl.policy.workeraccess import RoleKind

Manifest = dict[str, Any]
PAGE: Final = "taskctl-page"
PAGE_SELECTOR: Final = {"app.kubernetes.io/name": PAGE}
PAGE_LABELS: Final = PAGE_SELECTOR | PART_LABELS
# The user who installs makes it: every reader of a manifest would know a token in it.
TOKEN_SECRET: Final = PAGE
TOKEN_KEY: Final = "token"
_TOKEN_DIRECTORY: Final = "/etc/taskctl-page"
_PORT: Final = 8080
_PORT_NAME: Final = "page"
# 55 MB when idle; 110 MB just after a start that met 7,500 Tasks.
_REQUESTS: Final = {"cpu": "20m", "memory": "128Mi"}


def page(options: InstallOptions) -> list[Manifest]:
    """Return everything of the page: account, rights, Deployment, Service."""
    where = options.namespace
    everywhere = options.scope is Scope.CLUSTER
    kind = RoleKind.CLUSTER_ROLE if everywhere else RoleKind.ROLE
    return [
        own_account(_metadata(options)),
        role(kind, PAGE, rules.page_rules(), None if everywhere else where),
        bind(kind, PAGE, where, everywhere=everywhere, account=PAGE),
        _deployment(options),
        _service(options),
    ]


def _metadata(options: InstallOptions) -> Manifest:
    return {"name": PAGE, "namespace": options.namespace, "labels": dict(PAGE_LABELS)}


def _deployment(options: InstallOptions) -> Manifest:
    spec = own_pod(PAGE) | {
        "containers": [_container(options)],
        "volumes": [token_volume(TOKEN_SECRET, TOKEN_KEY)],
    }
    # A browser keeps to one server: its session holds for all, its stream for one.
    return one_replica(_metadata(options), spec)


def _container(options: InstallOptions) -> Manifest:
    arguments = [
        "--listen=$(POD_IP)",
        "--listen=127.0.0.1",  # kubectl port-forward comes from there
        f"--port={_PORT}",
        f"--token-file={_TOKEN_DIRECTORY}/{TOKEN_KEY}",
    ]
    if options.scope is Scope.CLUSTER:
        arguments.append("--all-namespaces")
    else:
        arguments.append("--namespace=$(POD_NAMESPACE)")
    arguments += [f"--origin={origin}" for origin in options.page_origins]
    # The server answers to its own names only, and a kubelet asks by the pod's address.
    probe = {
        "httpGet": {
            "path": "/",
            "port": _PORT_NAME,
            "httpHeaders": [{"name": "Host", "value": f"localhost:{_PORT}"}],
        },
        "timeoutSeconds": 5,
    }
    return own_container(options, "page", ["taskctl", "ui"], arguments) | {
        "ports": [{"name": _PORT_NAME, "containerPort": _PORT, "protocol": "TCP"}],
        "startupProbe": probe | {"periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": probe | {"periodSeconds": 10, "failureThreshold": 6},
        "readinessProbe": probe | {"periodSeconds": 5, "failureThreshold": 3},
        "resources": {"requests": dict(_REQUESTS)},
        "volumeMounts": [{"name": "token", "mountPath": _TOKEN_DIRECTORY, "readOnly": True}],
    }


def _service(options: InstallOptions) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(options),
        "spec": {
            "selector": dict(PAGE_SELECTOR),
            "ports": [{"name": _PORT_NAME, "port": _PORT, "targetPort": _PORT_NAME}],
        },
    }
