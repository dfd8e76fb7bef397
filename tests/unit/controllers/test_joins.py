"""Groups and subtrees: who waits for them starts when they are over, and not before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskctl.api.resources import TASKS
from taskctl.controllers.joins import Joins
from taskctl.controllers.subtrees import Subtrees, TaskId, Verdict
from taskctl.controllers.waiting import Waiters
from taskctl.kube.interface import EventType
from taskctl.kube.store import Store
from taskctl.objectkey import ObjectKey
from taskctl.policy.cycles import Cycles
from taskctl.policy.readiness import ReadinessFacts
from taskctl.policy.runafter import GroupFacts
from taskctl.policy.view import parse_task
from tests.unit.controllers.simulation import Simulation
from tests.unit.controllers.virtual import run


class Tree:
    """Creates members of one tree as an agent would."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim

    async def child(self, parent: str, name: str, *command: str, **spec: Any) -> None:
        above = self.sim.api.peek(TASKS, parent)
        lineage = above["spec"].get("lineage") or {
            "root": parent,
            "rootUID": above["metadata"]["uid"],
            "depth": 0,
        }
        own = {
            "task": name,
            "root": lineage["root"],
            "rootUID": lineage["rootUID"],
            "parent": parent,
            "parentUID": above["metadata"]["uid"],
            "depth": lineage["depth"] + 1,
            "key": name,
        }
        await self.sim.task(name, *command, lineage=own, **spec)


def ended(sim: Simulation, name: str) -> str:
    return str(sim.status(name)["times"]["exited"])


def started(sim: Simulation, name: str) -> str:
    return str(sim.status(name)["times"]["started"])


@pytest.mark.parametrize("first", ["joiner", "members"])
def test_a_group_is_waited_for(first: str) -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=10) as sim:
            tree = Tree(sim)
            await sim.task("root", "sleep", "30")
            joiner = {"runAfter": {"group": "g", "count": 5}}
            if first == "joiner":
                await tree.child("root", "join", **joiner)
            for n in range(5):
                await tree.child("root", f"m{n}", "sleep", str(n), group="g")
            # The same word in another tree is another group.
            await sim.task("other", "sleep", "100", group="g")
            if first == "members":
                await tree.child("root", "join", **joiner)
            (status,) = await sim.finished("join", timeout_s=30)
            assert status["state"] == "Succeeded"
            assert all(ended(sim, f"m{n}") <= started(sim, "join") for n in range(5))

    run(main())


def test_members_that_are_still_to_come_are_told() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            tree = Tree(sim)
            await sim.task("root", "sleep", "60")
            await tree.child("root", "m0", group="g")
            after = {"group": "g", "count": 2, "tasks": ["ghost"]}
            await tree.child("root", "join", runAfter=after)
            await sim.until(lambda: sim.status("join").get("message"), timeout_s=10)
            message = sim.status("join")["message"]
            assert "ghost (does not exist yet)" in message
            assert "1 of the 2 expected" in message
            await sim.task("ghost", "sleep", "20")
            await sim.until(
                lambda: "does not exist" not in sim.status("join")["message"], timeout_s=10
            )
            await tree.child("root", "m1", group="g")
            (status,) = await sim.finished("join", timeout_s=60)
            assert status["state"] == "Succeeded"
            assert ended(sim, "ghost") <= started(sim, "join")

    run(main())


@pytest.mark.parametrize(
    ("after", "when", "state"),
    [
        ({}, "Success", "Failed"),
        ({"minSuccess": 2}, "Success", "Succeeded"),
        ({"minSuccess": 3}, "Success", "Failed"),
        ({"minSuccess": 3}, "Failure", "Succeeded"),
        ({"minSuccess": 2}, "Failure", "Skipped"),
        ({}, "Always", "Succeeded"),
    ],
)
def test_how_many_must_succeed(after: dict[str, Any], when: str, state: str) -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=10) as sim:
            tree = Tree(sim)
            await sim.task("root", "sleep", "30")
            await tree.child("root", "join", runAfter={"group": "g", "count": 3} | after, when=when)
            await tree.child("root", "bad", "fail", "1", group="g")
            await tree.child("root", "good", group="g")
            await tree.child("root", "slow", "sleep", "5", group="g")
            (status,) = await sim.finished("join", timeout_s=60)
            assert status["state"] == state, status

    run(main())


@pytest.mark.parametrize("by", ["name", "group"])
@pytest.mark.parametrize("leaf", ["sleep", "fail"])
def test_a_subtree_is_waited_for(by: str, leaf: str) -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=10) as sim:
            tree = Tree(sim)
            await sim.task("root", "sleep", "60")
            await tree.child("root", "top", group="g")
            await tree.child("top", "middle")
            await tree.child("middle", "leaf", "sleep" if leaf == "sleep" else "fail", "20")
            after: dict[str, Any] = {"group": "g"} if by == "group" else {"tasks": ["top"]}
            await tree.child("root", "alone", runAfter=after)
            await tree.child("root", "whole", runAfter=after | {"subtree": True})
            await sim.finished("alone", timeout_s=10)
            (status,) = await sim.finished("whole", timeout_s=40)
            if leaf == "sleep":
                assert status["state"] == "Succeeded"
                assert ended(sim, "leaf") <= started(sim, "whole")
                assert started(sim, "alone") < ended(sim, "leaf")
            else:
                assert (status["state"], status["reason"]) == ("Failed", "DependencyFailed")
                assert "subtree of top" in status["message"]

    run(main())


@pytest.mark.parametrize(
    "wait",
    [
        # Its own ancestor, with all its descendants.
        {"join": {"tasks": ["root"], "subtree": True}},
        {"join": {"tasks": ["top"], "subtree": True}},
        {"join": {"group": "tops", "subtree": True}},
        # A group one of whose members waits for it.
        {"join": {"group": "g"}, "member": {"tasks": ["join"]}},
        {"one": {"group": "h"}, "two": {"group": "g"}},
        # A subtree in which somebody waits for it.
        {"side": {"tasks": ["top"], "subtree": True}, "join": {"tasks": ["side"]}},
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_circles_through_groups_and_subtrees(wait: dict[str, Any], backwards: bool) -> None:
    groups = {"member": "g", "one": "g", "two": "h", "top": "tops"}
    parents = {"top": "root", "side": "root"}

    async def main() -> None:
        async with Simulation.started(slotsPerWorker=10) as sim:
            tree = Tree(sim)
            await sim.task("root", "sleep", "1")
            await tree.child("root", "top", group="tops")
            names = list(wait)
            for name in reversed(names) if backwards else names:
                extra = {"group": groups[name]} if name in groups else {}
                await tree.child(
                    parents.get(name, "top"), name, runAfter=wait[name], when="Always", **extra
                )
            ends = await sim.finished(*wait, timeout_s=10)
            assert any(end["reason"] == "DependencyCycle" for end in ends), ends
            assert any("cycle" in end["message"] for end in ends), ends

    run(main())


class Looks:
    """Stands for the queue of Tasks."""

    def __init__(self) -> None:
        self.added: list[ObjectKey] = []

    def add(self, key: ObjectKey) -> None:
        self.added.append(key)

    def add_after(self, key: ObjectKey, _delay_s: float) -> None:
        self.added.append(key)


@pytest.mark.parametrize("subtree", [False, True])
def test_ten_thousand_members_cost_the_joiner_one_look(subtree: bool) -> None:
    """Each event of a member costs O(1), and the joiner is looked at when all have ended."""
    store, waiting, looks = Store("task"), Waiters(), Looks()
    joins = Joins(store, waiting, Cycles(), looks)  # type: ignore[arg-type]
    after = {"group": "g", "count": 10_000, "subtree": subtree}
    join = raw(1, 0, "Pending", runAfter=after)
    store.apply(EventType.ADDED, raw(0, None, "Running"))
    store.apply(EventType.ADDED, join)
    view = parse_task(join)
    run_after = joins.after(view)

    def group() -> GroupFacts:
        return joins.tally(view, run_after).facts(without=view.uid)

    facts = ReadinessFacts(worker_slots=1, after=run_after, group=group())
    waiting.set(ObjectKey.of(join), joins.waits_for(view, facts))
    for state in ("Pending", "Running", "Succeeded"):
        for n in range(10_000):
            store.apply(EventType.MODIFIED, raw(n + 2, 0, state, group="g"))
            if (state, n) != ("Succeeded", 9_999):
                assert looks.added == []
    assert looks.added == [ObjectKey.of(join)]
    assert group() == GroupFacts(succeeded=10_000)
    # One that runs again keeps the joiner from being placed.
    store.apply(EventType.MODIFIED, raw(2, 0, "Pending", group="g"))
    assert len(looks.added) == 2


def test_a_restarted_controller_knows_groups_and_subtrees() -> None:
    async def main() -> None:
        async with Simulation.started(slotsPerWorker=10) as sim:
            tree = Tree(sim)
            await sim.task("root", "sleep", "60")
            await tree.child("root", "m0", group="g")
            await tree.child("m0", "below", "sleep", "30")
            await tree.child("root", "join", runAfter={"group": "g", "count": 1, "subtree": True})
            await sim.finished("m0")
            await sim.restart_controller()
            (status,) = await sim.finished("join", timeout_s=60)
            assert status["state"] == "Succeeded"
            assert ended(sim, "below") <= started(sim, "join")

    run(main())


def test_a_suspended_root_holds_up_its_tree() -> None:
    async def main() -> None:
        async with Simulation.started() as sim:
            tree = Tree(sim)
            await sim.task("root", "sleep", "1")
            await sim.finished("root")
            await tree.child("root", "runs", "sleep", "5")
            await sim.until(lambda: sim.status("runs").get("state") == "Running")
            sim.spec("root", suspend=True)
            await tree.child("root", "late")
            await tree.child("runs", "deep")
            await sim.task("stranger")
            await sim.finished("runs", "stranger", timeout_s=30)
            await sim.until(lambda: sim.status("deep").get("reason") == "Suspended", timeout_s=30)
            assert "root of the tree, root, is suspended" in sim.status("deep")["message"]
            assert sim.status("late")["state"] == "Pending"
            await sim.restart_controller()
            sim.spec("root", suspend=False)
            for status in await sim.finished("late", "deep", timeout_s=30):
                assert status["state"] == "Succeeded"

    run(main())


# --- the index of subtrees ----------------------------------------------------------


def raw(uid: int, parent: int | None, state: str, **fields: Any) -> dict[str, Any]:
    lineage = {
        "task": str(uid),
        "root": "0",
        "rootUID": "0",
        "parent": str(parent),
        "parentUID": str(parent),
        "depth": 1,
        "key": "k",
    }
    spec = fields if parent is None else {"lineage": lineage, **fields}
    metadata = {"name": str(uid), "uid": str(uid), "namespace": "ns"}
    return {"metadata": metadata, "spec": spec, "status": {"state": state}}


STATES = ["Pending", "Running", "Succeeded", "Failed", "Cancelled", "Skipped", "gone"]


@settings(max_examples=200)
@given(
    parents=st.lists(st.integers(0, 100), min_size=1, max_size=8),
    events=st.lists(st.tuples(st.integers(0, 8), st.sampled_from(STATES)), max_size=40),
)
def test_subtrees_are_as_if_counted(parents: list[int], events: list[tuple[int, str]]) -> None:
    """In whatever order the Tasks come to be known; the answer tells who has changed."""
    parent_of: dict[int, int | None] = {0: None}
    for n, parent in enumerate(parents):
        parent_of[n + 1] = parent % (n + 1)
    size = len(parent_of)
    index, known = Subtrees(), {}  # type: ignore[var-annotated]

    def below(top: int) -> list[int]:
        found = [top]
        for n in range(size):
            if parent_of[n] in found and n not in found:
                found.append(n)
        return found

    def counted(top: int) -> Verdict:
        states = [known[n]["status"]["state"] for n in below(top) if n in known]
        opened = any(state in ("Pending", "Running") for state in states)
        return Verdict(opened, any(state in ("Failed", "Cancelled") for state in states))

    never_deleted = set(range(size))
    for number, state in events:
        n = number % size
        old = known.get(n)
        if state == "gone":
            if old is None or below(n) != [n]:
                continue  # a deleted parent leaves a hole, which is told apart below
            known.pop(n)
            new = None
            never_deleted.discard(n)
        else:
            new = raw(n, parent_of[n], state)
            known[n] = new
        connected = {
            top: all(k in known for k in below(top)) or len(below(top)) == 1 for top in range(size)
        }
        before = {top: index.verdict(TaskId("ns", str(top))) for top in range(size)}
        changed = {int(node.uid) for node in index.on_task(old, new)}
        for top in range(size):
            verdict = index.verdict(TaskId("ns", str(top)))
            assert (verdict != before[top]) == (top in changed)
            if connected[top]:
                assert verdict == counted(top), top
