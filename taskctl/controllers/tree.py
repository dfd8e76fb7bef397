"""Keeps the counters and the Complete condition of root Tasks, one Task event at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskctl.api.conditions import condition_is
from taskctl.api.resources import TASKS
from taskctl.api.states import ConditionStatus, ConditionType, TaskState
from taskctl.constants import Reason
from taskctl.controllers.ages import Ages
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.families import TreeKey
from taskctl.controllers.onexit import ExitTasks, exit_of
from taskctl.controllers.queues import look_again
from taskctl.controllers.task import state_of
from taskctl.kube.controller import DONE, Result
from taskctl.kube.interface import KubeObject
from taskctl.kube.workqueue import WorkQueue
from taskctl.objectkey import ObjectKey
from taskctl.policy.graph import member_name, template_names
from taskctl.policy.limits import settled_patch, spawning_parents
from taskctl.policy.status import FINE, StatusPatch
from taskctl.policy.tree import TreeChange, TreeCounts, decide_graph, decide_reopened, decide_tree
from taskctl.policy.treetimeout import timed_out_patch, timeout_left_s
from taskctl.policy.view import TaskView, lineage_of, parse_task, time_or_none

# Counters that only move are written at most so often; the end of a tree at once.
DEBOUNCE_S: Final = 1.0


class TreeReconciler:
    """Counts descendants by root and writes what the roots should say.

    Args:
        api: the API server and its caches.
        queue: UIDs of roots to look at.
        ages: measures how long trees have taken.
        traces: exit tasks belong to the trace of their tree.
    """

    def __init__(
        self, api: CachedApi, queue: WorkQueue[str], ages: Ages, *, traces: bool = False
    ) -> None:
        self._api = api
        self._ages = ages
        self._queue = queue
        self._exits = ExitTasks(api, traces=traces)
        self._counts: dict[TreeKey, TreeCounts] = {}
        self._written_at_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def counts(self, tree: TreeKey) -> TreeCounts:
        """Return the counters of a tree; zeros for one without descendants."""
        return self._counts.get(tree) or TreeCounts()

    # --- events -------------------------------------------------------------------------

    def on_task(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """Take in a Task event; O(1)."""
        before, after = _place(old), _place(new)
        root_uid = exit_of(new or old)
        if root_uid:
            self._queue.add(root_uid)
        if new is not None and after is None:
            self._on_root(new)
        elif old is not None and new is None and before is None:
            self._written_at_s.pop(old["metadata"]["uid"], None)
            self._ages.drop(("tree", old["metadata"]["uid"]))
        if before == after:
            return
        for place, count in ((before, -1), (after, +1)):
            if place is not None:
                self._count(*place, count)

    def _on_root(self, root: KubeObject) -> None:
        uid = root["metadata"]["uid"]
        tree = TreeKey(root["metadata"].get("namespace", ""), uid)
        ended, complete = state_of(root).terminal, _says_complete(root)
        # A root with tasks may have lost them all: then no count of theirs tells that it is over.
        empty = tree not in self._counts and parse_task(root).is_graph
        if empty and state_of(root) is TaskState.RUNNING:
            self._queue.add(uid)
        late = not complete and root["spec"].get("treeTimeoutSeconds")
        if late or (complete and root["spec"].get("onExit")):
            self._queue.add(uid)
        if ended != complete or (ended and tree in self._counts):
            self._queue.add(uid)

    def _count(self, tree: TreeKey, state: TaskState, stopped: bool, count: int) -> None:
        counts = self._counts.get(tree)
        if counts is None:
            counts = self._counts[tree] = TreeCounts()
        counts.add(state, count, stopped=stopped)
        if counts.total == 0:
            del self._counts[tree]
        if counts.active == 0:
            self._queue.add(tree.root_uid)
        else:
            self._queue.add_after(tree.root_uid, DEBOUNCE_S)

    # --- reconcile ----------------------------------------------------------------------

    async def reconcile(self, root_uid: str) -> Result:
        """Write what the root should say of its tree.

        Raises:
            Conflict: the root has changed meanwhile.
            ApiError: the API server refused, or did not answer.
        """
        api = self._api
        root = api.caches.living_task(root_uid)
        if root is None:
            return DONE
        view = parse_task(root)
        counts, now = self.counts(TreeKey.of(view)), api.timing.clock.now()
        settled = self._settled(view)
        if settled is not None:
            await api.write_status(TASKS, root, settled)
            return look_again(0.0)
        left_s = timeout_left_s(view, self._age_s(view))
        if left_s is not None and left_s <= 0:
            await api.write_status(TASKS, root, timed_out_patch(view, now))
            return DONE
        if view.is_graph and view.state is TaskState.RUNNING and not counts.active:
            change: TreeChange | None = decide_graph(view, counts, self._culprits(view), now)
        elif view.is_graph and view.status.get("reason") == Reason.TREE_FAILED and counts.active:
            change = decide_reopened(view, now)
        else:
            change = decide_tree(view, counts, now)
        if change is None:
            noted = await self._exits.step(view)
            if noted is not None:
                await api.write_status(TASKS, root, noted)
            return look_again(left_s)
        written_at_s = self._written_at_s.get(root_uid)
        if not change.urgent and written_at_s is not None:
            wait_s = written_at_s + DEBOUNCE_S - api.now_s()
            if wait_s > 0:
                return look_again(wait_s, left_s)
        await api.write_status(TASKS, root, change.patch)
        self._written_at_s[root_uid] = api.now_s()
        return look_again(left_s)

    def _settled(self, root: TaskView) -> StatusPatch | None:
        """Return the patch that closes what is set aside for parents that have ended."""
        over: dict[str, int] = {}
        for uid in spawning_parents(root):
            parent = self._api.caches.task_by_uid(uid)
            if parent is None or parent.state.terminal:
                over[uid] = 0
        if over:  # rare: an agent died, or could not write. So O(Tasks).
            for task in self._api.caches.tasks.objects():
                lineage = lineage_of(task)
                here = task["metadata"].get("namespace", "") == root.namespace
                if here and lineage is not None and lineage["parentUID"] in over:
                    over[lineage["parentUID"]] += 1
        return settled_patch(root, over)

    def _age_s(self, root: TaskView) -> float:
        """Return the seconds since this run of a tree began."""
        began = root.tree_since or time_or_none(root.created)
        if root.tree_timeout_s is None or began is None:
            return 0.0
        return self._ages.age_s(("tree", root.uid), began)

    def _culprits(self, root: TaskView) -> list[str]:
        """Return which of a root's own tasks did not succeed; first those that ran."""
        ran: list[str] = []
        others: list[str] = []
        for name in template_names(root):
            key = ObjectKey(root.namespace, member_name(root.name, name))
            raw = self._api.caches.tasks.get(key)
            if raw is None:
                continue
            view = parse_task(raw)
            if view.root_uid == root.uid and view.state not in FINE:
                (ran if view.attempt else others).append(name)
        return ran or others


def _place(task: Mapping[str, Any] | None) -> tuple[TreeKey, TaskState, bool] | None:
    """Return where a descendant counts: its tree, its state, and whether the tree stopped it.

    None for a root.
    """
    if task is None:
        return None
    lineage = lineage_of(task)
    if lineage is None:
        return None
    state = state_of(task)
    reason = (task.get("status") or {}).get("reason")
    stopped = state is TaskState.CANCELLED and reason == Reason.STOPPED
    return TreeKey(task["metadata"].get("namespace", ""), lineage["rootUID"]), state, stopped


def _says_complete(task: Mapping[str, Any]) -> bool:
    conditions = (task.get("status") or {}).get("conditions")
    return condition_is(conditions, ConditionType.COMPLETE, ConditionStatus.TRUE)
