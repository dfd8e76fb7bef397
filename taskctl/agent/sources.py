"""``spec.inputFrom``: results of other Tasks that are parts of a run's input.

They are read when the task asks for its input, so it is always the last attempt that counts. The
SDK asks for them part by part, of any number; who takes the input as one text gets it composed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from taskctl.agent import fields, jsoncheck, resultread
from taskctl.agent.context import Context
from taskctl.agent.fields import bad
from taskctl.agent.objects import ObjectStore
from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.agent.resultread import Lost, ResultReader, Returned
from taskctl.agent.runs import Run
from taskctl.agent.sourcetasks import Source, SourceTasks, rejected
from taskctl.agent.values import Content
from taskctl.errors import ApiError
from taskctl.policy.view import TaskView, parse_task
from taskctl.wire import Message

MAX_VALUES: Final = 200  # in an answer
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
MAX_COMPOSED: Final = 10_000
MAX_COMPOSED_BYTES: Final = 8 * 1024 * 1024
NO_RESULT: Final = Content("value", None)


class Sources:
    """Reads what ``spec.inputFrom`` names.

    Args:
        context: of the agent.
        objects: reads what lies in the workspace.
    """

    def __init__(self, context: Context, objects: ObjectStore) -> None:
        self._context = context
        self._objects = objects
        self._reader = ResultReader(context)
        self._tasks = SourceTasks(context)

    async def told(self, run: Run, task: Mapping[str, Any]) -> list[Message]:
        """Return what the SDK is told of ``spec.inputFrom``: places and numbers.

        Raises:
            ApiError: the API server refused, or was away for 20 s.
        """
        entries = task["spec"].get("inputFrom") or ()
        told: list[Message] = []
        for index, entry in enumerate(entries):
            count: int | None = None
            if entry.get("group"):  # how many there are is not in the spec
                count = len((await self._of(run, parse_task(task)))[index])
            elif entry.get("tasks") is not None:
                count = len(entry["tasks"])
            told.append({"path": entry.get("path") or "", "count": count})
        return told

    async def sources(self, run: Run, message: Message) -> Message:
        """Return results of one entry of ``spec.inputFrom``, from a position on.

        Raises:
            Refusal: ``bad_request``, ``superseded``, ``rejected`` or ``unavailable``.
        """
        index = fields.integer(message, "source")
        start = fields.integer(message, "start", default=0)
        run.check_running()
        try:
            view = parse_task(await self._context.task_of(run))
            entries = view.spec.get("inputFrom") or ()
            if index >= len(entries):
                raise bad("source", f"is {index}; spec.inputFrom has {len(entries)} entries")
            wanted = (await self._of(run, view))[index][start : start + MAX_VALUES]
            results = await self._results(view, wanted, MAX_ANSWER_BYTES)
        except ApiError as error:
            raise from_api(error) from error
        return {"values": [resultread.told(result) for result in results]}

    async def compose(self, run: Run, view: TaskView, content: Content) -> Content:
        """Return an input with the results in it, as one value.

        Raises:
            Refusal: ``too_large``; ``rejected``; ``unavailable``.
            ApiError: the API server refused, or was away for 20 s.
        """
        entries = view.spec.get("inputFrom") or ()
        if not entries:
            return content
        parts = await self._of(run, view)
        if sum(map(len, parts)) > MAX_COMPOSED:
            raise _too_large(f"inputFrom has more than {MAX_COMPOSED} results")
        left = MAX_COMPOSED_BYTES
        whole, left = await self._plain(content, left)
        whole = copy.deepcopy(whole)  # it is a part of the Task as cached
        for entry, part in zip(entries, parts, strict=True):
            found: list[Any] = []
            while len(found) < len(part):
                for result in await self._results(view, part[len(found) :], MAX_ANSWER_BYTES):
                    plain, left = await self._plain(result, left)
                    found.append(plain)
            value = found[0] if entry.get("task") else found
            whole = put(whole, entry.get("path") or "", value)
        return Content("value", whole)

    async def _plain(self, content: Content, left: int) -> tuple[Any, int]:
        """Return a value, read from the workspace if it lies there, and what is left of a limit."""
        if content.field != "ref":
            left -= resultread.weight_of(content)
        else:
            left -= content.body["size"]
        if left < 0:
            raise _too_large(f"the input with its results has over {MAX_COMPOSED_BYTES} bytes")
        if content.field != "ref":
            return content.body, left
        return jsoncheck.parse(await self._objects.as_json(content, "a result")), left

    async def _of(self, run: Run, view: TaskView) -> list[list[Source]]:
        """Return the tasks of all entries; they are looked up once in a run."""
        async with run.sources_lock:
            if run.sources is None:
                run.sources = await self._tasks.of(view)
            found: list[list[Source]] = run.sources
            return found

    async def _results(
        self, view: TaskView, sources: list[Source], limit_bytes: int
    ) -> list[Content]:
        """Return results in their order, as many as fit, one at least."""
        for source in sources:
            if not source.ended:
                await self._tasks.renew(view, source)
            if not source.ended:
                raise rejected(source.name, f"is {source.state}; it has no result yet")
        wanted = [source.returned for source in sources if source.returned is not None]
        found = await self._reader.read(wanted, limit_bytes)
        results: list[Content] = []
        position = 0
        for source in sources:
            if source.returned is None:
                results.append(NO_RESULT)
                continue
            if position == len(found):
                break
            result = found[position]
            position += 1
            if isinstance(result, Lost):
                result = await self._again(view, source, result)
            results.append(result)
        return results

    async def _again(self, view: TaskView, source: Source, lost: Lost) -> Content:
        """Read a result once more: the task may have run again since it was looked up."""
        before: Returned | None = source.returned
        await self._tasks.renew(view, source)
        if not source.ended:
            raise rejected(source.name, f"is {source.state}; it has no result yet")
        if source.returned is None:
            return NO_RESULT
        if source.returned != before:
            [result] = await self._reader.read([source.returned])
            if isinstance(result, Content):
                return result
            lost = result
        raise rejected(source.name, f"has a result that cannot be had: {lost.why}")


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


def _too_large(what: str) -> Refusal:
    return Refusal(
        ErrorCode.TOO_LARGE, f"{what}: that cannot be handed over as one text; use the Python SDK"
    )
