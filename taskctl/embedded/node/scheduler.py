"""Binds pods that have no node to this one."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from taskctl.embedded.node.api import Backoff, PatchType, core_path
from taskctl.embedded.node.claims import Collection
from taskctl.embedded.node.context import NodeContext
from taskctl.embedded.node.events import EventReason, Subject
from taskctl.embedded.node.model import Json, PodRef
from taskctl.embedded.node.scheduling import (
    claims_refusal,
    is_candidate,
    refusal,
    uses_claims,
)
from taskctl.embedded.node.status import unscheduled_condition
from taskctl.errors import ApiError, Conflict, NotFound

log = logging.getLogger(__name__)

_RETRY_LIMIT_S: Final = 5.0


class Scheduler:
    """Binds pods that have no node to this one. Handles the watch of nodes itself.

    Args:
        context: the node.
    """

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._claims: Collection | None = None
        self._node: Json | None = None
        self._pending: dict[str, Json] = {}
        self._refused: dict[str, str] = {}
        self._wake = asyncio.Event()

    # --- pods, told by the manager

    def offer(self, pod: Json) -> None:
        """A pod without a node is new or has changed."""
        uid = pod["metadata"]["uid"]
        if is_candidate(pod):
            self._pending[uid] = pod
            self._wake.set()
        else:
            self.withdraw(uid)

    def withdraw(self, uid: str) -> None:
        """The pod has a node now, or is gone."""
        self._pending.pop(uid, None)
        self._refused.pop(uid, None)

    def heed(self, claims: Collection) -> None:
        """Bind a pod only once the claims that it names are there to be used."""
        self._claims = claims
        claims.listen(self._wake.set)

    # --- nodes, told by a Reflector

    def replace(self, items: list[Json]) -> None:
        """All nodes there are."""
        self._node = None
        for item in items:
            self.applied(item)

    def applied(self, item: Json) -> None:
        """A node is new or has changed."""
        if item["metadata"]["name"] == self._context.options.node_name:
            self._node = item
            self._wake.set()

    def deleted(self, item: Json) -> None:
        """A node is gone."""
        if item["metadata"]["name"] == self._context.options.node_name:
            self._node = None

    async def run(self) -> None:
        """Bind pods until cancelled."""
        backoff = Backoff(limit_s=_RETRY_LIMIT_S)
        while True:
            await self._wake.wait()
            self._wake.clear()
            node = self._node
            if node is None:
                continue
            for uid, pod in list(self._pending.items()):
                try:
                    await self._place(pod, node)
                except (Conflict, NotFound):
                    self.withdraw(uid)  # bound or deleted meanwhile; the watch will say
                except ApiError as error:
                    log.warning("pod %s not bound, trying again: %s", PodRef.of(pod), error)
                    await asyncio.sleep(max(backoff.next_s(), error.retry_after_s))
                    self._wake.set()
                else:
                    backoff.reset()

    async def _place(self, pod: Json, node: Json) -> None:
        ref = PodRef.of(pod)
        if self._claims is not None and uses_claims(pod):
            if not self._claims.synced:
                return  # its first list wakes us
            why = claims_refusal(pod, self._claims.find)
            if why:
                await self._refuse(pod, ref, why)
                return
        why = refusal(pod, node)
        if why:
            await self._refuse(pod, ref, f"1 {why}")
            return
        body: Json = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": ref.name, "namespace": ref.namespace, "uid": ref.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node["metadata"]["name"]},
        }
        await self._context.api.create(core_path("pods", ref.namespace, ref.name, "binding"), body)
        self.withdraw(ref.uid)
        message = f"Successfully assigned {ref} to {node['metadata']['name']}"
        self._context.events.emit(Subject.pod(ref), EventReason.SCHEDULED, message)

    async def _refuse(self, pod: Json, ref: PodRef, why: str) -> None:
        message = f"0/1 nodes are available: {why}."
        if self._refused.get(ref.uid) == message:
            return
        condition = unscheduled_condition(pod, "Unschedulable", message, self._context.clock.now())
        body: Json = {"metadata": {"uid": ref.uid}, "status": {"conditions": [condition]}}
        path = core_path("pods", ref.namespace, ref.name, "status")
        await self._context.api.patch(path, body, PatchType.STRATEGIC)
        self._refused[ref.uid] = message
        self._context.events.warn(Subject.pod(ref), EventReason.FAILED_SCHEDULING, message)
