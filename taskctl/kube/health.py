"""A small HTTP server for probes and metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web

from taskctl.errors import ConfigError
from taskctl.kube.metrics import ProcessMetrics

log = logging.getLogger(__name__)

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# What is wrong, in words; empty when nothing is.
Check = Callable[[], list[str]]


class HealthServer:
    """Serves ``/healthz`` (the loop turns), ``/readyz`` and ``/metrics``.

    Args:
        host: address to bind to. Loopback unless a kubelet is to probe it: the metrics
            name resources and counts, and there is no authentication.
        port: 0 takes any free one; see :attr:`port`.
        ready: what keeps us from being ready.
        metrics: what to show.
    """

    def __init__(self, host: str, port: int, ready: Check, metrics: ProcessMetrics) -> None:
        self._host = host
        self._wanted_port = port
        self._ready = ready
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port served; 0 before :meth:`start`."""
        if self._runner is None or not self._runner.addresses:
            return 0
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Begin to serve.

        Raises:
            ConfigError: the address cannot be bound.
        """
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._show_metrics)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._wanted_port).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"cannot serve health checks on {self._host}:{self._wanted_port}: "
                f"{error.strerror}; choose another port"
            ) from error
        self._runner = runner
        log.info("health checks and metrics on http://%s:%d", self._host, self.port)

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        problems = self._ready()
        if not problems:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="\n".join(problems) + "\n")

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": _CONTENT_TYPE})
