"""Reading a command's output from the messages of a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from taskctl.errors import ApiError, Unavailable
from taskctl.kube.execute import STATUS, STDERR, STDOUT, ExecSession, read_output

BINARY = aiohttp.WSMsgType.BINARY
CLOSED = aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None)


def on(channel: int, content: bytes) -> Any:
    return aiohttp.WSMessage(BINARY, bytes([channel]) + content, "")


def ended(**status: Any) -> Any:
    return on(STATUS, json.dumps(status).encode())


def source(*messages: Any) -> Callable[[], Awaitable[Any]]:
    waiting = list(messages)

    async def receive() -> Any:
        if not waiting:
            raise TimeoutError
        return waiting.pop(0)

    return receive


async def output(*messages: Any) -> bytes:
    return b"".join([chunk async for chunk in read_output(source(*messages), "exec cat")])


async def test_output_in_order_and_nothing_of_stderr() -> None:
    sent = [on(STDOUT, b""), on(STDOUT, b"one "), on(STDERR, b"oh"), on(STDOUT, b"two")]
    assert await output(*sent, ended(status="Success")) == b"one two"


async def test_a_failure_carries_the_server_s_words_and_the_command_s() -> None:
    status = {"status": "Failure", "message": "command terminated with exit code 3"}
    with pytest.raises(ApiError, match=r"exec cat: .* exit code 3: no such file"):
        await output(on(STDERR, b"no such file\n"), ended(**status))


async def test_stderr_is_kept_up_to_a_limit() -> None:
    with pytest.raises(ApiError) as caught:
        await output(*[on(STDERR, b"x" * 3000)] * 3, ended(status="Failure"))
    assert caught.value.message.count("x") < 5000


async def test_an_early_end_is_no_success() -> None:
    with pytest.raises(Unavailable, match="ended before"):
        await output(on(STDOUT, b"half"), CLOSED)


async def test_silence_is_no_success() -> None:
    with pytest.raises(Unavailable, match="silent"):
        await output(on(STDOUT, b"half"))


async def test_a_status_that_is_not_json_is_shown() -> None:
    with pytest.raises(ApiError, match="container not running"):
        await output(on(STATUS, b"container not running"))


class Socket:
    """A WebSocket that was given what it receives."""

    def __init__(self, *messages: Any) -> None:
        self._messages = [*messages, CLOSED]
        self.sent: list[bytes] = []

    async def receive(self) -> Any:
        return self._messages.pop(0)

    async def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)


async def conversation(*messages: Any) -> tuple[list[tuple[int, bytes]], int | None]:
    session = ExecSession(Socket(*messages), "exec sh")  # type: ignore[arg-type]
    return [piece async for piece in session.output()], session.exit_code


def exit_status(code: str) -> Any:
    causes = [{"reason": "ExitCode", "message": code}]
    return ended(status="Failure", reason="NonZeroExitCode", details={"causes": causes})


@pytest.mark.parametrize(("end", "code"), [(ended(status="Success"), 0), (exit_status("7"), 7)])
async def test_a_conversation_ends_with_the_exit_code(end: Any, code: int) -> None:
    pieces, exit_code = await conversation(on(STDOUT, b""), on(STDERR, b"a"), on(STDOUT, b"b"), end)
    assert pieces == [(STDERR, b"a"), (STDOUT, b"b")]
    assert exit_code == code


async def test_a_command_that_cannot_be_run_and_a_connection_that_ends() -> None:
    with pytest.raises(ApiError, match="exec sh: no such file"):
        await conversation(ended(status="Failure", message="no such file"))
    with pytest.raises(ApiError, match="exec sh: failed"):
        await conversation(exit_status("many"))
    with pytest.raises(Unavailable, match="ended before"):
        await conversation(on(STDOUT, b"x"))


async def test_input_its_end_and_the_size_of_the_terminal() -> None:
    socket = Socket()
    session = ExecSession(socket, "exec sh")  # type: ignore[arg-type]
    await session.write(b"ls\n")
    await session.resize(80, 24)
    await session.end_input()
    assert socket.sent == [b"\x00ls\n", b'\x04{"Width":80,"Height":24}', b"\xff\x00"]
