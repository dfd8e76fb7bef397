"""Runs a function as a task: ``python -m taskctl.sdk.run [OPTION…] module:function``.

The task's input is the function's arguments, what it returns the task's output.

::

    --path DIR       put DIR on sys.path
    --code SHA[/DIR] take the code from what was uploaded under that hash, DIR of it on sys.path
    --pickled [NAME] the function itself is in the input (taskctl.sdk._byvalue); no module:function,
                     but at most a name for people who read the command
    --part KEY       of the input, what is under KEY belongs to this function
    --many           the input is a list of arguments; the output a list of results
"""

from __future__ import annotations

import os
import sys

from taskctl.sdk import _cancel, _prepared
from taskctl.sdk._context import current
from taskctl.sdk._functions import decode_arguments, encode_result, streamed
from taskctl.sdk._places import load, set_uploaded
from taskctl.sdk._specs import output_operation
from taskctl.sdk.errors import InputInvalid, SdkError, TaskCancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_STOPPED = 143  # as if SIGTERM had ended it
_COROUTINE = 0x80  # flag of a code object
USAGE = (
    "usage: python -m taskctl.sdk.run [--path DIR] [--code SHA256[/DIR]] [--part KEY] "
    "[--many] (MODULE:FUNCTION | --pickled [NAME])"
)


class _UsageError(Exception):
    """The arguments are wrong."""


class RunRequest:
    """What to run.

    Attributes:
        place: ``module:function``; empty: the function is in the input.
        path: directory for sys.path, or empty.
        code: hash of uploaded code, and a directory in it, or empty.
        part: key of what belongs to the function; empty: the whole input.
        many: the input is a list.
        loaded: the function, where it was loaded ahead.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.place = self.path = self.code = self.part = ""
        self.many = pickled = False
        self.loaded: Callable[..., Any] | None = None
        rest = list(arguments)
        while rest and rest[0].startswith("-"):
            option = rest.pop(0)
            if option == "--many":
                self.many = True
            elif option == "--pickled":
                pickled = True
            elif option == "--path" and rest:
                self.path = rest.pop(0)
            elif option == "--part" and rest:
                self.part = rest.pop(0)
            elif option == "--code" and rest:
                self.code = rest.pop(0)
            else:
                raise _UsageError
        if len(rest) > 1 or not (rest or pickled):
            raise _UsageError
        if not pickled:
            self.place = rest[0]


def main(arguments: list[str]) -> int:
    """Run a function with the task's input as arguments; returns the exit code."""
    try:
        wanted = RunRequest(arguments)
    except _UsageError:
        print(USAGE, file=sys.stderr)  # noqa: T201  (a program)
        return EXIT_USAGE
    socket = _prepared.take_socket()
    if wanted.path:
        sys.path.insert(0, wanted.path)
    if socket is not None:
        _prepared.wait_for_run(socket, lambda: _load_ahead(wanted))
    try:
        function, inputs = _prepare(wanted)
        calls = [decode_arguments(function, given) for given in inputs]
    except SdkError as error:
        return _complain(error)
    except TaskCancelled as stop:
        return _complain(stop, EXIT_STOPPED)
    # An error of the function itself passes: its traceback is what its author wants to see.
    try:
        results = _run(function, calls)
        if wanted.many:
            _store([encode_result(function, result) for result in results])
        elif results[0] is not None:
            _store(encode_result(function, results[0]))
    except TaskCancelled as stop:
        return _complain(stop, EXIT_STOPPED)
    return 0


def _prepare(wanted: RunRequest) -> tuple[Callable[..., Any], list[Any]]:
    """Return the function, and the input of each of its calls."""
    context = current()
    if wanted.code:
        _use_uploaded(wanted.code)
    if wanted.place:
        function = wanted.loaded or load(wanted.place)
        # An input that has parts does not hold results of other tasks.
        places = None if wanted.part else streamed(function)
        given = context.streamed_input(places) if places else _part(context.input, wanted.part)
    else:
        from taskctl.sdk._byvalue import ARGUMENTS, FUNCTION, receive

        packed = _part(context.input, wanted.part)
        if not isinstance(packed, dict) or not isinstance(packed.get(FUNCTION), dict):
            raise InputInvalid(f"--pickled takes an input with {FUNCTION} and {ARGUMENTS}")
        function, given = receive(packed[FUNCTION]), packed.get(ARGUMENTS)
    if not wanted.many:
        return function, [given]
    if not isinstance(given, list):
        raise InputInvalid("--many takes a list of arguments as input")
    return function, given


def _part(whole: Any, key: str) -> Any:
    """Return what belongs to the function; without a key that is the whole input."""
    if not key:
        return whole
    if not isinstance(whole, dict) or key not in whole:
        raise InputInvalid(f"--part takes an input with the key {key!r}")
    return whole[key]


def _load_ahead(wanted: RunRequest) -> None:
    """Load what the run will need; of uploaded and pickled code only the SDK's own modules."""
    from taskctl.sdk import _blocking, _decode, _specs, _values  # noqa: F401

    if not wanted.place or wanted.code:
        return
    wanted.loaded = load(wanted.place)
    streamed(wanted.loaded)
    if _is_coroutine_function(wanted.loaded):
        import asyncio  # noqa: F401


def _is_coroutine_function(function: Any) -> bool:
    """Whether a function is an ``async def``: a guess that saves loading `inspect`."""
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE)


def _use_uploaded(code: str) -> None:
    """Unpack uploaded code, and start in its folder as on the machine that it comes from."""
    from taskctl.sdk._uploads import unpack

    sha256, _, directory = code.partition("/")
    root = unpack(sha256)
    set_uploaded(root, sha256)
    os.chdir(root)
    sys.path.insert(0, os.path.normpath(os.path.join(root, directory)))


def _run(function: Callable[..., Any], calls: list[tuple[list[Any], dict[str, Any]]]) -> list[Any]:
    results = []
    for args, kwargs in calls:
        result = function(*args, **kwargs)
        results.append(_finish(result) if hasattr(result, "__await__") else result)
    return results


def _finish(result: Any) -> Any:
    import asyncio

    try:
        return asyncio.run(_await(result))
    except asyncio.CancelledError as error:
        if _cancel.stop_requested():
            raise TaskCancelled("the task is to stop (SIGTERM)") from error
        raise


async def _await(awaitable: Coroutine[Any, Any, Any]) -> Any:
    return await awaitable


def _store(plain: Any) -> None:
    from taskctl.sdk._blocking import perform

    perform(output_operation(plain, returned=True))


def _complain(error: BaseException, code: int = EXIT_FAILED) -> int:
    print(f"taskctl: {error}", file=sys.stderr)  # noqa: T201  (a program)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
