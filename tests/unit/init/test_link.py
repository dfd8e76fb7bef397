"""The connection: refusals, agents that restart at any moment, frames that are wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskctl import wire
from tests.unit.init.fake_agent import TOKEN, Agent, Init, Link, eventually, run, shell

FINAL = ["nonce_used", "unknown_container", "bad_token", "superseded", "version", "bad_request"]


@pytest.mark.parametrize("error", FINAL)
def test_hello_refused(agent: Agent, init: Init, error: str) -> None:
    link = agent.accept()
    link.refuse(link.expect("hello"), error, "the reason\nin two lines")
    assert init.wait() == 0
    assert init.err == f"taskctl-init: the agent refused hello ({error}): the reason in two lines\n"
    assert init.out == ""


def test_next_refused(agent: Agent, init: Init) -> None:
    link = agent.greet()
    link.refuse(link.expect("next"), "superseded", "attempt 1 was written off")
    assert init.wait() == 0
    assert (
        init.err == "taskctl-init: the agent refused next (superseded): attempt 1 was written off\n"
    )


def test_lost_claim(agent: Agent, init: Init) -> None:
    link = agent.greet()
    link.answer(link.expect("next"), action="exit", code=0)
    assert init.wait() == 0
    assert init.err == ""


def test_exited_refused(agent: Agent, init: Init) -> None:
    link = agent.start("sh", "-c", "exit 7")
    link.refuse(link.expect("exited"), "superseded")
    assert init.wait() == 7


@pytest.mark.parametrize("op", ["next", "exited"])
def test_unavailable_is_repeated_on_the_same_connection(agent: Agent, init: Init, op: str) -> None:
    link = agent.greet() if op == "next" else agent.start("true")
    for _ in range(4):
        request = link.expect(op)
        link.refuse(request, "unavailable", "the API server is away")
    again = link.expect(op)
    assert again["id"] == request["id"] + 1
    assert {**again, "id": 0} == {**request, "id": 0}
    link.answer(again, action="exit", code=0)
    assert init.wait() == 0


def test_hello_unavailable(agent: Agent, init: Init) -> None:
    link = agent.accept()
    link.refuse(link.expect("hello"), "unavailable")
    init.finish(agent.start("true"))


def test_agent_that_comes_late(binary: Path, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent.sock")
    agent.stop()
    agent.path.unlink()
    init = Init(binary, agent, tmp_path)
    time.sleep(0.4)
    before = init.cpu_ticks()
    agent.listen()
    with agent:
        init.finish(agent.start("true"))
    assert before <= 2 if "sanitized" not in str(binary) else before < 20


def test_restart_before_hello_is_answered(agent: Agent, init: Init) -> None:
    agent.accept().expect("hello")
    agent.stop()
    agent.listen()
    link = agent.accept()
    hello = link.expect("hello")
    assert hello["nonce"] == "a-nonce-of-the-test", "no token yet"
    link.answer(hello, token=TOKEN)
    link.answer(link.expect("next"), **run("true"))
    init.finish(link)


def reconnect(agent: Agent) -> tuple[Link, wire.Message]:
    """Restart; returns the new connection and its hello, answered."""
    agent.stop()
    agent.listen()
    link = agent.accept()
    hello = link.expect("hello")
    assert hello["token"] == TOKEN
    assert "nonce" not in hello
    link.answer(hello, token=TOKEN)
    return link, hello


def test_restart_before_next_is_answered(agent: Agent, init: Init) -> None:
    agent.greet().expect("next")
    link, hello = reconnect(agent)
    assert "running" not in hello
    link.answer(link.expect("next"), **run("true"))
    init.finish(link)


def test_restart_while_the_command_runs(agent: Agent, init: Init, tmp_path: Path) -> None:
    go = tmp_path / "go"
    agent.start("sh", "-c", f"until [ -e {go} ]; do sleep 0.02; done; exit 4", attempt=3)
    eventually(init.children, "the command runs")
    link, hello = reconnect(agent)
    assert hello["running"]["uid"] == "uid-1"
    assert hello["running"]["attempt"] == 3
    link, hello_2 = reconnect(agent)
    assert hello_2["running"] == hello["running"]
    go.touch()
    report = init.finish(link, code=4)
    assert report["started_us"] == hello["running"]["started_us"]


def test_push_after_a_restart(agent: Agent, init: Init) -> None:
    agent.start("sleep", "60")
    eventually(init.children, "the command runs")
    link, _ = reconnect(agent)
    link.push(op="signal", reason="Cancelled", grace_ms=1000)
    assert init.finish(link, code=143)["reason"] == "Cancelled"


def test_command_ends_while_the_agent_is_away(agent: Agent, init: Init, tmp_path: Path) -> None:
    go, record = tmp_path / "go", tmp_path / "record"
    script = f"until [ -e {go} ]; do sleep 0.02; done; exit 4"
    agent.start("sh", "-c", script, record=str(record))
    eventually(init.children, "the command runs")
    agent.stop()
    go.touch()
    eventually(record.exists, "it has ended")
    agent.listen()
    link = agent.accept()
    hello = link.expect("hello")
    assert "running" not in hello
    link.answer(hello, token=TOKEN)
    assert init.finish(link, code=4)["code"] == 4


def test_restart_before_exited_is_answered(agent: Agent, init: Init) -> None:
    report = agent.start("sh", "-c", "exit 5").expect("exited")
    link, _ = reconnect(agent)
    again = init.finish(link, code=5)
    assert {**again, "id": 0} == {**report, "id": 0}


def test_new_token_replaces_the_old(agent: Agent, init: Init) -> None:
    agent.greet().expect("next")
    agent.stop()
    agent.listen()
    link = agent.accept()
    link.answer(link.expect("hello"), token="a-newer-token")
    link.expect("next")
    agent.stop()
    agent.listen()
    assert agent.accept().expect("hello")["token"] == "a-newer-token"


@pytest.mark.parametrize("error", ["superseded", "bad_token", "unknown_container"])
def test_refused_while_the_command_runs(
    agent: Agent, init: Init, tmp_path: Path, error: str
) -> None:
    """Nobody will record this run, so it is stopped; the exit record is kept all the same."""
    record = tmp_path / "record"
    agent.start("sleep", "60", record=str(record))
    eventually(init.children, "the command runs")
    agent.stop()
    agent.listen()
    link = agent.accept()
    link.refuse(link.expect("hello"), error, "not you")
    assert init.wait() == 143
    assert "not you" in init.err
    assert wire.decode_body(record.read_bytes())["reason"] == "Signalled"


# --- frames that are wrong ------------------------------------------------------------------


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


MALFORMED = {
    "too large": b"\xff\xff\xff\xff",
    "one byte too large": (16 * 1024 * 1024 + 1).to_bytes(4, "big"),
    "empty": frame(b""),
    "a list": frame(b"\x90"),
    "trailing byte": frame(b"\x80\x00"),
    "cut map": frame(b"\x81\xa2id"),
    "cut text": frame(b"\x81\xa9id"),
    "huge array": frame(b"\x81\xa1a\xdd\xff\xff\xff\xff"),
    "huge text": frame(b"\x81\xa1a\xdb\xff\xff\xff\xff"),
    "huge ext": frame(b"\x81\xa1a\xc9\xff\xff\xff\xff\x01"),
    "key is a number": frame(b"\x81\x01\x02"),
    "unused tag": frame(b"\x81\xa1a\xc1"),
    "deep": frame(b"\x81\xa1a" + b"\x91" * 1_000_000),
    "answer without ok": frame(b"\x81\xa2id\x02"),
    "answer says nothing": frame(b"\x82\xa2id\x02\xa2ok\xc3"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_frame_ends_that_connection_only(agent: Agent, init: Init, data: bytes) -> None:
    link = agent.greet()
    link.expect("next")
    link.sock.sendall(data)
    init.finish(agent.start("true"))
    assert init.err.count("taskctl-init:") == 1


RUN = run("true")


@pytest.mark.parametrize(
    "broken",
    [
        {**RUN, "argv": []},
        {**RUN, "argv": "true"},
        {**RUN, "argv": ["true", 1]},
        {**RUN, "env": []},
        {**RUN, "env": {"a": 1}},
        {**RUN, "uid": 5},
        {**RUN, "attempt": "1"},
        {**RUN, "cwd": None},
        {**RUN, "action": "dance"},
        {key: value for key, value in RUN.items() if key != "log"},
        {key: value for key, value in RUN.items() if key != "argv"},
    ],
)
def test_run_that_is_incomplete(agent: Agent, init: Init, broken: wire.Message) -> None:
    link = agent.greet()
    link.answer(link.expect("next"), **broken)
    init.finish(agent.start("true"))
    assert "does not say what to do" in init.err


def test_deep_but_valid_message(agent: Agent, init: Init) -> None:
    body = b"\x83\xa2id\x00\xa2op\xa1x\xa1a" + b"\x91" * 1_000_000 + b"\xc0"
    link = agent.greet()
    request = link.expect("next")
    link.sock.sendall(frame(body))
    link.answer(request, **run("true"))
    init.finish(link)


def test_agent_that_always_errs_is_not_hammered(agent: Agent, init: Init) -> None:
    end, count = time.monotonic() + 1.5, 0
    while time.monotonic() < end:
        link = agent.greet()
        link.sock.sendall(b"\xff\xff\xff\xff")
        count += 1
    assert count < 12, "it backs off"
    assert init.err.count("taskctl-init:") == 1, "it complains once"


def test_last_frame_says_why(agent: Agent, init: Init) -> None:
    link = agent.greet()
    link.expect("next")
    link.push(ok=False, error="bad_frame", message="the body is not a map")
    link.close()
    init.finish(agent.start("true"))
    assert "the body is not a map" in init.err


def test_bytes_one_by_one(agent: Agent, init: Init) -> None:
    link = agent.accept()
    hello = link.expect("hello")
    data = wire.encode({"id": hello["id"], "ok": True, "token": TOKEN})
    for byte in data:
        link.sock.sendall(bytes([byte]))
        time.sleep(0.001)
    request = link.expect("next")
    for byte in wire.encode({"id": request["id"], "ok": True, **shell("exit 6")}):
        link.sock.sendall(bytes([byte]))
    assert init.finish(link, code=6)["code"] == 6


def test_several_frames_at_once(agent: Agent, init: Init) -> None:
    link = agent.greet()
    request = link.expect("next")
    frames = wire.encode({"id": 0, "op": "noise"}) * 50
    frames += wire.encode({"id": 999, "ok": True})  # an answer to nothing
    frames += wire.encode({"id": request["id"], "ok": True, **run("sleep", "60")})
    frames += wire.encode({"id": 0, "op": "signal", "reason": "Cancelled", "grace_ms": 1000})
    link.sock.sendall(frames)
    assert init.finish(link, code=143)["reason"] == "Cancelled"


def test_socket_path_longer_than_a_socket_address(binary: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 20) / ("path-" * 20)
    folder.mkdir(parents=True)
    with Agent(folder / "agent.sock") as agent:
        init = Init(binary, agent, tmp_path)
        init.finish(agent.start("true"))


@pytest.mark.parametrize("name", ["TASKCTL_SOCKET", "TASKCTL_CONTAINER", "TASKCTL_NONCE"])
def test_what_must_be_set(start_init: Callable[..., Init], name: str) -> None:
    init = start_init(**{name: ""})
    assert init.wait() == 2
    assert f"{name} is not set" in init.err
    assert "--help" in init.err
