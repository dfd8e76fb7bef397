"""Starts commands ahead in parked containers; :mod:`taskctl.policy.prepare` says which.

What was prepared where is noted in the state directory before taskctl-init is told, so that an
agent that is started again still knows which container may run what.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable
from typing import Final

from taskctl.agent.context import Context
from taskctl.agent.handovers import Handovers
from taskctl.agent.podspec import OwnPod, ParkedEntry, PodEntry
from taskctl.policy.handover import Handover
from taskctl.policy.prepare import (
    MAX_FAILURES,
    PREPARE_LIMIT_MS,
    WINDOW,
    Command,
    Preparation,
    Started,
    decide_prepare,
    most_prepared,
)
from taskctl.wire import Message

logger = logging.getLogger(__name__)

# Classes and commands that are remembered; those not seen for longest are forgotten.
MAX_CLASSES: Final = 32
MAX_FAILING: Final = 256
_USED: Final = "used"
_FAILED: Final = "failed"


class Preparations:
    """What is prepared in the parked containers of this worker.

    Args:
        context: of the agent.
        pod: knows how much memory there is.
        handovers: knows who waits.
        push: sends a container's taskctl-init an unasked message, if it is connected.
        known: what former lives of the agent have prepared, by container.
    """

    def __init__(
        self,
        context: Context,
        pod: OwnPod,
        handovers: Handovers,
        push: Callable[[str, Message], None],
        known: dict[str, Preparation],
    ) -> None:
        self._context = context
        self._pod = pod
        self._handovers = handovers
        self._push = push
        self._done = dict(known)
        # By class: its last starts, and the commands of those that can be prepared.
        self._recent: collections.OrderedDict[str, collections.deque[Started]] = (
            collections.OrderedDict()
        )
        self._commands: dict[str, dict[str, Command]] = {}
        self._failures: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._to_look_at: set[str] = set()
        self._lock = asyncio.Lock()
        handovers.on_wait = self._waits

    # --- what happens ---------------------------------------------------------------------
    def started(self, container_class: str, command: Command, root_uid: str) -> None:
        """Take note of a run that is being started."""
        recent = self._recent.setdefault(container_class, collections.deque(maxlen=WINDOW))
        self._recent.move_to_end(container_class)
        digest = command.digest if command.can_be_prepared else ""
        recent.append(Started(digest, root_uid))
        commands = self._commands.setdefault(container_class, {})
        if digest:
            commands[digest] = command
        alive = {item.digest for item in recent}
        for old in [known for known in commands if known not in alive]:
            del commands[old]
        if len(self._recent) > MAX_CLASSES:
            forgotten, _ = self._recent.popitem(last=False)
            del self._commands[forgotten]
        self._look(container_class)

    def ended(self, container: str, prepared: str) -> None:
        """Take note of what a run's report says of the command that was prepared there."""
        preparation = self._done.get(container)
        if preparation is None or prepared not in (_USED, _FAILED):
            return
        digest = preparation.digest
        count = 0 if prepared == _USED else self._failures.get(digest, 0) + 1
        self._failures[digest] = count
        self._failures.move_to_end(digest)
        if len(self._failures) > MAX_FAILING:
            self._failures.popitem(last=False)
        if count == MAX_FAILURES:
            logger.warning(
                "a command failed %d times in a row when it was started ahead; it is started with "
                "its runs from now on; the last of them: container=%s",
                count,
                container,
            )

    def _waits(self, parked: ParkedEntry) -> None:
        self._look(parked.container_class)

    # --- who may run where ----------------------------------------------------------------
    def admits(self, container: str, digest: str, root_uid: str) -> bool:
        """Whether a task may run in a container, as far as what was prepared there goes.

        Args:
            container: where.
            digest: of its command.
            root_uid: its tree.
        """
        preparation = self._done.get(container)
        return preparation is None or preparation.admits(digest, root_uid)

    def pass_on(self, entry: PodEntry, digest: str, root_uid: str) -> str | None:
        """Give what a container must not run to another one that waits.

        Returns:
            The other container; None: there is none.
        """
        claim = entry.claim
        handover = Handover(
            entry.task,
            claim.task_uid,
            claim.attempt,
            claim.placed,
            defaults=claim.defaults,
            seen=entry.seen,
        )
        waiting = [
            parked.container
            for parked in self._handovers.waiting()
            if parked.container_class == entry.container_class
            and self.admits(parked.container, digest, root_uid)
        ]
        waiting.sort(key=lambda name: name not in self._done)  # where it is prepared, if it is
        for container in waiting:
            if self._handovers.give(container, handover):
                return container
        return None

    # --- preparing ------------------------------------------------------------------------
    def _look(self, container_class: str) -> None:
        if container_class in self._to_look_at or container_class not in self._recent:
            return
        self._to_look_at.add(container_class)
        self._context.background.spawn("prepare commands", self._prepare(container_class))

    async def _prepare(self, container_class: str) -> None:
        async with self._lock:
            self._to_look_at.discard(container_class)  # what comes from now on is for another look
            while (found := self._choose(container_class)) is not None:
                await self._prepare_one(*found)

    def _choose(self, container_class: str) -> tuple[str, Command] | None:
        """Return a container and the command to prepare there; it is noted as prepared."""
        waiting = self._handovers.waiting()
        prepared = [item for item in waiting if item.container in self._done]
        mine = [item for item in waiting if item.container_class == container_class]
        clean = [item.container for item in mine if item.container not in self._done]
        recent = tuple(self._recent.get(container_class, ()))
        if not clean:
            return None
        failing = frozenset(k for k, count in self._failures.items() if count >= MAX_FAILURES)
        have = [self._done[item.container].digest for item in prepared if item in mine]
        room = most_prepared(self._pod.capacity) - len(prepared)
        start = decide_prepare(recent, have, len(clean), room, failing)
        if start is None:
            return None
        self._done[clean[0]] = Preparation(start.digest, start.root_uid)
        return clean[0], self._commands[container_class][start.digest]

    async def _prepare_one(self, container: str, command: Command) -> None:
        noted = self._done[container]
        try:
            await asyncio.to_thread(self._context.journal.note_prepared, container, noted)
        except OSError as error:
            logger.warning("nothing is prepared in %s: %s", container, error)
            return
        if not any(item.container == container for item in self._handovers.waiting()):
            del self._done[container]  # it was given something meanwhile: this comes too late
            return
        logger.debug("prepare container=%s argv=%s", container, command.argv)
        message: Message = {
            "id": 0,
            "op": "prepare",
            "argv": list(command.argv),
            "env": dict(command.env),
            "cwd": command.cwd,
            "limit_ms": PREPARE_LIMIT_MS,
        }
        self._push(container, message)
