"""The cells of built-in kinds, wide columns included.

Each function mirrors its namesake in kubernetes/kubernetes
``pkg/printers/internalversion/printers.go`` (1.32).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from taskctl.embedded.server.tables.humanize import UNKNOWN, since

JSON = dict[str, Any]
Cell = str | int | float | bool | None

_NONE: Final = "<none>"
_UNSET: Final = "<unset>"
_MODES: Final = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_DEFAULT_CLASS: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_ROLE_PREFIX: Final = "node-role.kubernetes.io/"

POD_CONDITIONS: Final = {
    "Succeeded": [
        {
            "type": "Completed",
            "status": "True",
            "reason": "Succeeded",
            "message": "The pod has completed successfully.",
        }
    ],
    "Failed": [
        {
            "type": "Completed",
            "status": "True",
            "reason": "Failed",
            "message": "The pod failed.",
        }
    ],
}


def _at(obj: JSON, *path: str) -> Any:
    value: Any = obj
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _name(obj: JSON) -> str:
    return str(_at(obj, "metadata", "name") or "")


def _age(obj: JSON, now: datetime) -> str:
    return since(_at(obj, "metadata", "creationTimestamp"), now)


# --- pods ---------------------------------------------------------------------------


def _pod(obj: JSON, now: datetime) -> list[Cell]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    inits = {one["name"]: one for one in spec.get("initContainers") or ()}
    sidecars = {name for name, one in inits.items() if one.get("restartPolicy") == "Always"}
    tally = _Tally(str(status.get("reason") or status.get("phase") or ""))
    for condition in status.get("conditions") or ():
        gated = condition.get("reason") == "SchedulingGated"
        if condition.get("type") == "PodScheduled" and gated:
            tally.reason = "SchedulingGated"
    initializing = tally.add_inits(status.get("initContainerStatuses") or (), sidecars, len(inits))
    if not initializing or _condition(status, "Initialized"):
        tally.add_containers(status)
    if obj["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            tally.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            tally.reason = "Terminating"
    restarts = str(tally.restarts)
    if tally.restarts and tally.last_restart:
        restarts = f"{tally.restarts} ({since(tally.last_restart, now)} ago)"
    total = len(spec.get("containers") or ()) + len(sidecars)
    ready = f"{tally.ready}/{total}"
    return [
        _name(obj), ready, tally.reason, restarts, _age(obj, now), *_pod_wide(spec, status)
    ]  # fmt: skip


class _Tally:
    """Counts over a pod's containers."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.ready = 0
        self.restarts = 0
        self.last_restart = ""
        self._sidecar_restarts = 0
        self._sidecar_last = ""

    def add_inits(self, statuses: Any, sidecars: set[str], total: int) -> bool:
        """Add the init containers; return whether the pod is still at them."""
        for index, one in enumerate(statuses):
            self._count(one)
            sidecar = one.get("name") in sidecars
            if sidecar:
                self._sidecar_restarts += one.get("restartCount") or 0
                self._sidecar_last = max(self._sidecar_last, _last_end(one))
            state = one.get("state") or {}
            ended, waiting = state.get("terminated"), state.get("waiting") or {}
            if ended is not None and not ended.get("exitCode"):
                continue
            if sidecar and one.get("started"):
                self.ready += bool(one.get("ready"))
                continue
            if ended is not None:
                self.reason = f"Init:{_end_reason(ended)}"
            elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
                self.reason = f"Init:{waiting['reason']}"
            else:
                self.reason = f"Init:{index}/{total}"
            return True
        return False

    def add_containers(self, status: JSON) -> None:
        """Add the regular containers; the first one's reason wins."""
        self.restarts, self.last_restart = self._sidecar_restarts, self._sidecar_last
        running = False
        for one in reversed(status.get("containerStatuses") or ()):
            self._count(one)
            state = one.get("state") or {}
            waiting, ended = state.get("waiting") or {}, state.get("terminated")
            if waiting.get("reason"):
                self.reason = waiting["reason"]
            elif ended is not None:
                self.reason = _end_reason(ended)
            elif one.get("ready") and state.get("running") is not None:
                running = True
                self.ready += 1
        if self.reason == "Completed" and running:
            self.reason = "Running" if _condition(status, "Ready") else "NotReady"

    def _count(self, one: JSON) -> None:
        self.restarts += one.get("restartCount") or 0
        self.last_restart = max(self.last_restart, _last_end(one))


def _last_end(status: JSON) -> str:
    return str(_at(status, "lastState", "terminated", "finishedAt") or "")


def _end_reason(ended: JSON) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    if ended.get("signal"):
        return f"Signal:{ended['signal']}"
    return f"ExitCode:{ended.get('exitCode', 0)}"


def _condition(status: JSON, kind: str) -> bool:
    return any(
        one.get("type") == kind and one.get("status") == "True"
        for one in status.get("conditions") or ()
    )


def _pod_wide(spec: JSON, status: JSON) -> list[Cell]:
    addresses = status.get("podIPs") or [{}]
    gates = [one.get("conditionType") for one in spec.get("readinessGates") or ()]
    passed = sum(1 for gate in gates if _condition(status, gate))
    return [
        addresses[0].get("ip") or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        f"{passed}/{len(gates)}" if gates else _NONE,
    ]


# --- other core kinds -----------------------------------------------------------------


def _namespace(obj: JSON, now: datetime) -> list[Cell]:
    return [_name(obj), _at(obj, "status", "phase") or "", _age(obj, now)]


def _node(obj: JSON, now: datetime) -> list[Cell]:
    ready = [
        one.get("status")
        for one in _at(obj, "status", "conditions") or ()
        if one.get("type") == "Ready"
    ]
    words = ["Ready" if one == "True" else "NotReady" for one in ready] or ["Unknown"]
    if _at(obj, "spec", "unschedulable"):
        words.append("SchedulingDisabled")
    info = _at(obj, "status", "nodeInfo") or {}
    return [
        _name(obj),
        ",".join(words),
        _node_roles(_at(obj, "metadata", "labels") or {}),
        _age(obj, now),
        info.get("kubeletVersion") or "",
        _address(obj, "InternalIP"),
        _address(obj, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _node_roles(labels: JSON) -> str:
    roles = {key.removeprefix(_ROLE_PREFIX) for key in labels if key.startswith(_ROLE_PREFIX)}
    roles.add(labels.get("kubernetes.io/role", ""))
    return ",".join(sorted(roles - {""})) or _NONE


def _address(obj: JSON, kind: str) -> str:
    for one in _at(obj, "status", "addresses") or ():
        if one.get("type") == kind:
            return str(one.get("address") or _NONE)
    return _NONE


def _event(obj: JSON, now: datetime) -> list[Cell]:
    series, source = obj.get("series") or {}, obj.get("source") or {}
    started = obj.get("firstTimestamp") or obj.get("eventTime")
    seen = series.get("lastObservedTime") or obj.get("lastTimestamp") or started
    target = obj.get("involvedObject") or {}
    kind = str(target.get("kind") or "").lower()
    named = f"{kind}/{target['name']}" if target.get("name") else kind
    origin = [source.get("component") or obj.get("reportingComponent"), source.get("host")]
    return [
        since(seen, now),
        obj.get("type") or "",
        obj.get("reason") or "",
        named,
        target.get("fieldPath") or "",
        ", ".join(one for one in origin if one),
        str(obj.get("message") or "").strip(),
        since(started, now),
        series.get("count") or obj.get("count") or 1,
        _name(obj),
    ]


def _config_map(obj: JSON, now: datetime) -> list[Cell]:
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [_name(obj), count, _age(obj, now)]


def _secret(obj: JSON, now: datetime) -> list[Cell]:
    return [_name(obj), obj.get("type") or "", len(obj.get("data") or ()), _age(obj, now)]


def _service_account(obj: JSON, now: datetime) -> list[Cell]:
    return [_name(obj), len(obj.get("secrets") or ()), _age(obj, now)]


def _modes(names: Any) -> str:
    return ",".join(_MODES.get(one, one) for one in dict.fromkeys(names or ()))


def _phase(obj: JSON) -> str:
    if _at(obj, "metadata", "deletionTimestamp"):
        return "Terminating"
    return str(_at(obj, "status", "phase") or "")


def _claim(obj: JSON, now: datetime) -> list[Cell]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    volume = spec.get("volumeName") or ""
    capacity = _at(status, "capacity", "storage") if volume else None
    return [
        _name(obj),
        _phase(obj),
        volume,
        str(capacity or ""),
        _modes(status.get("accessModes")) if volume else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or _UNSET,
        _age(obj, now),
        spec.get("volumeMode") or _UNSET,
    ]


def _volume(obj: JSON, now: datetime) -> list[Cell]:
    spec = obj.get("spec") or {}
    claim = spec.get("claimRef") or {}
    return [
        _name(obj),
        str(_at(spec, "capacity", "storage") or ""),
        _modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace')}/{claim.get('name')}" if claim else "",
        spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or _UNSET,
        _at(obj, "status", "reason") or "",
        _age(obj, now),
        spec.get("volumeMode") or _UNSET,
    ]


# --- other groups ---------------------------------------------------------------------


def _lease(obj: JSON, now: datetime) -> list[Cell]:
    return [_name(obj), _at(obj, "spec", "holderIdentity") or "", _age(obj, now)]


def _created_at(obj: JSON, now: datetime) -> list[Cell]:
    return [_name(obj), _at(obj, "metadata", "creationTimestamp") or UNKNOWN]


def _binding(obj: JSON, now: datetime) -> list[Cell]:
    role = obj.get("roleRef") or {}
    users, groups, accounts = [], [], []
    for one in obj.get("subjects") or ():
        match one.get("kind"):
            case "User":
                users.append(one.get("name", ""))
            case "Group":
                groups.append(one.get("name", ""))
            case "ServiceAccount":
                accounts.append(f"{one.get('namespace', '')}/{one.get('name', '')}")
    return [
        _name(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        _age(obj, now),
        ", ".join(users),
        ", ".join(groups),
        ", ".join(accounts),
    ]


def _storage_class(obj: JSON, now: datetime) -> list[Cell]:
    notes = _at(obj, "metadata", "annotations") or {}
    default = any(notes.get(one) == "true" for one in _DEFAULT_CLASS)
    return [
        f"{_name(obj)} (default)" if default else _name(obj),
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        _age(obj, now),
    ]


CELLS: Final[dict[str, Callable[[JSON, datetime], list[Cell]]]] = {
    "ClusterRole": _created_at,
    "ClusterRoleBinding": _binding,
    "ConfigMap": _config_map,
    "CustomResourceDefinition": _created_at,
    "Event": _event,
    "Lease": _lease,
    "Namespace": _namespace,
    "Node": _node,
    "PersistentVolume": _volume,
    "PersistentVolumeClaim": _claim,
    "Pod": _pod,
    "Role": _created_at,
    "RoleBinding": _binding,
    "Secret": _secret,
    "ServiceAccount": _service_account,
    "StorageClass": _storage_class,
}
