"""What Kubernetes' admission plugins add to a new pod.

After ``plugin/pkg/admission``: serviceaccount, priority, defaulttolerationseconds.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.storage.store import Store

PODS: Final = Resource("", "pods")
_SERVICE_ACCOUNTS: Final = Resource("", "serviceaccounts")
_TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
# One hour and seven seconds: by the odd number Kubernetes knows its own volumes.
_TOKEN_EXPIRY_S: Final = 3607
_NOT_READY: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATED_S: Final = 300
# The classes that every cluster has; others would have to be PriorityClass objects.
_PRIORITIES: Final = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2 * 10**9}


def admit(obj: Json, store: Store) -> None:
    """Complete a new pod.

    Args:
        obj: the pod, defaulted; is changed.
        store: everything else.

    Raises:
        errors.StatusError: 403, the service account or the priority class does not exist.
    """
    spec: Json = obj["spec"]
    _give_priority(obj, spec)
    give_tolerations(spec)
    account = _account(obj, spec, store)
    if spec.get("imagePullSecrets") is None and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = account["imagePullSecrets"]
    wanted = spec.get("automountServiceAccountToken")
    if wanted is None:
        wanted = account.get("automountServiceAccountToken")
    if wanted is not False:
        _mount_token(spec)


def _account(obj: Json, spec: Json, store: Store) -> Mapping[str, Any]:
    namespace = obj["metadata"]["namespace"]
    name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    record = store.get(_SERVICE_ACCOUNTS, namespace, name)
    if record is None:
        why = (
            f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not '
            "found"
        )
        raise errors.forbidden(PODS, obj["metadata"].get("name") or "", why)
    return record.load()


def _mount_token(spec: Json) -> None:
    """Mount a token into the init and regular containers that have nothing at its place."""
    volume = f"kube-api-access-{''.join(secrets.choice(_LETTERS) for _ in range(5))}"
    mount = {"name": volume, "readOnly": True, "mountPath": _TOKEN_PATH}
    mounted = False
    for name in ("initContainers", "containers"):
        for container in spec.get(name) or ():
            mounts = container.get("volumeMounts") or []
            if all(one.get("mountPath") != _TOKEN_PATH for one in mounts):
                container["volumeMounts"] = [*mounts, mount]
                mounted = True
    if mounted:
        spec["volumes"] = [*(spec.get("volumes") or ()), {"name": volume, **_token_volume()}]


_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"


def _token_volume() -> Json:
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "projected": {
            "sources": [
                {
                    "serviceAccountToken": {
                        "expirationSeconds": _TOKEN_EXPIRY_S,
                        "path": "token",
                    }
                },
                {
                    "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }
                },
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
            ],
            "defaultMode": 420,
        }
    }


def _give_priority(obj: Json, spec: Json) -> None:
    name = spec.get("priorityClassName") or ""
    if name and name not in _PRIORITIES:
        why = f"no PriorityClass with name {name} was found"
        raise errors.forbidden(PODS, obj["metadata"].get("name") or "", why)
    priority = _PRIORITIES.get(name, 0)
    if spec.get("priority", priority) != priority:
        why = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod "
            f"spec; priority admission controller computed {priority} from the given "
            "PriorityClass name"
        )
        raise errors.forbidden(PODS, obj["metadata"].get("name") or "", why)
    spec["priority"] = priority
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")


def give_tolerations(spec: Json) -> None:
    """Let the pod stay for five minutes on a node that is not ready."""
    tolerations: list[Json] = spec.setdefault("tolerations", [])
    for key in _NOT_READY:
        if not any(_tolerates(one, key) for one in tolerations):
            tolerations.append(
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _TOLERATED_S,
                }
            )


def _tolerates(toleration: Json, key: str) -> bool:
    return (toleration.get("key") or "") in ("", key) and toleration.get("effect") in (
        None,
        "",
        "NoExecute",
    )
