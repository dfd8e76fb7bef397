"""Removes what ended and deleted Tasks have left in the workspace (docs/agent.md)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from taskctl.agent.context import Context
from taskctl.agent.leftovers import Finder, remove
from taskctl.agent.runs import RunPhase
from taskctl.agent.workspace import Workspace
from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.errors import ApiError, NotFound
from taskctl.kube.interface import KubeObject, ListOptions
from taskctl.policy.leftovers import (
    DEFAULT_PERIOD_S,
    CleanupRules,
    Leftover,
    LeftoverKind,
    Ruling,
    cleanup_rules,
    judge,
)
from taskctl.policy.status import completion_time

logger = logging.getLogger(__name__)

# Of one pass.
MAX_ENTRIES: Final = 5000  # names that are looked at
MAX_REMOVALS: Final = 2000  # entries that are removed
MAX_QUESTIONS: Final = 50  # requests about single files
# Tasks that are remembered once they are gone. Files of forgotten ones become orphans.
MAX_SEEN: Final = 100_000
_FIRST_S: Final = 10.0
# Listing the Tasks takes the API server a twentieth of the time at most.
_REST_PER_WORK: Final = 20.0
_COMPLAIN_S: Final = 3600.0


class Cleaner:
    """Looks at the workspace now and then.

    Every worker has one. Each waits the longer the more workers there are, so the workspace is
    looked at once in a period, by one of them.

    Args:
        context: of the agent.
        workspace: what to look at.
    """

    def __init__(self, context: Context, workspace: Workspace) -> None:
        self._context = context
        self._root = workspace.root
        self._finder = Finder(workspace.root)
        self._seen: set[str] = set()
        self._complained_s = float("-inf")

    async def run(self) -> None:
        """Look until cancelled."""
        timing = self._context.timing
        pause_s = _FIRST_S
        while True:
            await timing.sleep(pause_s * (0.5 + timing.random()))
            began_s = timing.clock.monotonic_s()
            try:
                pause_s = await self.look()
            except ApiError as error:
                logger.info("the workspace was not cleaned up this time: %s", error)
            pause_s = max(pause_s, _REST_PER_WORK * (timing.clock.monotonic_s() - began_s))

    async def look(self) -> float:
        """Look at the next part of the workspace; return in how many seconds to look again.

        Raises:
            ApiError: the API server refused, or is away.
        """
        context = self._context
        try:
            cluster = await context.client.get(
                TASKCLUSTERS, context.settings.cluster, context.namespace
            )
        except NotFound:
            return DEFAULT_PERIOD_S
        rules = cleanup_rules(cluster)
        if rules.enabled:
            await self._clean(rules)
        workers = int((cluster.get("status") or {}).get("workers") or 1)
        return rules.period_s * max(workers, 1)

    async def _clean(self, rules: CleanupRules) -> None:
        now_s = self._context.timing.clock.now().timestamp()
        # Before the Tasks are listed: whose file is found, that Task was there by then.
        found = await asyncio.to_thread(self._finder.find, MAX_ENTRIES, now_s)
        if not found:
            return
        living = await self._living() if any(file.uid for file in found) else {}
        # The process of a Task that was deleted runs on for some seconds.
        needed = living.keys() | self._running()
        self._seen.update(run.told.uid for run in self._context.runs)
        remaining = MAX_REMOVALS
        questions = MAX_QUESTIONS
        removed = 0
        for file in found:
            if remaining <= 0:
                break
            ruling = judge(file, rules, needed, self._seen)
            if ruling is Ruling.ASK:
                if questions <= 0:
                    continue
                questions -= 1
                ruling = await self._ask(file, rules, living)
            if ruling is Ruling.REMOVE:
                count = await self._remove(file, remaining)
                remaining -= max(count, 1)
                removed += count
        self._remember(living)
        if removed:
            logger.info("removed %d entries of ended Tasks from the workspace", removed)

    async def _living(self) -> dict[str, str]:
        """Return the UIDs of all Tasks of the namespace, with their names."""
        page = await self._context.client.list_all(
            TASKS, self._context.namespace, options=ListOptions(metadata_only=True)
        )
        return {task["metadata"]["uid"]: task["metadata"]["name"] for task in page.items}

    def _running(self) -> set[str]:
        runs = self._context.runs
        return {run.told.uid for run in runs if run.phase is RunPhase.RUNNING}

    def _remember(self, living: Mapping[str, str]) -> None:
        room = MAX_SEEN - len(living)
        for uid in list(self._seen.difference(living))[max(room, 0) :]:
            self._seen.discard(uid)
        self._seen.update(living)

    async def _ask(self, file: Leftover, rules: CleanupRules, living: Mapping[str, str]) -> Ruling:
        """Ask the API server about a file that has to be old, and is."""
        if file.kind is LeftoverKind.OBJECT:
            page = await self._context.client.list(
                TASKOBJECTS,
                self._context.namespace,
                options=ListOptions(field_selector=f"ref.sha256={file.name}", limit=1),
            )
            return Ruling.KEEP if page.items else Ruling.REMOVE
        try:
            task = await self._context.client.get(TASKS, living[file.uid], self._context.namespace)
        except NotFound:
            return Ruling.KEEP  # gone since; the next look tells
        return Ruling.REMOVE if self._is_over(task, file, rules) else Ruling.KEEP

    def _is_over(self, task: KubeObject, file: Leftover, rules: CleanupRules) -> bool:
        ended = completion_time(task.get("status") or {})
        if ended is None or rules.max_age_s is None or task["metadata"]["uid"] != file.uid:
            return False
        now = self._context.timing.clock.now()
        return now - ended >= timedelta(seconds=rules.max_age_s)

    async def _remove(self, file: Leftover, budget: int) -> int:
        try:
            return await asyncio.to_thread(remove, self._root, file, budget)
        except FileNotFoundError:
            return 0
        except OSError as error:
            now_s = self._context.timing.clock.monotonic_s()
            if now_s - self._complained_s >= _COMPLAIN_S:
                self._complained_s = now_s
                logger.warning(
                    "%s/%s in the workspace is left over and cannot be removed: %s; further ones "
                    "are not named for an hour",
                    file.directory,
                    file.name,
                    error.strerror,
                )
            return 0
