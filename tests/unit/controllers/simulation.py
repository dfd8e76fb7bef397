"""A cluster in memory and in virtual time: API server, node, one or more controllers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.controllers.metrics import Metrics
from taskctl.controllers.setup import Controllers, SetupOptions
from taskctl.kube.interface import KubeObject
from taskctl.kube.manager import Manager, ManagerOptions
from taskctl.policy.spans import Span
from tests.unit.controllers import virtual
from tests.unit.controllers.fake_api import WHO, FakeApi
from tests.unit.controllers.fake_node import FakeNode

TERMINAL = ("Succeeded", "Failed", "Cancelled", "Skipped")


class Simulation:
    def __init__(self) -> None:
        self.api = FakeApi()
        self.spans: list[Span] = []
        self.node = FakeNode(self.api)
        self.controllers: Controllers | None = None
        self._controller: asyncio.Task[None] | None = None
        self._seed = 0
        self._metrics: list[Metrics] = []
        # Of every controller that is started from now on.
        self.options = SetupOptions()

    @classmethod
    def started(cls, **cluster: Any) -> AbstractAsyncContextManager[Simulation]:
        """A running simulation with a TaskCluster ``c``."""
        return cls.running(SetupOptions(), cluster)

    @classmethod
    @asynccontextmanager
    async def running(
        cls, options: SetupOptions, cluster: Mapping[str, Any]
    ) -> AsyncIterator[Simulation]:
        """The same, with controllers of one's own choice."""
        sim = cls()
        sim.options = options
        node = asyncio.create_task(sim.node.run(), name="node")
        await sim.cluster(**cluster)
        await sim.start_controller()
        try:
            yield sim
        finally:
            await sim.kill_controller()
            node.cancel()
            await asyncio.gather(node, return_exceptions=True)
        assert sim.api.overstepped == set(), "taskctl/install/rules.py does not allow that"
        sim.assert_no_hot_loop()

    # --- controllers --------------------------------------------------------------------

    async def start_controller(self) -> asyncio.Task[None]:
        self._seed += 1
        timing = virtual.timing(self._seed)
        options = ManagerOptions(handle_signals=False)
        manager = Manager(Metrics(), options)
        metrics = Metrics()
        self._metrics.append(metrics)
        setup = replace(self.options, timing=timing, spans=self.spans.extend)
        self.controllers = Controllers(self.api, metrics, setup)
        self.controllers.add_to(manager)
        WHO.set("controller")
        task = asyncio.create_task(manager.run(), name="controller")
        WHO.set("node")
        self._controller = task
        return task

    def assert_no_hot_loop(self) -> None:
        """Reconciling follows from changes, and now and then from time, but not from itself."""
        reconciles = sum(
            sample.value
            for metrics in self._metrics
            for family in metrics.reconciles.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )
        expected = 1000 + 20 * self.api.clock.monotonic_s() + 20 * self.api.version
        assert reconciles < expected, f"{reconciles:.0f} reconciles, {self.api.version} changes"

    async def kill_controller(self) -> None:
        """As kill -9 would: nothing is finished."""
        if self._controller is not None:
            await kill(self._controller)

    async def restart_controller(self) -> None:
        await self.kill_controller()
        await self.start_controller()

    def scraped(self) -> str:
        """What the present controller would answer to Prometheus."""
        return self._metrics[-1].render().decode()

    # --- objects ------------------------------------------------------------------------

    async def cluster(self, name: str = "c", **spec: Any) -> None:
        body = {"replicas": 1, "slotsPerWorker": 4} | spec
        await self.api.create(TASKCLUSTERS, {"metadata": {"name": name}, "spec": body}, "ns")

    async def task(self, name: str, *command: str, **spec: Any) -> KubeObject:
        body = {"clusterName": "c", "image": "img", "command": list(command) or ["ok"]} | spec
        return await self.api.create(TASKS, {"metadata": {"name": name}, "spec": body}, "ns")

    async def object(self, name: str, **metadata: Any) -> None:
        body = {"metadata": {"name": name, **metadata}, "value": 1}
        await self.api.create(TASKOBJECTS, body, "ns")

    def spec(self, name: str, **changes: Any) -> None:
        self.api.edit(TASKS, name, lambda task: task["spec"].update(changes))

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.api.peek(TASKS, name)["status"]
        return status

    def tasks(self) -> list[KubeObject]:
        return self.api.all(TASKS)

    # --- waiting ------------------------------------------------------------------------

    async def until(self, what: Callable[[], Any], *, timeout_s: float = 600.0) -> None:
        """Wait, in virtual time, until something holds."""
        end_s = self.api.clock.monotonic_s() + timeout_s
        while True:
            with contextlib.suppress(KeyError):
                if what():
                    return
            if self._controller is not None and self._controller.done():
                self._controller.result()
            if self.api.clock.monotonic_s() > end_s:
                states = {t["metadata"]["name"]: t["status"] for t in self.tasks()[:20]}
                raise AssertionError(f"not after {timeout_s} virtual seconds: {states}")
            await asyncio.sleep(0.01)

    async def finished(self, *names: str, timeout_s: float = 600.0) -> list[dict[str, Any]]:
        await self.until(
            lambda: all(self.status(name)["state"] in TERMINAL for name in names),
            timeout_s=timeout_s,
        )
        return [self.status(name) for name in names]

    async def all_finished(self, *, timeout_s: float = 3600.0) -> None:
        await self.until(
            lambda: all(task["status"]["state"] in TERMINAL for task in self.tasks()),
            timeout_s=timeout_s,
        )

    def condition(self, name: str, condition_type: str) -> str:
        for condition in self.status(name).get("conditions") or ():
            if condition["type"] == condition_type:
                return str(condition["status"])
        return "absent"


async def kill(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def once_each(sim: Simulation) -> None:
    """No attempt was run twice."""
    twice = [key for key, count in Counter(sim.node.runs).items() if count > 1]
    assert twice == []
