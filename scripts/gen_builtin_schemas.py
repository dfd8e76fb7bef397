"""Generate taskctl/embedded/server/kinds/data/builtin_schemas.json.

Shapes, required fields and descriptions come from kubernetes_asyncio's models, which are
themselves generated from Kubernetes' OpenAPI document. Three things are not in the models and
stand in tables here: how lists merge (struct tags of k8s.io/api), defaults
(kubernetes/kubernetes pkg/apis/core/v1/defaults.go), and which strings are quantities.

Usage: python scripts/gen_builtin_schemas.py [--check]
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import kubernetes_asyncio.client.models as models

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts.definitions import reachable

JSON = dict[str, Any]

TARGET: Final = (
    Path(__file__).parents[1]
    / "taskctl"
    / "embedded"
    / "server"
    / "kinds/data/builtin_schemas.json"
)

# apiVersion/kind → model.
KINDS: Final = {
    "v1/Namespace": "V1Namespace",
    "v1/Pod": "V1Pod",
    "v1/Node": "V1Node",
    "v1/Event": "CoreV1Event",
    "events.k8s.io/v1/Event": "EventsV1Event",
    "v1/ConfigMap": "V1ConfigMap",
    "v1/Secret": "V1Secret",
    "v1/ServiceAccount": "V1ServiceAccount",
    "v1/PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "v1/PersistentVolume": "V1PersistentVolume",
    "coordination.k8s.io/v1/Lease": "V1Lease",
    "rbac.authorization.k8s.io/v1/Role": "V1Role",
    "rbac.authorization.k8s.io/v1/RoleBinding": "V1RoleBinding",
    "rbac.authorization.k8s.io/v1/ClusterRole": "V1ClusterRole",
    "rbac.authorization.k8s.io/v1/ClusterRoleBinding": "V1ClusterRoleBinding",
    "storage.k8s.io/v1/StorageClass": "V1StorageClass",
    "autoscaling/v1/Scale": "V1Scale",
    "apiextensions.k8s.io/v1/CustomResourceDefinition": "V1CustomResourceDefinition",
}
META: Final = frozenset(
    {
        "V1ObjectMeta", "V1OwnerReference", "V1ManagedFieldsEntry", "V1LabelSelector",
        "V1LabelSelectorRequirement", "V1Condition", "V1ListMeta",
    }
)  # fmt: skip
PACKAGES: Final = (
    (re.compile(r"^(RbacV1Subject|V1(Cluster)?Role.*|V1PolicyRule|V1AggregationRule)$"), "rbac"),
    (re.compile(r"^V1Lease"), "coordination"),
    (re.compile(r"^EventsV1"), "events"),
    (re.compile(r"^V1Scale(Spec|Status)?$"), "autoscaling"),
    (re.compile(r"^V1StorageClass"), "storage"),
    (re.compile(r"^V1(CustomResource|JSONSchema|SelectableField|ValidationRule|Webhook"
                r"|ExternalDocumentation|ServiceReference)"), "apiextensions"),
)  # fmt: skip

# "Model.field" → (strategic merge key, keys of the list map). One of the two may be empty.
MAP_LISTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "Container.ports": ("containerPort", ("containerPort", "protocol")),
    "Container.env": ("name", ("name",)),
    "Container.volumeMounts": ("mountPath", ("mountPath",)),
    "Container.volumeDevices": ("devicePath", ("devicePath",)),
    "ContainerStatus.volumeMounts": ("mountPath", ("mountPath",)),
    "ContainerStatus.allocatedResourcesStatus": ("name", ("name",)),
    "CustomResourceDefinitionStatus.conditions": ("", ("type",)),
    "EphemeralContainer.ports": ("containerPort", ("containerPort", "protocol")),
    "EphemeralContainer.env": ("name", ("name",)),
    "EphemeralContainer.volumeMounts": ("mountPath", ("mountPath",)),
    "EphemeralContainer.volumeDevices": ("devicePath", ("devicePath",)),
    "NamespaceStatus.conditions": ("type", ("type",)),
    "NodeStatus.addresses": ("type", ("type",)),
    "NodeStatus.conditions": ("type", ("type",)),
    "ObjectMeta.ownerReferences": ("uid", ("uid",)),
    "PersistentVolumeClaimStatus.conditions": ("type", ("type",)),
    "PodSpec.containers": ("name", ("name",)),
    "PodSpec.ephemeralContainers": ("name", ("name",)),
    "PodSpec.hostAliases": ("ip", ("ip",)),
    "PodSpec.imagePullSecrets": ("name", ("name",)),
    "PodSpec.initContainers": ("name", ("name",)),
    "PodSpec.resourceClaims": ("name", ("name",)),
    "PodSpec.schedulingGates": ("name", ("name",)),
    "PodSpec.topologySpreadConstraints": ("topologyKey", ("topologyKey", "whenUnsatisfiable")),
    "PodSpec.volumes": ("name", ("name",)),
    "PodStatus.conditions": ("type", ("type",)),
    "PodStatus.hostIPs": ("ip", ()),
    "PodStatus.podIPs": ("ip", ("ip",)),
    "PodStatus.resourceClaimStatuses": ("name", ("name",)),
    "ResourceRequirements.claims": ("", ("name",)),
    "ResourceStatus.resources": ("", ("resourceID",)),
    "ServiceAccount.secrets": ("name", ("name",)),
}
# "Model.field" → merged as a set of scalars by strategic merge as well as by apply.
SET_LISTS: Final = frozenset({"ObjectMeta.finalizers", "NodeSpec.podCIDRs"})
RETAIN_KEYS: Final = frozenset(
    {"PodSpec.volumes", "PodSpec.resourceClaims", "PodStatus.resourceClaimStatuses"}
)
ATOMIC_STRUCTS: Final = frozenset(
    {
        "ConfigMapKeySelector", "FileKeySelector", "LabelSelector", "LocalObjectReference",
        "NodeSelector", "NodeSelectorTerm", "ObjectFieldSelector", "ObjectReference",
        "OwnerReference", "ResourceFieldSelector", "RoleRef", "SecretKeySelector",
        "SecretReference", "Subject", "TopologySelectorTerm", "TypedLocalObjectReference",
    }
)  # fmt: skip
ATOMIC_FIELDS: Final = frozenset({"PodSpec.nodeSelector"})

DEFAULTS: Final[dict[str, Any]] = {
    "ConfigMapVolumeSource.defaultMode": 420,
    "Container.resources": {},
    "Container.terminationMessagePath": "/dev/termination-log",
    "Container.terminationMessagePolicy": "File",
    "ContainerPort.protocol": "TCP",
    "DownwardAPIVolumeSource.defaultMode": 420,
    "EphemeralContainer.resources": {},
    "EphemeralContainer.terminationMessagePath": "/dev/termination-log",
    "EphemeralContainer.terminationMessagePolicy": "File",
    "HTTPGetAction.path": "/",
    "HTTPGetAction.scheme": "HTTP",
    "HostPathVolumeSource.type": "",
    "ObjectFieldSelector.apiVersion": "v1",
    "PersistentVolumeClaimSpec.volumeMode": "Filesystem",
    "PersistentVolumeSpec.persistentVolumeReclaimPolicy": "Retain",
    "PersistentVolumeSpec.volumeMode": "Filesystem",
    "PodSpec.dnsPolicy": "ClusterFirst",
    "PodSpec.enableServiceLinks": True,
    "PodSpec.restartPolicy": "Always",
    "PodSpec.schedulerName": "default-scheduler",
    "PodSpec.securityContext": {},
    "PodSpec.terminationGracePeriodSeconds": 30,
    "Probe.failureThreshold": 3,
    "Probe.periodSeconds": 10,
    "Probe.successThreshold": 1,
    "Probe.timeoutSeconds": 1,
    "ProjectedVolumeSource.defaultMode": 420,
    "Secret.type": "Opaque",
    "SecretVolumeSource.defaultMode": 420,
    "ServiceAccountTokenProjection.expirationSeconds": 3600,
    "StorageClass.reclaimPolicy": "Delete",
    "StorageClass.volumeBindingMode": "Immediate",
}
ENUMS: Final[dict[str, list[str]]] = {
    "Container.imagePullPolicy": ["Always", "IfNotPresent", "Never"],
    "Container.terminationMessagePolicy": ["FallbackToLogsOnError", "File"],
    "EphemeralContainer.imagePullPolicy": ["Always", "IfNotPresent", "Never"],
    "EphemeralContainer.terminationMessagePolicy": ["FallbackToLogsOnError", "File"],
    "PersistentVolumeClaimSpec.volumeMode": ["Block", "Filesystem"],
    "PodSpec.restartPolicy": ["Always", "Never", "OnFailure"],
}
# The models describe fields but not types; these are the ones that people ask about first.
DESCRIPTIONS: Final[dict[str, str]] = {
    "Affinity": "Affinity is a group of affinity scheduling rules.",
    "ClusterRole": "ClusterRole is a set of PolicyRules for the whole cluster.",
    "ClusterRoleBinding": "ClusterRoleBinding gives a ClusterRole to subjects.",
    "ConfigMap": "ConfigMap holds configuration data for pods to consume.",
    "ConfigMapKeySelector": "Selects a key from a ConfigMap.",
    "Container": "A single application container that you want to run within a pod.",
    "ContainerPort": "ContainerPort represents a network port in a single container.",
    "ContainerState": "ContainerState holds a possible state of container: one of its members.",
    "ContainerStatus": "ContainerStatus contains details for the current status of this container.",
    "CustomResourceDefinition": "CustomResourceDefinition represents a resource that should be "
    "exposed on the API server. Its name MUST be in the format <.spec.name>.<.spec.group>.",
    "EnvVar": "EnvVar represents an environment variable present in a Container.",
    "EnvVarSource": "EnvVarSource represents a source for the value of an EnvVar.",
    "EphemeralContainer": "An EphemeralContainer is a temporary container that you may add to an "
    "existing Pod. It has no resource or scheduling guarantees, will not be restarted when it "
    "exits, and cannot be removed.",
    "Event": "Event is a report of an event somewhere in the cluster.",
    "Lease": "Lease defines a lease concept.",
    "LeaseSpec": "LeaseSpec is a specification of a Lease.",
    "Namespace": "Namespace provides a scope for Names.",
    "Node": "Node is a worker node in Kubernetes.",
    "NodeStatus": "NodeStatus is information about the current status of a node.",
    "ObjectFieldSelector": "ObjectFieldSelector selects a field of the object.",
    "ObjectMeta": "ObjectMeta is metadata that all persisted resources must have, which includes "
    "all objects users must create.",
    "PersistentVolume": "PersistentVolume is a storage resource provisioned by an administrator.",
    "PersistentVolumeClaim": "PersistentVolumeClaim is a user's request for and claim to a "
    "persistent volume.",
    "Pod": "Pod is a collection of containers that can run on a host.",
    "PodSpec": "PodSpec is a description of a pod.",
    "PodStatus": "PodStatus represents information about the status of a pod.",
    "Probe": "Probe describes a health check to be performed against a container.",
    "ResourceRequirements": "ResourceRequirements describes the compute resource requirements.",
    "Role": "Role is a set of PolicyRules within a namespace.",
    "RoleBinding": "RoleBinding gives a Role or ClusterRole to subjects within a namespace.",
    "Secret": "Secret holds secret data of a certain type.",
    "SecretKeySelector": "SecretKeySelector selects a key of a Secret.",
    "SecurityContext": "SecurityContext holds security configuration of a container.",
    "ServiceAccount": "ServiceAccount binds a name, understood by users and systems, to "
    "authentication and authorization.",
    "StorageClass": "StorageClass describes the parameters for a class of storage.",
    "Volume": "Volume represents a named volume in a pod that may be accessed by its containers.",
    "VolumeMount": "VolumeMount describes a mounting of a Volume within a container.",
}
QUANTITIES: Final = frozenset(
    {
        "allocatable", "allocatedResources", "capacity", "divisor", "hard", "limits", "overhead",
        "requests", "sizeLimit", "tokenBucket", "used",
    }
)  # fmt: skip
INT_OR_STRING: Final = frozenset({"HTTPGetAction.port", "TCPSocketAction.port"})
BYTES: Final = frozenset({"Secret.data", "ConfigMap.binaryData"})
ANY: Final[JSON] = {"x-kubernetes-preserve-unknown-fields": True}


class Generator:
    """Walks the models from the kinds downwards."""

    def __init__(self) -> None:
        self.definitions: dict[str, JSON] = {}

    def add(self, model_name: str) -> str:
        """Add a model and all below it; return the definition's name."""
        name = definition_name(model_name)
        if name in self.definitions:
            return name
        model = getattr(models, model_name)
        out: JSON = {"type": "object"}
        self.definitions[name] = out
        short = short_name(model_name)
        if short in DESCRIPTIONS:
            out["description"] = DESCRIPTIONS[short]
        properties, required = {}, []
        for attribute, field in sorted(model.attribute_map.items(), key=lambda pair: pair[1]):
            properties[field] = self.field(model, short, attribute, field)
            if is_required(model, attribute):
                required.append(field)
        out["properties"] = properties
        if required:
            out["required"] = required
        if short in ATOMIC_STRUCTS:
            out["x-kubernetes-map-type"] = "atomic"
        return name

    def field(self, model: Any, short: str, attribute: str, field: str) -> JSON:
        """Return the schema of one field."""
        key = f"{short}.{field}"
        out = self.value(model.openapi_types[attribute], field)
        if key in INT_OR_STRING:
            out = {"x-kubernetes-int-or-string": True}
        if key in BYTES:
            out["additionalProperties"] = {"type": "string", "format": "byte"}
        if key in MAP_LISTS:
            merge_key, keys = MAP_LISTS[key]
            out["x-kubernetes-list-type"] = "map" if keys else "atomic"
            if keys:
                out["x-kubernetes-list-map-keys"] = list(keys)
            if merge_key:
                retain = ",retainKeys" if key in RETAIN_KEYS else ""
                out["x-kubernetes-patch-strategy"] = f"merge{retain}"
                out["x-kubernetes-patch-merge-key"] = merge_key
        elif key in SET_LISTS:
            out["x-kubernetes-list-type"] = "set"
            out["x-kubernetes-patch-strategy"] = "merge"
        elif out.get("type") == "array":
            out["x-kubernetes-list-type"] = "atomic"
        if key in ATOMIC_FIELDS:
            out["x-kubernetes-map-type"] = "atomic"
        if key in DEFAULTS:
            out["default"] = DEFAULTS[key]
        if key in ENUMS:
            out["enum"] = ENUMS[key]
        if text := describe(model, attribute):
            out["description"] = text
        return out

    def value(self, kind: str, field: str) -> JSON:
        """Translate ``list[V1Container]``, ``dict(str, str)``, ``datetime`` and the like."""
        if found := re.fullmatch(r"list\[(.*)\]", kind):
            return {"type": "array", "items": self.value(found.group(1), field)}
        if found := re.fullmatch(r"dict\(str, (.*)\)", kind):
            below = self.value(found.group(1), field)
            return {"type": "object", "additionalProperties": below}
        match kind:
            case "str" if field in QUANTITIES:
                return {"type": "string", "format": "quantity"}
            case "str":
                return {"type": "string"}
            case "int":
                return {"type": "integer"}
            case "float":
                return {"type": "number"}
            case "bool":
                return {"type": "boolean"}
            case "datetime":
                return {"type": "string", "format": "date-time"}
            case "object":
                return dict(ANY)
        return {"$ref": f"#/definitions/{self.add(kind)}"}


def short_name(model_name: str) -> str:
    """Return Kubernetes' name of a model: ``V1Pod`` → ``Pod``."""
    return re.sub(r"^(Core|Rbac|Storage|Events|Apiextensions)?V1", "", model_name)


def definition_name(model_name: str) -> str:
    """Return the name in Kubernetes' OpenAPI document."""
    short = short_name(model_name)
    if model_name in META:
        return f"io.k8s.apimachinery.pkg.apis.meta.v1.{short}"
    for pattern, package in PACKAGES:
        if pattern.match(model_name) or model_name.startswith(package.capitalize()):
            if package == "apiextensions":
                return f"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.{short}"
            return f"io.k8s.api.{package}.v1.{short}"
    return f"io.k8s.api.core.v1.{short}"


def describe(model: Any, attribute: str) -> str:
    """Return the description in a property's doc string."""
    lines = (inspect.getdoc(getattr(model, attribute)) or "").splitlines()[1:]
    text = " ".join(line.replace("# noqa: E501", "").strip() for line in lines)
    return re.sub(r"\s+", " ", text.split(":return:")[0]).strip()


def is_required(model: Any, attribute: str) -> bool:
    """A setter refuses None exactly where the field is required."""
    source = inspect.getsource(getattr(model, attribute).fset)
    return "must not be `None`" in source


def generate() -> str:
    """Return the file's text."""
    generator = Generator()
    kinds = {kind: generator.add(model) for kind, model in KINDS.items()}
    for kind, name in kinds.items():
        group_version, _, short = kind.rpartition("/")
        group, _, version = group_version.rpartition("/")
        generator.definitions[name]["x-kubernetes-group-version-kind"] = [
            {"group": group, "version": version, "kind": short}
        ]
        # Real servers drop a missing spec or metadata in silence: Go fills in zero values.
        generator.definitions[name].pop("required", None)
    schema = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
    generator.definitions[schema] = {
        "type": "object",
        "description": "JSONSchemaProps is a JSON-Schema following Specification Draft 4 "
        "(http://json-schema.org/).",
        **ANY,
    }
    used = reachable(
        kinds.values(), lambda name: references(generator.definitions[name])
    )  # fmt: skip
    content = {
        "kinds": kinds,
        "definitions": {name: generator.definitions[name] for name in sorted(used)},
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def references(definition: JSON) -> list[str]:
    """Return the names of the definitions that one refers to itself."""
    return re.findall(r'"#/definitions/([^"]+)"', json.dumps(definition))


def main() -> int:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the file is out of date")
    text = generate()
    if parser.parse_args().check:
        if TARGET.read_text() != text:
            print(f"{TARGET} is out of date: run python scripts/gen_builtin_schemas.py")
            return 1
        return 0
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
