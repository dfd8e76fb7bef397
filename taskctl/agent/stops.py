"""Stopping runs from outside: cancelled, deleted, or written off while they run.

News come from a watch on the tasks of this worker. A cancellation is final and acted upon at
once. That a Task is gone, or counts another attempt now, is confirmed by a read first: a watch
may show the past, and a killed process does not come back.
"""

from __future__ import annotations

import collections
import logging
from typing import Any, Final

from taskctl.agent.context import Context
from taskctl.agent.runmessage import GRACE_MS
from taskctl.agent.runs import Run, RunPhase, StopReason
from taskctl.agent.settings import PodIdentity
from taskctl.api.resources import TASKS
from taskctl.api.states import TaskState
from taskctl.errors import ApiError, NotFound
from taskctl.kube.informer import Informer, InformerOptions
from taskctl.kube.interface import KubeObject, ListerWatcher
from taskctl.kube.timing import Timing
from taskctl.policy.view import parse_task

logger = logging.getLogger(__name__)

_GONE_KEPT: Final = 256
_TERMINAL: Final = frozenset(state.value for state in TaskState if state.terminal)


def watch_own_tasks(client: ListerWatcher, pod: PodIdentity, timing: Timing) -> Informer:
    """Return the informer of the tasks whose latest attempt is on this worker."""
    return Informer(
        client,
        TASKS,
        pod.namespace,
        options=InformerOptions(field_selector=f"status.podName={pod.name}"),
        transform=_slim,
        timing=timing,
    )


def _slim(task: KubeObject) -> KubeObject:
    """Keep of finished tasks what identifies them: a worker collects a hundred."""
    task["metadata"].pop("managedFields", None)
    if (task.get("status") or {}).get("state") in _TERMINAL:
        task.pop("spec", None)
        task["status"] = {"state": task["status"]["state"]}
    return task


class Stops:
    """Tells taskctl-init to stop what must not go on.

    Args:
        context: of the agent.
        informer: of this worker's tasks.
    """

    def __init__(self, context: Context, informer: Informer) -> None:
        self._context = context
        self._informer = informer
        self._checking: set[str] = set()
        # Tasks that went before their run was known here: claimed a moment ago.
        self._gone: collections.deque[str] = collections.deque(maxlen=_GONE_KEPT)
        informer.add_handler(self._changed)

    def connected(self, run: Run) -> None:
        """Catch up with a run that pushes can reach (again)."""
        if run.stop is not None:
            self._push(run)
        elif run.recovered:
            self._check(run)  # nobody watched meanwhile
        elif run.told.uid in self._gone:
            self._check(run)
        else:
            task = self._informer.store.get_by_uid(run.told.uid)
            if task is not None:  # else the watch is not there yet, and will be
                self._look(run, task)

    def stop(self, run: Run, reason: StopReason) -> None:
        """Stop a run; again is harmless."""
        if run.stop is not None or run.phase is not RunPhase.RUNNING:
            return
        run.stop = reason
        logger.info("stopping reason=%s %s", reason.value, run.label)
        self._push(run)

    @staticmethod
    def _push(run: Run) -> None:
        if run.link is not None:
            # Whatever the reason, for the process it is a cancellation; of a run that is gone
            # or superseded the outcome is dropped anyway.
            run.link.push(
                {
                    "id": 0,
                    "op": "signal",
                    "reason": StopReason.CANCELLED.value,
                    "grace_ms": GRACE_MS,
                    "uid": run.told.uid,
                    "attempt": run.told.attempt,
                }
            )

    def _changed(self, old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
        task = new if new is not None else old
        if task is None:
            return
        uid = task["metadata"]["uid"]
        runs = self._context.runs.of_task(uid)
        if new is None and not runs:
            self._gone.append(uid)
        for run in runs:
            if new is None:
                self._check(run)
            else:
                self._look(run, new)

    def _look(self, run: Run, task: dict[str, Any]) -> None:
        if not self._context.is_ours(task, run):
            self._check(run)
            return
        run.keep(task)
        view = parse_task(task)
        if view.cancel:
            self.stop(run, StopReason.CANCELLED)
        elif view.deleting:
            self.stop(run, StopReason.DELETED)

    def _check(self, run: Run) -> None:
        container = run.told.container
        if run.stop is None and container not in self._checking:
            self._checking.add(container)
            self._context.background.spawn(f"check {container}", self._confirm(run))

    async def _confirm(self, run: Run) -> None:
        try:
            task = await self._context.read_task(run)
        except NotFound:
            self.stop(run, StopReason.DELETED)
        except ApiError as error:
            logger.warning("cannot tell whether it still counts %s: %s", run.label, error)
        else:
            if self._context.is_ours(task, run):
                self._checking.discard(run.told.container)
                self._look(run, task)
            else:
                self.stop(run, StopReason.SUPERSEDED)
        finally:
            self._checking.discard(run.told.container)
