"""From a function over option groups to a typer command.

A verb is written as ``def verb(access: Access, options: SomeOptions) -> int | None``, where
each parameter is a frozen dataclass whose fields are annotated as typer wants parameters to
be. :func:`verb` registers a command with all those fields as its parameters, runs the
function (in an event loop if it is a coroutine function), and turns errors into one line
and an exit code.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import traceback
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

import typer

from taskctl.cli.access import Access
from taskctl.cli.exits import ExitCode, describe
from taskctl.cli.output import note
from taskctl.errors import TaskctlError

Verb = TypeVar("Verb", bound=Callable[..., Any])


def verb(app: typer.Typer, name: str, **settings: Any) -> Callable[[Verb], Verb]:
    """Register a verb with ``app`` under ``name``.

    Args:
        app: where it belongs.
        name: as typed.
        settings: further arguments of ``Typer.command``.
    """

    def register(function: Verb) -> Verb:
        app.command(name, **settings)(command_of(function))
        return function

    return register


def global_options(ctx: typer.Context, **values: Any) -> None:
    """Keep the options before the verb for the verb."""
    known = {field.name for field in fields(Access)}
    ctx.obj = Access(**{name: value for name, value in values.items() if name in known})


def with_parameters(function: Callable[..., None], *groups: type[Any]) -> Callable[..., None]:
    """Tell typer which parameters ``function(ctx, **values)`` takes: the fields of ``groups``."""
    parameters = [inspect.Parameter("ctx", _KEYWORD, annotation=typer.Context)]
    for group in groups:
        parameters += _parameters(group)
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def command_of(function: Callable[..., Any], *, group: bool = False) -> Callable[..., None]:
    """Return the typer command that runs a verb.

    Args:
        function: the verb.
        group: it has sub-verbs, and is left alone when one of those is called.
    """
    groups = _option_groups(function)

    def command(ctx: typer.Context, **values: Any) -> None:
        if group and ctx.invoked_subcommand is not None:
            return
        arguments = {
            parameter: group(**{field.name: values[field.name] for field in fields(group)})
            for parameter, group in groups.items()
        }
        debug = False
        for parameter, argument in arguments.items():
            if isinstance(argument, Access):
                arguments[parameter] = argument.merged_over(ctx.obj)
                debug = arguments[parameter].debug
        raise typer.Exit(run_guarded(function, arguments, debug=debug))

    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    return with_parameters(command, *groups.values())


_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _option_groups(function: Callable[..., Any]) -> dict[str, type[Any]]:
    hints = get_type_hints(function)
    return {name: hints[name] for name in inspect.signature(function).parameters}


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


def _default(field: Any) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def run_guarded(
    function: Callable[..., Any], arguments: dict[str, Any], *, debug: bool = False
) -> int:
    """Run a verb; return its exit code, with any error told on stderr in one line."""
    if debug:
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
    try:
        if inspect.iscoroutinefunction(function):
            result = asyncio.run(function(**arguments))
        else:
            result = function(**arguments)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain at exit when it
        # flushes stdout, so that goes nowhere from here on.
        sys.stdout = open("/dev/null", "w", encoding="utf-8")  # noqa: SIM115 - until exit
        return ExitCode.OK
    except TaskctlError as error:
        code, lines = describe(error)
        return _tell(code, lines, debug=debug)
    except Exception as error:  # noqa: BLE001 - the last stop before the user
        line = f"unexpected {type(error).__name__}: {error}; run it again with --debug"
        return _tell(ExitCode.FAILED, [line], debug=debug)
    return ExitCode.OK if result is None else int(result)


def _tell(code: ExitCode, lines: list[str], *, debug: bool) -> int:
    if debug:
        note(traceback.format_exc())
    for line in (f"taskctl: {lines[0]}", *lines[1:]):
        note(line)
    return code
