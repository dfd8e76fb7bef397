"""Runs informers and controllers together, from start to clean end."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from taskctl.errors import ConfigError, TaskctlError
from taskctl.kube.controller import Controller
from taskctl.kube.health import HealthServer
from taskctl.kube.informer import Informer
from taskctl.kube.lease import LeaderElector
from taskctl.kube.metrics import NoMetrics, ProcessMetrics

log = logging.getLogger(__name__)

_DUMP_KEYS: Final = 200
# Longer than a watch may be silent plus the longest back-off: then something is broken.
_SILENCE_LIMIT_S: Final = 180.0

Background = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ManagerOptions:
    """How to run.

    Attributes:
        sync_timeout_s: how long the first lists may take altogether.
        stop_grace_s: how long reconciles under way may take to end when we stop.
        health_port: None serves no health checks; 0 takes any free port.
        health_host: where to; see :class:`HealthServer`.
        elector: controllers run only while this leads; None for always.
        freeze_heap: once in step, take all objects alive out of the garbage collector's
            view. Ten thousand cached objects make a full collection stop the loop for some
            80 ms; cached objects hold no cycles, so their memory is freed without it. For a
            process that runs one manager, not for tests.
        handle_signals: SIGTERM and SIGINT stop, SIGUSR1 dumps queues and caches to the log.
    """

    sync_timeout_s: float = 60.0
    stop_grace_s: float = 10.0
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    elector: LeaderElector | None = None
    freeze_heap: bool = False
    handle_signals: bool = True


@dataclass(slots=True)
class _Parts:
    """What there is to run."""

    informers: list[Informer] = field(default_factory=list)
    controllers: list[Controller[Any]] = field(default_factory=list)
    background: list[tuple[str, Background]] = field(default_factory=list)
    after_sync: list[tuple[str, Background]] = field(default_factory=list)
    at_end: list[tuple[str, Background]] = field(default_factory=list)


class Manager:
    """Starts informers, waits until all are in step, then starts the controllers.

    Add the parts, then :meth:`run`. If any part fails, all are stopped and the error is
    raised: a process half alive is worse than one that is restarted.

    Args:
        metrics: where caches and controllers are made known.
        options: times, health port, leader election.
    """

    def __init__(
        self,
        metrics: ProcessMetrics | None = None,
        options: ManagerOptions = ManagerOptions(),  # frozen
    ) -> None:
        self.metrics = metrics or NoMetrics()
        self._options = options
        self._parts = _Parts()
        self._stop = asyncio.Event()
        self._running = False
        self._health: HealthServer | None = None
        if options.health_port is not None:
            self._health = HealthServer(
                options.health_host, options.health_port, self.not_ready, self.metrics
            )

    @property
    def health_port(self) -> int:
        """The port of the health checks; 0 where there are none."""
        return self._health.port if self._health is not None else 0

    def add_informer(self, informer: Informer) -> Informer:
        """Run an informer; controllers wait for it."""
        self._check_not_running()
        self._parts.informers.append(informer)
        store = informer.store
        self.metrics.declare_cache(informer.name, store.__len__)
        return informer

    def add_controller(self, controller: Controller[Any]) -> None:
        """Run a controller once everything is in step."""
        self._check_not_running()
        self._parts.controllers.append(controller)
        self.metrics.declare_controller(controller.name)

    def add_background(self, name: str, run: Background, *, after_sync: bool = False) -> None:
        """Run something else beside the controllers until we stop.

        Args:
            name: of its task.
            run: is cancelled when we stop; must not return before.
            after_sync: start it with the controllers, not with the informers.
        """
        self._check_not_running()
        chosen = self._parts.after_sync if after_sync else self._parts.background
        chosen.append((name, run))

    def add_at_end(self, name: str, run: Background) -> None:
        """Run something after the controllers have ended, while informers and background
        still run: for example, write the last Events.
        """
        self._check_not_running()
        self._parts.at_end.append((name, run))

    def stop(self) -> None:
        """Ask :meth:`run` to end in good order."""
        self._stop.set()

    def not_ready(self) -> list[str]:
        """Return what keeps us from being ready, in words; empty when nothing does."""
        problems = []
        for informer in self._parts.informers:
            if not informer.synced.is_set():
                problems.append(f"{informer.name}: not listed yet; {informer.last_error}")
            elif informer.silent_s > _SILENCE_LIMIT_S:
                problems.append(
                    f"{informer.name}: nothing heard for {informer.silent_s:.0f} s; "
                    f"{informer.last_error}"
                )
        return problems

    async def run(self) -> None:
        """Run until a signal or :meth:`stop`.

        Raises:
            Unavailable: the first lists did not come in time.
            LeadershipLost: the lease could not be renewed.
            ConfigError: the health port is taken.
        """
        self._running = True
        self._listen_to_signals(True)
        try:
            if self._health is not None:
                await self._health.start()
            await self._run_parts()
        finally:
            self._listen_to_signals(False)
            if self._health is not None:
                await self._health.stop()

    async def _run_parts(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                feeders = [
                    group.create_task(informer.run(), name=f"informer-{informer.name}")
                    for informer in self._parts.informers
                ]
                feeders += [
                    group.create_task(_forever(name, run), name=name)
                    for name, run in self._parts.background
                ]
                if await self._synced():
                    elector = self._options.elector
                    await (self._elect_and_lead(elector) if elector else self._lead())
                    await self._finish()
                for task in feeders:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise _innermost(errors) from None

    async def _finish(self) -> None:
        for name, run in self._parts.at_end:
            try:
                async with asyncio.timeout(self._options.stop_grace_s):
                    await run()
            except (TaskctlError, TimeoutError) as error:
                log.warning("at the end, %s: %s", name, error or "took too long")

    async def _synced(self) -> bool:
        """Wait for all first lists; False where we were asked to stop meanwhile."""
        stopping = asyncio.create_task(self._stop.wait(), name="manager-stop")
        lists = asyncio.create_task(self._wait_lists(), name="manager-sync")
        try:
            await asyncio.wait({stopping, lists}, return_when=asyncio.FIRST_COMPLETED)
            if lists.done():
                lists.result()
            return not self._stop.is_set()
        finally:
            stopping.cancel()
            lists.cancel()
            await asyncio.gather(stopping, lists, return_exceptions=True)

    async def _wait_lists(self) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._options.sync_timeout_s
        for informer in self._parts.informers:
            await informer.wait_synced(max(0.0, deadline_s - loop.time()))

    async def _elect_and_lead(self, elector: LeaderElector) -> None:
        """Run the controllers while leading; give up waiting for it when asked to stop."""
        async with asyncio.TaskGroup() as group:
            leading = group.create_task(elector.run(self._lead), name="leader-election")
            stopping = group.create_task(self._stop.wait(), name="manager-stop")
            await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done() and not elector.leading:
                leading.cancel()
            await asyncio.wait({leading})
            stopping.cancel()

    async def _lead(self) -> None:
        """Run the controllers until we are asked to stop."""
        if self._options.freeze_heap:
            gc.collect()
            gc.freeze()
        log.info("caches are in step; starting %d controllers", len(self._parts.controllers))
        async with asyncio.TaskGroup() as group:
            working = [
                group.create_task(controller.run(), name=controller.name)
                for controller in self._parts.controllers
            ]
            others = [
                group.create_task(_forever(name, run), name=name)
                for name, run in self._parts.after_sync
            ]
            await self._stop.wait()
            log.info("stopping")
            for controller in self._parts.controllers:
                controller.queue.shutdown(discard=True)
            if working:
                await asyncio.wait(working, timeout=self._options.stop_grace_s)
            for task in [*working, *others]:
                task.cancel()

    # --- signals ------------------------------------------------------------------------

    def dump(self) -> None:
        """Write queues and caches to the log."""
        for informer in self._parts.informers:
            store = informer.store
            keys = store.keys()
            shown = ", ".join(str(key) for key in keys[:_DUMP_KEYS])
            log.warning(
                "cache %s: %d objects at version %d, heard of %.1f s ago: %s%s",
                informer.name,
                len(keys),
                store.resource_version,
                informer.silent_s,
                shown,
                " …" if len(keys) > _DUMP_KEYS else "",
            )
        for controller in self._parts.controllers:
            queue = controller.queue
            log.warning(
                "queue %s: %d waiting, %d delayed; working on: %s; first in line: %s",
                queue.name,
                len(queue),
                queue.delayed,
                ", ".join(str(key) for key in queue.processing) or "nothing",
                ", ".join(str(key) for key in queue.waiting(_DUMP_KEYS)) or "nothing",
            )

    def _listen_to_signals(self, listen: bool) -> None:
        if not self._options.handle_signals:
            return
        loop = asyncio.get_running_loop()
        wanted: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGUSR1: self.dump,
        }
        for number, callback in wanted.items():
            if listen:
                loop.add_signal_handler(number, callback)
            else:
                loop.remove_signal_handler(number)

    def _check_not_running(self) -> None:
        if self._running:
            raise ConfigError("the manager runs already; add its parts before")


async def _forever(name: str, run: Background) -> None:
    await run()
    raise ConfigError(f"the background task {name!r} returned; it must run until it is cancelled")


def _innermost(error: BaseException) -> BaseException:
    """Return the one error that nested groups hold, or the group that holds several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
