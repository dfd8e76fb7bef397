"""Who may speak on the socket."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from taskctl.errors import Unavailable
from taskctl.kube.resources import PODS
from tests.unit.agent.conftest import POD, World, exit_of
from tests.unit.agent.fakes import Fault, eventually


async def test_nonce_buys_a_token_once(world: World) -> None:
    container = world.place(world.task())
    _, token = await world.init(container)
    again = await world.connect()
    code, message = await again.refused("hello", v=1, container=container, nonce="n0")
    assert code == "nonce_used"
    assert "n0" not in message
    assert await again.receive() is None, "hung up"
    later = await world.back(container, token)
    assert (await later.good("next"))["action"] == "run"


async def test_nonce_stays_used_after_a_restart(world: World) -> None:
    container = world.place(world.task())
    _, token = await world.init(container)
    await world.restart()
    peer = await world.connect()
    assert (await peer.refused("hello", v=1, container=container, nonce="n0"))[0] == "nonce_used"
    later = await world.back(container, token)
    assert (await later.good("next"))["action"] == "run"


async def test_two_at_once_with_one_nonce(world: World) -> None:
    container = world.place(world.task())
    peers = [await world.connect() for _ in range(4)]
    answers = await asyncio.gather(
        *(peer.call("hello", v=1, container=container, nonce="n0") for peer in peers)
    )
    assert [answer["ok"] for answer in answers].count(True) == 1
    assert {answer.get("error") for answer in answers if not answer["ok"]} == {"nonce_used"}


async def test_wrong_nonce_does_not_spend_the_right_one(world: World) -> None:
    container = world.place(world.task())
    peer = await world.connect()
    refused = await peer.refused("hello", v=1, container=container, nonce="guess")
    assert refused[0] == "unknown_container"
    await world.init(container)


async def test_wrong_token(world: World) -> None:
    first = world.place(world.task("a"))
    second = world.place(world.task("b"))
    _, token = await world.init(first)
    for container, shown in ((second, token), (first, token[:-1] + "x"), (first, "é" * 64)):
        peer = await world.connect()
        assert (await peer.refused("hello", v=1, container=container, token=shown))[
            0
        ] == "bad_token"


async def test_a_tasks_token_is_not_its_containers(world: World) -> None:
    _, _, told = await world.running()
    peer = await world.connect()
    container = world.status()["containerName"]
    shown = told["env"]["TASKCTL_TOKEN"]
    assert (await peer.refused("hello", v=1, container=container, token=shown))[0] == "bad_token"
    mac = shown.partition(":")[2]
    peer = await world.connect()
    assert (await peer.refused("hello", v=1, container=container, token=mac))[0] == "bad_token"


async def test_a_containers_token_does_not_attach(world: World) -> None:
    _, token, told = await world.running()
    container = told["env"]["TASKCTL_TOKEN"].partition(":")[0]
    for shown in (token, f"{container}:{token}", "", "nobody:00"):
        peer = await world.connect()
        assert (await peer.refused("attach", v=1, token=shown))[0] in ("bad_token", "bad_request")


async def test_unknown_container_and_foreign_pod(world: World) -> None:
    peer = await world.connect()
    assert (await peer.refused("hello", v=1, container="t-none-1", nonce="n"))[
        0
    ] == "unknown_container"
    container = world.place(world.task())
    world.api.change(PODS, POD.name, metadata={"uid": "another pod"})
    peer = await world.connect()
    code, message = await peer.refused("hello", v=1, container=container, nonce="n0")
    assert code == "unknown_container"
    assert "made again" in message


async def test_entries_of_others_are_left_alone(world: World) -> None:
    debug = {"name": "debugger-x", "env": [{"name": "TASKCTL_NONCE", "value": "n"}]}
    world.api.change(PODS, POD.name, spec={"ephemeralContainers": [debug]})
    peer = await world.connect()
    assert (await peer.refused("hello", v=1, container="debugger-x", nonce="n"))[
        0
    ] == "unknown_container"


async def test_one_read_serves_all_who_ask_at_once(world: World) -> None:
    containers = [world.place(world.task(f"t{number}")) for number in range(5)]
    await asyncio.gather(*(world.init(container) for container in containers))
    assert world.api.count("get", "pods") <= 2, "one in flight, one for those who came meanwhile"
    before = world.api.count("get", "pods")
    later = world.place(world.task("later"))
    await world.init(later)
    assert world.api.count("get", "pods") == before + 1


async def test_hello_waits_for_the_api_server(world: World) -> None:
    container = world.place(world.task())
    world.api.faults.append(Fault("get", Unavailable("away"), "pods", times=2))
    peer = await world.connect()
    peer.send("hello", v=1, container=container, nonce="n0")
    await eventually(lambda: world.api.count("get", "pods") == 1)
    assert await peer.is_silent()
    world.time.advance(1)
    await eventually(lambda: world.api.count("get", "pods") == 2)
    world.time.advance(1)
    answer = await peer.receive()
    assert answer is not None
    assert answer["ok"]


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"v": 2, "container": "c", "nonce": "n"}, "version", "version"),
        ({"v": True, "container": "c", "nonce": "n"}, "version", "version"),
        ({"container": "c", "nonce": "n"}, "version", "version"),
        ({"v": 1, "nonce": "n"}, "bad_request", "container"),
        ({"v": 1, "container": 5, "nonce": "n"}, "bad_request", "container"),
        ({"v": 1, "container": "c"}, "bad_request", "nonce"),
        ({"v": 1, "container": "c", "nonce": "n", "token": "t"}, "bad_request", "nonce"),
        ({"v": 1, "container": "c", "nonce": b"n"}, "bad_request", "nonce"),
        ({"v": 1, "container": "c" * 64, "nonce": "n"}, "bad_request", "container"),
        ({"v": 1, "container": "../secret", "nonce": "n"}, "unknown_container", ""),
    ],
)
async def test_malformed_hello(world: World, fields: dict[str, Any], code: str, named: str) -> None:
    peer = await world.connect()
    refused = await peer.refused("hello", **fields)
    assert refused[0] == code
    assert named in refused[1]
    assert await peer.receive() is None


async def test_version_refusal_says_what_is_supported(world: World) -> None:
    peer = await world.connect()
    answer = await peer.call("attach", v=99, token="x")
    assert answer["supported"] == [1]


async def test_first_request_must_identify(world: World) -> None:
    peer = await world.connect()
    assert (await peer.refused("next"))[0] == "not_identified"
    assert await peer.receive() is None


async def test_unknown_operation_names_the_known(world: World) -> None:
    peer, _, told = await world.running()
    code, message = await peer.refused("spawn")
    assert code == "bad_request"
    assert "exited, next" in message
    task = await world.attached(told)
    assert (
        "cancel, children, info, input, list, output, progress, results, sources, spawn"
        in (await task.refused("exited"))[1]
    )


async def raw(world: World, data: bytes) -> dict[str, Any] | None:
    peer = await world.connect()
    peer.writer.write(data)
    answer = await peer.receive()
    if answer is not None:
        assert await peer.receive() is None, "closed after the error"
    return answer


@pytest.mark.parametrize(
    "body",
    [b"\xc1", b"\x93\x01\x02\x03", b"\x80\x80", b"\x81\x01\x02", b"\x81\xa1x", b"", b"\xdf\xff"],
)
async def test_malformed_body_ends_that_connection_only(world: World, body: bytes) -> None:
    other, _, _ = await world.running()
    answer = await raw(world, struct.pack(">I", len(body)) + body)
    assert answer is not None
    assert (answer["id"], answer["ok"], answer["error"]) == (0, False, "bad_frame")
    assert (await other.good("next"))["action"] == "run"


async def test_oversized_frames(world: World) -> None:
    answer = await raw(world, struct.pack(">I", 2**32 - 1))
    assert answer is not None
    assert answer["error"] == "bad_frame"
    answer = await raw(world, struct.pack(">I", 100_000) + b"x" * 1000)
    assert answer is not None, "a stranger may send small frames only"
    assert answer["error"] == "bad_frame"
    peer, _, _ = await world.running()
    peer.writer.write(struct.pack(">I", 16 * 1024 * 1024 + 1))
    refusal = await peer.receive()
    assert refusal is not None
    assert refusal["error"] == "bad_frame"


@pytest.mark.parametrize("number", [None, 0, -1, "1", True, 2**63])
async def test_request_needs_an_id(world: World, number: Any) -> None:
    from taskctl.wire import encode

    answer = await raw(world, encode({"id": number, "op": "hello", "v": 1}))
    assert answer is not None
    assert answer["error"] == "bad_frame"
    assert "id" in answer["message"]


async def test_a_stalled_frame_holds_up_nobody(world: World) -> None:
    stalled = await world.connect()
    stalled.writer.write(b"\x00\x00")
    peer, _, told = await world.running()
    peer.writer.write(struct.pack(">I", 1_000_000) + b"half")
    task = await world.attached(told)
    assert (await task.good("info"))["cancel"] == ""


async def test_a_slow_reader_holds_up_nobody(world: World) -> None:
    big = "x" * 200_000
    _, _, told = await world.running("greedy", input=big)
    greedy = await world.attached(told)
    for _ in range(400):
        greedy.send("input", format="value")
    other, _, _ = await world.running("modest")
    assert (await other.good("next"))["action"] == "run"
    answers = [await greedy.receive() for _ in range(400)]
    assert all(answer and answer["value"] == big for answer in answers), "all, at its own pace"


async def test_newer_connection_replaces_the_older(world: World) -> None:
    older, token, told = await world.running()
    container = world.status()["containerName"]
    running = {"uid": told["uid"], "attempt": 1, "started_us": 1}
    newer = await world.back(container, token, running=running)
    assert await older.receive() is None
    assert (await newer.good("exited", **exit_of(told)))["action"] == "exit"


async def test_running_must_be_what_was_told(world: World) -> None:
    _, token, told = await world.running()
    container = world.status()["containerName"]
    for running in (
        {"uid": "other", "attempt": 1, "started_us": 1},
        {"uid": told["uid"], "attempt": 2, "started_us": 1},
    ):
        peer = await world.connect()
        refused = await peer.refused(
            "hello", v=1, container=container, token=token, running=running
        )
        assert refused[0] == "superseded"


async def test_nothing_secret_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    container = world.place(world.task(env=[{"name": "KEY", "value": "s3cr3t"}]), nonce="n0nce")
    peer, token = await world.init(container, nonce="n0nce")
    told = await peer.good("next")
    await peer.good("exited", **exit_of(told))
    for secret in ("s3cr3t", "n0nce", token, told["env"]["TASKCTL_TOKEN"]):
        assert secret not in caplog.text
    assert f"container={container}" in caplog.text


async def test_one_task_cannot_take_all_connections(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskctl.agent.service.MAX_ATTACHED", 3)
    _, _, told = await world.running()
    mine = [await world.attached(told) for _ in range(3)]
    peer = await world.connect()
    code, message = await peer.refused("attach", v=1, token=told["env"]["TASKCTL_TOKEN"])
    assert code == "limit"
    assert "3" in message
    await mine[0].close()
    await asyncio.sleep(0.02)
    await world.attached(told)


async def test_silent_strangers_lock_nobody_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskctl.agent.server.MAX_CONNECTIONS", 3)
    peer, _, told = await world.running()
    strangers = [await world.connect() for _ in range(5)]
    task = await world.attached(told)
    assert await strangers[0].receive() is None, "the oldest had to go"
    assert (await task.good("info"))["ok"]
    await peer.good("exited", **exit_of(told))


async def test_a_bug_in_one_request_is_that_requests_problem(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, _, told = await world.running()
    task = await world.attached(told)

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("taskctl.agent.service.Service.info", broken)
    assert (await task.refused("info"))[0] == "unavailable"
    assert "a bug" in caplog.text
    assert (await task.good("input", format="value"))["value"] is None
