"""The controller process: connect, watch, reconcile, until told to stop."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass, field, replace
from typing import Final

from taskctl import __version__
from taskctl.client.config import ClientSettings
from taskctl.client.kube import KubeClient
from taskctl.constants import DEFAULT_IMAGE, LEASE_NAME
from taskctl.controllers.setup import Controllers, SetupOptions
from taskctl.placement.machine import COALESCE_S
from taskctl.policy.hostlist import AllowedHost
from taskctl.policy.runclusterrule import RunClusters
from taskctl.policy.workeraccess import WorkerAccess
from taskctl.runtime.lease import LeaderElector, LeaseSettings
from taskctl.runtime.manager import Manager, ManagerOptions
from taskctl.runtime.metrics import Metrics

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
        worker_image: image of workers whose TaskCluster names none.
        run_clusters: which TaskClusters to make for single runs (``spec.cluster`` of a Task).
        notify_allow: hosts that receivers of notifications may be on.
    """

    client: ClientSettings = field(default_factory=ClientSettings)
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
    worker_image: str = DEFAULT_IMAGE
    run_clusters: RunClusters = RunClusters.PLAIN
    notify_allow: tuple[AllowedHost, ...] = ()


async def run_controller(settings: ControllerSettings) -> None:
    """Run all control loops until SIGTERM or SIGINT.

    Raises:
        ConfigError: the API server is not configured, or the health port is taken.
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
            worker_image=settings.worker_image,
            run_clusters=settings.run_clusters,
            notify_allow=settings.notify_allow,
            timing=client_settings.timing,
        )
        Controllers(client, metrics, options).add_to(manager)
        await manager.run()


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
