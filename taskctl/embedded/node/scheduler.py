"""Binds pods that have no node to this one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from taskctl.embedded.node.api import CALL_BACKOFF, core_path
from taskctl.embedded.node.binding import SELECTED_NODE, is_bound
from taskctl.embedded.node.claims import ClaimBinder
from taskctl.embedded.node.context import NodeContext
from taskctl.embedded.node.events import EventReason, Subject
from taskctl.embedded.node.model import Json, PodRef
from taskctl.embedded.node.scheduling import (
    NO_VOLUME,
    claim_names,
    claims_refusal,
    is_candidate,
    refusal,
    uses_claims,
    volumes_refusal,
)
from taskctl.embedded.node.status import unscheduled_condition
from taskctl.errors import ApiError, Conflict, NotFound
from taskctl.kube.interface import PatchType
from taskctl.kube.timing import Pauses

log = logging.getLogger(__name__)


class Scheduler:
    """Binds pods that have no node to this one. Handles the watch of nodes itself.

    Args:
        context: the node.
    """

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._binder: ClaimBinder | None = None
        self._pods: Callable[[], list[Json] | None] = lambda: None
        # Bound by us, and not seen by the manager yet.
        self._bound: dict[str, Json] = {}
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
        self._bound.pop(uid, None)
        if self._pending:
            self._wake.set()  # a volume may be free now

    def heed(self, binder: ClaimBinder, pods: Callable[[], list[Json] | None]) -> None:
        """Bind a pod only once the claims that it names are there to be used.

        Args:
            binder: knows claims, volumes and classes.
            pods: returns the pods of this node; None: not known yet.
        """
        self._binder, self._pods = binder, pods
        binder.claims.listen(self._wake.set)
        binder.volumes.listen(self._wake.set)

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
        pauses = Pauses(CALL_BACKOFF)
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
                    await asyncio.sleep(max(pauses.next_s(), error.retry_after_s))
                    self._wake.set()
                else:
                    pauses.reset()

    async def _place(self, pod: Json, node: Json) -> None:
        ref = PodRef.of(pod)
        binder = self._binder if uses_claims(pod) else None
        if binder is not None:
            if not (binder.claims.synced and binder.volumes.synced and binder.classes.synced):
                return  # their first lists wake us
            why = claims_refusal(pod, binder.claims.find, binder.waits_for_pod)
            if why:
                await self._refuse(pod, ref, why)
                return
        why = refusal(pod, node)
        if not why and binder is not None:
            found = await self._see_to_volumes(pod, node, binder)
            if found is None:
                return  # its claims are being bound, which wakes us
            why = found
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
        self._bound[ref.uid] = pod
        message = f"Successfully assigned {ref} to {node['metadata']['name']}"
        self._context.events.tell(Subject.pod(ref), EventReason.SCHEDULED, message)

    async def _see_to_volumes(self, pod: Json, node: Json, binder: ClaimBinder) -> str | None:
        """Return why the pod's volumes keep it off the node, or empty; None: they are on the way.

        Of a class that waits for a pod, the claim is told that one is there now.
        """
        namespace = pod["metadata"].get("namespace", "")
        found = [binder.claims.find(namespace, name) for name in claim_names(pod)]
        claims = [claim for claim in found if claim is not None]
        others = [*(self._pods() or ()), *self._bound.values()]
        why = volumes_refusal(pod, node, claims, binder.volumes.items.values(), others)
        unbound = [claim for claim in claims if not is_bound(claim)]
        if why or not unbound:
            return why
        if not all(binder.can_bind(claim) for claim in unbound):
            return NO_VOLUME
        for claim in unbound:
            meta = claim["metadata"]
            body: Json = {
                "metadata": {
                    "uid": meta["uid"],
                    "annotations": {SELECTED_NODE: node["metadata"]["name"]},
                }
            }
            path = core_path("persistentvolumeclaims", namespace, meta["name"])
            await self._context.api.patch(path, body)
        return None

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
