"""The built-in kinds that this server stores, with the columns of Kubernetes' own printers.

Columns from kubernetes/kubernetes ``pkg/printers/internalversion/printers.go`` (1.34);
field selectors from the ``GetAttrs`` functions of the registries there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from taskctl.embedded.server.kinds import event_forms
from taskctl.embedded.server.kinds.model import Column, Conversion, Kind

_AGE: Final = Column("Age", description="Time since the object was created.")
_CREATED_AT: Final = Column("Created At", "date", description="When the object was created.")
_RBAC: Final = "rbac.authorization.k8s.io"
_NAMESPACED_FIELDS: Final = ("metadata.name", "metadata.namespace")


def _columns(*names: str, wide: tuple[str, ...] = ()) -> tuple[Column, ...]:
    shown = tuple(_AGE if name == "Age" else Column(name) for name in names)
    return shown + tuple(Column(name, priority=1) for name in wide)


def _namespaced(kind: str, plural: str, *fields: str, group: str = "") -> Kind:
    return Kind(
        group=group,
        version="v1",
        kind=kind,
        list_kind=f"{kind}List",
        plural=plural,
        singular=kind.lower(),
        selectable_fields=_NAMESPACED_FIELDS + fields,
        columns=(_AGE,),
        builtin=True,
    )


def _cluster_wide(kind: str, plural: str, *fields: str, group: str = "") -> Kind:
    made = _namespaced(kind, plural, group=group)
    return replace(made, namespaced=False, selectable_fields=("metadata.name", *fields))


_EVENT_FIELDS: Final = (
    "involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
    "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
    "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
)  # fmt: skip
_POD_FIELDS: Final = (
    "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
    "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
)  # fmt: skip
_BINDING_WIDE: Final = ("Users", "Groups", "ServiceAccounts")

_EVENT: Final = replace(
    _namespaced("Event", "events", *_EVENT_FIELDS),
    short_names=("ev",),
    # Events alone do not begin with their name.
    columns=(
        Column("Last Seen"),
        Column("Type"),
        Column("Reason"),
        Column("Object"),
        Column("Subobject", priority=1),
        Column("Source", priority=1),
        Column("Message"),
        Column("First Seen", priority=1),
        Column("Count", priority=1),
        Column("Name", format="name", priority=1),
    ),
)

_STORED: Final[tuple[Kind, ...]] = (
    replace(
        _cluster_wide("Namespace", "namespaces", "status.phase"),
        short_names=("ns",),
        subresources=frozenset({"status", "finalize"}),
        columns=_columns("Status", "Age"),
    ),
    replace(
        _namespaced("Pod", "pods", *_POD_FIELDS),
        short_names=("po",),
        categories=("all",),
        subresources=frozenset({"status", "log", "ephemeralcontainers", "binding", "eviction"})
        | {"exec", "attach", "portforward"},
        columns=_columns(
            "Ready",
            "Status",
            "Restarts",
            "Age",
            wide=("IP", "Node", "Nominated Node", "Readiness Gates"),
        ),
    ),
    replace(
        _cluster_wide("Node", "nodes", "spec.unschedulable"),
        short_names=("no",),
        subresources=frozenset({"status"}),
        columns=_columns(
            "Status",
            "Roles",
            "Age",
            "Version",
            wide=(
                "Internal-IP",
                "External-IP",
                "OS-Image",
                "Kernel-Version",
                "Container-Runtime",
            ),
        ),
    ),
    _EVENT,
    replace(
        _EVENT,
        group=event_forms.EVENTS_GROUP,
        selectable_fields=_NAMESPACED_FIELDS + tuple(event_forms.SELECTORS),
        conversion=Conversion("", event_forms.to_events, event_forms.to_core),
    ),
    replace(
        _namespaced("ConfigMap", "configmaps"),
        short_names=("cm",),
        columns=_columns("Data", "Age"),
    ),
    replace(_namespaced("Secret", "secrets", "type"), columns=_columns("Type", "Data", "Age")),
    replace(
        _namespaced("ServiceAccount", "serviceaccounts"),
        short_names=("sa",),
        subresources=frozenset({"token"}),
        columns=_columns("Secrets", "Age"),
    ),
    replace(
        _namespaced("PersistentVolumeClaim", "persistentvolumeclaims"),
        short_names=("pvc",),
        subresources=frozenset({"status"}),
        columns=_columns(
            "Status",
            "Volume",
            "Capacity",
            "Access Modes",
            "StorageClass",
            "VolumeAttributesClass",
            "Age",
            wide=("VolumeMode",),
        ),
    ),
    replace(
        _cluster_wide("PersistentVolume", "persistentvolumes"),
        short_names=("pv",),
        subresources=frozenset({"status"}),
        columns=_columns(
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
            "Age",
            wide=("VolumeMode",),
        ),
    ),
    replace(
        _namespaced("Lease", "leases", group="coordination.k8s.io"),
        columns=_columns("Holder", "Age"),
    ),
    replace(_namespaced("Role", "roles", group=_RBAC), columns=(_CREATED_AT,)),
    replace(
        _namespaced("RoleBinding", "rolebindings", group=_RBAC),
        columns=_columns("Role", "Age", wide=_BINDING_WIDE),
    ),
    replace(_cluster_wide("ClusterRole", "clusterroles", group=_RBAC), columns=(_CREATED_AT,)),
    replace(
        _cluster_wide("ClusterRoleBinding", "clusterrolebindings", group=_RBAC),
        columns=_columns("Role", "Age", wide=_BINDING_WIDE),
    ),
    replace(
        _cluster_wide("StorageClass", "storageclasses", group="storage.k8s.io"),
        short_names=("sc",),
        columns=_columns(
            "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"
        ),
    ),
    replace(
        _cluster_wide(
            "CustomResourceDefinition", "customresourcedefinitions", group="apiextensions.k8s.io"
        ),
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        subresources=frozenset({"status"}),
        columns=(_CREATED_AT,),
    ),
)


def _empty(
    group: str, kind: str, plural: str, *short: str, all_too: bool = False, version: str = "v1"
) -> Kind:
    return replace(
        _namespaced(kind, plural, group=group),
        version=version,
        short_names=short,
        categories=("all",) if all_too else (),
        read_only=True,
    )


# Clients list these beside what they are about: kubectl (prune, drain, describe), Ansible, IDEs
# and operators' informers. Here there are none, and an empty list is what they take for that.
_EMPTY: Final[tuple[Kind, ...]] = (
    _empty("", "Service", "services", "svc", all_too=True),
    _empty("", "Endpoints", "endpoints", "ep"),
    _empty("", "ReplicationController", "replicationcontrollers", "rc", all_too=True),
    _empty("", "LimitRange", "limitranges", "limits"),
    _empty("", "ResourceQuota", "resourcequotas", "quota"),
    _empty("", "PodTemplate", "podtemplates"),
    _empty("apps", "ControllerRevision", "controllerrevisions"),
    _empty("apps", "DaemonSet", "daemonsets", "ds", all_too=True),
    _empty("apps", "Deployment", "deployments", "deploy", all_too=True),
    _empty("apps", "ReplicaSet", "replicasets", "rs", all_too=True),
    _empty("apps", "StatefulSet", "statefulsets", "sts", all_too=True),
    _empty("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa"),
    _empty(
        "autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa",
        all_too=True, version="v2",
    ),
    _empty("batch", "CronJob", "cronjobs", "cj", all_too=True),
    _empty("batch", "Job", "jobs", all_too=True),
    _empty("discovery.k8s.io", "EndpointSlice", "endpointslices"),
    _empty("networking.k8s.io", "Ingress", "ingresses", "ing"),
    _empty("networking.k8s.io", "NetworkPolicy", "networkpolicies", "netpol"),
    _empty("policy", "PodDisruptionBudget", "poddisruptionbudgets", "pdb"),
)  # fmt: skip

BUILTINS: Final = _STORED + _EMPTY
