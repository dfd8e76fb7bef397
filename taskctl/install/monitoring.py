"""What an installation gives to Prometheus' operator and to Grafana."""

from __future__ import annotations

import json
from typing import Any, Final

from taskctl.constants import LABEL_CLUSTER_UID
from taskctl.install.history import HISTORY
from taskctl.install.options import InstallOptions, Scope
from taskctl.install.rights import CONTROLLER, CONTROLLER_LABELS
from taskctl.metrics.alerts import rule_groups
from taskctl.metrics.dashboard import build_dashboard
from taskctl.policy.workerpod import METRICS_PORT_NAME

Manifest = dict[str, Any]
_API: Final = "monitoring.coreos.com/v1"
DASHBOARD_FILE: Final = "taskctl.json"


def service_monitor(options: InstallOptions) -> Manifest:
    """Return the ServiceMonitor of the controllers, and of the recorder where there is one."""
    return {
        "apiVersion": _API,
        "kind": "ServiceMonitor",
        "metadata": _metadata(options, CONTROLLER),
        "spec": {
            "selector": {
                "matchExpressions": [
                    {
                        "key": "app.kubernetes.io/name",
                        "operator": "In",
                        "values": [CONTROLLER, HISTORY],
                    }
                ]
            },
            # Metrics have a label `namespace` of their own, that of the TaskCluster.
            "endpoints": [{"port": "metrics", "interval": "30s", "honorLabels": True}],
        },
    }


def pod_monitor(options: InstallOptions) -> Manifest:
    """Return the PodMonitor of the workers, in all namespaces that the controller serves."""
    spec: Manifest = {
        "selector": {"matchExpressions": [{"key": LABEL_CLUSTER_UID, "operator": "Exists"}]},
        "podMetricsEndpoints": [
            {"port": METRICS_PORT_NAME, "interval": "30s", "honorLabels": True},
        ],
    }
    if options.scope is Scope.CLUSTER:
        spec["namespaceSelector"] = {"any": True}
    return {
        "apiVersion": _API,
        "kind": "PodMonitor",
        "metadata": _metadata(options, "taskctl-workers"),
        "spec": spec,
    }


def prometheus_rule(options: InstallOptions) -> Manifest:
    """Return the alerts."""
    return {
        "apiVersion": _API,
        "kind": "PrometheusRule",
        "metadata": _metadata(options, "taskctl"),
        "spec": {"groups": rule_groups()},
    }


def dashboard(options: InstallOptions) -> Manifest:
    """Return the dashboard, in a ConfigMap that Grafana's sidecar finds by its label."""
    metadata = _metadata(options, "taskctl-dashboard")
    metadata["labels"] |= {"grafana_dashboard": "1"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {DASHBOARD_FILE: dashboard_json()},
    }


def dashboard_json() -> str:
    """Return the dashboard as Grafana imports it."""
    return json.dumps(build_dashboard(), indent=2) + "\n"


def monitoring(options: InstallOptions) -> list[Manifest]:
    """Return everything of this module."""
    return [
        service_monitor(options),
        pod_monitor(options),
        prometheus_rule(options),
        dashboard(options),
    ]


def _metadata(options: InstallOptions, name: str) -> Manifest:
    return {"name": name, "namespace": options.namespace, "labels": dict(CONTROLLER_LABELS)}
