"""Leader election: one leader, no two, and how it changes hands."""

from __future__ import annotations

import asyncio

import pytest

from taskctl.errors import ConfigError, Conflict, Unavailable
from taskctl.kube.lease import LeaderElector, LeadershipLost, LeaseSettings
from taskctl.kube.resources import LEASES
from tests.unit.kube.fakes import FakeTime, settle
from tests.unit.kube.memory_server import MemoryServer


class Candidate:
    """One elector, with its work."""

    def __init__(self, server: MemoryServer, time: FakeTime, name: str) -> None:
        self.history: list[bool] = []
        self._working = False
        self.finish = asyncio.Event()
        self.elector = LeaderElector(
            server,
            LeaseSettings("default", "taskctl", name),
            timing=time.timing,
            changed=self.history.append,
        )
        self.task = asyncio.create_task(self.elector.run(self.work))

    def working(self) -> bool:
        return self._working

    async def work(self) -> None:
        self._working = True
        try:
            await self.finish.wait()
        finally:
            self._working = False

    async def kill(self) -> None:
        """End as by kill -9: no release."""
        self.elector._leading = False
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def pass_time(time: FakeTime, seconds: float) -> None:
    for _ in range(int(seconds * 2)):
        time.advance(0.5)
        await settle(10)


async def test_first_candidate_leads_second_waits() -> None:
    server, time = MemoryServer(), FakeTime()
    one = Candidate(server, time, "one")
    await settle()
    two = Candidate(server, time, "two")
    await pass_time(time, 60)
    assert (one.working(), two.working()) == (True, False)
    assert two.elector.holder == "one"
    spec = server.find(LEASES, "taskctl")["spec"]
    assert spec["holderIdentity"] == "one"
    assert spec["leaseDurationSeconds"] == 15
    assert spec["leaseTransitions"] == 0
    assert spec["acquireTime"] == "2026-01-01T00:00:00.000000Z"
    assert spec["renewTime"] > "2026-01-01T00:00:55"
    for candidate in (one, two):
        candidate.task.cancel()
    await asyncio.gather(one.task, two.task, return_exceptions=True)


async def test_leader_that_ends_hands_over_at_once() -> None:
    server, time = MemoryServer(), FakeTime()
    one = Candidate(server, time, "one")
    await settle()
    two = Candidate(server, time, "two")
    await settle()
    one.finish.set()
    await settle()
    assert one.task.done()
    await one.task
    await pass_time(time, 5)
    assert two.working()
    assert two.elector.transitions == 1
    assert one.history == [True, False]
    await two.kill()


async def test_killed_leader_is_replaced_after_its_lease_and_not_before() -> None:
    server, time = MemoryServer(), FakeTime()
    one = Candidate(server, time, "one")
    await settle()
    two = Candidate(server, time, "two")
    await settle()
    await one.kill()
    await pass_time(time, 14)
    assert not two.working()
    await pass_time(time, 6)
    assert two.working()
    await two.kill()


async def test_leader_without_a_server_stops_before_its_lease_ends() -> None:
    server, time = MemoryServer(), FakeTime()
    one = Candidate(server, time, "one")
    await settle()
    assert one.working()
    server.faults = [Unavailable("down")] * 1000
    await pass_time(time, 9)
    assert one.working()
    await pass_time(time, 4)
    assert not one.working()
    with pytest.raises(LeadershipLost, match="10 s"):
        await one.task
    assert one.history == [True, False]


async def test_leader_that_was_overruled_stops() -> None:
    server, time = MemoryServer(), FakeTime()
    one = Candidate(server, time, "one")
    await settle()
    spec = server.find(LEASES, "taskctl")["spec"]
    spec["holderIdentity"] = "usurper"
    await pass_time(time, 13)
    assert not one.working()
    with pytest.raises(LeadershipLost):
        await one.task


async def test_short_outage_is_survived() -> None:
    server, time = MemoryServer(), FakeTime()
    one = Candidate(server, time, "one")
    await settle()
    server.faults = [Unavailable("down"), Unavailable("down"), Conflict("changed", 409)]
    await pass_time(time, 60)
    assert one.working()
    await one.kill()


async def test_error_in_the_work_is_raised_as_it_is() -> None:
    server, time = MemoryServer(), FakeTime()

    async def work() -> None:
        raise ValueError("bug")

    elector = LeaderElector(server, LeaseSettings("default", "taskctl", "one"), timing=time.timing)
    with pytest.raises(ValueError, match="bug"):
        await elector.run(work)
    assert server.find(LEASES, "taskctl")["spec"]["holderIdentity"] == ""


def test_settings_out_of_order() -> None:
    with pytest.raises(ConfigError, match="duration_s"):
        LeaseSettings("d", "n", "i", duration_s=5, renew_deadline_s=10)
    with pytest.raises(ConfigError, match="identity"):
        LeaseSettings("d", "n", "")
