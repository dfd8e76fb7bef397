"""Runs a function as a task: ``python -m taskctl.sdk.run [--path DIR] module:function``.

The task's input is the function's arguments, what it returns the task's output.
"""

from __future__ import annotations

import sys

from taskctl.sdk import _cancel
from taskctl.sdk._context import current
from taskctl.sdk._functions import decode_arguments, encode_result
from taskctl.sdk._places import load
from taskctl.sdk._specs import output_operation
from taskctl.sdk.errors import SdkError, TaskCancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 143  # as if SIGTERM had ended it
USAGE = "usage: python -m taskctl.sdk.run [--path DIR] MODULE:FUNCTION"


def main(arguments: list[str]) -> int:
    """Run a function with the task's input as arguments; returns the exit code."""
    if arguments[:1] == ["--path"] and len(arguments) == 3:
        sys.path.insert(0, arguments[1])
        arguments = arguments[2:]
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(USAGE, file=sys.stderr)  # noqa: T201  (a program)
        return EXIT_USAGE
    try:
        context = current()
        function = load(arguments[0])
        args, kwargs = decode_arguments(function, context.input)
    except SdkError as error:
        return _complain(error)
    except TaskCancelled as stop:
        return _complain(stop, EXIT_STOPPED)
    # An error of the function itself passes: its traceback is what its author wants to see.
    try:
        _store_result(function, _run(function, args, kwargs))
    except TaskCancelled as stop:
        return _complain(stop, EXIT_STOPPED)
    return 0


def _run(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    result = function(*args, **kwargs)
    if not hasattr(result, "__await__"):
        return result
    import asyncio

    try:
        return asyncio.run(_await(result))
    except asyncio.CancelledError as error:
        if _cancel.stop_requested():
            raise TaskCancelled("the task is to stop (SIGTERM)") from error
        raise


async def _await(awaitable: Coroutine[Any, Any, Any]) -> Any:
    return await awaitable


def _store_result(function: Callable[..., Any], result: Any) -> None:
    if result is None:
        return
    from taskctl.sdk._blocking import perform

    perform(output_operation(encode_result(function, result)))


def _complain(error: BaseException, code: int = EXIT_FAILED) -> int:
    print(f"taskctl: {error}", file=sys.stderr)  # noqa: T201  (a program)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
