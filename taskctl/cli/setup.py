"""``taskctl install``, ``taskctl crds`` and ``taskctl version``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from taskctl import __version__
from taskctl.cli.access import Access
from taskctl.cli.exits import ExitCode
from taskctl.cli.historyoptions import checked_age
from taskctl.cli.output import Output, echo, print_objects
from taskctl.cli.verbs import verb
from taskctl.constants import DEFAULT_IMAGE
from taskctl.install.options import (
    DEFAULT_HISTORY_AGE,
    DEFAULT_HISTORY_MB,
    DEFAULT_HISTORY_STORAGE,
    DEFAULT_NAMESPACE,
    DEFAULT_REPLICAS,
    InstallOptions,
    Scope,
)
from taskctl.policy.runclusterrule import RunClusters


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
class InstallAccess(Access):
    """The general options; the namespace is the controller's."""

    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            help=f"Where the controller lives. Default: {DEFAULT_NAMESPACE}.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallChoices:
    """The options of ``install``."""

    scope: Annotated[
        Scope,
        typer.Option(help="cluster: serve all namespaces. namespace: the controller's own."),
    ] = Scope.CLUSTER
    image: Annotated[
        str, typer.Option(metavar="IMAGE", help="Of the controller and of workers.")
    ] = DEFAULT_IMAGE
    replicas: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=1000, help="Controllers; one works, the others stand by."
        ),
    ] = DEFAULT_REPLICAS
    monitoring: Annotated[
        bool,
        typer.Option(
            "--monitoring",
            help="With a ServiceMonitor, alerts (PrometheusRule) and a Grafana dashboard; needs "
            "the Prometheus operator.",
        ),
    ] = False
    page: Annotated[
        bool,
        typer.Option("--page", help="With the page as a Service; needs a Secret with a token."),
    ] = False
    page_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Where browsers reach the page: https://NAME; repeat."),
    ] = None
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            help="With a recorder, which keeps what became of Tasks that are gone; needs a Secret "
            "with a token and a claim.",
        ),
    ] = False
    history_storage: Annotated[
        str, typer.Option(metavar="QUANTITY", help="How much its claim asks for.")
    ] = DEFAULT_HISTORY_STORAGE
    history_storage_class: Annotated[
        str, typer.Option(metavar="NAME", help="Of its claim. Default: the cluster's.")
    ] = ""
    history_size: Annotated[
        int, typer.Option(metavar="MB", min=1, max=1_000_000, help="As much of it, at most.")
    ] = DEFAULT_HISTORY_MB
    history_age: Annotated[
        str, typer.Option(metavar="DURATION", help="For so long, at most; 0: for any time.")
    ] = DEFAULT_HISTORY_AGE
    run_clusters: Annotated[
        RunClusters | None,
        typer.Option(
            help="What spec.cluster of a Task may hold: any, plain or none. Default: any, checked "
            "by an admission policy; with --scope namespace plain.",
        ),
    ] = None
    notify_allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Where notifications of Tasks may go: [http://][*.]HOST[:PORT]; repeat.",
        ),
    ] = None
    skip_crds: Annotated[
        bool,
        typer.Option(
            "--skip-crds",
            help="Leave out the CRDs; with --scope namespace all that is cluster-wide.",
        ),
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
    verb(app, "install")(install)
    verb(app, "crds")(crds)
    verb(app, "version")(version)


def install(access: InstallAccess, options: InstallChoices) -> int:
    """Print the manifests that install taskctl on a cluster. Pipe them to kubectl apply -f -."""
    from taskctl.install.manifests import build
    from taskctl.ui.guard import parse_origin

    chosen = InstallOptions(
        namespace=access.namespace or DEFAULT_NAMESPACE,
        scope=options.scope,
        image=options.image,
        replicas=options.replicas,
        crds=not options.skip_crds,
        monitoring=options.monitoring,
        page=options.page or bool(options.page_origin),
        page_origins=tuple(parse_origin(text) for text in options.page_origin or ()),
        history=options.history,
        history_storage=options.history_storage,
        history_storage_class=options.history_storage_class,
        history_mb=options.history_size,
        history_age=checked_age(options.history_age),
        run_clusters=options.run_clusters,
        notify_allow=tuple(options.notify_allow or ()),
    )
    _print(build(chosen), options.output)
    return ExitCode.OK


def _print(objects: list[dict[str, Any]], output: Output) -> None:
    from taskctl.api.crds import to_yaml

    if output in (Output.JSON, Output.NAME):
        print_objects(objects, output, single=False)
    else:
        echo(to_yaml(objects).rstrip("\n"))


async def crds(access: Access, options: CrdOptions) -> int:
    """Print or install the CRDs. These are the CustomResourceDefinitions of taskctl."""
    from taskctl.api.crds import load_all

    if options.apply:
        from taskctl.cli.install import apply_crds

        async with access.connect() as session:
            for line in await apply_crds(session.client):
                echo(line)
        return ExitCode.OK
    _print(load_all(), options.output)
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
