"""CPU and memory of a task, and of the workers that it may run on.

Kubernetes gives an ephemeral container no resources (the API server refuses the field), so taskctl
counts them itself: what the tasks of a worker request may not exceed what the worker's own template
reserves on its node. What the template leaves open is not counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from taskctl.quantity import parse_quantity

CPU: Final = "cpu"
MEMORY: Final = "memory"
REQUESTS: Final = "requests"
LIMITS: Final = "limits"
# Quantities have no upper bound; sums of what is counted stay far below what is "not counted".
_MOST: Final = 2**60


@dataclass(frozen=True, slots=True, order=True)
class Amount:
    """CPU and memory.

    Attributes:
        cpu_milli: thousandths of a CPU.
        memory_bytes: bytes of memory.
    """

    cpu_milli: int = 0
    memory_bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpu_milli + other.cpu_milli, self.memory_bytes + other.memory_bytes)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.cpu_milli - other.cpu_milli, self.memory_bytes - other.memory_bytes)

    def times(self, count: int) -> Amount:
        """Return so many of it."""
        return Amount(self.cpu_milli * count, self.memory_bytes * count)

    def within(self, room: Amount) -> bool:
        """Whether there is room for it. What it does not ask for needs no room."""
        return all(want == 0 or want <= have for want, have in _pairs(self, room))

    def times_in(self, room: Amount, most: int) -> int:
        """Return how often it has room, ``most`` at most."""
        return min([most, *(max(have, 0) // want for want, have in _pairs(self, room) if want)])

    def shortfall(self, room: Amount, capacity: Amount) -> float:
        """Return what is missing for it to have room, as the larger share of the capacity."""
        shares = (
            (want - have) / max(whole, 1)
            for (want, have), whole in zip(
                _pairs(self, room), (capacity.cpu_milli, capacity.memory_bytes), strict=True
            )
            if want
        )
        return max(shares, default=-1.0)


NOTHING: Final = Amount()
# The capacity of a worker whose template names none.
UNCOUNTED: Final = Amount(2**62, 2**62)


def _pairs(one: Amount, other: Amount) -> tuple[tuple[int, int], tuple[int, int]]:
    return (one.cpu_milli, other.cpu_milli), (one.memory_bytes, other.memory_bytes)


def requested(spec: Mapping[str, Any]) -> Amount:
    """Return what a Task's spec, with the defaults of its TaskCluster, asks of a worker.

    As in Kubernetes a limit without a request is the request, too.
    """
    resources = spec.get("resources")
    if not resources:
        return NOTHING
    return Amount(
        _milli(_first(resources, CPU, REQUESTS, LIMITS)),
        _bytes(_first(resources, MEMORY, REQUESTS, LIMITS)),
    )


def memory_limit_bytes(spec: Mapping[str, Any]) -> int:
    """Return ``resources.limits.memory`` in bytes; 0: there is no limit."""
    return _bytes(((spec.get("resources") or {}).get(LIMITS) or {}).get(MEMORY))


def amount_text(amount: Amount) -> str:
    """Return an amount as it stands in a container's entry and in a handover record."""
    return json.dumps({"cpuMilli": amount.cpu_milli, "memoryBytes": amount.memory_bytes})


def parse_amount(text: Any) -> Amount:
    """Read :func:`amount_text` back; nothing where there is none, or something else."""
    try:
        fields = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return NOTHING
    if not isinstance(fields, dict):
        return NOTHING
    return Amount(_natural(fields.get("cpuMilli")), _natural(fields.get("memoryBytes")))


def _natural(value: Any) -> int:
    good = isinstance(value, int) and not isinstance(value, bool)
    return min(max(value, 0), _MOST) if good else 0


def capacity_of(template_resources: Mapping[str, Any] | None) -> Amount:
    """Return what a worker has for tasks: ``requests`` of its template, else ``limits``.

    Requests come first, since they are what the scheduler reserves on the node.
    """
    resources = template_resources or {}
    cpu = _first(resources, CPU, REQUESTS, LIMITS)
    memory = _first(resources, MEMORY, REQUESTS, LIMITS)
    return Amount(
        UNCOUNTED.cpu_milli if cpu is None else _milli(cpu),
        UNCOUNTED.memory_bytes if memory is None else _bytes(memory),
    )


def worker_resources(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return CPU and memory of the workers, as `requests` and `limits`.

    Args:
        template: ``spec.template`` of a raw TaskCluster. What `podResources` names there holds for
            the whole pod, so it counts before `resources`, which is of the main container.
    """
    merged: dict[str, Any] = {}
    for name in (CPU, MEMORY):
        source = template.get(_field_of(template, name)) or {}
        for kind in (REQUESTS, LIMITS):
            value = (source.get(kind) or {}).get(name)
            if value is not None:
                merged.setdefault(kind, {})[name] = value
    return merged


def _field_of(template: Mapping[str, Any], name: str) -> str:
    """Return the field of a template that says what the workers have of a resource."""
    pod = template.get("podResources") or {}
    return "resources" if _first(pod, name, REQUESTS, LIMITS) is None else "podResources"


def misfit(spec: Mapping[str, Any], own_spec: Mapping[str, Any], cluster: ClusterResources) -> str:
    """Return why no worker of a TaskCluster can ever hold a Task; empty: one can.

    Args:
        spec: of the Task, with the defaults of its TaskCluster.
        own_spec: without them.
        cluster: what its workers have.
    """
    resources = spec.get("resources") or {}
    template = cluster.template or {}
    source = "spec" if own_spec.get("resources") else "spec.taskDefaults"
    wanted, capacity = requested(spec), capacity_of(template)
    for name, (want, have) in zip((CPU, MEMORY), _pairs(wanted, capacity), strict=True):
        if want > have:
            asked, given = _where(resources, name), _where(template, name)
            field = "podResources" if name in cluster.of_the_pod else "resources"
            return (
                f"{source}.resources.{asked}.{name} is {resources[asked][name]}; workers of "
                f"TaskCluster {cluster.name!r} have {template[given][name]} "
                f"(spec.template.{field}.{given}.{name}): ask for less, or give the workers more."
            )
    return ""


@dataclass(frozen=True, slots=True)
class ClusterResources:
    """What the workers of a TaskCluster have.

    Attributes:
        name: of the TaskCluster.
        template: what :func:`worker_resources` says of its template.
        of_the_pod: which of them ``podResources`` names.
    """

    name: str = ""
    template: Mapping[str, Any] | None = None
    of_the_pod: frozenset[str] = frozenset()


# Of a TaskCluster whose template names none.
OPEN_WORKERS: Final = ClusterResources()


def cluster_resources(cluster: Mapping[str, Any]) -> ClusterResources:
    """Return what a raw TaskCluster gives to its workers."""
    template = cluster["spec"].get("template") or {}
    of_the_pod = {name for name in (CPU, MEMORY) if _field_of(template, name) == "podResources"}
    found = worker_resources(template)
    return ClusterResources(cluster["metadata"]["name"], found, frozenset(of_the_pod))


def _where(resources: Mapping[str, Any], name: str) -> str:
    return REQUESTS if name in (resources.get(REQUESTS) or {}) else LIMITS


def _first(resources: Mapping[str, Any], name: str, *kinds: str) -> Any:
    for kind in kinds:
        value = (resources.get(kind) or {}).get(name)
        if value is not None:
            return value
    return None


def _milli(quantity: Any) -> int:
    return _whole(quantity, Decimal(1000))


def _bytes(quantity: Any) -> int:
    return _whole(quantity, Decimal(1))


def _whole(quantity: Any, unit: Decimal) -> int:
    """Return a quantity as a whole number, rounded up; 0 if it is not a quantity."""
    if quantity is None:
        return 0
    try:
        value = parse_quantity(str(quantity)) * unit
    except ValueError:
        return 0  # the CRD lets only quantities through
    return min(max(int(value.to_integral_value(rounding=ROUND_CEILING)), 0), _MOST)
