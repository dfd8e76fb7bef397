"""How requests reach the agent: again and again, up to a deadline."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskctl import sdk, wire
from taskctl.sdk import sync
from tests.unit.sdk.fake_agent import FakeAgent


def via_sync(function: str, *args: Any) -> Any:
    return getattr(sync, function)(*args)


def via_async(function: str, *args: Any) -> Any:
    return asyncio.run(getattr(sdk, function)(*args))


both = pytest.mark.parametrize("ask", [via_sync, via_async])
Ask = Callable[..., Any]


@both
def test_requests(agent: FakeAgent, ask: Ask) -> None:
    agent.info = {"cancel": "Cancelled", "deadline_us": int((time.time() + 60) * 1e6)}
    assert ask("output", {"n": 1}) == "count-1-output"
    ask("progress", 3, 10, "working")
    info = ask("info")
    assert info.cancel_reason == "Cancelled"
    assert 50 < info.time_left_s <= 60
    assert [{**request, "id": 0} for request in agent.requests] == [
        {"id": 0, "op": "output", "value": {"n": 1}},
        {"id": 0, "op": "progress", "done": 3, "total": 10, "message": "working"},
        {"id": 0, "op": "info"},
    ]


@both
def test_no_deadline(agent: FakeAgent, ask: Ask) -> None:
    info = ask("info")
    assert (info.deadline, info.time_left_s, info.cancel_reason) == (None, None, "")


def test_sync_keeps_its_connection(agent: FakeAgent) -> None:
    for n in range(20):
        sync.progress(n)
    assert agent.attaches == 1
    assert [request["id"] for request in agent.requests] == list(range(2, 22)), "ids rise"


@both
@pytest.mark.parametrize("op", ["attach", "output"])
def test_unavailable_is_tried_again(agent: FakeAgent, ask: Ask, op: str) -> None:
    agent.unavailable[op] = 3
    ask("output", 1)
    assert len(agent.asked("output")) == 1


@both
@pytest.mark.parametrize("op", ["attach", "output"])
def test_connection_that_breaks(agent: FakeAgent, ask: Ask, op: str) -> None:
    agent.drops[op] = 3
    ask("output", 1)
    assert len(agent.asked("output")) == 1


def test_agent_restarts_between_requests(agent: FakeAgent) -> None:
    from taskctl.sdk import _blocking

    sync.progress(1)
    assert _blocking._shared._socket is not None
    _blocking._shared._socket.shutdown(2)  # as when the agent dies
    sync.progress(2)
    assert [request["done"] for request in agent.requests] == [1, 2]
    assert agent.attaches == 2


@both
def test_agent_that_comes_late(agent: FakeAgent, ask: Ask, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    agent.path.rename(hidden)
    timer = threading.Timer(0.3, lambda: hidden.rename(agent.path))
    timer.start()
    ask("progress", 1)
    timer.join()
    assert len(agent.requests) == 1


@both
def test_away(agent: FakeAgent, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKCTL_DEADLINE_S", "0.3")
    agent.unavailable["output"] = 10**6
    with pytest.raises(sdk.AgentAway, match=r"output: .* within 0.3 s \(the API server is away\)"):
        ask("output", 1)


@both
def test_nobody_there(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKCTL_SOCKET", "/no/such/socket")
    monkeypatch.setenv("TASKCTL_TOKEN", "x")
    monkeypatch.setenv("TASKCTL_DEADLINE_S", "0.2")
    with pytest.raises(sdk.AgentAway, match="No such file"):
        ask("output", 1)


@both
def test_agent_that_does_not_answer(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        monkeypatch.setenv("TASKCTL_SOCKET", str(tmp_path / "s"))
        monkeypatch.setenv("TASKCTL_TOKEN", "x")
        monkeypatch.setenv("TASKCTL_DEADLINE_S", "0.3")
        with pytest.raises(sdk.AgentAway):
            ask("output", 1)


@both
@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_deadline_must_be_a_number(
    agent: FakeAgent, ask: Ask, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TASKCTL_DEADLINE_S", value)
    with pytest.raises(sdk.SdkError, match="TASKCTL_DEADLINE_S"):
        ask("output", 1)


@both
def test_refused_at_the_door(agent: FakeAgent, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKCTL_TOKEN", "stolen")
    with pytest.raises(sdk.Refused, match="not one of mine") as caught:
        ask("output", 1)
    assert caught.value.code == "bad_token"


@both
def test_answers_that_make_no_sense(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    answers = [b"\xff\xff\xff\xff", b"\0\0\0\1\x90", wire.encode({"id": 0, "error": "bad_frame"})]

    def serve() -> None:
        while answers:
            sock, _ = listener.accept()
            sock.recv(1000)
            sock.sendall(answers.pop())
            sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    monkeypatch.setenv("TASKCTL_SOCKET", str(tmp_path / "s"))
    monkeypatch.setenv("TASKCTL_TOKEN", "x")
    monkeypatch.setenv("TASKCTL_DEADLINE_S", "1")
    with pytest.raises(sdk.AgentAway):
        ask("output", 1)
    thread.join(10)
    listener.close()
    assert answers == []


@both
def test_too_large_for_a_frame(agent: FakeAgent, ask: Ask) -> None:
    agent.attached["workspace"] = ""
    with pytest.raises(sdk.Unsendable, match="file in the workspace"):
        ask("output", "x" * (17 * 1024 * 1024))
    ask("progress", 1)


def test_long_socket_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long-" * 20)
    folder.mkdir()
    agent = FakeAgent(tmp_path / "s")
    agent.start()
    (tmp_path / "s").rename(folder / "agent.sock")
    monkeypatch.setenv("TASKCTL_SOCKET", str(folder / "agent.sock"))
    monkeypatch.setenv("TASKCTL_TOKEN", "t-1:secret")
    sync.progress(1)
    asyncio.run(sdk.progress(2))
    agent.stop()
    assert len(agent.requests) == 2


def test_fork_opens_its_own_connection(agent: FakeAgent) -> None:
    sync.progress(1)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            sync.progress(2)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    sync.progress(3)
    assert [request["done"] for request in agent.requests] == [1, 2, 3]
    assert agent.attaches == 2


def test_threads_take_turns(agent: FakeAgent) -> None:
    threads = [threading.Thread(target=sync.progress, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(request["done"] for request in agent.requests) == list(range(20))


def test_several_event_loops(agent: FakeAgent) -> None:
    for n in range(3):
        asyncio.run(sdk.progress(n))
    assert len(agent.requests) == 3


async def test_cancelled_request_leaves_nothing_behind(agent: FakeAgent) -> None:
    agent.unavailable["output"] = 10**6
    request = asyncio.create_task(sdk.output(1))
    await asyncio.sleep(0.05)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await sdk.progress(1)
    assert len(asyncio.all_tasks()) == 1
