"""Reading what Tasks have returned: few one by one, many by lists.

It is always the output of the last attempt that counts. An output's labels say whose it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from taskctl.agent import jsoncheck
from taskctl.agent.context import Context
from taskctl.agent.objects import GIVE_UP_AFTER_S, read_object
from taskctl.agent.peers import out_of_reach
from taskctl.agent.values import Content, content_of
from taskctl.api.resources import TASKOBJECTS
from taskctl.constants import LABEL_ATTEMPT, LABEL_OUTPUT_OF
from taskctl.kube.interface import ListOptions
from taskctl.wire import Message, pack_value

CONCURRENT_READS: Final = 16
FEW: Final = 4  # so many are read one by one
MAX_LISTED: Final = 100  # UIDs in a selector: the URL stays below 8 KiB
_FIRST_LISTED: Final = 20
_LIST_TARGET_BYTES: Final = 1024 * 1024  # of an answer of the API server


@dataclass(frozen=True, slots=True)
class Returned:
    """A Task that has succeeded.

    Attributes:
        uid: of the Task.
        attempt: its last.
        output: name of its TaskObject; empty: it has none.
        value: a small output that stands in its status, as JSON (many are kept); empty: there is
            none.
    """

    uid: str
    attempt: int
    output: str = ""
    value: bytes = b""

    @classmethod
    def by(cls, uid: str, status: Mapping[str, Any]) -> Returned:
        """Take one from the status of a Task."""
        value = status.get("output")
        small = b"" if value is None else jsoncheck.compact(value)
        return cls(uid, status.get("attempt") or 1, status.get("outputObject") or "", small)


@dataclass(frozen=True, slots=True)
class Lost:
    """Stands for a result that cannot be had; says why."""

    why: str


class ResultReader:
    """Reads results.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._requests = asyncio.Semaphore(CONCURRENT_READS)

    async def read(self, tasks: Sequence[Returned], limit_bytes: int = 0) -> list[Content | Lost]:
        """Return the results of Tasks, in their order.

        Args:
            tasks: what is to be read.
            limit_bytes: ends when so much was read, after one result at least; 0: no limit.

        Raises:
            ApiError: the API server refused, or was away for 20 s.
        """
        done: list[Content | Lost] = []
        size, step = 0, min(len(tasks), _FIRST_LISTED)
        while len(done) < len(tasks):
            part = tasks[len(done) : len(done) + step]
            found = await self._objects([task for task in part if task.output])
            for task in part:
                result = await self._checked(task, found.get(task.output))
                weight = weight_of(result)
                size += weight
                if limit_bytes and done and size > limit_bytes:
                    return done
                done.append(result)
            average = max(1, size // len(done))
            step = max(1, min(MAX_LISTED, _LIST_TARGET_BYTES // average))
        return done

    async def _checked(self, task: Returned, found: dict[str, Any] | None) -> Content | Lost:
        result = _checked(task, found)
        if found is None or isinstance(result, Lost) or result.field != "ref":
            return result
        away = await out_of_reach(self._context, found)
        return Lost(f"TaskObject {task.output}: {away}") if away else result

    async def _objects(self, tasks: Sequence[Returned]) -> dict[str, dict[str, Any]]:
        """Return the TaskObjects that are there, by name."""
        if len(tasks) > FEW:
            return await self._listed(tasks)
        found = await asyncio.gather(*(self._one(task.output) for task in tasks))
        return {item["metadata"]["name"]: item for item in found if item is not None}

    async def _one(self, name: str) -> dict[str, Any] | None:
        async with self._requests:
            return await read_object(self._context, TASKOBJECTS, name)

    async def _listed(self, tasks: Sequence[Returned]) -> dict[str, dict[str, Any]]:
        context = self._context
        uids = ",".join(dict.fromkeys(task.uid for task in tasks))
        options = ListOptions(label_selector=f"{LABEL_OUTPUT_OF} in ({uids})")
        async with self._requests:
            page = await context.retrier.call(
                "list outputs",
                lambda: context.client.list_all(TASKOBJECTS, context.namespace, options=options),
                give_up_after_s=GIVE_UP_AFTER_S,
            )
        return {item["metadata"]["name"]: item for item in page.items}


def _checked(task: Returned, found: dict[str, Any] | None) -> Content | Lost:
    """Return a result, if the object is the output of that attempt of that Task.

    A Task of the same name may have taken its place, or a retried one has written another.
    """
    if task.value:
        return Content("value", jsoncheck.parse(task.value))
    if not task.output:
        return Content("value", None)
    if found is None:
        return Lost(f"its output, TaskObject {task.output}, was deleted")
    labels = found["metadata"].get("labels") or {}
    own = labels.get(LABEL_OUTPUT_OF) == task.uid
    if not own or labels.get(LABEL_ATTEMPT, "1") != str(task.attempt):
        return Lost(f"TaskObject {task.output} is not the output of its last attempt")
    return content_of(found)


def weight_of(result: Content | Lost) -> int:
    """Return about how many bytes a result has in an answer."""
    if isinstance(result, Lost) or result.field == "ref":
        return 300
    return len(pack_value(result.body))


def told(result: Content) -> Message:
    """Return a result as the SDK is told."""
    return {"ref": result.body} if result.field == "ref" else {"value": result.body}
