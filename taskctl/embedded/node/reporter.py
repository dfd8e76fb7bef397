"""Writes one pod's status: the latest, never two writes at once."""

from __future__ import annotations

import asyncio
import logging
from enum import StrEnum
from typing import Final

from taskctl.backoff import Backoff
from taskctl.embedded.node.api import SPREAD, ApiClient, core_path
from taskctl.embedded.node.model import Json, PodRef
from taskctl.errors import ApiError, Conflict, Invalid, NotFound
from taskctl.kube.interface import PatchType
from taskctl.kube.timing import Pauses

log = logging.getLogger(__name__)

_BACKOFF: Final = Backoff(0.1, 10.0, SPREAD)

# Changes that come together are written together: a container that starts and ends within this
# time costs one write. The pod's JSON grows with each ephemeral container it ever had.
SETTLE_S: Final = 0.02
MIN_INTERVAL_S: Final = 0.1


class Delivery(StrEnum):
    """What became of the last status."""

    PENDING = "pending"
    DONE = "done"
    GONE = "gone"  # the pod does not exist any more


class StatusReporter:
    """Writes one pod's status.

    Args:
        api: where to.
        ref: the pod; a pod of the same name and another UID is left alone.
    """

    def __init__(self, api: ApiClient, ref: PodRef) -> None:
        self._api = api
        self._ref = ref
        self._latest: Json | None = None  # what was submitted last
        self._wanted: Json | None = None  # the same, until a write takes it
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self.delivery = Delivery.DONE

    def submit(self, status: Json) -> None:
        """Have this status written, unless it is what was written last."""
        if self.delivery is Delivery.GONE or status == self._latest:
            return
        self._latest = self._wanted = status
        self.delivery = Delivery.PENDING
        self._settled.clear()
        self._changed.set()

    def assume(self, status: Json) -> None:
        """Take this status for what the server has: nothing is written until it changes."""
        if self._latest is None:
            self._latest = status

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the latest status is written (or the pod is gone); False when time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Write until cancelled or the pod is gone."""
        pauses = Pauses(_BACKOFF)
        while self.delivery is not Delivery.GONE:
            await self._changed.wait()
            await asyncio.sleep(SETTLE_S)
            self._changed.clear()
            status, self._wanted = self._wanted, None
            if status is None:
                continue
            try:
                await self._write(status)
            except NotFound:
                self._gone()
            except ApiError as error:
                await self._failed(status, error, pauses)
            else:
                pauses.reset()
                self._done()
                await asyncio.sleep(MIN_INTERVAL_S)

    async def _write(self, status: Json) -> None:
        path = core_path("pods", self._ref.namespace, self._ref.name, "status")
        body: Json = {"metadata": {"uid": self._ref.uid}, "status": status}
        await self._api.patch(path, body, PatchType.STRATEGIC)

    async def _failed(self, status: Json, error: ApiError, pauses: Pauses) -> None:
        if isinstance(error, Conflict | Invalid) and await self._was_replaced():
            self._gone()
            return
        delay_s = max(pauses.next_s(), error.retry_after_s)
        log.warning(
            "status of pod %s not written, next try in %.1f s: %s", self._ref, delay_s, error
        )
        await asyncio.sleep(delay_s)
        if self._wanted is None:
            self._wanted = status
        self._changed.set()

    async def _was_replaced(self) -> bool:
        try:
            pod = await self._api.get(core_path("pods", self._ref.namespace, self._ref.name))
        except NotFound:
            return True
        except ApiError:
            return False
        return bool(pod["metadata"]["uid"] != self._ref.uid)

    def _done(self) -> None:
        if self._wanted is None:
            self.delivery = Delivery.DONE
            self._settled.set()

    def _gone(self) -> None:
        self.delivery = Delivery.GONE
        self._wanted = None
        self._settled.set()
