"""An event loop in a thread of its own, for programs without one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

from taskctl.errors import TaskctlError

T = TypeVar("T")
_JOIN_S = 10.0
# Requests that were cancelled close their TLS connections in the background, for this long.
_GOODBYE_S = 0.1


class LoopThread:
    """Runs coroutines for threads that wait for them.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            if pending:
                self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
                self._loop.run_until_complete(asyncio.sleep(_GOODBYE_S))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    @property
    def alive(self) -> bool:
        """Whether coroutines are run."""
        return self._thread.is_alive() and not self._loop.is_closed()

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine.

        Raises:
            TaskctlError: the loop has ended, for example since the client was closed.
        """
        if not self.alive:
            work.close()
            raise TaskctlError("the client is closed; open another one")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for it; Ctrl-C cancels it.

        Raises:
            TaskctlError: the loop has ended, or it is the one that asks.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise TaskctlError("this would wait for itself; use the async client in async code")
        future = self.start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, source: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield what an asynchronous generator yields."""
        try:
            while True:
                try:
                    yield self.run(_next(source))
                except StopAsyncIteration:
                    return
        finally:
            with contextlib.suppress(TaskctlError):
                self.run(source.aclose())

    def call_soon(self, callback: Any, *args: Any) -> None:
        """Have the loop call a function; nothing happens when it has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args)

    def stop(self) -> None:
        """End the loop and the thread; what still runs is cancelled."""
        if self._thread.is_alive():
            self.call_soon(self._loop.stop)
            self._thread.join(_JOIN_S)


async def _next(source: AsyncGenerator[T, None]) -> T:
    return await source.__anext__()
