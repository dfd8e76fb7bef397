"""The functions of :mod:`taskctl.sdk` for code without ``async``: they wait.

    from taskctl.sdk.sync import output, spawn

Inside a running event loop use those of :mod:`taskctl.sdk`; these would hold it up.
"""

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

__all__ = ["info", "output", "progress", "spawn", "spawn_many"]


def spawn(
    target: Target,
    *args: Any,
    key: str | None = None,
    name: str | None = None,
    **options: Unpack[Options],
) -> Child:
    """Create a child task; see :func:`taskctl.sdk.spawn`."""
    spec = child(target, *args, key=key, name=name, **options)
    return _perform(spawn_operation([spec]))[0]


def spawn_many(specs: Iterable[ChildSpec | Target]) -> list[Child]:
    """Create many children at once; see :func:`taskctl.sdk.spawn_many`."""
    return _perform(spawn_operation(specs))


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
