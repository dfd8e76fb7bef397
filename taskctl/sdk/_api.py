"""The functions for ``async`` code; :mod:`taskctl.sdk.sync` has the same for other code."""

from __future__ import annotations

from taskctl.sdk import _cancel, _env
from taskctl.sdk._child import SpawnedChild, check_children, check_no_arguments
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
    from collections.abc import AsyncIterator, Callable, Iterable
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


class Child(SpawnedChild[R_co]):
    """A child task that exists.

    Attributes:
        name: of the Task.
        uid: of the Task.
        created: False: an earlier run of this task had created it.
        key: what names it among this task's children.
        function: what it runs, if it was spawned by a function.
    """

    __slots__ = ()

    async def result(self) -> R_co:
        """Wait until it has ended, and return its output; None if it has none.

        Of several attempts it is that of the last. This task takes no slot while it waits.

        Raises:
            ChildFailed, ChildCancelled, ChildSkipped: how it ended instead.
            ChildGone: it was deleted, or its output.
            InputMissing, InputCorrupt: its output's file in the workspace is gone, or was changed.
            InputInvalid: its output does not fit the annotation of its function.
            AgentAway: the agent did not answer in time.
        """
        from taskctl.sdk import _waiting

        found: R_co = (await _waiting.gather([self]))[0]
        return found

    async def cancel(self) -> bool:
        """Cancel it with all its descendants; return whether it was still to be cancelled.

        Raises:
            AgentAway: the agent did not answer in time.
        """
        from taskctl.sdk import _waiting

        return await _waiting.cancel([self]) > 0


@overload
async def gather(children: Iterable[Child[R]]) -> list[R]: ...
@overload
async def gather(
    children: Iterable[Child[R]], *, return_exceptions: Literal[False], min_success: None = None
) -> list[R]: ...
@overload
async def gather(
    children: Iterable[Child[R]], *, return_exceptions: bool = False, min_success: int | None = None
) -> list[R | ChildError]: ...
@overload
async def gather(
    children: Iterable[Child[Any]] | Group,
    *,
    then: TaskFunction[..., Awaited[R]],
    return_exceptions: bool = False,
    min_success: int | None = None,
    **arguments: Any,
) -> Child[R]: ...
@overload
async def gather(
    children: Iterable[Child[Any]] | Group,
    *,
    then: TaskFunction[..., R],
    return_exceptions: bool = False,
    min_success: int | None = None,
    **arguments: Any,
) -> Child[R]: ...
async def gather(
    children: Iterable[Child[Any]] | Group,
    *,
    return_exceptions: bool = False,
    min_success: int | None = None,
    then: TaskFunction[..., Any] | None = None,
    **arguments: Any,
) -> Any:
    """Wait until children have ended, and return their results in the order of ``children``.

    This task takes no slot while it waits.

    Args:
        children: what spawn() and spawn_many() returned; with ``then`` also a :class:`Group`, of
            any number of members.
        return_exceptions: the error of a child that has not succeeded stands in its place. Else
            the first one is raised at once, and the other children run on.
        min_success: so many must succeed; errors of others stand in their places. As soon as
            it cannot be reached any more, the first error is raised.
        then: a function made by ``@task``: it is spawned as a child that runs when the others
            have ended, with the list of their results as its first argument, and returned at
            once. This task need not wait. Results of children that have not succeeded, where
            that is allowed, are None.
        arguments: further ones for ``then``.

    Raises:
        ChildError: a child has not succeeded; see :meth:`Child.result`.
        ValueError: ``min_success`` is more than there are children.
        AgentAway: the agent did not answer in time.
    """
    found = check_children(children, "gather", then is not None)
    if then is not None:
        spec = continuation(found, then, arguments, return_exceptions, min_success)
        return (await _perform(spawn_operation([spec], Child)))[0]
    check_no_arguments(arguments)
    from taskctl.sdk import _waiting

    return await _waiting.gather(
        found, return_exceptions=return_exceptions, min_success=min_success
    )


def as_completed(children: Iterable[Child[R]]) -> AsyncIterator[Child[R]]:
    """Yield children as they end, however they end.

    ``async for child in as_completed(children): value = await child.result()``

    Raises:
        AgentAway: the agent did not answer in time.
    """
    from taskctl.sdk import _waiting

    return _waiting.as_completed(check_children(children, "as_completed"))


async def wait(
    children: Iterable[Child[R]], *, first: int | None = None, timeout: float | None = None
) -> tuple[list[Child[R]], list[Child[R]]]:
    """Wait until children have ended, however they end; raises nothing for those that failed.

    Args:
        children: what spawn() and spawn_many() returned.
        first: return when so many have ended; default: all.
        timeout: return after so many seconds in any case; None: never.

    Returns:
        Those that have ended, in the order in which they did, and the others.

    Raises:
        ValueError: ``first`` is more than there are children.
        AgentAway: the agent did not answer in time.
    """
    from taskctl.sdk import _waiting

    return await _waiting.wait(check_children(children, "wait"), first, timeout)


@overload
async def spawn(target: AnyCall[Awaited[R]], /, **options: Unpack[Named]) -> Child[R]: ...
@overload
async def spawn(target: AnyCall[R], /, **options: Unpack[Named]) -> Child[R]: ...
@overload
async def spawn(
    target: Callable[[Unpack[Ts]], Awaited[R]], /, *args: Unpack[Ts], **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: Callable[[Unpack[Ts]], R], /, *args: Unpack[Ts], **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: F1[A, Awaited[R]], a: Future[A], /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: F2[A, B, Awaited[R]], a: Future[A], b: Future[B], /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: F2[A, B, Awaited[R]], a: Future[A], b: B, /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: F2[A, B, Awaited[R]], a: A, b: Future[B], /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(target: F1[A, R], a: Future[A], /, **options: Unpack[Named]) -> Child[R]: ...
@overload
async def spawn(
    target: F2[A, B, R], a: Future[A], b: Future[B], /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: F2[A, B, R], a: Future[A], b: B, /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: F2[A, B, R], a: A, b: Future[B], /, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: FList[A, Awaited[R]], a: Futures[A], /, *args: Any, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: FMore[A, Awaited[R]],
    a: Future[A],
    b: Any,
    c: Any,
    /,
    *args: Any,
    **options: Unpack[Named],
) -> Child[R]: ...
@overload
async def spawn(
    target: FList[A, R], a: Futures[A], /, *args: Any, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(
    target: FMore[A, R], a: Future[A], b: Any, c: Any, /, *args: Any, **options: Unpack[Named]
) -> Child[R]: ...
@overload
async def spawn(target: Command, /, **options: Unpack[Named]) -> Child[Any]: ...
async def spawn(  # type: ignore[misc]  # the overloads say what fits
    target: Target,
    *args: Any,
    key: str | None = None,
    name: str | None = None,
    **options: Unpack[Options],
) -> Child[Any]:
    """Create a child task; it exists when this returns.

    Args:
        target: what to run, see :func:`child`.
        args: the function's arguments.
        key: names the child among this task's children, see :func:`child`.
        name: of the Task; default: made from this task and the key.
        options: see :func:`child`.

    Raises:
        NotInTask: the process does not run inside a task, so it has no children.
        Unsendable: an argument has no JSON form, or no other process can find the function.
        SpawnRefused: the agent or the API server refused it.
        LimitExceeded: a budget of the tree is used up.
        KeyConflict: the key or name belongs to something else.
        AgentAway: the agent did not answer in time; spawning the same again is safe.
    """
    spec = child(target, *args, key=key, name=name, **options)
    return (await _perform(spawn_operation([spec], Child)))[0]


@overload
async def spawn_many(specs: Iterable[AnyCall[Awaited[R]]]) -> list[Child[R]]: ...
@overload
async def spawn_many(specs: Iterable[AnyCall[R]]) -> list[Child[R]]: ...
@overload
async def spawn_many(specs: Iterable[ChildSpec[R]]) -> list[Child[R]]: ...
@overload
async def spawn_many(specs: Iterable[ChildSpec[Any] | Target]) -> list[Child[Any]]: ...
async def spawn_many(specs: Iterable[Any]) -> list[Child[Any]]:
    """Create many children at once; all exist when this returns.

    Args:
        specs: what :func:`child` returns, or what it takes as target: functions with
            arguments (``f.call(1)``) or commands.

    Returns:
        The children, in the same order.

    Raises:
        SdkError: see :func:`spawn`. Beyond 1,000 children they are created in several parts,
            of which the first may exist.
    """
    return await _perform(spawn_operation(specs, Child))


async def output(value: Any) -> str:
    """Set the task's output; of several, the last counts.

    Args:
        value: JSON values, dataclasses, enums, times, paths and so on. A large value goes to
            the workspace.

    Returns:
        The name of the TaskObject that will hold it.

    Raises:
        NotInTask: the process does not run inside a task.
        Unsendable: the value has no JSON form.
        NoWorkspace: it is large, and the TaskCluster has no workspace.
        AgentAway: the agent did not answer in time.
    """
    return await _perform(output_operation(value))


async def progress(done: int, total: int = 0, message: str = "") -> None:
    """Show on the Task how far it is.

    Args:
        done: units done.
        total: units in all; 0: unknown.
        message: for people.

    Raises:
        NotInTask: the process does not run inside a task.
        AgentAway: the agent did not answer in time.
    """
    await _perform(progress_operation(done, total, message))


async def info() -> Info:
    """Return what the agent knows now: whether and why to stop, and the time left.

    Raises:
        NotInTask: the process does not run inside a task.
        AgentAway: the agent did not answer in time.
    """
    return await _perform(info_operation())


async def _perform(operation: Operation[T]) -> T:
    _env.endpoint()
    _cancel.install()
    from taskctl.sdk._awaiting import perform

    return await perform(operation)
