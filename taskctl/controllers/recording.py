"""The recorder: a process that keeps the history of a cluster, and answers from it.

It is not the controller, whose replicas could not share a volume that one node may mount
(docs/decisions/0047-a-recorder-keeps-the-history-of-a-cluster.md).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Final

from taskctl import __version__
from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.controllers.history import HistorySettings
from taskctl.controllers.recordermetrics import RecorderMetrics
from taskctl.history.server import HistoryServer
from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings
from taskctl.kube.informer import Informer
from taskctl.kube.manager import Manager, ManagerOptions

log = logging.getLogger(__name__)

USER_AGENT: Final = f"taskctl-recorder/{__version__}"


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """Settings of the recorder process.

    Attributes:
        history: where it is kept, and how much of it.
        token: of those who may read.
        host: address to answer on.
        port: to answer on; 0: any free one.
        client: where the API server is.
        namespace: whose Tasks; None: of all.
        health_host: address of the probes and metrics.
        health_port: of /healthz, /readyz and /metrics; None: not served.
    """

    history: HistorySettings
    token: str = field(repr=False)
    host: str
    port: int
    client: ClientSettings = CLIENT_SETTINGS
    namespace: str | None = None
    health_host: str = "127.0.0.1"
    health_port: int | None = None


async def run_recorder(settings: RecorderSettings) -> None:
    """Record and answer until SIGTERM or SIGINT.

    Raises:
        ConfigError: the API server is not configured, or a port is taken.
        Unavailable: the first lists did not come in time.
    """
    metrics = RecorderMetrics()
    client_settings = replace(settings.client, user_agent=USER_AGENT)
    async with await KubeClient.connect(client_settings) as client:
        log.info("API server %s (%s)", client.server, client.source)
        manager = Manager(
            metrics,
            ManagerOptions(
                health_host=settings.health_host,
                health_port=settings.health_port,
                freeze_heap=True,
            ),
        )
        # The TaskClusters first: a line says where the files of its Task are.
        clusters = manager.add_informer(Informer(client, TASKCLUSTERS, settings.namespace))
        tasks = manager.add_informer(Informer(client, TASKS, settings.namespace))
        recorder = settings.history.recorder(tasks, clusters.store, client_settings.timing)
        tasks.add_handler(recorder.on_task)
        metrics.declare_recorder(lambda: recorder.lines, lambda: recorder.waiting)
        manager.add_background("history", recorder.run)
        manager.add_at_end("history", recorder.close)
        server = HistoryServer(
            settings.history.root, settings.history.below, settings.token, metrics.on_request
        )
        await server.start(settings.host, settings.port)
        try:
            await manager.run()
        finally:
            await server.stop()
