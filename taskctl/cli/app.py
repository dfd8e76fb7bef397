"""The ``taskctl`` command line. Heavy imports stay inside the verbs: help should come at once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Final

import typer

from taskctl import __version__
from taskctl.cli.access import Access
from taskctl.cli.exits import EXIT_CODES_HELP
from taskctl.cli.verbs import global_options, with_parameters


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"taskctl {__version__}")
        raise typer.Exit


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFlag:
    """``taskctl --version``."""

    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False


# Which verbs each module has, in the order of the help.
VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    "submit": ("submit",),
    "query": ("get", "wait"),
    "results": ("output", "workspace-object"),
    "run": ("run",),
    "tree": ("tree",),
    "top": ("top",),
    "logs": ("logs", "workspace-log"),
    "debug": ("debug",),
    "copy": ("cp", "workspace-read", "workspace-write"),
    "page": ("ui", "page"),
    "report": ("report",),
    "export": ("export",),
    "manage": ("cancel", "retry"),
    "removing": ("delete", "prune"),
    "local": ("local",),
    "setup": ("install", "crds", "version"),
    "images": ("image",),
    "components": ("server", "controller", "node", "agent", "agent-prepare"),
    "recorder": ("recorder",),
}
_MODULE_OF: Final = {verb: module for module, verbs in VERBS.items() for verb in verbs}
_WITH_VALUE: Final = frozenset({"-n", "--namespace", "--kubeconfig", "--context"})

_SUMMARY = (
    "Dynamic batch work on warm Kubernetes worker pods. Start `taskctl local` in one shell, "
    "then `taskctl submit` in another."
)


def build_app(words: Sequence[str] = ()) -> typer.Typer:
    """Return the command line.

    Args:
        words: what was typed; if they begin with a verb, the others are left out.
    """
    app = typer.Typer(
        name="taskctl",
        help=_SUMMARY,
        epilog=EXIT_CODES_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        # Without boxes where no person looks: it takes half the time and can be grepped.
        rich_markup_mode="rich" if sys.stdout.isatty() else None,
    )
    app.callback()(with_parameters(global_options, Access, VersionFlag))
    for module in _modules_of(words):
        import_module(f"taskctl.cli.{module}").register(app)
    return app


def _modules_of(words: Sequence[str]) -> list[str]:
    """Return the modules to load for what was typed: that of its verb, or all.

    Loading all takes longer than many a verb. They are needed for the list of verbs, for
    completion, and to say what a misspelt verb might have been.
    """
    rest = iter(words)
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return [_MODULE_OF[word]] if word in _MODULE_OF else list(VERBS)
        elif word != "--debug" and "=" not in word:
            break
    return list(VERBS)
