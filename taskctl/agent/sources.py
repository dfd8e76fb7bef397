"""``spec.inputFrom``: results of other Tasks that are parts of a run's input.

They are read when the task asks for its input, so it is always the last attempt that counts. The
SDK asks for them part by part, of any number; who takes the input as one text gets it composed.
"""

from __future__ import annotations

import asyncio
import copy
from typing import Any, Final

from taskctl.agent import fields
from taskctl.agent.context import Context
from taskctl.agent.fields import bad
from taskctl.agent.objects import read_object
from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.agent.runs import Run
from taskctl.agent.values import Content, content_of
from taskctl.api.states import TaskState
from taskctl.client.resources import TASKOBJECTS, TASKS
from taskctl.constants import LABEL_ATTEMPT, LABEL_OUTPUT_OF
from taskctl.errors import ApiError
from taskctl.policy.view import TaskView, parse_task
from taskctl.wire import Message, pack_value

MAX_VALUES: Final = 200  # in an answer
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
MAX_COMPOSED: Final = 500  # more take longer to read than taskctl-init waits
CONCURRENT_READS: Final = 16


class Sources:
    """Reads what ``spec.inputFrom`` names.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    async def sources(self, run: Run, message: Message) -> Message:
        """Return results of one entry of ``spec.inputFrom``, from a position on.

        Raises:
            Refusal: ``bad_request``, ``superseded``, ``rejected`` or ``unavailable``.
        """
        index = fields.integer(message, "source")
        start = fields.integer(message, "start", default=0)
        run.check_running()
        view = await self._view(run)
        entries = view.spec.get("inputFrom") or ()
        if index >= len(entries):
            raise bad("source", f"is {index}; spec.inputFrom has {len(entries)} entries")
        names = source_names(entries[index])[start : start + MAX_VALUES]
        answers: list[Message] = []
        size = 0
        for begin in range(0, len(names), CONCURRENT_READS):
            for content in await self._contents(view, names[begin : begin + CONCURRENT_READS]):
                answer = _told(content)
                size += len(pack_value(answer))
                if answers and size > MAX_ANSWER_BYTES:
                    return {"values": answers}
                answers.append(answer)
        return {"values": answers}

    async def compose(self, view: TaskView, content: Content) -> Content:
        """Return an input with the results in it, as one value.

        Raises:
            Refusal: ``too_large``: there are too many, or large ones; ``rejected``;
                ``unavailable``.
        """
        entries = view.spec.get("inputFrom") or ()
        if not entries:
            return content
        if sum(len(source_names(entry)) for entry in entries) > MAX_COMPOSED:
            raise _too_large(f"inputFrom names more than {MAX_COMPOSED} tasks")
        if content.field == "ref":
            raise _too_large("the input is large, and has results of other tasks in it")
        whole = copy.deepcopy(content.body)  # it is a part of the Task as cached
        for entry in entries:
            found = []
            for result in await self._contents(view, source_names(entry)):
                if result is not None and result.field == "ref":
                    raise _too_large("a result that is a part of the input is large")
                found.append(None if result is None else result.body)
            value = found if "tasks" in entry else found[0]
            whole = put(whole, entry.get("path") or "", value)
        return Content("value", whole)

    async def _view(self, run: Run) -> TaskView:
        try:
            return parse_task(await self._context.task_of(run))
        except ApiError as error:
            raise from_api(error) from error

    async def _contents(self, view: TaskView, names: list[str]) -> list[Content | None]:
        found = await asyncio.gather(
            *(self._content(view, name) for name in names), return_exceptions=True
        )
        contents = []
        for item in found:
            if isinstance(item, BaseException):
                raise from_api(item) if isinstance(item, ApiError) else item
            contents.append(item)
        return contents

    async def _content(self, view: TaskView, name: str) -> Content | None:
        """Return the result of a Task; None: it has not succeeded, or has no output."""
        async with self._reads:
            task = await read_object(self._context, TASKS, name)
            if task is None:
                raise _rejected(name, "does not exist (any more)")
            source = parse_task(task)
            if not _may_read(view, source):
                raise _rejected(name, f"belongs to another tree than {view.name}")
            if not source.state.terminal:
                raise _rejected(name, f"is {source.state}; it has no result yet")
            output = source.status.get("outputObject")
            if source.state is not TaskState.SUCCEEDED or not output:
                return None
            found = await read_object(self._context, TASKOBJECTS, output)
        labels = {} if found is None else found["metadata"].get("labels") or {}
        if (
            found is None
            or labels.get(LABEL_OUTPUT_OF) != source.uid
            or labels.get(LABEL_ATTEMPT, "1") != str(source.attempt)
        ):
            raise _rejected(name, f"has lost its output, TaskObject {output}")
        return content_of(found)


def source_names(entry: dict[str, Any]) -> list[str]:
    """Return the Tasks that an entry of ``spec.inputFrom`` names."""
    return list(entry["tasks"]) if entry.get("tasks") is not None else [entry["task"]]


def told_sources(spec: Any) -> list[Message]:
    """Return what the SDK is told of ``spec.inputFrom``: places and numbers."""
    return [
        {
            "path": entry.get("path") or "",
            "count": len(source_names(entry)) if entry.get("tasks") is not None else None,
        }
        for entry in spec.get("inputFrom") or ()
    ]


def put(whole: Any, path: str, value: Any) -> Any:
    """Return a JSON value with another one at the place that a JSON pointer names.

    Raises:
        Refusal: ``rejected``: there is no such place.
    """
    if not path:
        return value
    root = {} if whole is None else whole
    parts = [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]
    where = root
    try:
        for part in parts[:-1]:
            where = where[int(part)] if isinstance(where, list) else where.setdefault(part, {})
        if isinstance(where, list):
            where[int(parts[-1])] = value
        else:
            where[parts[-1]] = value
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise Refusal(
            ErrorCode.REJECTED, f"inputFrom: the input has no place {path} for a result"
        ) from error
    return root


def _may_read(view: TaskView, source: TaskView) -> bool:
    """Whether a Task may be given another's result: of its tree; to a root, that of a root.

    A root is made by a person, who may read them; a child by task code, which may not.
    """
    return source.root_uid == view.root_uid or (view.is_root and source.is_root)


def _told(content: Content | None) -> Message:
    if content is None:
        return {"value": None}
    return {"ref": content.body} if content.field == "ref" else {"value": content.body}


def _rejected(name: str, problem: str) -> Refusal:
    return Refusal(ErrorCode.REJECTED, f"inputFrom: task {name} {problem}")


def _too_large(what: str) -> Refusal:
    return Refusal(
        ErrorCode.TOO_LARGE, f"{what}: that cannot be handed over as one text; use the Python SDK"
    )
