"""Values in and out: input, output, spilling."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from taskctl.agent.outputs import MAX_READ_AHEAD
from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.constants import LABEL_ATTEMPT, LABEL_OUTPUT_OF, LABEL_PARENT_UID
from taskctl.errors import Invalid, Unavailable
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import Fault, Peer, eventually

BIG = "x" * 300_000
RESTING = 2  # loops of the agent that sleep when nothing is to be done


async def task_with(world: World, **spec: Any) -> tuple[Peer, Peer, dict[str, Any]]:
    """Return a running task's taskctl-init, its own connection, and what it was told."""
    peer, _, told = await world.running(**spec)
    return peer, await world.attached(told), told


def store(world: World, content: bytes) -> dict[str, Any]:
    """Write a large value as the SDK does; returns its ref without codec."""
    digest = hashlib.sha256(content).hexdigest()
    path = f".taskctl/objects/{digest[:2]}/{digest}"
    assert world.settings.workspace is not None
    file = world.settings.workspace / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return {"path": path, "sha256": digest, "size": len(content)}


async def test_attach_says_who_one_is(world: World) -> None:
    _, _, told = await world.running()
    peer = await world.connect()
    answer = await peer.good("attach", v=1, token=told["env"]["TASKCTL_TOKEN"])
    assert answer == {
        "id": 1,
        "ok": True,
        "task": "job",
        "namespace": "ns",
        "uid": told["uid"],
        "attempt": 1,
        "root": "job",
        "parent": "",
        "depth": 0,
        "workspace": str(world.settings.workspace),
        "inline_limit": 256 * 1024,
        "small_limit": 2048,
        "cluster": "c",
    }


@pytest.mark.parametrize(
    ("spec", "stored", "value"),
    [
        ({}, None, None),
        ({"input": {"n": 1}}, None, {"n": 1}),
        ({"input": 0}, None, 0),
        ({"inputObject": "o"}, {"value": [1, "é", None]}, [1, "é", None]),
        ({"inputObject": "o"}, {"value": None}, None),
        ({"inputObject": "o"}, {"data": {"n": "1"}}, {"n": "1"}),
    ],
)
async def test_input(world: World, spec: Any, stored: Any, value: Any) -> None:
    if stored is not None:
        world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, **stored})
    _, task, _ = await task_with(world, **spec)
    assert (await task.good("input", format="value"))["value"] == value
    text = (await task.good("input", format="json"))["json"]
    assert json.loads(text) == value
    assert text == "null" or value is not None


def reads(world: World) -> int:
    """Count the requests for TaskObjects."""
    return world.api.count("get", TASKOBJECTS.plural)


async def test_input_is_read_while_the_program_starts(world: World) -> None:
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "value": 1})
    _, _, told = await world.running(inputObject="o")
    await eventually(lambda: reads(world) == 1, "read before anybody asks")
    task = await world.attached(told)
    assert (await task.good("input", format="value"))["value"] == 1
    assert reads(world) == 1
    assert (await task.good("input", format="value"))["value"] == 1
    assert reads(world) == 2, "it is kept for the first question only"


async def test_what_was_not_there_when_it_was_read_ahead_is_read_again(world: World) -> None:
    _, _, told = await world.running(inputObject="o")
    await eventually(lambda: reads(world) == 1)
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "value": 1})
    task = await world.attached(told)
    assert (await task.good("input", format="value"))["value"] == 1


async def test_an_input_that_cannot_be_read_ahead_is_read_when_asked_for(world: World) -> None:
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "value": 1})
    world.api.faults.append(Fault("get", Invalid("no"), plural=TASKOBJECTS.plural))
    _, _, told = await world.running(inputObject="o")
    await eventually(lambda: reads(world) == 1)
    task = await world.attached(told)
    assert (await task.good("input", format="value"))["value"] == 1


async def test_inputs_that_are_not_asked_for_are_dropped(world: World) -> None:
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "value": 1})
    peers = [await world.running(f"job-{n}", inputObject="o") for n in range(MAX_READ_AHEAD + 1)]
    await eventually(lambda: reads(world) >= MAX_READ_AHEAD, "all but one may be cut off")
    first, last = await world.attached(peers[0][2]), await world.attached(peers[-1][2])
    before = reads(world)
    assert (await first.good("input", format="value"))["value"] == 1
    assert reads(world) == before + 1
    assert (await last.good("input", format="value"))["value"] == 1
    assert reads(world) == before + 1


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_large_input(world: World, codec: str) -> None:
    value = {"text": "é" * 10, "n": [1, 2.5]}
    content = json.dumps(value).encode() if codec == "json" else msgpack.packb(value)
    ref = store(world, content) | {"codec": codec}
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "ref": ref})
    _, task, _ = await task_with(world, inputObject="o")
    assert (await task.good("input", format="value"))["ref"] == ref
    answer = await task.good("input", format="json")
    assert json.loads(answer["json"]) == value
    assert "ref" not in answer


MEMBERS = {"text": "é\n", "n": 7, "list": [1, {"a": None}], "none": None, "big": BIG}


@pytest.mark.parametrize("codec", ["json", "msgpack", ""])
async def test_one_member_of_an_input(world: World, codec: str) -> None:
    if codec:
        content = json.dumps(MEMBERS).encode() if codec == "json" else msgpack.packb(MEMBERS)
        body: dict[str, Any] = {"ref": store(world, content) | {"codec": codec}}
    else:
        body = {"value": MEMBERS}
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}} | body)
    _, task, _ = await task_with(world, inputObject="o")
    for key, text in (
        *(("text", "é\n"), ("n", "7"), ("list", '[1,{"a":null}]')),
        *(("none", "null"), ("big", BIG)),
    ):
        assert (await task.good("input", format="text", key=key))["text"] == text
    refused: tuple[tuple[Any, str], ...] = (
        ("nope", "it has: text, n, list, none, big"),
        ("a\0", "NUL"),
        (5, "text"),
    )
    for wrong, words in refused:
        code, message = await task.refused("input", format="text", key=wrong)
        assert (code, words in message) == ("bad_request", True), message


async def test_input_that_cannot_be_had(world: World, tmp_path: Path) -> None:
    _, task, _ = await task_with(world, inputObject="o")
    code, message = await task.refused("input", format="json")
    assert code == "rejected"
    assert "TaskObject o" in message
    assert (await task.refused("input", format="yaml"))[0] == "bad_request"
    assert (await task.refused("input"))[0] == "bad_request"

    ref = store(world, b"[1]") | {"codec": "json"}
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "ref": ref})
    assert world.settings.workspace is not None
    file = world.settings.workspace / ref["path"]
    for content, code in ((b"[2]", "rejected"), (b"\xff", "rejected"), (None, "rejected")):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        assert (await task.refused("input", format="json"))[0] == code
    with file.open("wb") as big:
        big.truncate(9 * 1024 * 1024)
    assert (await task.refused("input", format="json"))[0] == "too_large"
    file.unlink()
    secret = tmp_path / "secret"
    secret.write_bytes(b"[1]")
    file.symlink_to(secret)
    assert (await task.refused("input", format="json"))[0] == "rejected", "no link is followed"


async def test_bytes_have_no_json_form(world: World) -> None:
    content = msgpack.packb({"raw": b"\x00"})
    ref = store(world, content) | {"codec": "msgpack"}
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "ref": ref})
    _, task, _ = await task_with(world, inputObject="o")
    assert (await task.refused("input", format="json"))[0] in ("rejected", "bad_request")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"value": {"n": 1}}, {"value": {"n": 1}}),
        ({"value": None}, {"value": None}),
        ({"json": "[1, 2]"}, {"value": [1, 2]}),
        ({"data": {"n": "1"}}, {"data": {"n": "1"}}),
    ],
)
async def test_output(world: World, given: Any, stored: Any) -> None:
    peer, task, told = await task_with(world)
    assert (await task.good("output", **given))["object"] == "job-output"
    made = world.api.see(TASKOBJECTS, "job-output")
    assert {key: made[key] for key in ("value", "data", "ref") if key in made} == stored
    assert made["metadata"]["labels"][LABEL_PARENT_UID] == told["uid"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == told["uid"]
    assert "outputObject" not in world.status()
    await peer.good("exited", **exit_of(told))
    assert world.status()["outputObject"] == "job-output"


async def next_attempt(world: World, number: int) -> tuple[Peer, Peer, dict[str, Any]]:
    peer, _ = await world.init(world.place(world.api.see(TASKS, "job"), number))
    told = await peer.good("next")
    return peer, await world.attached(told), told


async def test_output_of_a_later_attempt_takes_the_place_of_the_earlier(world: World) -> None:
    peer, task, told = await task_with(world, retry={"limit": 1})
    await task.good("output", value=1)
    await peer.good("exited", **exit_of(told, code=1))
    peer, task, told = await next_attempt(world, 2)
    assert (await task.good("output", value=2))["object"] == "job-output"
    made = world.api.see(TASKOBJECTS, "job-output")
    assert (made["value"], made["metadata"]["labels"][LABEL_ATTEMPT]) == (2, "2")
    await peer.good("exited", **exit_of(told))
    assert world.status()["outputObject"] == "job-output"
    assert world.api.names(TASKOBJECTS) == ["job-output"]


async def test_output_of_an_earlier_attempt_is_not_this_ones(world: World) -> None:
    peer, task, told = await task_with(world, retry={"limit": 1})
    await task.good("output", value=1)
    await peer.good("exited", **exit_of(told, code=1))
    peer, _, told = await next_attempt(world, 2)
    await peer.good("exited", **exit_of(told))
    assert world.status()["state"] == "Succeeded"
    assert not world.status().get("outputObject")
    assert world.api.names(TASKOBJECTS) == []


async def test_an_earlier_attempt_cannot_replace_the_output_of_a_later(world: World) -> None:
    _, task, told = await task_with(world)
    later = {
        "metadata": {
            "name": "job-output",
            "labels": {LABEL_PARENT_UID: told["uid"], LABEL_ATTEMPT: "2"},
        },
        "value": 2,
    }
    world.api.put(TASKOBJECTS, later)
    code, message = await task.refused("output", value=1)
    assert code == "superseded"
    assert "attempt 2" in message
    assert world.api.see(TASKOBJECTS, "job-output")["value"] == 2


async def test_of_several_outputs_the_last_counts(world: World) -> None:
    peer, task, told = await task_with(world)
    await task.good("output", value={"a": 1, "b": 2.0})
    assert (await task.good("output", value={"b": 2, "a": 1}))["object"] == "job-output"
    assert world.api.count("create") == 1, "the same again is no write"
    for value in ({"a": 2}, {"a": 3}, {"a": 2}):
        assert (await task.good("output", value=value))["object"] == "job-output"
        assert world.api.see(TASKOBJECTS, "job-output")["value"] == value
    await peer.good("exited", **exit_of(told))
    assert world.status()["outputObject"] == "job-output"


@pytest.mark.parametrize(
    ("verb", "after"), [("create", False), ("delete", False), ("delete", True)]
)
async def test_a_replacement_that_fails_half_way_is_repeated(
    world: World, verb: str, after: bool
) -> None:
    _, task, _ = await task_with(world)
    await task.good("output", value=1)
    world.api.faults.append(Fault(verb, Unavailable("cut"), after=after))
    task.send("output", value=2)
    await eventually(lambda: world.time.sleeping > RESTING)
    world.time.advance(5)
    answer = await task.receive()
    assert answer is not None
    assert answer["ok"], answer
    assert world.api.see(TASKOBJECTS, "job-output")["value"] == 2


async def test_output_whose_answer_was_lost(world: World) -> None:
    _, task, _ = await task_with(world)
    world.api.faults.append(Fault("create", Unavailable("cut"), after=True))
    task.send("output", value=1)
    await eventually(lambda: world.api.count("create") == 1)
    await eventually(lambda: world.time.sleeping > RESTING)
    world.time.advance(5)
    answer = await task.receive()
    assert answer is not None
    assert answer["ok"], answer


async def test_output_survives_a_restart(world: World) -> None:
    _, token, told = await world.running()
    container = world.status()["containerName"]
    task = await world.attached(told)
    await task.good("output", value=1)
    await world.restart()
    running = {"uid": told["uid"], "attempt": 1, "started_us": 5}
    peer = await world.back(container, token, running=running)
    task = await world.attached(told)
    assert (await task.good("output", value=1))["object"] == "job-output"
    assert (await task.good("output", value=2))["object"] == "job-output"
    assert world.api.see(TASKOBJECTS, "job-output")["value"] == 2
    await world.restart()
    peer = await world.back(container, token, running=running)
    await peer.good("exited", **exit_of(told))
    assert world.status()["outputObject"] == "job-output", "found though nobody said it again"


async def test_output_of_a_task_made_again_replaces_that_of_the_old_one(world: World) -> None:
    owner = {"kind": "Task", "name": "job", "uid": "old", "apiVersion": "taskctl.dev/v1alpha1"}
    labels = {LABEL_PARENT_UID: "old", LABEL_OUTPUT_OF: "old", LABEL_ATTEMPT: "7"}
    metadata = {"name": "job-output", "labels": labels, "ownerReferences": [owner]}
    world.api.put(TASKOBJECTS, {"metadata": metadata, "value": 0})
    _, task, _ = await task_with(world)
    assert (await task.good("output", value=1))["object"] == "job-output"
    assert world.api.see(TASKOBJECTS, "job-output")["value"] == 1


async def test_output_does_not_stumble_over_a_strangers_object(world: World) -> None:
    leftover = {"metadata": {"name": "job-output", "labels": {LABEL_PARENT_UID: "old"}}, "value": 0}
    world.api.put(TASKOBJECTS, leftover)
    peer, task, told = await task_with(world)
    name = (await task.good("output", value=1))["object"]
    assert name.startswith("job-output-")
    assert (await task.good("output", value=1))["object"] == name
    await peer.good("exited", **exit_of(told))
    assert world.status()["outputObject"] == name
    assert world.api.see(TASKOBJECTS, "job-output")["value"] == 0


async def test_large_output_is_spilled(world: World) -> None:
    _, task, _ = await task_with(world)
    await task.good("output", value={"text": BIG})
    ref = world.api.see(TASKOBJECTS, "job-output")["ref"]
    assert world.settings.workspace is not None
    content = (world.settings.workspace / ref["path"]).read_bytes()
    assert json.loads(content) == {"text": BIG}
    assert hashlib.sha256(content).hexdigest() == ref["sha256"]
    assert (ref["size"], ref["codec"]) == (len(content), "json")
    assert (await task.good("output", value={"text": BIG}))["object"] == "job-output"
    await task.good("output", value={"text": BIG + "y"})
    assert world.api.see(TASKOBJECTS, "job-output")["ref"]["size"] == ref["size"] + 1


async def test_large_output_without_a_workspace(bare: World) -> None:
    _, task, _ = await task_with(bare)
    code, message = await task.refused("output", value=BIG)
    assert code == "no_workspace"
    assert "spec.workspace" in message
    code, _ = await task.refused("spawn", tasks=[{"key": "k", "value": BIG}])
    assert code == "no_workspace"
    ref = {"path": ".taskctl/objects/aa/" + "a" * 64, "sha256": "a" * 64, "size": 1}
    assert (await task.refused("output", ref=ref | {"codec": "json"}))[0] == "bad_request"
    assert (await task.good("output", value="small"))["object"] == "job-output"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"value": 1, "json": "1"},
        {"value": b"x"},
        {"value": {b"k": 1}},
        {"value": float("inf")},
        {"json": "[1,]"},
        {"json": 1},
        {"json": '"\\ud800"'},
        {"json": "9" * 30},
        {"json": "[" * 5000 + "]" * 5000},
        {"json": "[" * 250 + "]" * 250},
        {"data": {"a": None}},
        {"data": "text"},
        {"ref": 1},
    ],
)
async def test_malformed_output(world: World, given: Any) -> None:
    _, task, _ = await task_with(world)
    assert (await task.refused("output", **given))[0] == "bad_request"
    assert world.api.count("create") == 0


async def test_answer_that_fits_no_frame(world: World) -> None:
    # Cannot come from a real API server, whose objects have 1.5 MiB at most.
    _, task, _ = await task_with(world, input="x" * (17 * 1024 * 1024))
    assert (await task.refused("input", format="value"))[0] == "too_large"
    assert (await task.good("info"))["ok"]
