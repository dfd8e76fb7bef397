"""Containers that were parked: what their `next` waits for, and every kill in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskctl.api.resources import TASKS
from taskctl.errors import Unavailable
from taskctl.kube.resources import LEASES, PODS
from taskctl.objectkey import ObjectKey
from taskctl.policy.handover import (
    Dismissal,
    Handover,
    build_parked,
    build_record,
    class_of,
    encode_entry,
    handover_of,
)
from taskctl.policy.view import parse_task
from tests.unit.agent.conftest import POD, World, exit_of
from tests.unit.agent.fakes import Fault, Peer, eventually

NAME = "s-0123456789ab"
FRAME = {"volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}]}


def park(world: World, name: str = NAME, *, image: str = "busybox") -> str:
    """Add a parked container to the pod, as the controller does."""
    entry = build_parked(name, class_of({"image": image}), "n0", FRAME)
    pod = world.api.see(PODS, POD.name)
    entries = [*pod["spec"].get("ephemeralContainers", []), entry]
    world.api.change(PODS, POD.name, spec={"ephemeralContainers": entries})
    return name


def write(world: World, entry: Handover | Dismissal | None, name: str = NAME) -> None:
    """Write one entry of the record, as the controller does."""
    text = None if entry is None else encode_entry(entry)
    record = build_record(ObjectKey("ns", POD.name), POD.uid, "uid-c", {name: text})
    if record["metadata"]["name"] in world.api.names(LEASES):
        key = f"handover.taskctl.dev/{name}"
        world.api.change(LEASES, record["metadata"]["name"], metadata={"annotations": {key: text}})
    else:
        world.api.put(LEASES, record)


def give(world: World, task: dict[str, Any], attempt: int = 1, name: str = NAME) -> None:
    metadata = task["metadata"]
    placed = "2026-01-02T03:04:04.000000Z"
    write(world, Handover(metadata["name"], metadata["uid"], attempt, placed), name)


async def parked(world: World, name: str = NAME) -> tuple[Peer, str, int]:
    """A parked container that has asked what to do; its connection, token and request."""
    peer, token = await world.init(park(world, name))
    number = peer.send("next")
    assert await peer.is_silent(), "it waits"
    return peer, token, number


async def test_it_waits_and_is_told_to_run_what_it_is_given(world: World) -> None:
    peer, _, number = await parked(world)
    task = world.task(command=["python"], args=["-m", "job"])
    give(world, task)
    told = await peer.receive()
    assert told is not None
    assert (told["id"], told["action"], told["argv"]) == (number, "run", ["python", "-m", "job"])
    status = world.status()
    assert (status["state"], status["attempt"], status["containerName"]) == ("Running", 1, NAME)
    assert status["times"]["placed"] == "2026-01-02T03:04:04.000000Z"
    answer = await peer.good("exited", **exit_of(told))
    assert answer["action"] == "exit"
    assert world.status()["state"] == "Succeeded"


async def test_the_record_says_what_the_task_takes_of_its_taskcluster(world: World) -> None:
    """Image and command among it: the class is that of the Task with its defaults."""
    peer, token, _ = await parked(world)
    task = world.task()
    for field in ("image", "command", "args"):
        task["spec"].pop(field, None)
    world.api.put(TASKS, task)
    taken = {"image": "busybox", "command": ["python"], "env": [{"name": "A", "value": "1"}]}
    metadata = task["metadata"]
    write(
        world,
        Handover(metadata["name"], metadata["uid"], 1, "2026-01-02T03:04:04Z", defaults=taken),
    )
    told = await peer.receive()
    assert told is not None
    assert (told["action"], told["argv"]) == ("run", ["python"])
    assert told["env"]["A"] == "1"
    assert world.status()["defaults"] == taken
    # What is written first is kept, also by an agent that is started again.
    await world.restart()
    peer = await world.back(NAME, token)
    again = await peer.good("next")
    assert (again["action"], again["argv"]) == ("run", ["python"])


async def test_defaults_of_another_class(world: World) -> None:
    peer, _, _ = await parked(world)
    task = world.task()
    del task["spec"]["image"]
    world.api.put(TASKS, task)
    metadata = task["metadata"]
    taken = {"image": "another"}
    write(
        world,
        Handover(metadata["name"], metadata["uid"], 1, "2026-01-02T03:04:04Z", defaults=taken),
    )
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"
    assert world.status()["state"] == "Pending"


async def test_what_stands_in_the_record_before_it_asks(world: World) -> None:
    task = world.task()
    give(world, task)
    peer, _ = await world.init(park(world))
    assert (await peer.good("next"))["action"] == "run"


async def test_it_ends_when_it_is_told_to(world: World) -> None:
    peer, _, _ = await parked(world)
    write(world, Dismissal())
    told = await peer.receive()
    assert told is not None
    assert (told["action"], told["code"]) == ("exit", 0)


async def test_it_ends_when_the_agent_is_stopped(world: World) -> None:
    peer, _, _ = await parked(world)
    assert world.agent is not None
    world.agent.drain()
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"


async def test_the_agent_is_killed_while_it_waits(world: World) -> None:
    _, token, _ = await parked(world)
    await world.restart()
    peer = await world.back(NAME, token)
    peer.send("next")
    assert await peer.is_silent()
    give(world, world.task())
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "run"


@pytest.mark.parametrize("written", [False, True])
async def test_the_agent_is_killed_at_the_claim(world: World, written: bool) -> None:
    """Whether the claim arrived or not, the container goes on with the attempt it was given."""
    _, token, _ = await parked(world)
    task = world.task()
    fault = Fault("patch_status", Unavailable("gone"), "tasks", times=10_000, after=written)
    world.api.faults.append(fault)
    give(world, task)
    await eventually(lambda: world.api.count("patch_status", "tasks") > 0)
    await world.kill()
    world.api.faults.clear()
    # Meanwhile the record says something else, and another task waits for this container.
    give(world, world.task("other"))
    (world.settings.runtime_dir / "ready").unlink(missing_ok=True)
    await world.start()
    peer = await world.back(NAME, token)
    told = await peer.good("next")
    assert (told["action"], told["task"]) == ("run", "job")
    assert world.status()["containerName"] == NAME
    assert world.status("other")["state"] == "Pending"


async def test_the_answer_is_lost_after_the_claim(world: World) -> None:
    peer, token, _ = await parked(world)
    give(world, world.task())
    told = await peer.receive()
    assert told is not None
    await peer.close()
    again = await (await world.back(NAME, token)).good("next")
    assert (again["action"], again["uid"]) == ("run", told["uid"])
    assert world.api.count("patch_status") == 1


@pytest.mark.parametrize(
    "change", [{"cancel": True}, {"suspend": True}, {"image": "another:latest"}]
)
async def test_a_task_that_is_not_to_run_there(world: World, change: dict[str, Any]) -> None:
    peer, _, _ = await parked(world)
    task = world.task(**change)
    give(world, task)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"
    assert world.status()["state"] == "Pending"


async def test_an_attempt_that_another_container_has_claimed(world: World) -> None:
    peer, _, _ = await parked(world)
    task = world.task()
    other, _ = await world.init(world.place(task))
    assert (await other.good("next"))["action"] == "run"
    give(world, task)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"
    assert world.status()["containerName"].startswith("t-")


async def test_a_task_that_is_gone(world: World) -> None:
    peer, _, _ = await parked(world)
    task = world.task()
    world.api.remove(TASKS, "job")
    give(world, task)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"


async def test_two_parked_containers_each_get_their_own(world: World) -> None:
    first, _, _ = await parked(world)
    second, _, _ = await parked(world, "s-ba9876543210")
    give(world, world.task("a"))
    give(world, world.task("b"), name="s-ba9876543210")
    told = await first.receive()
    other = await second.receive()
    assert told is not None
    assert other is not None
    assert (told["task"], other["task"]) == ("a", "b")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"task": "job"}', '{"task": "job", "uid": "u", "attempt": "1"}']
)
async def test_a_record_that_cannot_be_read_is_no_order(world: World, text: str) -> None:
    peer, _, _ = await parked(world)
    write(world, Dismissal(), "s-another")
    (name,) = world.api.names(LEASES)
    key = f"handover.taskctl.dev/{NAME}"
    world.api.change(LEASES, name, metadata={"annotations": {key: text}})
    assert await peer.is_silent()
    give(world, world.task())
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "run"


async def test_another_pods_record_is_no_order(world: World) -> None:
    peer, _, _ = await parked(world)
    record = build_record(
        ObjectKey("ns", POD.name), POD.uid, "uid-c", {NAME: encode_entry(Dismissal())}
    )
    record["metadata"]["ownerReferences"][0]["uid"] = "another"
    world.api.put(LEASES, record)
    assert await peer.is_silent()


# --- a record that says what the Task was ------------------------------------------------


def hand_over(world: World, task: dict[str, Any], name: str = NAME, **changes: Any) -> None:
    """Write the entry that a controller writes which saw the Task as it is given."""
    view = parse_task(task)
    entry = handover_of(view, "2026-01-02T03:04:04.000000Z")
    assert entry.seen is not None
    write(world, replace(entry, seen=replace(entry.seen, **changes)), name)


async def test_it_is_claimed_by_one_request(world: World) -> None:
    peer, _, _ = await parked(world)
    hand_over(world, world.task(command=["python"], args=["-m", "job"]))
    told = await peer.receive()
    assert told is not None
    assert (told["action"], told["argv"]) == ("run", ["python", "-m", "job"])
    assert world.api.count("patch_status", "tasks") == 1
    assert world.api.count("get", "tasks") == 0
    status = world.status()
    assert (status["state"], status["attempt"], status["containerName"]) == ("Running", 1, NAME)
    assert status["times"]["placed"] == "2026-01-02T03:04:04.000000Z"
    await peer.good("exited", **exit_of(told))
    assert world.status()["state"] == "Succeeded"


async def test_a_task_that_has_changed_since_is_read(world: World) -> None:
    peer, _, _ = await parked(world)
    task = world.task()
    world.api.change(TASKS, "job", metadata={"labels": {"a": "b"}})
    hand_over(world, task)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "run"
    assert world.api.count("get", "tasks") == 1


@pytest.mark.parametrize("change", [{"cancel": True}, {"suspend": True}])
async def test_a_task_that_is_not_to_run_any_more(world: World, change: dict[str, Any]) -> None:
    peer, _, _ = await parked(world)
    task = world.task()
    world.api.change(TASKS, "job", spec=change)
    hand_over(world, task)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"
    assert world.status()["state"] == "Pending"


async def test_a_task_that_another_container_has_claimed_since(world: World) -> None:
    peer, _, _ = await parked(world)
    task = world.task()
    other, _ = await world.init(world.place(task))
    assert (await other.good("next"))["action"] == "run"
    hand_over(world, task)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"
    assert world.status()["containerName"].startswith("t-")


async def test_a_task_of_that_name_which_is_another_by_now(world: World) -> None:
    peer, _, _ = await parked(world)
    task = world.task()
    world.api.remove(TASKS, "job")
    world.task()
    hand_over(world, task)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"
    assert world.status()["state"] == "Pending"


async def test_its_class_is_another_one_than_the_containers(world: World) -> None:
    peer, _, _ = await parked(world)
    hand_over(world, world.task(image="another:latest"))
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"
    assert world.status()["state"] == "Pending"


async def test_a_record_that_is_wrong_about_the_task_runs_nothing(world: World) -> None:
    """The controller writes none; whoever does costs the Task an attempt, and gets no code run."""
    peer, _, _ = await parked(world)
    task = world.task(image="another:latest")
    hand_over(world, task, fingerprint=class_of({"image": "busybox"}).fingerprint)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "exit"


@pytest.mark.parametrize("written", [False, True])
async def test_the_claim_is_not_answered(world: World, written: bool) -> None:
    peer, _, _ = await parked(world)
    task = world.task()
    world.api.faults.append(Fault("patch_status", Unavailable("gone"), "tasks", after=written))
    hand_over(world, task)
    told = await peer.receive()
    assert told is not None
    assert told["action"] == "run"
    assert world.api.count("patch_status", "tasks") == (1 if written else 2)
    assert world.status()["containerName"] == NAME
