"""``TaskCluster.spec.template``: what the worker pods get besides what taskctl needs."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, field_validator

from taskctl.api import meta, podparts
from taskctl.api.meta import Name, SpecModel
from taskctl.api.podresources import PodResources
from taskctl.constants import GROUP, LABEL_MANAGED_BY

_OUR_PREFIX: Final = f"{GROUP}/"
RESERVED_MESSAGE: Final = (
    f"keys that begin with {_OUR_PREFIX}, and {LABEL_MANAGED_BY}, are taskctl's own; choose others"
)
_NOT_RESERVED: Final = (
    f"self.all(key, !key.startsWith('{_OUR_PREFIX}') && key != '{LABEL_MANAGED_BY}')"
)
# IsQualifiedName in k8s.io/apimachinery pkg/util/validation.
_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY: Final = re.compile(rf"(?:{meta.DNS_SUBDOMAIN[1:-1]}/)?{_NAME}")


class PullPolicy(StrEnum):
    """``imagePullPolicy`` of a container."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class WorkerTemplate(SpecModel):
    """Parts of the worker pods that are passed on to Kubernetes as they stand."""

    labels: Annotated[
        dict[str, Annotated[str, Field(max_length=meta.MAX_LABEL, pattern=meta.LABEL_VALUE)]]
        | None,
        Field(
            max_length=50,
            description="Labels of the worker pods.",
            json_schema_extra=meta.validations(meta.cel(_NOT_RESERVED, RESERVED_MESSAGE)),
        ),
    ] = None
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=meta.MAX_TEXT)]] | None,
        Field(
            max_length=50,
            description="Annotations of the worker pods.",
            json_schema_extra=meta.validations(meta.cel(_NOT_RESERVED, RESERVED_MESSAGE)),
        ),
    ] = None
    priority_class_name: Annotated[
        Name | None, Field(description="PriorityClass of the worker pods.")
    ] = None
    runtime_class_name: Annotated[
        Name | None, Field(description="RuntimeClass of the worker pods.")
    ] = None
    image_pull_policy: Annotated[
        PullPolicy | None,
        Field(
            description=(
                "When the node pulls the images of workers and tasks. Default IfNotPresent. With "
                "Always, a task can start only while the registry answers."
            )
        ),
    ] = None
    topology_spread_constraints: Annotated[
        list[podparts.TopologySpreadConstraint] | None,
        Field(
            max_length=20,
            description=(
                "How to spread the workers over nodes and zones. A constraint without a "
                "`labelSelector` counts the workers of this TaskCluster. Default: workers that "
                "share a ReadWriteMany claim are spread over nodes where possible; an empty list "
                "switches that off."
            ),
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None

    node_selector: Annotated[
        dict[str, Annotated[str, Field(max_length=meta.MAX_LABEL)]] | None,
        Field(max_length=50, description="Labels that a worker's node must have."),
    ] = None
    tolerations: Annotated[
        list[podparts.Toleration] | None,
        Field(
            max_length=50,
            description="Taints of nodes that the workers tolerate.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    affinity: Annotated[podparts.Affinity | None, Field(description="As in a pod's spec.")] = None
    resources: Annotated[
        podparts.ResourceRequirements | None,
        Field(
            description="`requests` and `limits` of the worker's main container. Ephemeral "
            "containers cannot have their own, so requests should cover the tasks too; "
            "`podResources` is better where the cluster has it."
        ),
    ] = None
    pod_resources: Annotated[
        PodResources | None,
        Field(
            description="CPU and memory of the whole pod (pod-level resources, from Kubernetes "
            "1.34): the limits hold for the worker and all its tasks together. Where the cluster "
            "has no such thing, the requests become those of the main container, and there is no "
            "limit."
        ),
    ] = None
    security_context: Annotated[
        podparts.PodSecurityContext | None,
        Field(
            description="Security context of the pod. What is not set here gets the values of "
            "the restricted Pod Security Standard."
        ),
    ] = None
    image_pull_secrets: Annotated[
        list[podparts.LocalObjectReference] | None,
        Field(
            max_length=50,
            description="Secrets to pull the images of workers and tasks with.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None

    @field_validator("labels", "annotations")
    @classmethod
    def _keys_are_theirs(cls, given: dict[str, str] | None) -> dict[str, str] | None:
        for key in given or ():
            if key.startswith(_OUR_PREFIX) or key == LABEL_MANAGED_BY:
                raise ValueError(RESERVED_MESSAGE)
            if not _KEY.fullmatch(key):
                raise ValueError(
                    f"{key!r} is not a label key; write NAME or DOMAIN/NAME, with letters, digits, "
                    "'-', '_' and '.'"
                )
        return given
