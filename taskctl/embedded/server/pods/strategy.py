"""Pods: defaults, checks, and what may change when.

After Kubernetes ``pkg/apis/core/v1/defaults.go``, ``pkg/apis/core/validation/validation.go`` and
``pkg/registry/core/pod/strategy.go``; only what a node without images, network and cgroups can
tell apart is kept. The sentences are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from taskctl.clock import format_seconds
from taskctl.embedded.server.pods import admission, container_fields, containers, gates, volumes
from taskctl.embedded.server.pods.containers import NAMED_LISTS, VolumeNames, semantic
from taskctl.embedded.server.refusals import errors, fields
from taskctl.embedded.server.refusals.errors import Json, Resource
from taskctl.embedded.server.refusals.fields import FieldError
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.strategies.strategy import Strategy, keep_old
from taskctl.embedded.server.values import meta

PODS: Final = admission.PODS
_MIRROR_ANNOTATION: Final = "kubernetes.io/config.mirror"
_DEFAULT_GRACE_S: Final = 30
# Go leaves these out where they are false.
_FLAGS: Final = ("hostNetwork", "hostPID", "hostIPC")
_MAX_DEADLINE_S: Final = 2**31 - 1

_UPDATABLE: Final = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


class PodStrategy(Strategy):
    """Pods."""

    returns_deleted = True
    graceful = True

    def prepare_create(self, obj: Json) -> None:
        """Set defaults; a new pod is Pending, whatever the client says."""
        obj["metadata"]["generation"] = 1
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            spec = obj["spec"] = {}
        set_defaults(spec)
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}

    def prepare_update(self, obj: Json, old: Json) -> None:
        """Keep the status; count changes of the spec."""
        obj["status"] = old["status"]
        if isinstance(obj.get("spec"), dict):
            set_defaults(obj["spec"])
            admission.give_tolerations(obj["spec"])
        _count_change(obj, old)

    def prepare_status(self, obj: Json, old: Json) -> None:
        """Keep the spec, the owners and the QoS class."""
        super().prepare_status(obj, old)
        obj["metadata"]["generation"] = old["metadata"].get("generation", 1)
        status = obj.get("status")
        if isinstance(status, dict):
            status["qosClass"] = old["status"].get("qosClass")

    def prepare_ephemeral(self, obj: Json, old: Json) -> None:
        """Keep everything but ``spec.ephemeralContainers``; labels cannot ride along."""
        spec = obj.get("spec")
        wanted = spec.get("ephemeralContainers") if isinstance(spec, dict) else None
        keep_old(obj, old)
        obj["spec"] = dict(old["spec"])
        obj["spec"].pop("ephemeralContainers", None)
        if wanted:
            for entry in containers.fresh(wanted, old["spec"].get("ephemeralContainers")):
                containers.set_defaults(entry)
            obj["spec"]["ephemeralContainers"] = wanted
        _count_change(obj, old)

    def admit_create(self, obj: Json, store: Store, now: str) -> None:
        """Give the pod its service account, which must exist, and what else admission gives.

        Raises:
            errors.StatusError: 403.
        """
        admission.admit(obj, store)
        if obj["spec"].get("schedulingGates"):
            obj["status"]["conditions"] = [gates.condition(now)]

    def check_create(self, obj: Json) -> list[FieldError]:
        """Check the spec; ephemeral containers come later."""
        found = check_spec(obj["spec"]) + gates.check_create(obj["spec"])
        if obj["spec"].get("ephemeralContainers"):
            found.append(fields.forbidden("spec.ephemeralContainers", "cannot be set on create"))
        return found

    def check_update(self, obj: Json, old: Json) -> list[FieldError]:
        """Only a few fields of a pod's spec may change (ValidatePodUpdate)."""
        found = check_spec(obj["spec"])
        if found:
            return found
        spec, before = dict(obj["spec"]), dict(old["spec"])
        for name in ("containers", "initContainers"):
            now, then = spec.get(name) or [], before.get(name) or []
            if len(now) != len(then):
                message = "pod updates may not add or remove containers"
                return [fields.forbidden(f"spec.{name}", message)]
            if now:
                spec[name] = [
                    {**new, "image": was.get("image")} for new, was in zip(now, then, strict=True)
                ]
        found += _check_deadline(spec, before)
        found += _check_tolerations(spec, before)
        found += gates.check_update(spec, before)
        for name in ("activeDeadlineSeconds", "tolerations"):
            spec.pop(name, None)
            before.pop(name, None)
        if semantic(spec) != semantic(before):
            changed = sorted(
                name
                for name in {*spec, *before}
                if semantic(spec.get(name)) != semantic(before.get(name))
            )
            message = (
                f"pod updates may not change fields other than {_UPDATABLE}\n"
                f"changed: {', '.join(changed)}"
            )
            found.append(fields.forbidden("spec", message))
        return found

    def check_ephemeral(self, obj: Json, old: Json) -> list[FieldError]:
        """Only additions are allowed (ValidatePodEphemeralContainersUpdate)."""
        if _MIRROR_ANNOTATION in (old["metadata"].get("annotations") or {}):
            message = "static pods do not support ephemeral containers"
            return [fields.forbidden("", message)]
        found = containers.check_ephemeral(
            obj["spec"], old["spec"].get("ephemeralContainers") or []
        )
        found += containers.check_append_only(
            obj["spec"].get("ephemeralContainers") or [],
            old["spec"].get("ephemeralContainers") or [],
        )
        return found

    def check_status(self, obj: Json, old: Json) -> list[FieldError]:
        """A container that has ended stays ended, unless the pod restarts it."""
        status, before = obj.get("status") or {}, old.get("status") or {}
        policy = old["spec"].get("restartPolicy", "Always")
        found = _check_ended(status, before, "containerStatuses", policy)
        found += _check_ended(status, before, "ephemeralContainerStatuses", "Never")
        return found

    def grace_s(self, obj: Json, asked_s: int | None) -> int:
        """Return the grace period: none for a pod that no node runs (podStrategy)."""
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
            return 0
        if asked_s is not None:
            return asked_s
        grace_s = spec.get("terminationGracePeriodSeconds")
        return int(grace_s) if grace_s is not None else _DEFAULT_GRACE_S


def _count_change(obj: Json, old: Json) -> None:
    generation = old["metadata"].get("generation", 1)
    obj["metadata"]["generation"] = generation + (obj.get("spec") != old.get("spec"))


def set_defaults(spec: Json) -> None:
    """Fill in a pod spec as Kubernetes does."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("terminationGracePeriodSeconds", _DEFAULT_GRACE_S)
    grace_s = spec["terminationGracePeriodSeconds"]
    if isinstance(grace_s, int) and grace_s < 0:
        spec["terminationGracePeriodSeconds"] = 1
    for name in _FLAGS:
        if spec.get(name) is False:
            del spec[name]
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("securityContext", {})
    for name in NAMED_LISTS:
        for container in _dicts(spec.get(name)):
            containers.set_defaults(container)
    for volume in _dicts(spec.get("volumes")):
        _set_volume_defaults(volume)


def _set_volume_defaults(volume: Json) -> None:
    for name in ("secret", "configMap", "downwardAPI", "projected"):
        source = volume.get(name)
        if isinstance(source, dict):
            source.setdefault("defaultMode", 420)
            _set_field_versions(source)
    projected = volume.get("projected")
    for source in _dicts(projected.get("sources") if isinstance(projected, dict) else None):
        token = source.get("serviceAccountToken")
        if isinstance(token, dict):
            token.setdefault("expirationSeconds", 3600)
        if isinstance(source.get("downwardAPI"), dict):
            _set_field_versions(source["downwardAPI"])
    if isinstance(volume.get("hostPath"), dict):
        volume["hostPath"].setdefault("type", "")
    if len(volume) == 1 and "name" in volume:
        volume["emptyDir"] = {}


def _set_field_versions(source: Json) -> None:
    for item in _dicts(source.get("items")):
        if isinstance(item.get("fieldRef"), dict):
            item["fieldRef"].setdefault("apiVersion", "v1")


def _dicts(value: Any) -> Iterator[Json]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


def qos_class(spec: Json) -> str:
    """Return Guaranteed, Burstable or BestEffort (``pkg/apis/core/v1/helper/qos``)."""
    any_set, guaranteed = False, True
    for name in ("containers", "initContainers"):
        for container in _dicts(spec.get(name)):
            resources: Json = container.get("resources") or {}
            limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
            for unit in ("cpu", "memory"):
                any_set = any_set or unit in limits or unit in requests
                if unit not in limits or requests.get(unit, limits[unit]) != limits[unit]:
                    guaranteed = False
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def check_spec(spec: Any) -> list[FieldError]:
    """Check a defaulted pod spec."""
    if not isinstance(spec, dict):
        return [fields.required("spec")]
    found, names = volumes.check_volumes(spec)
    found += containers.check_containers(spec, VolumeNames.of(spec, names))
    for name, supported in (
        ("restartPolicy", ("Always", "OnFailure", "Never")),
        ("dnsPolicy", ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")),
    ):
        if spec[name] not in supported:
            found.append(fields.not_supported(f"spec.{name}", spec[name], supported))
    for key, value in (spec.get("nodeSelector") or {}).items():
        found += meta.label_faults("spec.nodeSelector", key, value)
    found += container_fields.check_security(spec["securityContext"], "spec.securityContext")
    for name, problems_of in (
        ("nodeName", meta.subdomain_problems),
        ("hostname", meta.label_problems),
        ("subdomain", meta.label_problems),
    ):
        text = spec.get(name)
        if text:
            found += [fields.invalid(f"spec.{name}", text, one) for one in problems_of(text)]
    deadline_s = spec.get("activeDeadlineSeconds")
    if deadline_s is not None and not 1 <= deadline_s <= _MAX_DEADLINE_S:
        message = f"must be between 1 and {_MAX_DEADLINE_S}, inclusive"
        found.append(fields.invalid("spec.activeDeadlineSeconds", deadline_s, message))
    for index, toleration in enumerate(_dicts(spec.get("tolerations"))):
        operator = toleration.get("operator") or "Equal"
        if operator not in ("Equal", "Exists"):
            where = f"spec.tolerations[{index}].operator"
            found.append(fields.not_supported(where, operator, ("Equal", "Exists")))
    return found + gates.check(spec)


def _check_deadline(spec: Json, before: Json) -> list[FieldError]:
    path = "spec.activeDeadlineSeconds"
    now, then = spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
    if then is not None and now is None:
        return [fields.invalid(path, now, "must not update from a positive integer to nil value")]
    if then is not None and now > then:
        return [fields.invalid(path, now, "must be less than or equal to previous value")]
    return []


def _check_tolerations(spec: Json, before: Json) -> list[FieldError]:
    def keys(tolerations: list[Json] | None) -> set[bytes]:
        # tolerationSeconds may change, the rest of an existing toleration may not.
        return {
            orjson.dumps({**one, "tolerationSeconds": None}, option=orjson.OPT_SORT_KEYS)
            for one in tolerations or ()
        }

    if keys(before.get("tolerations")) <= keys(spec.get("tolerations")):
        return []
    message = "existing toleration can not be modified except its tolerationSeconds"
    return [fields.forbidden("spec.tolerations", message)]


def _check_ended(status: Json, before: Json, name: str, policy: str) -> list[FieldError]:
    if policy == "Always":
        return []
    now = {s.get("name"): s.get("state") or {} for s in _dicts(status.get(name))}
    found = []
    for index, old in enumerate(_dicts(before.get(name))):
        ended = (old.get("state") or {}).get("terminated")
        if not ended or (policy == "OnFailure" and ended.get("exitCode")):
            continue
        state = now.get(old.get("name"))
        if state is not None and not state.get("terminated"):
            message = "may not be transitioned to non-terminated state"
            found.append(fields.forbidden(f"status.{name}[{index}].state", message))
    return found


def bind(record: Record, binding: Json, now: Any) -> Json:
    """Return the pod bound to the node that a Binding names.

    Args:
        record: the pod.
        binding: the Binding object.
        now: time of the decision.

    Raises:
        errors.StatusError: 409, the pod has a node already or is being deleted; 400.
    """
    target = binding.get("target")
    node = target.get("name") if isinstance(target, dict) else None
    if not node:
        raise errors.unclassified("target.name: Required value")
    if isinstance(target, dict) and target.get("kind") not in (None, "", "Node"):
        problem = fields.not_supported("target.kind", target["kind"], ["Node", "<empty>"])
        raise errors.unclassified(str(problem))
    uid = (binding.get("metadata") or {}).get("uid")
    obj = record.load()
    name = record.name
    where = Resource("", "pods/binding")
    if uid and uid != record.uid:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {record.uid}"
        raise errors.conflict(PODS, name, why)
    if record.deleting:
        raise errors.conflict(
            where, name, f"pod {name} is being deleted, cannot be assigned to a host"
        )
    current = obj["spec"].get("nodeName")
    if current:
        raise errors.conflict(where, name, f'pod {name} is already assigned to node "{current}"')
    gates.refuse_binding(name, obj["spec"])
    obj["spec"]["nodeName"] = node
    annotations = (binding.get("metadata") or {}).get("annotations")
    if annotations:
        obj["metadata"].setdefault("annotations", {}).update(annotations)
    status: Json = obj["status"]
    conditions = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    conditions.append(
        {
            "type": "PodScheduled",
            "status": "True",
            "lastTransitionTime": format_seconds(now),
        }
    )
    status["conditions"] = conditions
    return obj
