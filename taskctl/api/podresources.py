"""``TaskCluster.spec.template.podResources``: what all containers of a worker have together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taskctl.api.taskresources import Cpu, Memory, ResourceLimits, ResourceRequests, TaskResources


class PodRequests(ResourceRequests):
    """What the node keeps free for the worker."""


class PodLimits(ResourceLimits):
    """What the worker may use at most."""

    cpu: Annotated[
        Cpu | None,
        Field(description="CPUs that all tasks of the worker use together at most. Each task may "
                          "use all of them, and they share them evenly."),
    ] = None  # fmt: skip
    memory: Annotated[
        Memory | None,
        Field(
            description="Bytes that the worker and all its tasks hold together at most. With more "
            "the kernel kills a process: that task has failed with OOMKilled."
        ),
    ] = None


class PodResources(TaskResources):
    """CPU and memory of the whole pod of a worker (pod-level resources, Kubernetes 1.34)."""

    requests: Annotated[
        PodRequests | None,
        Field(description="What the node keeps free for the worker. Default: `limits`."),
    ] = None
    limits: Annotated[PodLimits | None, Field(description="What it may use at most.")] = None
