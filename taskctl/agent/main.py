"""The agent's life: start, serve, and on SIGTERM report what is left to report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Final

from taskctl import __version__
from taskctl.agent import runtime_dir
from taskctl.agent.background import Background
from taskctl.agent.cleaning import Cleaner
from taskctl.agent.context import AgentClient, Context
from taskctl.agent.handovers import Handovers
from taskctl.agent.journal import Journal
from taskctl.agent.meters import Meters
from taskctl.agent.metricsserver import MetricsServer
from taskctl.agent.podspec import OwnPod
from taskctl.agent.recovery import RecordDelivery
from taskctl.agent.retry import Retrier
from taskctl.agent.runs import Runs
from taskctl.agent.server import SOCKET_NAME, SocketServer
from taskctl.agent.service import Service
from taskctl.agent.settings import AgentSettings
from taskctl.agent.stops import Stops, watch_own_tasks
from taskctl.agent.tokens import TokenMint
from taskctl.agent.workspace import Workspace
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.errors import ConfigError
from taskctl.kube.client import KubeClient
from taskctl.kube.timing import SYSTEM_TIMING, Timing

logger = logging.getLogger(__name__)

LOOP_PAUSE_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 10.0  # tasks wait: for half a minute at most (docs/protocol.md)
DRAIN_POLL_S: Final = 0.1
# Containers that are stopped with us need a moment to say how they ended.
DRAIN_QUIET_S: Final = 0.3


class Agent:
    """One agent, from its files to its socket.

    Args:
        settings: where it lives.
        client: the API server.
        timing: clock, sleep and chance.
        meters: counts what it does.
    """

    def __init__(
        self,
        settings: AgentSettings,
        client: AgentClient,
        timing: Timing = SYSTEM_TIMING,
        meters: Meters | None = None,
    ) -> None:
        self._settings = settings
        self._meters = meters or Meters()
        self._client = client
        self._timing = timing
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Claim nothing any more; :meth:`run` returns once every exit is reported."""
        if not self._draining.is_set():
            logger.info("stopping: nothing more is claimed, exits are still reported")
        self._draining.set()

    async def run(self) -> None:
        """Serve until drained.

        Raises:
            ConfigError: a directory cannot be used, or taskctl is not installed in full.
        """
        context = await asyncio.to_thread(self._prepare)
        informer = watch_own_tasks(self._client, self._settings.pod, self._timing)
        pod = OwnPod(self._client, self._settings.pod, context.retrier)
        handovers = Handovers(self._client, self._settings.pod, context.journal, self._timing)
        prepared = await asyncio.to_thread(context.journal.load_prepared)
        service = Service(context, pod, handovers, Stops(context, informer), prepared)
        server = SocketServer(service, self._settings.runtime_dir / SOCKET_NAME)
        records = RecordDelivery(context, service)
        context.background.spawn("watch tasks", self._for_ever("watch tasks", informer.run))
        context.background.spawn(
            "watch handovers", self._for_ever("watch handovers", handovers.run)
        )
        context.background.spawn("deliver records", self._for_ever("records", records.run))
        if context.workspace is not None:
            cleaner = Cleaner(context, context.workspace)
            context.background.spawn("clean up", self._for_ever("clean up", cleaner.run))
        scraping = await self._start_metrics(context)
        try:
            await server.start()
            await asyncio.to_thread(runtime_dir.mark_ready, self._settings.runtime_dir)
            logger.info(
                "serving pod=%s cluster=%s recovered=%d",
                self._settings.pod.name,
                self._settings.cluster,
                len(context.runs.unreported()),
            )
            await self._until_drained(service)
        finally:
            await server.stop()
            await context.background.close()
            if scraping is not None:
                await scraping.stop()

    async def _start_metrics(self, context: Context) -> MetricsServer | None:
        """Serve metrics before there can be a task that would take the port."""
        if self._settings.metrics_port is None:
            return None
        try:
            # Loads prometheus_client, which agents without metrics need not have.
            from taskctl.agent.exposition import AgentMetrics
        except ImportError:
            logger.warning(
                "no metrics are served: the worker's image lacks prometheus-client; install "
                "taskctl[controller] in it"
            )
            return None
        metrics = AgentMetrics(context)
        server = MetricsServer(
            self._settings.metrics_host, self._settings.metrics_port, metrics.text, self._timing
        )
        context.background.spawn("measure workspace", metrics.measure_for_ever())
        await server.start()
        return server

    def _prepare(self) -> Context:
        """Read what former lives left, and fill the volumes. Blocking."""
        settings = self._settings
        runs = Runs()
        try:
            runtime_dir.clear_ready(settings.runtime_dir)
            journal = Journal(settings.state_dir)
            journal.open()
            tokens = TokenMint.load(settings.state_dir)
            runs.recover(journal.load(), settings.pod, self._timing.clock.monotonic_s())
            workspace = Workspace(settings.workspace) if settings.workspace else None
            if workspace is not None:
                workspace.try_prepare()
            runtime_dir.fill(settings.runtime_dir)
        except OSError as error:
            raise ConfigError(
                f"{error.filename or 'a volume'} cannot be used: {error.strerror}; the runtime, "
                "state and workspace volumes must be writable for the agent's user (fsGroup)"
            ) from error
        return Context(
            settings=settings,
            client=self._client,
            timing=self._timing,
            retrier=Retrier(self._timing),
            tokens=tokens,
            journal=journal,
            runs=runs,
            background=Background(),
            workspace=workspace,
            meters=self._meters,
        )

    async def _for_ever(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop, and again if a bug ends it: the kubelet would kill every task with us."""
        while True:
            try:
                await loop()
            except Exception:
                logger.exception("%s ended by an error, starting it again", name)
            await self._timing.sleep(LOOP_PAUSE_S)

    async def _until_drained(self, service: Service) -> None:
        """Wait for :meth:`drain`, then until nothing is owed to the API server.

        A pod that is being deleted ends that much sooner; else the kubelet's SIGKILL comes.
        """
        await self._draining.wait()
        service.claims.close()
        await asyncio.to_thread(runtime_dir.clear_ready, self._settings.runtime_dir)
        quiet_s = 0.0
        while quiet_s < DRAIN_QUIET_S:
            await self._timing.sleep(DRAIN_POLL_S)
            quiet_s = 0.0 if service.is_busy() else quiet_s + DRAIN_POLL_S


async def run_agent(settings: AgentSettings) -> None:
    """Run the agent of a worker pod until SIGTERM, and then until every exit is reported.

    Raises:
        ConfigError: the settings, the volumes or the way to the API server are not in order.
    """
    meters = Meters()
    client_settings = replace(
        CLIENT_SETTINGS,
        user_agent=f"taskctl-agent/{__version__}",
        timeout_s=REQUEST_TIMEOUT_S,
        observer=meters.on_api_request,
    )
    async with await KubeClient.connect(client_settings) as client:
        agent = Agent(settings, client, meters=meters)
        with _on_signals(agent.drain):
            await agent.run()


@contextlib.contextmanager
def _on_signals(action: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, action)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def settings_from_environment() -> AgentSettings:
    """Return the settings that the worker pod's environment gives.

    Raises:
        ConfigError: see :meth:`AgentSettings.from_env`.
    """
    return AgentSettings.from_env(os.environ)
