"""Large values: checked beside the agent, with bounds, and with the same verdict."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from typing import Any

import msgpack
import pytest

from taskctl.agent import jsoncheck
from taskctl.agent.largejson import LargeJson
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.values import parse_content
from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.api.states import Codec
from taskctl.constants import INLINE_LIMIT_BYTES
from tests.unit.agent.conftest import World

LARGE = INLINE_LIMIT_BYTES + 1


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(["x" * LARGE, {"é": 1.5, "n": None}], indent=2),
        json.dumps(list(range(100_000))),
        "1" + " " * LARGE,
    ],
    ids=["text", "numbers", "blanks"],
)
async def test_same_content_as_of_a_small_one(text: str) -> None:
    checked = await LargeJson().checked({"json": text})
    content, direct = parse_content(checked), parse_content({"json": text})
    assert content is not None
    assert direct is not None
    assert content.encoded == direct.encoded
    assert content.is_large == direct.is_large
    if not content.is_large:
        assert content.body == direct.body


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1," + " " * LARGE, "is not json"),
        ("[NaN" + " " * LARGE + "]", "NaN"),
        ("[" * LARGE, "is not json"),
        ("[" * 250 + "]" * 250 + " " * LARGE, "nested more than 200"),
        (json.dumps([2**70, "x" * LARGE]), "over 64 bits"),
        ("\ud800" * LARGE, "is not JSON"),
        ("", "is not"),
    ],
)
async def test_refused_with_the_field(text: str, problem: str) -> None:
    with pytest.raises(Refusal, match=r"^tasks\[3\]\.json: ") as caught:
        await parsed(text)
    assert caught.value.code is ErrorCode.BAD_REQUEST
    assert problem in caught.value.message


async def parsed(text: str) -> None:
    message = await LargeJson().checked({"json": text}, where="tasks[3].")
    parse_content(message, where="tasks[3].")


async def test_bounded_in_memory() -> None:
    """Sixteen mebibytes of empty maps."""
    with pytest.raises(Refusal) as caught:
        await LargeJson().as_json(b"\xdd\x02\x00\x00\x00" + b"\x80" * (1 << 25), Codec.MSGPACK, "v")
    assert caught.value.code is ErrorCode.TOO_LARGE


async def test_cancelled_leaves_no_process() -> None:
    large = LargeJson()
    work = asyncio.create_task(large.as_json(b"[" + b"{}," * 3_000_000, Codec.JSON, "v"))
    await asyncio.sleep(0.1)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    assert await large.as_json(b"[1, 2]", Codec.JSON, "v") == b"[1,2]", "the slot is free again"


def test_program_and_library_agree() -> None:
    assert jsoncheck.compact(jsoncheck.parse(b'{"a": [1, "\xc3\xa9"]}')) == '{"a":[1,"é"]}'.encode()


async def test_hostile_text_holds_up_nobody(world: World) -> None:
    _, _, told = await world.running()
    hostile = await world.attached(told)
    text = "[" + "{}," * 4_000_000 + "0]"
    number = hostile.send("output", json=text)
    longest_s, answering = 0.0, asyncio.create_task(hostile.receive())
    while not answering.done():
        # The processor's time of this thread: what else the machine does makes no difference.
        began = time.thread_time()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.thread_time() - began)
    answer: dict[str, Any] = await answering or {}
    assert answer["id"] == number
    assert longest_s < 1.0


async def test_large_json_of_output_and_child(world: World) -> None:
    _, _, told = await world.running()
    task = await world.attached(told)
    text = json.dumps({"numbers": list(range(100_000))})
    compact = text.replace(" ", "").encode()
    digest = hashlib.sha256(compact).hexdigest()
    name = (await task.good("output", json=text))["object"]
    assert world.api.see(TASKOBJECTS, name)["ref"]["sha256"] == digest
    await task.good("output", json=text)
    await task.good("spawn", tasks=[{"key": "k", "name": "x", "json": text}])
    assert world.api.see(TASKOBJECTS, "x-input")["ref"]["sha256"] == digest
    assert world.api.see(TASKS, "x")["spec"]["inputObject"] == "x-input"
    code, message = await task.refused("spawn", tasks=[{"key": "l", "json": text + "]"}])
    assert (code, message[:14]) == ("bad_request", "tasks[0].json:")


async def test_large_stored_input_is_converted(world: World) -> None:
    value = {"numbers": list(range(400_000))}
    content = msgpack.packb(value)
    digest = hashlib.sha256(content).hexdigest()
    path = f".taskctl/objects/{digest[:2]}/{digest}"
    assert world.settings.workspace is not None
    file = world.settings.workspace / path
    file.parent.mkdir()
    file.write_bytes(content)
    ref = {"path": path, "sha256": digest, "size": len(content), "codec": "msgpack"}
    world.api.put(TASKOBJECTS, {"metadata": {"name": "o"}, "ref": ref})
    _, _, told = await world.running(inputObject="o")
    task = await world.attached(told)
    assert json.loads((await task.good("input", format="json"))["json"]) == value
