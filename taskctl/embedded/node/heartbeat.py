"""The Node object and its Lease: that this node exists, what it is, and that it lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Final

from taskctl.clock import format_micro, format_seconds
from taskctl.embedded.node import machine
from taskctl.embedded.node.api import CALL_BACKOFF, ApiClient, core_path, group_path
from taskctl.embedded.node.context import NodeContext
from taskctl.embedded.node.model import Json
from taskctl.errors import AlreadyExists, ApiError, NotFound
from taskctl.kube.interface import PatchType
from taskctl.kube.timing import Pauses

log = logging.getLogger(__name__)

LEASE_NAMESPACE: Final = "kube-node-lease"
LEASE_INTERVAL_S: Final = 10.0
LEASE_DURATION_S: Final = 40
# As the kubelet's nodeStatusReportFrequency.
STATUS_INTERVAL_S: Final = 300.0
ADDRESS: Final = "127.0.0.1"

_PRESSURES: Final = ("MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the Node object says besides what the machine does.

    Attributes:
        version: shown as the kubelet's.
        isolation_message: what containers are not separated by, empty when nothing is missing.
    """

    version: str
    isolation_message: str


class Heartbeat:
    """Registers the node and keeps its Lease.

    Args:
        context: the node.
        facts: what to say.
    """

    def __init__(self, context: NodeContext, facts: NodeFacts) -> None:
        self._context = context
        self._facts = facts
        self._name = context.options.node_name
        self._api: ApiClient = context.api
        self._since: dict[str, tuple[str, str]] = {}

    async def run(self) -> None:
        """Work until cancelled, whatever the server does."""
        pauses = Pauses(CALL_BACKOFF)
        reported_at_s: float | None = None
        while True:
            now_s = self._context.clock.monotonic_s()
            try:
                if reported_at_s is None or now_s - reported_at_s >= STATUS_INTERVAL_S:
                    await self.report(ready=True)
                    reported_at_s = now_s
                await self._renew()
            except NotFound:
                reported_at_s = None  # the server has forgotten the node, or its Lease
                await asyncio.sleep(pauses.next_s())
            except ApiError as error:
                log.debug("heartbeat: %s", error)
                reported_at_s = None
                await asyncio.sleep(max(pauses.next_s(), error.retry_after_s))
            else:
                pauses.reset()
                await asyncio.sleep(LEASE_INTERVAL_S)

    async def report(self, *, ready: bool) -> None:
        """Write the Node object.

        Raises:
            ApiError: the server refused or could not be reached.
        """
        path = core_path("nodes", name=self._name)
        labels = machine.labels(self._name)
        try:
            await self._api.patch(path, {"metadata": {"labels": labels}})
        except NotFound:
            body: Json = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": self._name, "labels": labels},
            }
            await self._api.create(core_path("nodes"), body)
        status = {"status": self._status(ready=ready)}
        await self._api.patch(f"{path}/status", status, PatchType.STRATEGIC)

    def _status(self, *, ready: bool) -> Json:
        resources = machine.capacity(self._context.paths.data_dir)
        message = "the local node is ready" if ready else "the local node was stopped"
        conditions = [
            self._condition("Ready", "True" if ready else "False", "NodeReady", message),
            self._condition(
                "ReducedIsolation",
                "True" if self._facts.isolation_message else "False",
                "KernelRefuses" if self._facts.isolation_message else "IsolationComplete",
                self._facts.isolation_message or "containers have namespaces of their own",
            ),
        ]
        conditions += [
            self._condition(kind, "False", "NotMeasured", "the local node does not evict")
            for kind in _PRESSURES
        ]
        return {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": ADDRESS},
                {"type": "Hostname", "address": self._name},
            ],
            "nodeInfo": machine.node_info(self._facts.version),
            "conditions": conditions,
        }

    def _condition(self, kind: str, status: str, reason: str, message: str) -> Json:
        now = format_seconds(self._context.clock.now())
        if self._since.get(kind, ("", ""))[0] != status:
            self._since[kind] = (status, now)
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": self._since[kind][1],
        }

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": LEASE_DURATION_S,
            "renewTime": format_micro(self._context.clock.now()),
        }
        leases = "coordination.k8s.io/v1"
        path = group_path(leases, "leases", LEASE_NAMESPACE, self._name)
        try:
            await self._api.patch(path, {"spec": spec})
        except NotFound:
            await self._make_namespace()
            body: Json = {
                "apiVersion": leases,
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": LEASE_NAMESPACE},
                "spec": spec,
            }
            await self._api.create(group_path(leases, "leases", LEASE_NAMESPACE), body)

    async def _make_namespace(self) -> None:
        body: Json = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": LEASE_NAMESPACE},
        }
        with contextlib.suppress(AlreadyExists):
            await self._api.create(core_path("namespaces"), body)
