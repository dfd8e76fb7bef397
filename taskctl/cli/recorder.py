"""``taskctl recorder``: keeps the history of a cluster, as a component of the install."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from taskctl.cli.components import COMPONENTS, ControllerAccess, LogSettings, prepare, run
from taskctl.cli.historyoptions import HistoryAmount
from taskctl.cli.parts import require
from taskctl.cli.verbs import verb
from taskctl.history.files import LOCAL_DIRECTORY

_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderArguments(HistoryAmount, LogSettings):
    """The options of ``recorder``."""

    directory: Annotated[
        str,
        typer.Option(metavar="DIR", help="Where no task can write; the history is in DIR/history."),
    ]
    token_file: Annotated[
        str, typer.Option(metavar="FILE", help="Holds the token of those who may read.")
    ]
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where it answers.")] = _HOST
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="Where it answers. 0: any.")
    ] = 0
    health_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65535, help="For /healthz, /readyz, /metrics."),
    ] = None
    health_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where --health-port listens.")
    ] = _HOST


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "recorder", rich_help_panel=COMPONENTS)(recorder)


def recorder(access: ControllerAccess, options: RecorderArguments) -> int:
    """Keep the history of a cluster. `taskctl install --history` runs it."""
    require("controller")
    prepare(options)
    from taskctl.cli.page import read_token
    from taskctl.clientsettings import CLIENT_SETTINGS
    from taskctl.controllers.history import HistorySettings
    from taskctl.controllers.recording import RecorderSettings, run_recorder

    root = Path(options.directory).resolve()
    settings = RecorderSettings(
        history=HistorySettings(root, options.limits(), LOCAL_DIRECTORY),
        token=read_token(Path(options.token_file)),
        host=options.host,
        port=options.port,
        client=replace(CLIENT_SETTINGS, kubeconfig=access.kubeconfig, context=access.context),
        namespace=access.namespace,
        health_host=options.health_host,
        health_port=options.health_port,
    )
    return run(lambda: run_recorder(settings))
