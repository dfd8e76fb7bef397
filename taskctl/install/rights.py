"""Accounts, roles and bindings."""

from __future__ import annotations

from typing import Any, Final

from taskctl.constants import WORKER_ACCOUNT
from taskctl.install import rules
from taskctl.install.options import InstallOptions, Scope
from taskctl.policy.workeraccess import RBAC_GROUP, RoleKind, build_account, build_binding

Manifest = dict[str, Any]
CONTROLLER: Final = "taskctl-controller"
PART_LABELS: Final = {"app.kubernetes.io/part-of": "taskctl"}
# Not app.kubernetes.io/managed-by: the controller takes pods that have it for workers.
CONTROLLER_SELECTOR: Final = {"app.kubernetes.io/name": CONTROLLER}
CONTROLLER_LABELS: Final = CONTROLLER_SELECTOR | PART_LABELS
NOTIFY: Final = "taskctl-notify"
_ELECTION: Final = "taskctl-leader-election"
_AGGREGATE: Final = "rbac.authorization.k8s.io/aggregate-to-"


def controller_rights(options: InstallOptions) -> list[Manifest]:
    """Return the controller's account, with what it may do."""
    namespace = options.namespace
    objects = [_controller_account(namespace)]
    if options.scope is Scope.CLUSTER:
        everywhere = [*rules.controller_rules(), *rules.node_rules(), *rules.access_rules()]
        objects += [
            role(RoleKind.CLUSTER_ROLE, CONTROLLER, everywhere),
            bind(RoleKind.CLUSTER_ROLE, CONTROLLER, namespace, everywhere=True),
            role(RoleKind.ROLE, _ELECTION, rules.election_rules(), namespace),
            bind(RoleKind.ROLE, _ELECTION, namespace),
        ]
    else:
        here = [*rules.controller_rules(), *rules.election_rules()]
        objects += [
            role(RoleKind.ROLE, CONTROLLER, here, namespace),
            bind(RoleKind.ROLE, CONTROLLER, namespace),
        ]
    return [*objects, *_notify_rights(options)] if options.notify_allow else objects


def _notify_rights(options: InstallOptions) -> list[Manifest]:
    """Return what lets the controller read keys, of an installation that sends notifications."""
    granted, namespace = rules.notify_rules(), options.namespace
    if options.scope is Scope.CLUSTER:
        return [
            role(RoleKind.CLUSTER_ROLE, NOTIFY, granted),
            bind(RoleKind.CLUSTER_ROLE, NOTIFY, namespace, everywhere=True),
        ]
    return [
        role(RoleKind.ROLE, NOTIFY, granted, namespace),
        bind(RoleKind.ROLE, NOTIFY, namespace),
    ]


def worker_rights(options: InstallOptions) -> list[Manifest]:
    """Return the role of workers; for one namespace also the account that has it."""
    if options.scope is Scope.CLUSTER:
        return [role(RoleKind.CLUSTER_ROLE, WORKER_ACCOUNT, rules.worker_rules())]
    namespace = options.namespace
    return [
        build_account(namespace),
        role(RoleKind.ROLE, WORKER_ACCOUNT, rules.worker_rules(), namespace),
        build_binding(namespace, WORKER_ACCOUNT, RoleKind.ROLE),
    ]


def people_rights() -> list[Manifest]:
    """Return the roles that add taskctl's kinds to Kubernetes' own `view`, `edit` and `admin`."""
    return [
        # `edit` includes `view`, and `admin` includes `edit`.
        role(RoleKind.CLUSTER_ROLE, "taskctl-view", rules.view_rules(), aggregate_to="view"),
        role(RoleKind.CLUSTER_ROLE, "taskctl-edit", rules.edit_rules(), aggregate_to="edit"),
    ]


def own_account(metadata: Manifest) -> Manifest:
    """Return the account of one of our pods, which ask for its token themselves."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata,
        "automountServiceAccountToken": False,
    }


def _controller_account(namespace: str) -> Manifest:
    labels = dict(CONTROLLER_LABELS)
    return own_account({"name": CONTROLLER, "namespace": namespace, "labels": labels})


def role(
    kind: RoleKind,
    name: str,
    granted: list[rules.Rule],
    namespace: str | None = None,
    *,
    aggregate_to: str = "",
) -> Manifest:
    """Return a role, of a namespace or cluster-wide."""
    labels = dict(PART_LABELS)
    if aggregate_to:
        labels[f"{_AGGREGATE}{aggregate_to}"] = "true"
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": kind.value,
        "metadata": _metadata(name, namespace, labels),
        "rules": granted,
    }


def bind(
    kind: RoleKind,
    name: str,
    namespace: str,
    *,
    everywhere: bool = False,
    account: str = CONTROLLER,
) -> Manifest:
    """Bind a role to an account of that namespace, there or everywhere."""
    return {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "ClusterRoleBinding" if everywhere else "RoleBinding",
        "metadata": _metadata(name, None if everywhere else namespace, dict(PART_LABELS)),
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": kind.value, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
    }


def _metadata(name: str, namespace: str | None, labels: dict[str, str]) -> Manifest:
    where = {} if namespace is None else {"namespace": namespace}
    return {"name": name, **where, "labels": labels}
