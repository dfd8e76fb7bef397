"""Resources of a worker's whole pod, and what takes their place where a cluster has none.

``spec.resources`` of a Pod is on by default from Kubernetes 1.34 (KEP-2837). An API server without
it drops the field and says nothing. The kubelet limits the pod's cgroup by it, and each container
without limits of its own, ephemeral ones included (kuberuntime_container_linux.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskctl.constants import AGENT_CONTAINER
from taskctl.policy.resources import CPU, LIMITS, MEMORY, REQUESTS

_COUNTED: Final = (CPU, MEMORY)
POD_RESOURCES_MESSAGE: Final = (
    "This cluster has no pod-level resources (Kubernetes 1.34, feature gate PodLevelResources): "
    "the worker's main container requests what spec.template.podResources requests, and its limits "
    "do not hold for tasks."
)


def pod_resources(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the pod-level resources of a raw pod; None: it has none."""
    found: Mapping[str, Any] | None = pod["spec"].get("resources")
    return found or None


def on_the_agent(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return a worker's manifest for a cluster without pod-level resources.

    The agent's container requests what the pod was to request, so that the node keeps it free;
    nothing limits the tasks together. Limits of the agent alone could be lower than that.
    """
    wanted = pod_resources(pod)
    if wanted is None:
        return dict(pod)
    requests = {**(wanted.get(LIMITS) or {}), **(wanted.get(REQUESTS) or {})}
    spec = {key: value for key, value in pod["spec"].items() if key != "resources"}
    spec["containers"] = [
        container | {"resources": _agents(container.get("resources") or {}, requests)}
        if container["name"] == AGENT_CONTAINER
        else container
        for container in spec["containers"]
    ]
    return {**pod, "spec": spec}


def _agents(own: Mapping[str, Any], requests: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resources of the agent's container; others than CPU and memory stay."""
    result = {key: value for key, value in own.items() if key not in (REQUESTS, LIMITS)}
    result[REQUESTS] = {**(own.get(REQUESTS) or {}), **requests}
    limits = {
        name: value for name, value in (own.get(LIMITS) or {}).items() if name not in _COUNTED
    }
    if limits:
        result[LIMITS] = limits
    return result
