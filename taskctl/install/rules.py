"""Who may do what: the least that the code asks for.

tests/embedded/test_rights.py runs controller and agents under these rules and no others, and
fails if one of them is not needed any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from taskctl.api.notify import DEFAULT_SECRET
from taskctl.constants import GROUP, LEASE_NAME, WORKER_ACCOUNT
from taskctl.history.asking import PORT_NAME, SERVICE, TOKEN_SECRET
from taskctl.policy.workeraccess import RBAC_GROUP

Rule = dict[str, Any]
_CORE: Final = ""
_COORDINATION: Final = "coordination.k8s.io"
_KINDS: Final = ("tasks", "taskobjects", "taskclusters")
_SCALE: Final = "taskclusters/scale"
_STATUSES: Final = ("tasks/status", "taskclusters/status")


def _rule(
    group: str, resources: Sequence[str], verbs: Sequence[str], names: Sequence[str] = ()
) -> Rule:
    rule: Rule = {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}
    if names:
        rule["resourceNames"] = list(names)
    return rule


def controller_rules() -> list[Rule]:
    """Return what the controller does in the namespaces that it serves."""
    return [
        # `get`: before a worker is let go, whether its Tasks and TaskCluster are really gone.
        # `delete`: ttlSecondsAfterFinished.
        # `patch`: spec.cancel of what runs below a cancelled Task.
        # `create`: the tasks of a root that has some (spec.tasks).
        _rule(GROUP, ["tasks"], ["get", "list", "watch", "create", "patch", "delete"]),
        # `create`: that of a single run (`spec.cluster` of a root).
        _rule(GROUP, ["taskclusters"], ["get", "list", "watch", "create"]),
        _rule(GROUP, ["taskobjects"], ["list", "watch"]),
        _rule(GROUP, _STATUSES, ["patch"]),
        # Workers and claims name their TaskCluster as owner with blockOwnerDeletion, which
        # the admission plugin OwnerReferencesPermissionEnforcement asks this for.
        _rule(GROUP, ["taskclusters/finalizers"], ["update"]),
        # `patch`: the finalizer that keeps a worker until its tasks are accounted for.
        _rule(_CORE, ["pods"], ["get", "list", "watch", "create", "patch", "delete"]),
        _rule(_CORE, ["pods/ephemeralcontainers"], ["patch"]),
        # `patch`: whose a claim is, and what becomes of it; `delete`: that of a TaskCluster that
        # is gone.
        _rule(
            _CORE,
            ["persistentvolumeclaims"],
            ["get", "list", "watch", "create", "patch", "delete"],
        ),
        # What is handed to parked containers: a Lease for each worker, named after its pod.
        _rule(_COORDINATION, ["leases"], ["list", "watch", "create", "patch"]),
        # `list`: why a worker or a claim does not come up.
        _rule(_CORE, ["events"], ["create", "patch", "list"]),
    ]


def node_rules() -> list[Rule]:
    """Return what the controller needs to keep tasks off nodes that are to be emptied."""
    return [_rule(_CORE, ["nodes"], ["list", "watch"])]


def notify_rules() -> list[Rule]:
    """Return what the controller needs to sign notifications, where it may send any."""
    # Only the Secret of this name, without list and watch: RBAC cannot limit those to a name.
    return [_rule(_CORE, ["secrets"], ["get"], [DEFAULT_SECRET])]


def access_rules() -> list[Rule]:
    """Return what the controller needs to give workers their rights, and no others."""
    return [
        _rule(_CORE, ["serviceaccounts"], ["get", "create"]),
        _rule(RBAC_GROUP, ["rolebindings"], ["get", "create"]),
        _rule(RBAC_GROUP, ["clusterroles"], ["bind"], [WORKER_ACCOUNT]),
    ]


def election_rules() -> list[Rule]:
    """Return what the controllers need in their own namespace to agree on a leader."""
    return [
        _rule(_COORDINATION, ["leases"], ["get", "update"], [LEASE_NAME]),
        # A name cannot be demanded of what is not there yet.
        _rule(_COORDINATION, ["leases"], ["create"]),
    ]


def worker_rules() -> list[Rule]:
    """Return what an agent does in the namespace of its worker."""
    return [
        # `get`: its own pod, which holds what was placed there.
        _rule(_CORE, ["pods"], ["get"]),
        # What is handed to the parked containers of its pod. RBAC knows no names that come and
        # go, so those of other workers can be read too: they hold names of Tasks, no secrets.
        _rule(_COORDINATION, ["leases"], ["list", "watch"]),
        # `patch`: spec.cancel of a descendant that a task cancels.
        _rule(GROUP, ["tasks"], ["get", "list", "watch", "create", "patch"]),
        _rule(GROUP, ["tasks/status"], ["patch"]),
        # `get`: whether a child may be in another TaskCluster (`spec.peers`).
        _rule(GROUP, ["taskclusters"], ["get"]),
        # `delete`: an output takes the place of an earlier one of the same Task. `list`: results
        # of many children.
        _rule(GROUP, ["taskobjects"], ["get", "list", "create", "delete"]),
    ]


def view_rules() -> list[Rule]:
    """Return what people may do who may look."""
    return [
        _rule(GROUP, _KINDS, ["get", "list", "watch"]),
        _rule(GROUP, [*_STATUSES, _SCALE], ["get"]),
    ]


def page_rules() -> list[Rule]:
    """Return what the page in the cluster reads; it writes nothing."""
    return [
        _rule(GROUP, ["tasks", "taskclusters"], ["get", "list", "watch"]),
        # Of containers that are there; the copy in a workspace would take more than reading.
        _rule(_CORE, ["pods/log"], ["get"]),
    ]


def recorder_rules() -> list[Rule]:
    """Return what the recorder of the history reads; it writes nothing."""
    return [_rule(GROUP, ["tasks", "taskclusters"], ["get", "list", "watch"])]


def history_view_rules() -> list[Rule]:
    """Return what people need to read the history, of all namespaces that it is of."""
    return [
        # Of a Service's port, as the path of a request names it.
        _rule(_CORE, ["services/proxy"], ["get"], [f"{SERVICE}:{PORT_NAME}"]),
        _rule(_CORE, ["secrets"], ["get"], [TOKEN_SECRET]),
    ]


def edit_rules() -> list[Rule]:
    """Return what people may do who may also run things."""
    return [
        _rule(GROUP, _KINDS, ["create", "update", "patch", "delete", "deletecollection"]),
        _rule(GROUP, [_SCALE], ["update", "patch"]),
        # `taskctl retry` opens an ended Task again.
        _rule(GROUP, ["tasks/status"], ["patch"]),
    ]
