"""``children``, ``results``, ``list`` and ``cancel``: what became of the children of a run."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from taskctl.agent import fields, resultread
from taskctl.agent.childwatch import ChildWatch, ChildWatches, outcome_of
from taskctl.agent.context import Context
from taskctl.agent.fields import bad
from taskctl.agent.listing import collect
from taskctl.agent.objects import GIVE_UP_AFTER_S, ObjectStore, read_object
from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.agent.resultread import CONCURRENT_READS, Lost, ResultReader, Returned
from taskctl.agent.runs import Run
from taskctl.agent.values import Content
from taskctl.agent.waits import Waits
from taskctl.api import meta
from taskctl.api.resources import TASKS
from taskctl.api.states import TaskState
from taskctl.constants import ANNOTATION_STOPPED_BY
from taskctl.errors import ApiError, Conflict, NotFound
from taskctl.kube.interface import KubeObject, PatchOptions
from taskctl.policy.view import TaskView, parse_task
from taskctl.wire import Message

logger = logging.getLogger(__name__)

MAX_WAIT_MS: Final = 30_000
MAX_OUTCOMES: Final = 1000  # in an answer
MAX_ASKED: Final = 1000  # children in a request
MAX_LISTED: Final = 50_000  # children in an answer
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024  # of values in an answer, but for a single one
SYNC_S: Final = 20.0  # for the first list; the SDK waits for longer
_MAX_UID_CHARS: Final = 128
_MAX_EPOCH_CHARS: Final = 64
_CANCEL: Final = PatchOptions(idempotent=True)


class Results:
    """Answers what a task asks about its children.

    Args:
        context: of the agent.
        objects: reads what lies in the workspace.
        waits: notes who waits.
    """

    def __init__(self, context: Context, objects: ObjectStore, waits: Waits) -> None:
        self._context = context
        self._objects = objects
        self._reader = ResultReader(context)
        self._waits = waits
        self._watches = ChildWatches(context)
        self._requests = asyncio.Semaphore(CONCURRENT_READS)

    # --- children -----------------------------------------------------------------------
    async def children(self, run: Run, message: Message) -> Message:
        """Return which children have ended since the caller asked last; waits for one.

        Raises:
            Refusal: ``bad_request``, ``superseded`` or ``unavailable``.
        """
        epoch = fields.optional_text(message, "epoch", max_chars=_MAX_EPOCH_CHARS)
        after = fields.integer(message, "after", default=0)
        wait_ms = fields.integer(message, "wait_ms", high=MAX_WAIT_MS, default=0)
        run.check_running()
        watch = await self._watch(run)
        position = after if epoch == watch.epoch else 0
        if wait_ms:
            with self._waits.waiting(run):
                position, ended = await watch.after(position, MAX_OUTCOMES, wait_ms / 1000)
        else:
            position, ended = await watch.after(position, MAX_OUTCOMES, 0)
        run.check_running()
        return {"epoch": watch.epoch, "next": position, "ended": ended}

    async def _watch(self, run: Run) -> ChildWatch:
        watch = self._watches.of(run)
        if not watch.synced.is_set():
            try:
                async with asyncio.timeout(SYNC_S):
                    await watch.synced.wait()
            except TimeoutError:
                raise Refusal(
                    ErrorCode.UNAVAILABLE, "the children cannot be listed yet; try again later"
                ) from None
        return watch

    # --- results ------------------------------------------------------------------------
    async def results(self, run: Run, message: Message) -> Message:
        """Return outputs of children that have succeeded, in the order asked for.

        As many as fit an answer, one at least; the caller asks again for the others.

        Raises:
            Refusal: ``bad_request``, ``superseded``, ``rejected`` or ``unavailable``.
        """
        uids = _uids(message)
        as_text = _format(message) == "json"
        run.check_running()
        watch = await self._watch(run)
        answers = [_known(watch.child(uid)) for uid in uids]
        wanted = [answer for answer in answers if isinstance(answer, Returned)]
        try:
            found = iter(await self._reader.read(wanted, MAX_ANSWER_BYTES))
        except ApiError as error:
            raise from_api(error) from error
        told: list[Message] = []
        size = 0
        for answer in answers:
            if isinstance(answer, Returned):
                result = next(found, None)
                if result is None:
                    break
                answer = await self._told(result, as_text)
                size += len(answer.get("json", ""))
                if told and size > MAX_ANSWER_BYTES:
                    break
            told.append(answer)
        return {"results": told}

    async def _told(self, result: Content | Lost, as_text: bool) -> Message:
        if isinstance(result, Lost):
            return {"missing": result.why}
        if as_text:
            return {"json": await self._objects.as_json(result, "the result")}
        return resultread.told(result)

    # --- listed -------------------------------------------------------------------------
    async def listed(self, run: Run) -> Message:
        """Return all children of a run as they are now, in the order of their creation.

        Raises:
            Refusal: ``superseded``, ``limit`` (of children), ``rejected`` or ``unavailable``.
        """
        run.check_running()
        try:
            children = await collect(
                self._context,
                TASKS,
                _named,
                field_selector=f"spec.lineage.parentUID={run.told.uid}",
            )
        except ApiError as error:
            raise from_api(error) from error
        if len(children) > MAX_LISTED:
            raise Refusal(
                ErrorCode.LIMIT, f"the task has over {MAX_LISTED} children; name those you want"
            )
        return {"tasks": [{"name": name, "uid": uid} for _, name, uid in sorted(children)]}

    # --- cancel -------------------------------------------------------------------------
    async def cancel(self, run: Run, message: Message) -> Message:
        """Cancel descendants of a run, each with its own descendants.

        Raises:
            Refusal: ``bad_request``: it is not a descendant; ``superseded``, ``rejected`` or
                ``unavailable``.
        """
        targets = fields.array(message, "tasks", max_items=MAX_ASKED)
        named = [_target(item, f"tasks[{index}]") for index, item in enumerate(targets)]
        run.check_running()
        work = self._cancel_all(run, named)
        states = await self._context.on_behalf(run, "cancel", work)
        return {"tasks": [{"cancelled": state} for state in states]}

    async def _cancel_all(self, run: Run, named: list[tuple[str, str]]) -> list[bool]:
        done = await asyncio.gather(
            *(
                self._cancel(run, name, uid, f"tasks[{index}]")
                for index, (name, uid) in enumerate(named)
            ),
            return_exceptions=True,
        )
        made = []
        for item in done:
            if isinstance(item, BaseException):
                raise from_api(item) if isinstance(item, ApiError) else item
            made.append(item)
        return made

    async def _cancel(self, run: Run, name: str, uid: str, where: str) -> bool:
        """Cancel one task; return whether it was still to be cancelled."""
        async with self._requests:
            task = await read_object(self._context, TASKS, name)
            if task is None or (uid and task["metadata"]["uid"] != uid):
                return False
            view = parse_task(task)
            if not await self._is_below(run, view):
                raise bad(where, f"task {name} is not a descendant of {run.told.task}")
            if view.state.terminal or view.cancels_tree:
                return False
            body = {
                "metadata": {
                    "uid": view.uid,
                    # Its end, and that of what is below it, is as the tree wants it.
                    "annotations": {ANNOTATION_STOPPED_BY: run.told.task},
                },
                "spec": {"cancel": True, "cancelScope": None},
            }
            context = self._context
            try:
                await context.retrier.call(
                    f"cancel task {name}",
                    lambda: context.client.patch(
                        TASKS, name, context.namespace, body, options=_CANCEL
                    ),
                    give_up_after_s=GIVE_UP_AFTER_S,
                )
            except (NotFound, Conflict):
                return False  # it is gone
            logger.info("cancelled descendant=%s %s", name, run.label)
            return True

    async def _is_below(self, run: Run, view: TaskView) -> bool:
        """Whether a Task descends from a run's Task; by lineages, which cannot be changed."""
        seen: set[str] = set()
        while view.parent_uid and view.parent_uid not in seen:
            if view.parent_uid == run.told.uid:
                return True
            seen.add(view.parent_uid)
            above = await read_object(self._context, TASKS, view.parent_name)
            if above is None or above["metadata"]["uid"] != view.parent_uid:
                return False
            view = parse_task(above)
        return False


def _uids(message: Message) -> list[str]:
    items = fields.array(message, "uids", max_items=MAX_ASKED)
    for index, item in enumerate(items):
        fields.text({"uid": item}, "uid", max_chars=_MAX_UID_CHARS, where=f"uids[{index}].")
    return items


def _format(message: Message) -> str:
    wanted = fields.optional_text(message, "format", max_chars=16) or "value"
    if wanted not in ("value", "json"):
        raise bad("format", f"{wanted!r} is neither value nor json")
    return wanted


def _known(child: dict[str, Any] | None) -> Returned | Message:
    """Return what is to be read, or the answer where there is nothing."""
    if child is None:
        return {"missing": "the task does not exist (any more), or is not a child of this one"}
    state = outcome_of(child)
    if state != TaskState.SUCCEEDED:
        return {"open": state}
    uid, encoded = child["metadata"]["uid"], child["status"].get("output")
    if encoded is not None:
        return Returned(uid, 1, value=encoded)
    return Returned.by(uid, child["status"])


def _named(child: KubeObject) -> tuple[str, str, str]:
    view = parse_task(child)
    return view.created, view.name, view.uid


def _target(item: Any, where: str) -> tuple[str, str]:
    target = fields.mapping(item, where)
    name = fields.text(target, "name", max_chars=meta.MAX_NAME, where=f"{where}.")
    return name, fields.optional_text(target, "uid", max_chars=_MAX_UID_CHARS, where=f"{where}.")
