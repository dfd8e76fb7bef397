"""The log of a Task as lines, from its container, or from the workspace's copy if that is gone."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from taskctl.api.resources import TASKS
from taskctl.api.states import TaskState
from taskctl.errors import ApiError, BadRequest, NotFound, TaskctlError
from taskctl.kube.interface import LogOptions
from taskctl.outside.attempts import (
    TaskDeleted,
    last_begun,
    no_log_of_graph,
    place_of,
    wait_begun,
)
from taskctl.outside.logcopy import Copy, CopyError, Place, find_copy
from taskctl.outside.session import Session
from taskctl.policy.view import parse_task

# A line without an end must not fill the memory.
MAX_LINE_CHARS: Final = 1024 * 1024


class LogGone(TaskctlError):
    """The log is not to be had: the worker is gone, and there is no copy in a workspace."""


async def read_lines(
    session: Session, task: dict[str, Any], *, following: bool, attempt: int | None
) -> AsyncGenerator[str, None]:
    """Yield the lines of a Task's log without their ends.

    Args:
        session: client and namespace.
        task: the raw Task.
        following: wait for the start, and for what is added, over retries, until the Task is over.
        attempt: only that one; None: the latest, and when following all from there on.

    Raises:
        LogGone: it is not to be had, or there was no such attempt.
        ApiError: the API server refuses, or is away.
    """
    if parse_task(task).is_graph:
        raise LogGone(no_log_of_graph(task["metadata"]["name"]))
    if following and attempt is None:
        task = await _wait_begun(session, task, after=0)
    latest = last_begun(task)
    number = attempt or latest
    if not number or number > latest:
        if following and attempt is None:
            return  # it ended without a start
        raise LogGone(f"{task['metadata']['name']} has begun {latest} attempts; no log of {number}")
    while True:
        place = place_of(task, number)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        async with aclosing(_chunks(session, task, place, following=following)) as chunks:
            async for chunk in chunks:
                *lines, rest = (rest + decoder.decode(chunk)).split("\n")
                for line in lines:
                    yield line
                while len(rest) > MAX_LINE_CHARS:
                    yield rest[:MAX_LINE_CHARS]
                    rest = rest[MAX_LINE_CHARS:]
        rest += decoder.decode(b"", True)
        if rest:
            yield rest
        if not following or attempt is not None:
            return
        task = await _wait_begun(session, task, after=number)
        if last_begun(task) <= number:
            return
        number += 1


async def _chunks(
    session: Session, task: dict[str, Any], place: Place, *, following: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the log of an attempt in chunks, each byte once."""
    sent = 0
    try:
        if not place.pod:
            raise NotFound(f"attempt {place.attempt} of {place.task} left no worker behind")
        options = LogOptions(follow=following)
        log = session.client.stream_log(
            place.pod, session.namespace, place.container, options=options
        )
        async with aclosing(log) as chunks:
            async for chunk in chunks:
                yield chunk
                sent += len(chunk)
    except ApiError as error:
        copy = await find_copy(session, task)
        # What broke off can be continued where bytes can be counted: in the copy.
        if copy is None or (sent and isinstance(error, BadRequest)):
            raise _gone(place, error) from error
        async with aclosing(_copied(session, copy, place, sent, following=following)) as rest:
            async for chunk in rest:
                yield chunk


async def _copied(
    session: Session, copy: Copy, place: Place, offset: int, *, following: bool
) -> AsyncGenerator[bytes, None]:
    while True:
        over = not following or await _is_over(session, place)
        try:
            async with aclosing(copy.read(place, offset=offset)) as chunks:
                async for part in chunks:
                    yield part.data
                    offset = part.end
        except CopyError as error:
            raise _gone(place, error) from error
        if over:
            return
        await asyncio.sleep(copy.poll_s)


async def _is_over(session: Session, place: Place) -> bool:
    try:
        view = parse_task(await session.client.get(TASKS, place.task, session.namespace))
    except NotFound:
        return True
    same = view.uid == place.uid and view.attempt == place.attempt
    return not same or view.state is not TaskState.RUNNING


async def _wait_begun(session: Session, task: dict[str, Any], *, after: int) -> dict[str, Any]:
    try:
        return await wait_begun(session, task, after=after)
    except TaskDeleted as error:
        raise LogGone(str(error)) from error


def _gone(place: Place, error: Exception) -> LogGone:
    return LogGone(f"the log of attempt {place.attempt} of {place.task}: {error}")
