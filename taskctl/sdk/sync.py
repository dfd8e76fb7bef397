"""The functions of :mod:`taskctl.sdk` for code without ``async``: they wait.

    from taskctl.sdk.sync import gather, output, spawn

Inside a running event loop use those of :mod:`taskctl.sdk`; these would hold it up.
"""

from __future__ import annotations

from taskctl.sdk import _cancel, _env
from taskctl.sdk._child import SpawnedChild, Tracker, check_children, check_no_arguments
from taskctl.sdk._specs import (
    child,
    continuation,
    info_operation,
    output_operation,
    progress_operation,
    spawn_operation,
)
from taskctl.sdk._types import R, R_co, overload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Literal, TypeVar, Unpack

    from taskctl.sdk._exchange import Operation
    from taskctl.sdk._functions import TaskFunction
    from taskctl.sdk._sources import Group
    from taskctl.sdk._specs import ChildSpec, Info, Named, Options, Target
    from taskctl.sdk._types import (
        F1,
        F2,
        A,
        AnyCall,
        Awaited,
        B,
        Command,
        FList,
        FMore,
        Future,
        Futures,
        Ts,
    )
    from taskctl.sdk.errors import ChildError

    T = TypeVar("T")

__all__ = [
    "Child",
    "as_completed",
    "gather",
    "info",
    "output",
    "progress",
    "spawn",
    "spawn_many",
    "wait",
]


class Child(SpawnedChild[R_co]):
    """A child task that exists; see :class:`taskctl.sdk.Child`."""

    __slots__ = ()

    def result(self) -> R_co:
        """Wait until it has ended, and return its output; see :meth:`taskctl.sdk.Child.result`."""
        return gather([self])[0]

    def cancel(self) -> bool:
        """Cancel it with all its descendants; return whether it was still to be cancelled."""
        from taskctl.sdk._results import cancel_operation

        return _perform(cancel_operation([self])) > 0


@overload
def gather(children: Iterable[Child[R]]) -> list[R]: ...
@overload
def gather(
    children: Iterable[Child[R]], *, return_exceptions: Literal[False], min_success: None = None
) -> list[R]: ...
@overload
def gather(
    children: Iterable[Child[R]], *, return_exceptions: bool = False, min_success: int | None = None
) -> list[R | ChildError]: ...
@overload
def gather(
    children: Iterable[Child[Any]] | Group,
    *,
    then: TaskFunction[..., Awaited[R]],
    return_exceptions: bool = False,
    min_success: int | None = None,
    **arguments: Any,
) -> Child[R]: ...
@overload
def gather(
    children: Iterable[Child[Any]] | Group,
    *,
    then: TaskFunction[..., R],
    return_exceptions: bool = False,
    min_success: int | None = None,
    **arguments: Any,
) -> Child[R]: ...
def gather(
    children: Iterable[Child[Any]] | Group,
    *,
    return_exceptions: bool = False,
    min_success: int | None = None,
    then: TaskFunction[..., Any] | None = None,
    **arguments: Any,
) -> Any:
    """Return the results of children in their order; see :func:`taskctl.sdk.gather`."""
    from taskctl.sdk._results import Gathering, values_operation

    found = check_children(children, "gather", then is not None)
    if then is not None:
        spec = continuation(found, then, arguments, return_exceptions, min_success)
        return _perform(spawn_operation([spec], Child))[0]
    check_no_arguments(arguments)
    gathering = Gathering(found, return_exceptions, min_success)
    while gathering.open:
        _until(gathering.settled)
        gathering.take(_perform(values_operation(gathering.succeeded())))
    return gathering.results()


def as_completed(children: Iterable[Child[R]]) -> Iterator[Child[R]]:
    """Yield children as they end, however they end; see :func:`taskctl.sdk.as_completed`."""
    return _as_completed(check_children(children, "as_completed"))


def _as_completed(children: list[Child[R]]) -> Iterator[Child[R]]:
    from taskctl.sdk._results import board

    tracker, given = Tracker(board, children), 0
    total = len(tracker.pending) + len(tracker.done)
    while given < total:

        def more(given: int = given) -> bool:
            tracker.update()
            return len(tracker.done) > given

        _until(more)
        yield tracker.done[given]
        given += 1


def wait(
    children: Iterable[Child[R]], *, first: int | None = None, timeout: float | None = None
) -> tuple[list[Child[R]], list[Child[R]]]:
    """Wait until children have ended, however they end; see :func:`taskctl.sdk.wait`."""
    from taskctl.sdk._results import board, check_first

    tracker = Tracker(board, check_children(children, "wait"))
    wanted = check_first(first, len(tracker.pending) + len(tracker.done))

    def enough() -> bool:
        tracker.update()
        return len(tracker.done) >= wanted

    _until(enough, timeout)
    return list(tracker.done), list(tracker.pending.values())


@overload
def spawn(target: AnyCall[Awaited[R]], /, **options: Unpack[Named]) -> Child[R]: ...
@overload
def spawn(target: AnyCall[R], /, **options: Unpack[Named]) -> Child[R]: ...
@overload
def spawn(
    target: Callable[[Unpack[Ts]], Awaited[R]], /, *args: Unpack[Ts], **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(
    target: Callable[[Unpack[Ts]], R], /, *args: Unpack[Ts], **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(target: F1[A, Awaited[R]], a: Future[A], /, **options: Unpack[Named]) -> Child[R]: ...
@overload
def spawn(
    target: F2[A, B, Awaited[R]], a: Future[A], b: Future[B], /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(
    target: F2[A, B, Awaited[R]], a: Future[A], b: B, /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(
    target: F2[A, B, Awaited[R]], a: A, b: Future[B], /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(target: F1[A, R], a: Future[A], /, **options: Unpack[Named]) -> Child[R]: ...
@overload
def spawn(
    target: F2[A, B, R], a: Future[A], b: Future[B], /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(target: F2[A, B, R], a: Future[A], b: B, /, **options: Unpack[Named]) -> Child[R]: ...
@overload
def spawn(target: F2[A, B, R], a: A, b: Future[B], /, **options: Unpack[Named]) -> Child[R]: ...
@overload
def spawn(
    target: FList[A, Awaited[R]], a: Futures[A], /, *args: Any, **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(
    target: FMore[A, Awaited[R]],
    a: Future[A],
    b: Any,
    c: Any,
    /,
    *args: Any,
    **options: Unpack[Named],
) -> Child[R]: ...
@overload
def spawn(
    target: FList[A, R], a: Futures[A], /, *args: Any, **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(
    target: FMore[A, R], a: Future[A], b: Any, c: Any, /, *args: Any, **options: Unpack[Named]
) -> Child[R]: ...
@overload
def spawn(target: Command, /, **options: Unpack[Named]) -> Child[Any]: ...
def spawn(  # type: ignore[misc]  # the overloads say what fits
    target: Target,
    *args: Any,
    key: str | None = None,
    name: str | None = None,
    **options: Unpack[Options],
) -> Child[Any]:
    """Create a child task; see :func:`taskctl.sdk.spawn`."""
    spec = child(target, *args, key=key, name=name, **options)
    return _perform(spawn_operation([spec], Child))[0]


@overload
def spawn_many(specs: Iterable[AnyCall[Awaited[R]]]) -> list[Child[R]]: ...
@overload
def spawn_many(specs: Iterable[AnyCall[R]]) -> list[Child[R]]: ...
@overload
def spawn_many(specs: Iterable[ChildSpec[R]]) -> list[Child[R]]: ...
@overload
def spawn_many(specs: Iterable[ChildSpec[Any] | Target]) -> list[Child[Any]]: ...
def spawn_many(specs: Iterable[Any]) -> list[Child[Any]]:
    """Create many children at once; see :func:`taskctl.sdk.spawn_many`."""
    return _perform(spawn_operation(specs, Child))


def output(value: Any) -> str:
    """Set the task's output; see :func:`taskctl.sdk.output`."""
    return _perform(output_operation(value))


def progress(done: int, total: int = 0, message: str = "") -> None:
    """Show on the Task how far it is; see :func:`taskctl.sdk.progress`."""
    _perform(progress_operation(done, total, message))


def info() -> Info:
    """Return what the agent knows now; see :func:`taskctl.sdk.info`."""
    return _perform(info_operation())


def _perform(operation: Operation[T]) -> T:
    _env.endpoint()
    _cancel.install()
    from taskctl.sdk._blocking import perform

    return perform(operation)


# Threads that wait ask one after another, so no question may take long.
_ASK_S = 2.0


def _until(satisfied: Callable[[], bool], timeout_s: float | None = None) -> None:
    """Wait until a condition on what is known of children holds, or the time is up."""
    import time

    from taskctl.sdk._blocking import call
    from taskctl.sdk._results import board

    _env.endpoint()
    _cancel.install()
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    ask_s = min(_ASK_S, _env.deadline_s() / 2)
    asked = False
    while not satisfied():
        left_s = ask_s if end_s is None else end_s - time.monotonic()
        if left_s <= 0 and asked:
            return
        answer = call(board.request(min(ask_s, left_s) if asked else 0.0), apart=True)
        board.take(answer)
        asked = True
