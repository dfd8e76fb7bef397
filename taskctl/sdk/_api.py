"""The functions for ``async`` code; :mod:`taskctl.sdk.sync` has the same for other code."""

from __future__ import annotations

from taskctl.sdk import _cancel, _env
from taskctl.sdk._specs import (
    child,
    info_operation,
    output_operation,
    progress_operation,
    spawn_operation,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeVar, Unpack

    from taskctl.sdk._exchange import Operation
    from taskctl.sdk._specs import Child, ChildSpec, Info, Options, Target

    T = TypeVar("T")


async def spawn(
    target: Target,
    *args: Any,
    key: str | None = None,
    name: str | None = None,
    **options: Unpack[Options],
) -> Child:
    """Create a child task; it exists when this returns.

    Args:
        target: what to run, see :func:`child`.
        args: the function's arguments.
        key: names the child among this task's children, see :func:`child`.
        name: of the Task; default: made from this task and the key.
        options: see :func:`child`.

    Raises:
        NotInTask: this is no task, so it has no children.
        Unsendable: an argument has no JSON form, or no other process can find the function.
        SpawnRefused: the agent or the API server refused it.
        LimitExceeded: a budget of the tree is used up.
        KeyConflict: the key or name belongs to something else.
        AgentAway: nobody answered in time; spawning the same again is safe.
    """
    spec = child(target, *args, key=key, name=name, **options)
    return (await _perform(spawn_operation([spec])))[0]


async def spawn_many(specs: Iterable[ChildSpec | Target]) -> list[Child]:
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
    return await _perform(spawn_operation(specs))


async def output(value: Any) -> str:
    """Set the task's output; of several, the last counts.

    Args:
        value: JSON values, dataclasses, enums, times, paths and so on. A large value goes to
            the workspace.

    Returns:
        The name of the TaskObject that will hold it.

    Raises:
        NotInTask: this is no task.
        Unsendable: the value has no JSON form.
        NoWorkspace: it is large, and the TaskCluster has no workspace.
        AgentAway: nobody answered in time.
    """
    return await _perform(output_operation(value))


async def progress(done: int, total: int = 0, message: str = "") -> None:
    """Show on the Task how far it is.

    Args:
        done: units done.
        total: units in all; 0: unknown.
        message: for people.

    Raises:
        NotInTask: this is no task.
        AgentAway: nobody answered in time.
    """
    await _perform(progress_operation(done, total, message))


async def info() -> Info:
    """Return what the agent knows now: whether and why to stop, and the time left.

    Raises:
        NotInTask: this is no task.
        AgentAway: nobody answered in time.
    """
    return await _perform(info_operation())


async def _perform(operation: Operation[T]) -> T:
    _env.endpoint()
    _cancel.install()
    from taskctl.sdk._awaiting import perform

    return await perform(operation)
