"""Running one task function in this process, to look at it with a debugger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar, TypeVarTuple, Unpack, overload

from taskctl.errors import TaskctlError
from taskctl.outside.handle import Handle
from taskctl.outside.info import TaskInfo
from taskctl.outside.options import Options
from taskctl.outside.shipping import as_task
from taskctl.sdk._functions import (
    Call,
    decode_arguments,
    decode_result,
    encode_arguments,
    encode_result,
)
from taskctl.sdk.errors import ChildError, Unsendable

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


@overload
def run_here(
    function: Callable[[Unpack[Ts]], Coroutine[Any, Any, R]], /, *args: *Ts, **kwargs: Any
) -> R: ...
@overload
def run_here(function: Callable[[Unpack[Ts]], R], /, *args: *Ts, **kwargs: Any) -> R: ...
def run_here(  # type: ignore[misc]  # the overloads say what fits
    function: Any, /, *args: Any, **kwargs: Any
) -> Any:
    """Run a task function here and now, with breakpoints, and return its result.

    Arguments and result go through JSON as in a real task, so that what cannot be sent fails here,
    too. There is no agent: ``spawn`` and the like raise :class:`taskctl.sdk.NotInTask`.

    Args:
        function: ``@task`` or plain, ``async`` or not.
        args: its arguments.
        kwargs: the same by name.

    Raises:
        Unsendable: an argument or the result cannot be sent.
        TaskctlError: it is ``async``, and an event loop runs here: await the function itself.
        Exception: what the function raises.
    """
    plain, arguments, named = _prepared(Call(as_task(function), args, kwargs))
    result = plain(*arguments, **named)
    if hasattr(result, "__await__"):
        result = _finish(result)
    return _returned(plain, result)


async def submit_here(
    target: Any, args: tuple[Any, ...], options: Mapping[str, Any]
) -> HereHandle[Any]:
    """Run a function in this event loop, for ``submit(…, debug=True)``.

    Args:
        target: a function, or such a function's ``call(...)``.
        args: of the function.
        options: of the submission; they mean nothing here, but misspelt ones are refused.

    Raises:
        Unsendable: an argument or the result cannot be sent, or it is not a function.
        TypeError: an option that does not exist.
        Exception: what the function raises.
    """
    plain, arguments, named = _prepared(_call_of(target, args, options))
    result = plain(*arguments, **named)
    if hasattr(result, "__await__"):
        result = await result
    return HereHandle(_returned(plain, result))


def submit_here_blocking(
    target: Any, args: tuple[Any, ...], options: Mapping[str, Any]
) -> HereHandle[Any]:
    """Run a function in this thread; as :func:`submit_here`."""
    call = _call_of(target, args, options)
    return HereHandle(run_here(call.function, *call.args, **call.kwargs))


class HereHandle(Handle[R]):
    """What a function returned that has run in this process. There is no Task behind it.

    Args:
        value: what it returned.
    """

    def __init__(self, value: R) -> None:
        self._value = value
        self.name = self.uid = self.namespace = ""

    def __repr__(self) -> str:
        return "<ran in this process>"

    async def result(self, timeout: float | None = None) -> R:  # noqa: ASYNC109
        """Return what the function returned."""
        return self._value

    async def exception(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> ChildError | None:
        """Return None: ``submit`` has raised what the function raised."""
        return None

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
        *,
        tree: bool = True,
    ) -> TaskInfo:
        """Refuse: there is no Task.

        Raises:
            TaskctlError: always.
        """
        raise _no_task("wait")

    async def status_or_none(self) -> TaskInfo | None:
        """Refuse, as :meth:`wait`; ``status``, ``tree`` and ``logs`` ask for it."""
        raise _no_task("status, tree and logs")

    async def cancel(self, *, only: bool = False) -> None:
        """Do nothing: it has ended."""

    async def delete(self) -> None:
        """Do nothing: there is nothing to delete."""

    async def retry(self, *, failed: bool = False) -> list[TaskInfo]:
        """Refuse, as :meth:`wait`."""
        raise _no_task("retry")

    async def ended(
        self,
        seen: Callable[[dict[str, Any]], None] | None = None,
    ) -> TaskInfo:
        """Refuse, as :meth:`wait`."""
        raise _no_task("ended")


def _no_task(asked: str) -> TaskctlError:
    return TaskctlError(
        f"{asked}: the function ran in this process, so there is no Task; leave out debug=True"
    )


def _call_of(target: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> Call[Any, Any]:
    unknown = sorted(options.keys() - Options.__annotations__.keys())
    if unknown:
        raise TypeError(f"{unknown[0]}: there is no such option")
    if isinstance(target, Call):
        return target
    if isinstance(target, (list, tuple)):
        raise Unsendable("debug=True: a command cannot run in this process; submit a function")
    return Call(as_task(target), args, {})


def _prepared(call: Call[Any, Any]) -> tuple[Any, Sequence[Any], Mapping[str, Any]]:
    """Return the function behind a call, and its arguments as a task would get them."""
    plain = call.function.function
    arguments, named = decode_arguments(plain, json.loads(json.dumps(encode_arguments(call))))
    return plain, arguments, named


def _returned(plain: Any, result: Any) -> Any:
    """Return a result as its parent would get it."""
    if result is None:
        return None
    returned = json.loads(json.dumps(encode_result(plain, result)))
    return decode_result(plain, returned, f"{plain.__qualname__}(): the result")


def _finish(work: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_await(work))
    work.close()
    raise TaskctlError(
        "run_here() cannot run an async function where an event loop runs already (a notebook, "
        "for example): await the function itself"
    )


async def _await(work: Any) -> Any:
    return await work
