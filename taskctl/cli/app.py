"""The ``taskctl`` command line. Heavy imports stay inside the verbs: help should come at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from taskctl import __version__
from taskctl.cli import (
    components,
    images,
    local,
    logs,
    manage,
    page,
    query,
    removing,
    report,
    results,
    run,
    setup,
    submit,
    top,
    tree,
)
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


_SUMMARY = (
    "Dynamic batch work on warm Kubernetes worker pods. Start `taskctl local` in one shell, "
    "then `taskctl submit` in another."
)


def build_app() -> typer.Typer:
    """Return the command line with all its verbs."""
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
    verbs = (
        submit,
        query,
        results,
        run,
        tree,
        top,
        logs,
        page,
        report,
        manage,
        removing,
        local,
        setup,
    )
    for module in (*verbs, images, components):
        module.register(app)
    return app
