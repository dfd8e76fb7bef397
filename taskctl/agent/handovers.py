"""What parked containers are to run: the record that the controller writes for this worker.

A parked container's `next` waits here. What it is given is bound to it before it is claimed, so
that an agent that is started again in between goes on with the same attempt: a container runs one
attempt in its life, whatever the record says later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from taskctl.agent.journal import Journal
from taskctl.agent.podspec import ParkedEntry, PodEntry
from taskctl.agent.settings import PodIdentity
from taskctl.kube.informer import Informer, InformerOptions
from taskctl.kube.interface import KubeObject, ListerWatcher
from taskctl.kube.resources import LEASES
from taskctl.kube.timing import Timing
from taskctl.policy.handover import (
    Dismissal,
    Handover,
    parse_record,
    record_name,
    record_pod_uid,
)

logger = logging.getLogger(__name__)

_NOTHING: Final = Dismissal()


@dataclass(frozen=True, slots=True)
class _Waiting:
    parked: ParkedEntry
    answer: asyncio.Future[Handover | Dismissal]


class Handovers:
    """Says what parked containers are to do.

    Args:
        client: where to watch.
        pod: the worker pod.
        journal: durable memory.
        timing: clock, sleep and chance.

    Attributes:
        on_wait: called when a parked container begins to wait.
    """

    def __init__(
        self, client: ListerWatcher, pod: PodIdentity, journal: Journal, timing: Timing
    ) -> None:
        self._pod = pod
        self._journal = journal
        self._wanted = asyncio.Event()
        self._closed = False
        self._record: dict[str, Handover | Dismissal] = {}
        self._waiting: dict[str, _Waiting] = {}
        self.on_wait: Callable[[ParkedEntry], None] = lambda parked: None
        selector = f"metadata.name={record_name(pod.name, pod.uid)}"
        options = InformerOptions(field_selector=selector)
        self._informer = Informer(client, LEASES, pod.namespace, options=options, timing=timing)
        self._informer.add_handler(self._changed)

    async def run(self) -> None:
        """Watch the record until cancelled; it is asked for when something is parked here."""
        await self._wanted.wait()
        await self._informer.run()

    async def assigned(self, parked: ParkedEntry) -> PodEntry | None:
        """Wait until a parked container is told what to run; None: it shall end.

        One container asks once at a time; whoever is cancelled may ask again.
        """
        container = parked.container
        bound = await asyncio.to_thread(self._journal.bound, container)
        if bound is None:
            entry = await self._wait(parked)
            if isinstance(entry, Dismissal):
                logger.info("parked container ends without a task container=%s", container)
                return None
            bound = entry
            # Not to be interrupted: what is bound is bound, also when the connection breaks now.
            binding = asyncio.to_thread(self._journal.bind, container, bound)
            await asyncio.shield(asyncio.ensure_future(binding))
        return parked.given(bound, self._pod)

    async def known(self, parked: ParkedEntry) -> PodEntry | None:
        """Return what a parked container was given before; None: nothing."""
        bound = await asyncio.to_thread(self._journal.bound, parked.container)
        return None if bound is None else parked.given(bound, self._pod)

    def close(self) -> None:
        """Tell all parked containers, and those to come, to end."""
        self._closed = True
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_result(_NOTHING)

    def waiting(self) -> list[ParkedEntry]:
        """Return the parked containers that wait and were given nothing, the oldest first."""
        return [item.parked for item in self._waiting.values() if not item.answer.done()]

    def give(self, container: str, handover: Handover) -> bool:
        """Give a container that waits what another one was to run; return whether it waits."""
        waiting = self._waiting.get(container)
        if waiting is None or waiting.answer.done():
            return False
        waiting.answer.set_result(handover)
        return True

    async def _wait(self, parked: ParkedEntry) -> Handover | Dismissal:
        container = parked.container
        if self._closed:
            return _NOTHING
        entry = self._record.get(container)
        if entry is not None:
            return entry
        self._wanted.set()
        future: asyncio.Future[Handover | Dismissal] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[container] = _Waiting(parked, future)
        self.on_wait(parked)
        try:
            return await future
        finally:
            if self._waiting.get(container) is waiting:
                del self._waiting[container]

    def _changed(self, _old: KubeObject | None, new: KubeObject | None) -> None:
        if new is not None and record_pod_uid(new) != self._pod.uid:
            return
        self._record = {} if new is None else parse_record(new)
        for container, waiting in self._waiting.items():
            entry = self._record.get(container)
            if entry is not None and not waiting.answer.done():
                waiting.answer.set_result(entry)
