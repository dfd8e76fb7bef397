"""Raw objects for policy tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from taskctl.policy.podview import PodView
from taskctl.policy.view import TaskView, parse_task

NOW = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
CREATED = "2030-01-01T11:00:00Z"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def raw_task(
    name: str = "t",
    *,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """A Task as the API server delivers it."""
    return {
        "apiVersion": "taskctl.dev/v1alpha1",
        "kind": "Task",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": f"uid-{name}",
            "generation": 3,
            "resourceVersion": "42",
            "creationTimestamp": CREATED,
        }
        | metadata,
        "spec": {"clusterName": "c", "image": "img", "command": ["run"]} | (spec or {}),
        "status": {"state": "Pending", "observedGeneration": 3} | (status or {}),
    }


def view(name: str = "t", **parts: Any) -> TaskView:
    return parse_task(raw_task(name, **parts))


def running(attempt: int = 1, **status: Any) -> dict[str, Any]:
    """The status of a Task that runs in container ``k`` on pod ``w-1``."""
    return {
        "state": "Running",
        "attempt": attempt,
        "podName": "w-1",
        "podUID": "pod-1",
        "containerName": "k",
        "times": {"started": "2030-01-01T11:59:00.000000Z"},
    } | status


def child(name: str, root: str = "root", **parts: Any) -> dict[str, Any]:
    lineage = {
        "task": name,
        "root": root,
        "rootUID": f"uid-{root}",
        "parent": root,
        "parentUID": f"uid-{root}",
        "depth": 1,
        "key": name,
    }
    spec = {"lineage": lineage} | (parts.pop("spec", None) or {})
    return raw_task(
        name,
        spec=spec,
        labels={
            "taskctl.dev/root": root,
            "taskctl.dev/root-uid": f"uid-{root}",
            "taskctl.dev/parent-uid": f"uid-{root}",
        },
        annotations={"taskctl.dev/parent": root, "taskctl.dev/depth": "1"},
        ownerReferences=[{"kind": "Task", "name": root, "uid": f"uid-{root}"}],
        **parts,
    )


def raw_cluster(name: str = "c", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "generation": 1},
        "spec": {"replicas": 1} | spec,
    }


def pod_view(serial: int, **fields: Any) -> PodView:
    values: dict[str, Any] = {
        "namespace": "ns",
        "name": f"w-{serial}",
        "uid": f"pod-{serial}",
        "cluster_uid": "uid-c",
        "created": at(-60),
        "deletion": None,
        "dead": False,
        "agent_running": True,
        "template": "T",
        "problem": "",
    }
    return PodView(**values | fields)


def merged(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply an RFC 7386 merge patch."""
    result = dict(target)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = merged(old if isinstance(old, dict) else {}, value)
        else:
            result[key] = value
    return result


def written(task: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The Task after a status patch."""
    return task | {"status": merged(task["status"], patch)}


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
