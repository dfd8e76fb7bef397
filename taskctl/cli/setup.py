"""``taskctl crds`` and ``taskctl version``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from taskctl import __version__
from taskctl.cli.access import Access
from taskctl.cli.exits import ExitCode
from taskctl.cli.output import Output, echo, print_objects
from taskctl.cli.verbs import verb


@dataclass(frozen=True, slots=True, kw_only=True)
class CrdOptions:
    """The options of ``crds``."""

    apply: Annotated[
        bool, typer.Option("--apply", help="Install or update them in the cluster.")
    ] = False
    output: Annotated[Output, typer.Option("--output", "-o", help="yaml, json or name.")] = (
        Output.YAML
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionOptions:
    """The options of ``version``."""

    output: Annotated[Output | None, typer.Option("--output", "-o", help="json or yaml.")] = None


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "crds")(crds)
    verb(app, "version")(version)


async def crds(access: Access, options: CrdOptions) -> int:
    """Print or install the CRDs. These are the CustomResourceDefinitions of taskctl."""
    from taskctl.api.crds import load_all, to_yaml

    if options.apply:
        from taskctl.cli.install import apply_crds

        async with access.connect() as session:
            for line in await apply_crds(session.client):
                echo(line)
        return ExitCode.OK
    if options.output in (Output.JSON, Output.NAME):
        print_objects(load_all(), options.output, single=False)
    else:
        echo(to_yaml(load_all()).rstrip("\n"))
    return ExitCode.OK


def version(options: VersionOptions) -> int:
    """Print the version."""
    if options.output in (Output.JSON, Output.YAML):
        from taskctl.cli.output import to_json, to_yaml

        value = {"version": __version__}
        echo(to_json(value) if options.output is Output.JSON else to_yaml(value))
    else:
        echo(f"taskctl {__version__}")
    return ExitCode.OK
