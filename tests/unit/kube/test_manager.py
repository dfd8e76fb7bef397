"""Start in step, end in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import aiohttp
import pytest

from taskctl.api.resources import TASKS
from taskctl.controllers.metrics import Metrics
from taskctl.errors import ConfigError, Forbidden, Unavailable
from taskctl.kube.controller import Controller
from taskctl.kube.informer import Informer
from taskctl.kube.lease import LeaderElector, LeaseSettings
from taskctl.kube.manager import Manager, ManagerOptions
from taskctl.kube.resources import LEASES
from taskctl.kube.workqueue import WorkQueue
from taskctl.objectkey import ObjectKey
from tests.unit.kube.fakes import FakeTime, settle, task
from tests.unit.kube.memory_server import MemoryServer
from tests.unit.kube.test_informer import ScriptedServer, page


class Case:
    """One informer, one controller."""

    def __init__(self, options: ManagerOptions | None = None) -> None:
        self.time = FakeTime(auto=True)
        self.server = ScriptedServer(self.time)
        self.done: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.manager = Manager(Metrics(), options or ManagerOptions(handle_signals=False))
        self.informer = self.manager.add_informer(
            Informer(self.server, TASKS, timing=self.time.timing)
        )
        self.queue = WorkQueue[ObjectKey]("task")
        self.informer.add_handler(lambda old, new: self.queue.add(ObjectKey.of(new or old or {})))
        self.manager.add_controller(Controller("task", self.queue, self.reconcile))

    async def reconcile(self, key: ObjectKey) -> None:
        await self.gate.wait()
        self.done.append(str(key))

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.manager.run())


async def test_workers_wait_for_the_first_list() -> None:
    case = Case()
    running = case.start()
    await settle()
    assert case.manager.not_ready() == ["tasks: not listed yet; "]
    case.queue.add(ObjectKey("default", "early"))
    await settle()
    assert case.done == []
    case.manager.stop()
    await asyncio.wait_for(running, 2)
    assert case.done == []


async def test_runs_and_stops() -> None:
    case = Case()
    case.server.lists = [page(10, task("a", 3))]
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("background")

    async def last() -> None:
        ended.append("last")

    case.manager.add_background("events", background)
    case.manager.add_background("later", background, after_sync=True)
    case.manager.add_at_end("flush", last)
    running = case.start()
    await settle(200)
    assert case.done == ["default/a"]
    assert case.manager.not_ready() == []
    case.manager.stop()
    await asyncio.wait_for(running, 2)
    assert ended == ["background", "last", "background"]
    assert case.server.open_streams == 0


async def test_reconcile_under_way_may_finish() -> None:
    case = Case()
    case.server.lists = [page(10, task("a", 3), task("b", 4))]
    case.gate.clear()
    running = case.start()
    await settle(200)
    case.manager.stop()
    await settle()
    case.gate.set()
    await asyncio.wait_for(running, 2)
    assert case.done == ["default/a"]


async def test_reconcile_that_does_not_end_is_cut_off() -> None:
    case = Case(ManagerOptions(handle_signals=False, stop_grace_s=0.01))
    case.server.lists = [page(10, task("a", 3))]
    case.gate.clear()
    running = case.start()
    await settle(200)
    case.manager.stop()
    await asyncio.wait_for(running, 2)
    assert case.done == []


async def test_lists_that_do_not_come_end_it_with_a_reason() -> None:
    case = Case(ManagerOptions(handle_signals=False, sync_timeout_s=0.05))
    case.server.lists = [Forbidden("tasks is forbidden", 403)]
    with pytest.raises(Unavailable, match="tasks is forbidden"):
        await case.manager.run()


async def test_part_that_fails_ends_all() -> None:
    case = Case()
    case.server.lists = [page(10)]

    async def broken() -> None:
        raise RuntimeError("bug")

    async def returns() -> None:
        return

    case.manager.add_background("broken", broken)
    with pytest.raises(RuntimeError, match="bug"):
        await case.manager.run()
    other = Case()
    other.manager.add_background("returns", returns)
    with pytest.raises(ConfigError, match="'returns' returned"):
        await other.manager.run()
    with pytest.raises(ConfigError, match="runs already"):
        other.manager.add_background("late", broken)


async def test_only_the_leader_works() -> None:
    leases = MemoryServer()
    time = FakeTime()
    cases = []
    for name in ("one", "two"):
        settings = LeaseSettings("default", "taskctl", name)
        elector = LeaderElector(leases, settings, timing=time.timing)
        case = Case(ManagerOptions(handle_signals=False, elector=elector))
        case.server.lists = [page(10, task("a", 3))]
        cases.append(case)
    one, two = cases
    first = one.start()
    await settle(200)
    second = two.start()
    await settle(200)
    assert (one.done, two.done) == (["default/a"], [])
    assert two.manager.not_ready() == []
    one.manager.stop()
    await asyncio.wait_for(first, 2)
    for _ in range(10):
        time.advance(1)
        await settle()
    assert two.done == ["default/a"]
    two.manager.stop()
    await asyncio.wait_for(second, 2)


async def test_candidate_can_be_stopped_while_it_waits() -> None:
    leases = MemoryServer()
    elector = LeaderElector(leases, LeaseSettings("default", "taskctl", "me"))
    await leases.create(
        LEASES,
        {
            "metadata": {"name": "taskctl", "namespace": "default"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15},
        },
    )
    case = Case(ManagerOptions(handle_signals=False, elector=elector))
    case.server.lists = [page(10)]
    running = case.start()
    await settle(200)
    case.manager.stop()
    await asyncio.wait_for(running, 2)


async def test_signals_stop_and_dump(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    case = Case(ManagerOptions())
    case.server.lists = [page(10, task("a", 3))]
    running = case.start()
    await settle(200)
    case.queue.add_after(ObjectKey("default", "later"), 100)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.01)
    assert "cache tasks: 1 objects at version 10" in caplog.text
    assert "default/a" in caplog.text
    assert "queue task: 0 waiting, 1 delayed" in caplog.text
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 2)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_health_port() -> None:
    case = Case(ManagerOptions(handle_signals=False, health_port=0))
    running = case.start()
    await settle(200)
    base = f"http://127.0.0.1:{case.manager.health_port}"
    async with aiohttp.ClientSession() as session:

        async def ask(path: str) -> tuple[int, str]:
            async with session.get(base + path) as response:
                return response.status, await response.text()

        assert await ask("/healthz") == (200, "ok\n")
        status, body = await ask("/readyz")
        assert (status, "not listed yet" in body) == (503, True)
        case.informer.synced.set()
        case.informer._note_contact()
        assert await ask("/readyz") == (200, "ok\n")
        case.time.now_s += 1000
        status, body = await ask("/readyz")
        assert (status, "nothing heard for 1000 s" in body) == (503, True)
        status, body = await ask("/metrics")
    assert status == 200
    assert 'taskctl_cached_objects{resource="tasks"} 0.0' in body
    assert 'taskctl_reconcile_total{controller="task",outcome="panic"} 0.0' in body
    taken = Case(ManagerOptions(handle_signals=False, health_port=case.manager.health_port))
    with pytest.raises(ConfigError, match="choose another port"):
        await taken.manager.run()
    case.manager.stop()
    await asyncio.wait_for(running, 2)
