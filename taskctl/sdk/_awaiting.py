"""Talks with the agent from asyncio: the transport of the ``async`` functions.

A connection per request, closed with its answer: so nothing is left behind in an event loop
that ends, and requests of concurrent tasks do not wait for each other.
"""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from taskctl import wire
from taskctl.errors import WireError
from taskctl.sdk import _env
from taskctl.sdk._blocking import connect
from taskctl.sdk._cancel import stop_requested
from taskctl.sdk._exchange import (
    Away,
    Patience,
    check_answer,
    deadline_of,
    encode_attach,
    encode_request,
)
from taskctl.sdk.errors import TaskCancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeVar

    from taskctl.sdk._exchange import Operation
    from taskctl.wire import Message

    T = TypeVar("T")

# A task that spawns ten thousand children at once must not open ten thousand connections.
MAX_CONNECTIONS: Final = 16
_RECEIVE_BYTES = 65536

_limits: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def perform(operation: Operation[T]) -> T:
    """Carry out an operation.

    Raises:
        SdkError: as the operation says; AgentAway if the agent does not answer.
        TaskCancelled: the task is to stop.
    """
    try:
        request = next(operation)
        while True:
            request = operation.send(await _call_or_stop(request))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def _call_or_stop(request: Message) -> Message:
    try:
        return await call(request)
    except asyncio.CancelledError as error:
        if stop_requested():
            raise TaskCancelled("the task is to stop") from error
        raise


async def call(request: Message) -> Message:
    """Return the agent's answer to a request, connecting again as often as it takes.

    Raises:
        NotInTask: there is no agent.
        AgentAway: it did not answer in time.
        SdkError: it refused.
    """
    address = _env.endpoint()
    patience = Patience(request["op"], deadline_of(request, _env.deadline_s()))
    loop = asyncio.get_running_loop()
    limit = _limits.setdefault(loop, asyncio.Semaphore(MAX_CONNECTIONS))
    while True:
        try:
            async with limit:
                return await _exchange(request, address, patience)
        except (OSError, WireError, Away) as error:
            delay_s = patience.delay_s(error)
        await asyncio.sleep(delay_s)


async def _exchange(request: Message, address: tuple[str, str], patience: Patience) -> Message:
    path, token = address
    reader, writer = await _open(path)
    # Not asyncio.wait_for: before Python 3.12 it may swallow a cancellation.
    timer = asyncio.get_running_loop().call_later(patience.left_s(), writer.transport.abort)
    try:
        decoder = wire.Decoder()
        answer = await _ask(reader, writer, decoder, encode_attach(token))
        check_answer("attach", answer)
        if request["op"] != "attach":
            answer = await _ask(reader, writer, decoder, encode_request(request, 2))
            check_answer(request["op"], answer)
        return answer
    finally:
        timer.cancel()
        writer.close()


async def _open(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    from socket import AF_UNIX, socket

    sock = socket(AF_UNIX)
    try:
        connect(sock, path)  # a unix socket connects, or refuses, at once
        return await asyncio.open_unix_connection(sock=sock)
    except BaseException:
        sock.close()
        raise


async def _ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    decoder: wire.Decoder,
    frame: bytes,
) -> Message:
    """Return the one answer; requests on a connection follow one another."""
    writer.write(frame)
    await writer.drain()
    while data := await reader.read(_RECEIVE_BYTES):
        for message in decoder.feed(data):
            if message.get("id") != 0 or "error" in message:
                return message
    raise Away("the agent closed the connection")
