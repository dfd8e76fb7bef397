"""``concurrent.futures.Executor`` on tasks."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from typing import Any, Final, ParamSpec, TypeVar, Unpack

from taskctl.api.states import TaskState
from taskctl.errors import ConfigError
from taskctl.outside.client import DEFAULT_CONCURRENCY
from taskctl.outside.handle import Handle
from taskctl.outside.options import Options, Settings
from taskctl.outside.outcome import state_of
from taskctl.outside.shipping import as_task
from taskctl.outside.sync import SyncClient
from taskctl.sdk._functions import Call
from taskctl.sdk.errors import ChildCancelled

P = ParamSpec("P")
R = TypeVar("R")
_BEGUN: Final = frozenset({TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.FAILED})


class TaskExecutor(Executor):
    """Runs functions as tasks behind the interface of :mod:`concurrent.futures`.

    ::

        with taskctl.Executor() as executor:
            print(list(executor.map(f, range(1000))))

    A future that is cancelled before its task has begun cancels the task. What a function raises
    arrives as :class:`taskctl.sdk.ChildFailed`, with the exception's last line.

    Args:
        client: an open client to use, which stays open; None: one of its own.
        concurrency: so many tasks are created at the same time.
        options: of all tasks, as those of :meth:`taskctl.Client.submit`.
        settings: of its own client, as those of :class:`taskctl.Client`.
    """

    def __init__(
        self,
        client: SyncClient | None = None,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        options: Options | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        if client is not None and settings:
            raise ConfigError(f"{next(iter(settings))}: is a setting of the client that is given")
        self._own = client is None
        self._client = client or SyncClient(**settings)
        self._client.connect()
        self._options: Any = dict(options or {})
        if self._options.get("debug"):
            raise TypeError("debug: an Executor runs nothing in this process; use Client.submit")
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._shut = False
        self._gate = asyncio.Semaphore(concurrency)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a function as a task; see ``concurrent.futures.Executor.submit``.

        Raises:
            RuntimeError: after :meth:`shutdown`.
            Unsendable: it is not a function that can be a task.
        """
        call: Call[Any, Any] = Call(as_task(fn), args, kwargs)
        return self._start(lambda: self._client.client.submit(call, **self._options))

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Run a function on all items; see ``concurrent.futures.Executor.map``.

        Args:
            fn: takes as many arguments as there are iterables.
            iterables: of arguments; the shortest one counts.
            timeout: seconds from now for all results.
            chunksize: so many calls are one task.
            buffersize: so many tasks at most are ahead of the iteration; None: no limit.

        Raises:
            TimeoutError: while iterating: a result is not there in time.
            ValueError: chunksize or buffersize is not positive.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end_s = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables, strict=False)
        function = as_task(fn)

        def start(chunk: tuple[tuple[Any, ...], ...]) -> Future[list[R]]:
            if chunksize == 1:
                call: Call[Any, Any] = Call(function, chunk[0], {})
                return self._start(lambda: self._client.client.submit(call, **self._options))
            return self._start(
                lambda: self._client.client.submit_many(function, chunk, **self._options)
            )

        chunks = iter(lambda: tuple(itertools.islice(items, chunksize)), ())
        # As in the standard library, the tasks start now, not when the iteration begins.
        futures = [start(chunk) for chunk in itertools.islice(chunks, buffersize)]
        return _results(futures, chunks, start, end_s, single=chunksize == 1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more functions; see ``concurrent.futures.Executor.shutdown``.

        Args:
            wait: until all tasks have ended.
            cancel_futures: cancel those that have not begun.
        """
        with self._lock:
            first, self._shut = not self._shut, True
            waiting = list(self._open)
        if cancel_futures:
            for future in waiting:
                future.cancel()
        if wait:
            for future in waiting:
                _settled(future)
            if self._own:
                self._client.close()
        elif first and self._own:
            closer = threading.Thread(
                target=self._close_later, args=(waiting,), name="taskctl executor", daemon=True
            )
            closer.start()

    def _close_later(self, waiting: list[Future[Any]]) -> None:
        for future in waiting:
            _settled(future)
        self._client.close()

    def _start(self, create: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._open.add(future)
            self._client.loop.start(self._drive(future, create))
        return future

    async def _drive(self, future: Future[Any], create: Callable[[], Any]) -> None:
        """Create the task of a future, and settle the future when the task has ended."""
        try:
            async with self._gate:
                if future.cancelled():
                    return
                handle: Handle[Any] = await create()
            await self._follow(future, handle)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the future hands it to its reader
            if _begin(future):
                future.set_exception(error)
        finally:
            with self._lock:
                self._open.discard(future)
            if future.cancelled():
                # Tells wait() and as_completed().
                future.set_running_or_notify_cancel()

    async def _follow(self, future: Future[Any], handle: Handle[Any]) -> None:
        loop = asyncio.get_running_loop()
        called_off = asyncio.Event()
        future.add_done_callback(
            lambda done: loop.call_soon_threadsafe(called_off.set) if done.cancelled() else None
        )

        def seen(task: dict[str, Any]) -> None:
            if TaskState(state_of(task)) in _BEGUN:
                _begin(future)

        ending = asyncio.ensure_future(handle.ended(seen))
        stopping = asyncio.ensure_future(called_off.wait())
        try:
            await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if future.cancelled() or not _begin(future):
                await handle.cancel()
                return
            try:
                future.set_result(await handle.result())
            except ChildCancelled as error:
                future.set_exception(CancelledError(str(error)))
        finally:
            for pending in (ending, stopping):
                pending.cancel()
            await asyncio.gather(ending, stopping, return_exceptions=True)


def _begin(future: Future[Any]) -> bool:
    """Say that a future's task runs; False: it was cancelled, or is over."""
    if future.running():
        return True
    if future.done():
        return False
    try:
        return future.set_running_or_notify_cancel()
    except RuntimeError:
        return False


def _settled(future: Future[Any]) -> None:
    """Wait for a future, however it ends."""
    try:
        future.exception()
    except CancelledError:
        return


def _results(
    futures: list[Future[Any]],
    chunks: Iterator[tuple[tuple[Any, ...], ...]],
    start: Callable[[tuple[tuple[Any, ...], ...]], Future[Any]],
    end_s: float | None,
    *,
    single: bool,
) -> Iterator[Any]:
    futures.reverse()
    try:
        while futures:
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            result = futures[-1].result(left_s)
            futures.pop()
            following = next(chunks, None)
            if following is not None:
                futures.insert(0, start(following))
            if single:
                yield result
            else:
                yield from result
    finally:
        for future in futures:
            future.cancel()
