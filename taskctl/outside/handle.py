"""A submitted Task: its result, state, tree and log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taskctl.api.resources import TASKS
from taskctl.api.states import CancelScope, TaskState
from taskctl.clock import SystemClock
from taskctl.constants import FIELD_ROOT_UID
from taskctl.errors import NotFound
from taskctl.kube.interface import ListOptions, PatchOptions
from taskctl.outside.attempts import TaskDeleted
from taskctl.outside.info import TaskInfo
from taskctl.outside.rerunning import Rerunner
from taskctl.outside.tree import Tree, tree_of
from taskctl.outside.values import ValueUnreadable
from taskctl.policy.view import parse_task
from taskctl.sdk.errors import (
    ChildCancelled,
    ChildError,
    ChildFailed,
    ChildGone,
    ChildSkipped,
)

if TYPE_CHECKING:
    from taskctl.outside.client import Client

R = TypeVar("R")
_KINDS = {TaskState.CANCELLED: ChildCancelled, TaskState.SKIPPED: ChildSkipped}


class Handle(Generic[R]):
    """A Task that a client submitted or looked up. ``await handle`` is its result.

    Attributes:
        name: of the Task.
        uid: of the Task.
        namespace: of the Task.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        uid: str,
        decode: Callable[[Any, str], R] | None,
        *,
        own: bool = True,
    ) -> None:
        self._client = client
        self._tracker = client.tracker_of(name, own=own)
        self._decode = decode
        self.name = name
        self.uid = uid
        self.namespace = client.namespace

    def __repr__(self) -> str:
        return f"<task {self.namespace}/{self.name}>"

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> R:  # noqa: ASYNC109 - as in the stdlib
        """Wait until the task has ended; return what it returned.

        Its descendants may still run: :meth:`wait` waits for them, too.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            ChildFailed: the task failed; with reason, exit code and the end of its log.
            ChildCancelled: it was cancelled.
            ChildSkipped: its ``when`` ruled it out.
            ChildGone: it, or its result, was deleted.
            ValueUnreadable: the result is in the workspace and cannot be read.
            InputInvalid: the result is not what the function's annotation says.
            TimeoutError: it has not ended in time; it runs on.
            ApiError: the API server refuses, or has been away for long.
        """
        async with asyncio.timeout(timeout):
            task = await self._ended()
            self._raise_unless_success(task)
            try:
                found = await self._client.values.output_of(task)
            except ValueUnreadable:
                if await self.status_or_none() is not None:
                    raise
                raise self._gone_error() from None
        plain = None if found is None else found.plain
        if self._decode is None:
            return plain  # type: ignore[return-value]  # no annotation is known: JSON
        return self._decode(plain, f"the result of {self.name}")

    async def exception(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as in the stdlib
    ) -> ChildError | None:
        """Wait until the task has ended; return why it has no result, or None if it has one.

        Raises:
            TimeoutError: it has not ended in time.
            ApiError: the API server refuses, or has been away for long.
        """
        try:
            async with asyncio.timeout(timeout):
                self._raise_unless_success(await self._ended())
        except ChildError as error:
            return error
        return None

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as in the stdlib
        *,
        tree: bool = True,
    ) -> TaskInfo:
        """Wait until the task has ended, however it ends.

        Args:
            timeout: seconds; None: as long as it takes.
            tree: all its descendants, too, where it is a root.

        Raises:
            ChildGone: it was deleted before.
            TimeoutError: it has not ended in time.
            ApiError: the API server refuses, or has been away for long.
        """
        async with asyncio.timeout(timeout):
            info = TaskInfo(await self._ended())
            if not tree or info.complete:
                return info
            async for event in self._client.watch(name=self.name):
                info = event.task
                if info.uid != self.uid or event.type == "DELETED":
                    raise self._gone_error()
                if info.complete:
                    return info
        raise self._gone_error()

    async def status(self) -> TaskInfo:
        """Return the Task as it is now.

        Raises:
            ChildGone: it was deleted.
            ApiError: the API server refuses, or is away.
        """
        info = await self.status_or_none()
        if info is None:
            raise self._gone_error()
        return info

    async def status_or_none(self) -> TaskInfo | None:
        """Return the Task as it is now; None: it was deleted."""
        try:
            raw = await self._client.session.client.get(TASKS, self.name, self.namespace)
        except NotFound:
            return None
        return TaskInfo(raw) if raw["metadata"]["uid"] == self.uid else None

    async def tree(self) -> Tree:
        """Return the task and all that grew from it.

        Raises:
            ChildGone: it was deleted.
            ApiError: the API server refuses, or is away.
        """
        top = await self.status()
        root_uid = (top.raw["spec"].get("lineage") or {}).get("rootUID") or self.uid
        options = ListOptions(field_selector=f"{FIELD_ROOT_UID}={root_uid}")
        page = await self._client.session.client.list_all(TASKS, self.namespace, options=options)
        return tree_of(top.raw, page.items)

    async def logs(
        self, *, follow: bool = False, attempt: int | None = None
    ) -> AsyncGenerator[str, None]:
        """Yield the lines of the task's log.

        Args:
            follow: wait for the start, and continue until the task is over, its retries included.
            attempt: only that one; default: the latest.

        Raises:
            LogGone: it is not to be had.
            ApiError: the API server refuses, or is away.
        """
        from contextlib import aclosing

        from taskctl.outside.logs import read_lines

        top = await self.status()
        lines = read_lines(self._client.session, dict(top.raw), following=follow, attempt=attempt)
        async with aclosing(lines):
            async for line in lines:
                yield line

    async def cancel(self, *, only: bool = False) -> None:
        """Stop the task and its descendants; what waits never starts. Harmless when it has ended.

        Args:
            only: the task alone; its descendants run on.

        Raises:
            ApiError: the API server refuses, or is away.
        """
        scope = CancelScope.TASK.value if only else None
        body = {
            "metadata": {"uid": self.uid},
            "spec": {"cancel": True, "cancelScope": scope},
        }
        try:
            await self._client.session.client.patch(
                TASKS, self.name, self.namespace, body, options=PatchOptions(idempotent=True)
            )
        except NotFound:
            return

    async def retry(self, *, failed: bool = False) -> list[TaskInfo]:
        """Run the task again, as a further attempt, which :meth:`result` and :meth:`wait` tell of.

        Of a root with tasks (``spec.tasks``) those run again that did not succeed.

        Args:
            failed: run again, at any depth, all that did not succeed of the task and of what is
                below it. What has succeeded stays, with its results.

        Returns:
            The Tasks that were queued again; none where ``failed`` finds nothing to do.

        Raises:
            RetryRefused: it cannot be run again, for example as it still runs; says why.
            ChildGone: it was deleted.
            ApiError: the API server refuses, or is away.
        """
        session = self._client.session
        rerunner = Rerunner(session, SystemClock())
        try:
            queued = await rerunner.retry(self.name, failed=failed, uid=self.uid)
        except NotFound:
            raise self._gone_error() from None
        above = []
        if queued:
            with suppress(NotFound):
                root = parse_task(queued[0]).root_name
                above = [await session.client.get(TASKS, root, self.namespace)]
        # Otherwise who waits from now on would be told of the end that was.
        self._client.renew([*queued, *above])
        return [TaskInfo(task) for task in queued]

    async def delete(self) -> None:
        """Delete the task with its tree and results. Harmless when it is gone.

        Raises:
            ApiError: the API server refuses, or is away.
        """
        await self._client.delete(self.name, uid=self.uid)

    async def ended(self, seen: Callable[[dict[str, Any]], None] | None = None) -> TaskInfo:
        """Wait until the task itself has ended; ``seen`` is told of each change on the way."""
        return TaskInfo(await self._ended(seen))

    async def _ended(self, seen: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
        try:
            return await self._tracker.ended(self.name, self.uid, seen)
        except TaskDeleted:
            raise self._gone_error() from None

    def _raise_unless_success(self, task: dict[str, Any]) -> None:
        info = TaskInfo(task)
        if info.state is TaskState.SUCCEEDED:
            return
        kind = _KINDS.get(info.state, ChildFailed)
        raise kind(
            self,
            state=info.state.value,
            reason=info.reason,
            message=info.message,
            exit_code=info.exit_code,
            attempt=info.attempt,
        )

    def _gone_error(self) -> ChildGone:
        return ChildGone(self, state="Deleted", reason="Deleted", message="it was deleted")
