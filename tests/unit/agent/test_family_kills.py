"""The agent, or the parent too, dies at each write between spawn and gather: no child is lost,
none is there twice, and the results are those of the last attempts.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.errors import Unavailable
from taskctl.kube.resources import PODS
from taskctl.wire import Message
from tests.unit.agent.conftest import POD, World, container_name
from tests.unit.agent.fakes import Fault, Peer, eventually
from tests.unit.agent.test_results import succeed

_WRITES = frozenset({"create", "patch", "patch_status", "delete"})
SPECS = [
    {"key": "a", "name": "a", "value": {"n": 1}},
    {"key": "b", "name": "b", "value": {"n": 2}, "overrides": {"group": "parts"}},
    {"key": "c", "name": "c"},
]
# What the root's limits cost is written as well: two sums of descendants, and the rate.
LIMITS = {"descendants": 3, "spawnRate": {"tasks": 1, "perSeconds": 1, "burst": 9}}
WRITES = 8  # of the story, if nothing goes wrong: see test_the_story_has_so_many_writes


class Story:
    """A parent that spawns three children and gathers their results."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.writes = 0
        self.kill_at = 0
        self.after = False
        self.killed = asyncio.Event()
        world.api.hooks.append(self._watch)

    def _watch(self, verb: str, plural: str, name: str) -> None:
        if verb not in _WRITES or self.killed.is_set():
            return
        self.writes += 1
        if self.writes == self.kill_at:
            self.killed.set()
            error = Unavailable("the agent is dead")
            self.world.api.faults.append(Fault(verb, error, plural, after=self.after))

    async def spawn(self, parent: Peer) -> list[str]:
        """Spawn; return the UIDs of the children."""
        made = await parent.good("spawn", tasks=SPECS)
        return [item["uid"] for item in made["tasks"]]

    async def gather(self, parent: Peer, uids: list[str]) -> list[Any]:
        """Have the children end, unless they have; return what the parent is told."""
        for number, name in enumerate("abc"):
            if self.world.status(name)["state"] == "Pending":
                succeed(self.world, name, "old", attempt=1)
                succeed(self.world, name, number, attempt=2)
        answer: Message = {"epoch": "", "next": 0}
        ended: dict[str, str] = {}
        while len(ended) < len(uids):
            answer = await parent.good(
                "children", epoch=answer["epoch"], after=answer["next"], wait_ms=5000
            )
            ended |= {item["uid"]: item["state"] for item in answer["ended"]}
        assert ended == dict.fromkeys(uids, "Succeeded")
        found = await parent.good("results", uids=uids)
        return [item.get("value") for item in found["results"]]

    async def until_killed(self, parent: Peer) -> None:
        """Run until the kill; what the agent answers then is not heard."""
        story = asyncio.create_task(self._whole(parent))
        await eventually(self.killed.is_set, "the write that kills")
        await self.world.kill()
        story.cancel()
        await asyncio.gather(story, return_exceptions=True)

    async def _whole(self, parent: Peer) -> list[Any]:
        return await self.gather(parent, await self.spawn(parent))


async def second_attempt(world: World) -> Peer:
    """Return the parent's next attempt, after the controller has written off the first."""
    lost = {"state": "Pending", "podName": None, "podUID": None, "containerName": None}
    task = world.api.change(TASKS, "job", status={**lost, "infraFailures": 1})
    world.api.change(PODS, POD.name, spec={"ephemeralContainers": []})
    container = world.place(task, 2)
    await world.start_again()
    peer, _ = await world.init(container)
    return await world.attached(await peer.good("next"))


@pytest.fixture
async def story(world: World) -> tuple[Story, Peer, str, Message]:
    """Return a story whose parent runs, its connection, its token, and what it was told."""
    _, token, told = await world.running(limits=LIMITS)
    return Story(world), await world.attached(told), token, told


async def test_the_story_has_so_many_writes(story: tuple[Story, Peer, str, Message]) -> None:
    told, parent, _, _ = story
    uids = await told.spawn(parent)
    assert await told.gather(parent, uids) == [0, 1, 2]
    assert told.writes == WRITES


@pytest.mark.parametrize("parent_dies", [False, True], ids=["agent", "parent"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, WRITES + 1))
async def test_killed_at_every_write(
    world: World,
    story: tuple[Story, Peer, str, Message],
    number: int,
    after: bool,
    parent_dies: bool,
) -> None:
    told, parent, token, run = story
    told.kill_at, told.after = number, after
    await told.until_killed(parent)
    if parent_dies:
        parent = await second_attempt(world)
    else:
        await world.start_again()
        running = {"uid": run["uid"], "attempt": 1, "started_us": 5}
        await world.back(container_name(run["uid"], 1), token, running=running)
        parent = await world.attached(run)
    known = {name: uid_of(world, name) for name in "abc" if name in world.api.names(TASKS)}
    uids = await told.spawn(parent)
    assert await told.gather(parent, uids) == [0, 1, 2]
    assert world.api.names(TASKS) == ["a", "b", "c", "job"]
    assert [uid_of(world, name) for name in "abc"] == uids
    assert known.items() <= dict(zip("abc", uids, strict=True)).items()
    inputs = [name for name in world.api.names(TASKOBJECTS) if not name.endswith("-output")]
    assert len(inputs) <= 2


def uid_of(world: World, name: str) -> str:
    return str(world.api.see(TASKS, name)["metadata"]["uid"])
