"""The ``taskctl`` command line. Heavy imports stay inside the verbs: help should come at once."""

from __future__ import annotations

import sys

import typer

from taskctl.cli import (
    components,
    images,
    local,
    logs,
    manage,
    page,
    query,
    report,
    results,
    run,
    setup,
    submit,
    tree,
)
from taskctl.cli.access import Access
from taskctl.cli.exits import EXIT_CODES_HELP
from taskctl.cli.verbs import global_options, with_parameters

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
    app.callback()(with_parameters(global_options, Access))
    verbs = (submit, query, results, run, tree, logs, page, report, manage, local, setup)
    for module in (*verbs, images, components):
        module.register(app)
    return app
