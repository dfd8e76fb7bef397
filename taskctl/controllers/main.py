"""The controller process: connect, watch, reconcile, until told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from taskctl import __version__
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.constants import LEASE_NAME
from taskctl.controllers.history import HistorySettings
from taskctl.controllers.metrics import Metrics
from taskctl.controllers.setup import Controllers, SetupOptions
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings
from taskctl.kube.lease import LeaderElector, LeaseSettings
from taskctl.kube.manager import Manager, ManagerOptions
from taskctl.placement.machine import COALESCE_S
from taskctl.policy.hostlist import AllowedHost
from taskctl.policy.runclusterrule import RunClusters
from taskctl.policy.workeraccess import WorkerAccess
from taskctl.policy.workersettings import WorkerSettings

if TYPE_CHECKING:
    from taskctl.controllers.otlp import SpanExport

log = logging.getLogger(__name__)

USER_AGENT: Final = f"taskctl-controller/{__version__}"


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings of the controller process.

    Attributes:
        client: where the API server is, and how fast we may talk to it.
        namespace: the one to serve; None: all.
        workers: Tasks reconciled at a time.
        coalesce_s: pause between an event and the placing it causes, in seconds.
        sync_timeout_s: how long the first lists may take altogether.
        stop_grace_s: how long writes under way may take when we are stopped.
        health_port: of /healthz, /readyz and /metrics; None: not served; 0: any free port.
        health_host: address to serve them on.
        lease_namespace: where the Lease of the leader election lives; empty: no election,
            for a controller that is known to be the only one. Two at once do no harm, as
            every side effect is guarded, but they do the work twice.
        identity: who we are, for the Lease and Events; empty: the host's name.
        access: whether to give workers their account and rights.
        run_clusters: which TaskClusters to make for single runs (``spec.cluster`` of a Task).
        notify_allow: hosts that receivers of notifications may be on.
        worker_settings: what all workers have in common.
        otlp_endpoint: base address of the collector that traces go to; empty: there are none.
        history: where to keep a history of Tasks; None: nowhere.
    """

    client: ClientSettings = CLIENT_SETTINGS
    namespace: str | None = None
    workers: int = 16
    coalesce_s: float = COALESCE_S
    sync_timeout_s: float = 60.0
    stop_grace_s: float = 10.0
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    lease_namespace: str = ""
    identity: str = ""
    access: WorkerAccess = WorkerAccess.MANAGE
    run_clusters: RunClusters = RunClusters.PLAIN
    notify_allow: tuple[AllowedHost, ...] = ()
    worker_settings: WorkerSettings = field(default_factory=WorkerSettings)
    otlp_endpoint: str = ""
    history: HistorySettings | None = None


async def run_controller(settings: ControllerSettings) -> None:
    """Run all control loops until SIGTERM or SIGINT.

    Raises:
        ConfigError: the API server is not configured, the health port is taken, or the OTLP
            endpoint is not an address.
        Unavailable: the first lists did not come within ``sync_timeout_s``.
        LeadershipLost: the Lease could not be renewed; start again.
    """
    metrics = Metrics()
    observer = settings.client.observer or metrics.on_request
    retry_observer = settings.client.retry_observer or metrics.on_retry
    client_settings = replace(
        settings.client, user_agent=USER_AGENT, observer=observer, retry_observer=retry_observer
    )
    if not settings.lease_namespace:
        metrics.set_leader(True)  # there is no election
    export = await asyncio.to_thread(_span_export, settings, metrics)
    async with await KubeClient.connect(client_settings) as client:
        log.info("API server %s (%s)", client.server, client.source)
        identity = settings.identity or socket.gethostname()
        manager = Manager(metrics, _manager_options(settings, client, metrics, identity))
        options = SetupOptions(
            namespace=settings.namespace,
            workers=settings.workers,
            coalesce_s=settings.coalesce_s,
            host=identity,
            access=settings.access,
            run_clusters=settings.run_clusters,
            notify_allow=settings.notify_allow,
            worker_settings=replace(settings.worker_settings, traces=export is not None),
            spans=None if export is None else export.add,
            history=settings.history,
            timing=client_settings.timing,
        )
        Controllers(client, metrics, options).add_to(manager)
        if export is not None:
            manager.add_at_end("traces", export.close)
        await manager.run()


def _span_export(settings: ControllerSettings, metrics: Metrics) -> SpanExport | None:
    if not settings.otlp_endpoint:
        return None
    # Loads OpenTelemetry, which controllers without traces need not have.
    from taskctl.controllers.otlp import SpanExport

    return SpanExport.to(settings.otlp_endpoint, metrics)


def _manager_options(
    settings: ControllerSettings, client: KubeClient, metrics: Metrics, identity: str
) -> ManagerOptions:
    elector = None
    if settings.lease_namespace:
        lease = LeaseSettings(settings.lease_namespace, LEASE_NAME, identity)
        elector = LeaderElector(
            client.urgent(), lease, timing=settings.client.timing, changed=metrics.set_leader
        )
    return ManagerOptions(
        sync_timeout_s=settings.sync_timeout_s,
        stop_grace_s=settings.stop_grace_s,
        health_port=settings.health_port,
        health_host=settings.health_host,
        elector=elector,
        freeze_heap=True,
    )
