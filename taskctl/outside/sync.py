"""The client for programs without asyncio: the same methods, which wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, TypeVarTuple, Unpack, overload

from taskctl.api.states import TaskState
from taskctl.outside.client import (
    DEFAULT_CONCURRENCY,
    Client,
)
from taskctl.outside.handle import Handle
from taskctl.outside.here import submit_here_blocking
from taskctl.outside.info import TaskInfo
from taskctl.outside.loop import LoopThread
from taskctl.outside.options import Event, Options, Page, Settings
from taskctl.outside.tree import Tree
from taskctl.sdk._functions import Call
from taskctl.sdk.errors import ChildError

if TYPE_CHECKING:
    from taskctl.outside.operations.documents import Manifests
    from taskctl.outside.operations.shapes import Operation

R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SyncHandle(Generic[R]):
    """A Task that a client submitted or looked up; see :class:`taskctl.outside.handle.Handle`.

    Attributes:
        handle: the same for asyncio, which belongs to the client's own event loop.
    """

    def __init__(self, loop: LoopThread, handle: Handle[R]) -> None:
        self._loop = loop
        self.handle = handle

    def __repr__(self) -> str:
        return repr(self.handle)

    @property
    def name(self) -> str:
        """Name of the Task."""
        return self.handle.name

    @property
    def uid(self) -> str:
        """UID of the Task."""
        return self.handle.uid

    @property
    def namespace(self) -> str:
        """Namespace of the Task."""
        return self.handle.namespace

    def result(self, timeout: float | None = None) -> R:
        """Wait for the task and return what it returned; see ``Handle.result``."""
        return self._loop.run(self.handle.result(timeout))

    def exception(self, timeout: float | None = None) -> ChildError | None:
        """Wait for the task and return why it has no result; see ``Handle.exception``."""
        return self._loop.run(self.handle.exception(timeout))

    def wait(self, timeout: float | None = None, *, tree: bool = True) -> TaskInfo:
        """Wait until the task and what grew from it has ended; see ``Handle.wait``."""
        return self._loop.run(self.handle.wait(timeout, tree=tree))

    def status(self) -> TaskInfo:
        """Return the Task as it is now; see ``Handle.status``."""
        return self._loop.run(self.handle.status())

    def tree(self) -> Tree:
        """Return the task and all that grew from it; see ``Handle.tree``."""
        return self._loop.run(self.handle.tree())

    def logs(self, *, follow: bool = False, attempt: int | None = None) -> Iterator[str]:
        """Yield the lines of the task's log; see ``Handle.logs``."""
        return self._loop.iterate(self.handle.logs(follow=follow, attempt=attempt))

    def cancel(self, *, only: bool = False) -> None:
        """Stop the task and its descendants; see ``Handle.cancel``."""
        self._loop.run(self.handle.cancel(only=only))

    def retry(self, *, failed: bool = False) -> list[TaskInfo]:
        """Run the task again, or what failed of its tree; see ``Handle.retry``."""
        return self._loop.run(self.handle.retry(failed=failed))

    def delete(self) -> None:
        """Delete the task with its tree and results; see ``Handle.delete``."""
        self._loop.run(self.handle.delete())


class SyncClient:
    """Submits tasks and follows them. ``with SyncClient() as c:``; see :class:`Client`.

    It may be used from several threads. The arguments are those of :class:`Client`.
    """

    def __init__(self, **settings: Unpack[Settings]) -> None:
        self.client = Client(**settings)
        self._loop: LoopThread | None = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def connect(self) -> None:
        """Find the API server; ``with`` does it. No request is sent yet.

        Raises:
            ConfigError: there is none, or what describes it is wrong.
        """
        if self._loop is not None:
            return
        self._loop = LoopThread("taskctl client")
        try:
            self._loop.run(self.client.connect())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections. Tasks run on."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            loop.run(self.client.close())
        finally:
            loop.stop()

    @property
    def loop(self) -> LoopThread:
        """The client's own event loop.

        Raises:
            ConfigError: it was not opened, or is closed.
        """
        if self._loop is None:
            self.client.session  # noqa: B018 - raises
            raise AssertionError("an open client has a loop")
        return self._loop

    @property
    def namespace(self) -> str:
        """Where the Tasks are."""
        return self.client.namespace

    @overload
    def submit(
        self,
        target: Callable[[Unpack[Ts]], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        **options: Unpack[Options],
    ) -> SyncHandle[R]: ...
    @overload
    def submit(
        self,
        target: Callable[[Unpack[Ts]], R],
        /,
        *args: *Ts,
        **options: Unpack[Options],
    ) -> SyncHandle[R]: ...
    @overload
    def submit(
        self, target: Call[..., Coroutine[Any, Any, R]], /, **options: Unpack[Options]
    ) -> SyncHandle[R]: ...
    @overload
    def submit(self, target: Call[..., R], /, **options: Unpack[Options]) -> SyncHandle[R]: ...
    @overload
    def submit(self, target: Sequence[str], /, **options: Unpack[Options]) -> SyncHandle[Any]: ...
    def submit(  # type: ignore[misc]  # the overloads say what fits
        self, target: Any, /, *args: Any, **options: Any
    ) -> SyncHandle[Any]:
        """Create a Task that runs a function or a command; see ``Client.submit``."""
        loop = self.loop
        if options.get("debug"):  # in the caller's thread, which debuggers follow
            return SyncHandle(loop, submit_here_blocking(target, args, options))
        return SyncHandle(loop, loop.run(self.client.submit(target, *args, **options)))

    def execute(self, operation: Operation | Manifests) -> SyncHandle[dict[str, Any]]:
        """Run an operation; see :meth:`Client.execute`."""
        return SyncHandle(self.loop, self.loop.run(self.client.execute(operation)))

    def map(
        self,
        function: Callable[[T], R] | Callable[[T], Coroutine[Any, Any, R]],
        items: Iterable[T],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        **options: Unpack[Options],
    ) -> list[SyncHandle[R]]:
        """Create a Task for each item; see ``Client.map``."""
        loop = self.loop
        work = self.client.map(function, items, concurrency=concurrency, **options)
        return [SyncHandle(loop, handle) for handle in loop.run(work)]

    def gather(
        self, handles: Iterable[SyncHandle[R]], *, return_exceptions: bool = False
    ) -> list[R]:
        """Return the results of Tasks in their order; see ``Client.gather``."""
        waiting = [handle.handle for handle in handles]
        return self.loop.run(self.client.gather(waiting, return_exceptions=return_exceptions))

    def create(self, manifest: Mapping[str, Any]) -> SyncHandle[Any] | dict[str, Any]:
        """Create an object as it stands; see ``Client.create``."""
        made = self.loop.run(self.client.create(manifest))
        return SyncHandle(self.loop, made) if isinstance(made, Handle) else made

    def retry(self, name: str, *, failed: bool = False) -> list[TaskInfo]:
        """Run a Task again, or what failed of its tree; see ``Client.retry``."""
        return self.loop.run(self.client.retry(name, failed=failed))

    def get(self, name: str) -> SyncHandle[Any]:
        """Return the handle of a Task that exists; see ``Client.get``."""
        return SyncHandle(self.loop, self.loop.run(self.client.get(name)))

    def list(
        self,
        *,
        state: TaskState | str | None = None,
        cluster: str | None = None,
        selector: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> Page:
        """Return Tasks of the namespace; see ``Client.list``."""
        return self.loop.run(
            self.client.list(
                state=state,
                cluster=cluster,
                selector=selector,
                limit=limit,
                continue_token=continue_token,
            )
        )

    def watch(self, *, name: str | None = None, selector: str = "") -> Iterator[Event]:
        """Yield what happens to Tasks; see ``Client.watch``."""
        return self.loop.iterate(self.client.watch(name=name, selector=selector))

    def delete(self, name: str, *, uid: str = "") -> None:
        """Delete a Task with its tree and results; see ``Client.delete``."""
        self.loop.run(self.client.delete(name, uid=uid))
