"""Running one task function in this process, to look at it with a debugger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple, Unpack, overload

from taskctl.errors import TaskctlError
from taskctl.outside.shipping import as_task
from taskctl.sdk._functions import (
    Call,
    decode_arguments,
    decode_result,
    encode_arguments,
    encode_result,
)

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
    call: Call[Any, Any] = Call(as_task(function), args, kwargs)
    plain = call.function.function
    sent = json.loads(json.dumps(encode_arguments(call)))
    arguments, named = decode_arguments(plain, sent)
    result = plain(*arguments, **named)
    if hasattr(result, "__await__"):
        result = _finish(result)
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
