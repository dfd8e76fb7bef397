"""How a function reaches the worker: by its name, by value, or with its folder.

By name is best: nothing is sent, and children find the function too. It takes a file that the
worker sees under the same name: a module of the image, or on the local stack any file of the
machine outside the directories that containers do not see.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taskctl.errors import ConfigError
from taskctl.outside.submission import FunctionCommand
from taskctl.sdk import _byvalue
from taskctl.sdk._functions import TaskFunction
from taskctl.sdk._places import command_of
from taskctl.sdk.errors import Unsendable

RUN: Final = ("-m", "taskctl.sdk.run")
# Containers of the local stack have directories of their own there.
_PRIVATE: Final = ("/tmp", "/run", "/var/run", "/dev", "/proc", "/sys", "/workspace")


@dataclass(frozen=True, slots=True)
class Host:
    """Where the function will run.

    Attributes:
        python: the interpreter.
        sees_files: whether the files of this machine are there under the same names.
        hidden: directories that are not.
    """

    python: str
    sees_files: bool
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Code in the workspace.

    Attributes:
        root: the folder here.
        sha256: of the archive.
        tasks: which bring it there.
    """

    root: str
    sha256: str
    tasks: tuple[str, ...] = ()


def as_task(function: Any) -> TaskFunction[..., Any]:
    """Return a function as one that can be spawned.

    Raises:
        Unsendable: it is none.
    """
    if isinstance(function, TaskFunction):
        return function
    if not callable(function):
        raise Unsendable(
            f"{function!r} is not a function; submit a function, or a command as a list of texts"
        )
    return TaskFunction(function, {})


def program_of(
    function: TaskFunction[..., Any],
    host: Host,
    *,
    uploaded: Uploaded | None = None,
    by_value: bool | None = None,
    many: bool = False,
    part: str = "",
) -> FunctionCommand:
    """Return what runs a function.

    Args:
        function: the function.
        host: where.
        uploaded: its folder, which was uploaded; None: it was not.
        by_value: send the function itself; None: only if it must.
        many: it is called once for each item of a list.
        part: key under which the input has what belongs to this function; empty: all does.

    Raises:
        Unsendable: it cannot be sent in this way.
        ConfigError: both ways are asked for.
    """
    if uploaded is not None:
        if by_value:
            raise ConfigError("code and by_value exclude each other; leave one out")
        pair = (uploaded.root, uploaded.sha256)
        command = command_of(function, host.python, pair)
        return FunctionCommand(_with(command, many, part), after=uploaded.tasks)
    if by_value is None:
        by_value = not _is_known_there(function, host)
    if not by_value:
        return FunctionCommand(_with(command_of(function, host.python), many, part))
    name = f"{function.__module__}.{function.__qualname__}"
    packed = pack(function.function, name, everything=not _is_importable_there(function))
    command = [host.python, *RUN, "--pickled", function.__qualname__]
    return FunctionCommand(_with(command, many, part), {_byvalue.FUNCTION: packed})


def pack(function: Callable[..., Any], name: str, *, everything: bool) -> dict[str, Any]:
    """Return a function by value.

    Args:
        function: the function.
        name: for errors.
        everything: send by value what else its module defines, too, as the task cannot import it.

    Raises:
        Unsendable: it cannot be sent.
    """
    module = sys.modules.get(function.__module__)
    if not everything or module is None or module.__name__ == "__main__":
        return _byvalue.pack(function, name)
    try:
        import cloudpickle
    except ImportError:
        return _byvalue.pack(function, name)  # says what to install
    if module.__name__ in cloudpickle.list_registry_pickle_by_value():
        return _byvalue.pack(function, name)
    cloudpickle.register_pickle_by_value(module)
    try:
        return _byvalue.pack(function, name)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _with(command: list[str], many: bool, part: str) -> tuple[str, ...]:
    options = (*(("--many",) if many else ()), *(("--part", part) if part else ()))
    position = command.index(RUN[1]) + 1
    return (*command[:position], *options, *command[position:])


def _is_known_there(function: TaskFunction[..., Any], host: Host) -> bool:
    """Whether another process there finds the function by its name."""
    try:
        command_of(function, host.python)
    except Unsendable:
        return False
    file = _file_of(function)
    if file is None:
        return True
    if host.sees_files:
        return not any(_is_below(file, directory) for directory in (*_PRIVATE, *host.hidden))
    return function.__module__ not in ("__main__", "__mp_main__")


def _is_importable_there(function: TaskFunction[..., Any]) -> bool:
    """Whether a module is installed, so that another machine may have it as well."""
    file = _file_of(function)
    return file is None or any(part.endswith("-packages") for part in file.split(os.sep))


def _file_of(function: TaskFunction[..., Any]) -> str | None:
    code = getattr(function.function, "__code__", None)
    name = getattr(code, "co_filename", None)
    if not name or not os.path.exists(name):
        return None
    return str(os.path.realpath(name))


def _is_below(file: str, directory: str) -> bool:
    return Path(file).is_relative_to(directory)
