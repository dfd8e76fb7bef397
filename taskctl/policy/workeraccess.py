"""The account that workers run as, and the binding that gives it an agent's rights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from taskctl.constants import LABEL_MANAGED_BY, WORKER_ACCOUNT

RBAC_GROUP: Final = "rbac.authorization.k8s.io"
_NAME_LIMIT: Final = 253
_HASH_CHARS: Final = 10
_LABELS: Final = {LABEL_MANAGED_BY: "taskctl"}


class RoleKind(StrEnum):
    """Where the role with an agent's rights is kept."""

    CLUSTER_ROLE = "ClusterRole"
    ROLE = "Role"


class WorkerAccess(StrEnum):
    """Who sees to the rights of workers."""

    MANAGE = "manage"  # the controller makes account and binding in each namespace
    NONE = "none"  # an administrator has made them


def worker_account(cluster: Mapping[str, Any]) -> str:
    """Return the name of the ServiceAccount that a TaskCluster's workers run as."""
    return str(cluster["spec"].get("serviceAccountName") or WORKER_ACCOUNT)


def binding_name(account: str) -> str:
    """Return the name of the RoleBinding of an account; a long one is cut, with a hash."""
    if account == WORKER_ACCOUNT:
        return WORKER_ACCOUNT
    name = f"{WORKER_ACCOUNT}-{account}"
    if len(name) <= _NAME_LIMIT:
        return name
    digest = hashlib.sha256(account.encode()).hexdigest()[:_HASH_CHARS]
    return f"{name[: _NAME_LIMIT - _HASH_CHARS - 1].rstrip('-.')}-{digest}"


def build_account(namespace: str) -> dict[str, Any]:
    """Return the ServiceAccount of workers whose TaskCluster names none."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": WORKER_ACCOUNT, "namespace": namespace, "labels": dict(_LABELS)},
        # Worker pods mount their token where it is needed.
        "automountServiceAccountToken": False,
    }


def build_binding(
    namespace: str, account: str, role: RoleKind = RoleKind.CLUSTER_ROLE
) -> dict[str, Any]:
    """Return the RoleBinding that gives an account an agent's rights in its namespace."""
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": {
            "name": binding_name(account),
            "namespace": namespace,
            "labels": dict(_LABELS),
        },
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": role.value, "name": WORKER_ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def binds_worker(binding: Mapping[str, Any], account: str) -> bool:
    """Whether a RoleBinding, ours or another in its place, gives the account its rights.

    A Role of that name is as good as the ClusterRole: a namespaced install has one.
    """
    namespace = binding["metadata"]["namespace"]
    return (binding.get("roleRef") or {}).get("name") == WORKER_ACCOUNT and any(
        subject.get("kind") == "ServiceAccount"
        and subject.get("name") == account
        and subject.get("namespace", namespace) == namespace
        for subject in binding.get("subjects") or ()
    )
