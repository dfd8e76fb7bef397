"""``taskctl server``, ``controller``, ``node`` and ``agent``: one component each."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskctl.cli.access import Access
from taskctl.cli.datadir import DEFAULT_DATA_DIR, DataDir, home_directory, stack_registry
from taskctl.cli.exits import ExitCode
from taskctl.cli.historyoptions import HistoryOptions
from taskctl.cli.images import add_images
from taskctl.cli.lifeline import attach
from taskctl.cli.logsetup import LogFormat, LogLevel, set_up_logging
from taskctl.cli.parts import require
from taskctl.cli.verbs import verb
from taskctl.constants import DEFAULT_IMAGE
from taskctl.errors import TaskctlError
from taskctl.kube.limits import DEFAULT_BURST, DEFAULT_QPS, MAX_BURST, MAX_QPS
from taskctl.policy.hostlist import ALLOW_VARIABLE, parse_allowed
from taskctl.policy.runclusterrule import RunClusters
from taskctl.policy.workeraccess import WorkerAccess
from taskctl.policy.workersettings import WorkerSettings

if TYPE_CHECKING:
    from taskctl.controllers.history import HistorySettings

COMPONENTS = "Components (taskctl local runs the first three)"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How to log."""

    log_level: Annotated[LogLevel, typer.Option(help="What is worth a line.")] = LogLevel.INFO
    log_format: Annotated[LogFormat, typer.Option(help="How a line looks.")] = LogFormat.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerArguments(LogSettings):
    """The options of ``server``."""

    data_dir: Annotated[str, typer.Option(metavar="DIR", help="Where everything is kept.")] = (
        DEFAULT_DATA_DIR
    )
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Where it listens."),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=0, max=65535, help="0: that of the last run, or any."),
    ] = 0
    listen_fd: Annotated[
        int | None,
        typer.Option(
            metavar="FD",
            min=3,
            max=2**31 - 1,
            help="A bound socket that the process has inherited, instead of --host and --port.",
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerAccess(Access):
    """The general options; the namespace is the one to serve."""

    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", metavar="NAME", help="The only one to serve. Default: all."
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerArguments(HistoryOptions, LogSettings):
    """The options of ``controller``."""

    data_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Of a local stack; its kubeconfig is used."),
    ] = None
    health_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65535, help="For /healthz, /readyz, /metrics."),
    ] = None
    health_host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where --health-port listens.")
    ] = "127.0.0.1"
    lease_namespace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With several controllers: one works, by a Lease in there."
        ),
    ] = None
    qps: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            min=0.0,
            max=MAX_QPS,
            help="Requests a second over time, at most. 0: no limit.",
        ),
    ] = DEFAULT_QPS
    burst: Annotated[
        int,
        typer.Option(
            metavar="NUMBER", min=1, max=MAX_BURST, help="Requests at once before --qps counts."
        ),
    ] = DEFAULT_BURST
    worker_access: Annotated[
        WorkerAccess,
        typer.Option(
            help="manage: make the workers' ServiceAccount and RoleBinding in the namespace of "
            "each TaskCluster. none: they exist already."
        ),
    ] = WorkerAccess.MANAGE
    worker_image: Annotated[
        str,
        typer.Option(metavar="IMAGE", help="Of workers whose TaskCluster names none."),
    ] = DEFAULT_IMAGE
    run_clusters: Annotated[
        RunClusters,
        typer.Option(
            help="What spec.cluster of a Task may hold. plain: what gives its author no rights "
            "that he might not have. any: an admission policy checks who may create TaskClusters. "
            "none: nothing."
        ),
    ] = RunClusters.PLAIN
    notify_allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            envvar=ALLOW_VARIABLE,
            help="Where notifications of Tasks (spec.notify) may go: [http://][*.]HOST[:PORT]; "
            "repeat. https unless it says http://. Default: nowhere.",
        ),
    ] = None
    worker_metrics_port: Annotated[
        int,
        typer.Option(
            metavar="PORT",
            min=0,
            max=65535,
            help="Where each worker's agent serves /metrics, on its pod's address. 0: nowhere.",
        ),
    ] = 0
    otlp_endpoint: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
            help="Base address of a collector that takes traces by OTLP over HTTP.",
        ),
    ] = ""

    @property
    def history_settings(self) -> HistorySettings | None:
        """Where to keep the history: of a local stack only, in its data directory."""
        if self.data_dir is None or not self.history:
            return None
        from taskctl.controllers.history import HistorySettings

        return HistorySettings(Path(self.data_dir).resolve(), self.limits())


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeArguments(LogSettings):
    """The options of ``node``."""

    data_dir: Annotated[str, typer.Option(metavar="DIR", help="Of the API server.")] = (
        DEFAULT_DATA_DIR
    )
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SOURCE", help="What an image is, as for `taskctl image add`; repeat."
        ),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "server", rich_help_panel=COMPONENTS)(server)
    verb(app, "controller", rich_help_panel=COMPONENTS)(controller)
    verb(app, "node", rich_help_panel=COMPONENTS)(node)
    verb(app, "agent", rich_help_panel=COMPONENTS)(agent)
    verb(app, "agent-prepare", rich_help_panel=COMPONENTS)(agent_prepare)


def server(options: ServerArguments) -> int:
    """Run the API server of the local stack."""
    require("local")
    prepare(options)
    from taskctl.embedded.listening import inherited
    from taskctl.embedded.server import main

    settings = main.ServerOptions(
        data_dir=Path(options.data_dir).resolve(),
        host=options.host,
        port=options.port,
        listener=None if options.listen_fd is None else inherited(options.listen_fd),
    )
    return run(lambda: main.run_server(settings))


def controller(access: ControllerAccess, options: ControllerArguments) -> int:
    """Run the controller. On the local stack or in a cluster."""
    require("controller")
    if options.otlp_endpoint:
        require("otel")
    prepare(options)
    from taskctl.clientsettings import CLIENT_SETTINGS
    from taskctl.controllers import main

    kubeconfig = access.kubeconfig
    if options.data_dir is not None:
        kubeconfig = str(Path(options.data_dir).resolve() / "kubeconfig")
    settings = main.ControllerSettings(
        client=replace(
            CLIENT_SETTINGS,
            kubeconfig=kubeconfig,
            context=access.context,
            qps=options.qps,
            burst=options.burst,
        ),
        namespace=access.namespace,
        health_port=options.health_port,
        health_host=options.health_host,
        lease_namespace=options.lease_namespace or "",
        access=options.worker_access,
        run_clusters=options.run_clusters,
        notify_allow=parse_allowed(options.notify_allow or ()),
        worker_settings=WorkerSettings(
            image=options.worker_image, metrics_port=options.worker_metrics_port
        ),
        otlp_endpoint=options.otlp_endpoint,
        history=options.history_settings,
    )
    return run(lambda: main.run_controller(settings))


def node(options: NodeArguments) -> int:
    """Run the node of the local stack. It runs pods as processes of this machine."""
    require("local")
    prepare(options)
    from taskctl.embedded.node import main
    from taskctl.embedded.node.options import NodeOptions as Settings

    directory = DataDir(Path(options.data_dir).resolve())
    if options.image:
        add_images(directory, options.image)
    settings = Settings(
        data_dir=directory.path,
        registry=stack_registry(),
        home=home_directory(),
    )
    return run(lambda: main.run_node(settings))


def agent(options: LogSettings) -> int:
    """Run the agent: the main container of a worker pod. Its settings are in the environment."""
    prepare(options)
    from taskctl.agent import main

    return run(lambda: main.run_agent(main.settings_from_environment()))


def agent_prepare(options: LogSettings) -> int:
    """Fill a worker's runtime volume: its init container, so that no task starts before."""
    prepare(options)
    from taskctl.agent import runtime_dir
    from taskctl.constants import ENV_RUNTIME_DIR, RUNTIME_PATH

    runtime_dir.fill(Path(os.environ.get(ENV_RUNTIME_DIR) or RUNTIME_PATH))
    return ExitCode.OK


def prepare(options: LogSettings) -> None:
    """Set up what every component needs, before the imports that take time."""
    attach()
    set_up_logging(options.log_level, options.log_format)


def run(start: Callable[[], Awaitable[None]]) -> int:
    """Run a component to its end on uvloop.

    It handles SIGTERM itself: it returns when it has ended in good order.
    """

    async def main() -> None:
        try:
            await start()
        except TaskctlError as error:
            log.error("%s", error)
            raise
        except Exception:
            log.exception("ended by an error")
            raise

    try:
        import uvloop
    except ImportError:  # not made for this platform
        asyncio.run(main())
    else:
        uvloop.run(main())
    return ExitCode.OK
