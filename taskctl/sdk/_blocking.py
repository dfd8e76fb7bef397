"""Talks with the agent and waits: the transport of :mod:`taskctl.sdk.sync`.

One connection, kept open, for one thread at a time. A child made by fork opens its own.
"""

from __future__ import annotations

import _thread
import os
import time

from taskctl import wire
from taskctl.errors import WireError
from taskctl.sdk import _env
from taskctl.sdk._exchange import (
    Away,
    Patience,
    check_answer,
    deadline_of,
    encode_attach,
    encode_request,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket
    from typing import TypeVar

    from taskctl.sdk._exchange import Operation
    from taskctl.wire import Message

    T = TypeVar("T")

_RECEIVE_BYTES = 65536


def perform(operation: Operation[T]) -> T:
    """Carry out an operation.

    Raises:
        SdkError: as the operation says; AgentAway if the agent does not answer.
    """
    try:
        request = next(operation)
        while True:
            request = operation.send(call(request))
    except StopIteration as stop:
        result: T = stop.value
        return result


def call(request: Message, *, apart: bool = False) -> Message:
    """Return the agent's answer to a request, connecting again as often as it takes.

    Args:
        request: a map with ``op``.
        apart: the answer may take long: other threads' requests must not wait for it.

    Raises:
        NotInTask: there is no agent.
        AgentAway: it did not answer in time.
        SdkError: it refused.
    """
    address = _env.endpoint()
    patience = Patience(request["op"], deadline_of(request, _env.deadline_s()))
    while True:
        try:
            line = _waiting if apart else _shared
            with line.lock:
                return line.exchange(request, address, patience)
        except (OSError, WireError, Away) as error:
            delay_s = patience.delay_s(error)
        time.sleep(delay_s)


class _Line:
    """The connection."""

    def __init__(self) -> None:
        self.lock = _thread.allocate_lock()
        self._socket: socket | None = None
        self._attached: Message = {}
        self._decoder = wire.Decoder()
        self._number = 1

    def exchange(self, request: Message, address: tuple[str, str], patience: Patience) -> Message:
        """Return the answer to one request; the lock is held."""
        try:
            sock = self._socket or self._open(address, patience)
            if request["op"] == "attach":
                return self._attached
            self._number += 1
            frame = encode_request(request, self._number)
            answer = self._ask(sock, frame, patience)
        except BaseException:  # TaskCancelled too: half a frame may have been sent or read
            self.close()
            raise
        return check_answer(request["op"], answer)

    def _open(self, address: tuple[str, str], patience: Patience) -> socket:
        from socket import AF_UNIX, socket

        path, token = address
        self._decoder = wire.Decoder()
        self._number = 1
        self._socket = sock = socket(AF_UNIX)
        sock.settimeout(patience.left_s())
        connect(sock, path)
        self._attached = check_answer("attach", self._ask(sock, encode_attach(token), patience))
        return sock

    def _ask(self, sock: socket, frame: bytes, patience: Patience) -> Message:
        sock.settimeout(patience.left_s())
        sock.sendall(frame)
        while True:
            sock.settimeout(patience.left_s())
            data = sock.recv(_RECEIVE_BYTES)
            if not data:
                raise Away("the agent closed the connection")
            for message in self._decoder.feed(data):
                # An error with another id is the last frame: it says why the agent closes.
                if message.get("id") == self._number or "error" in message:
                    return message

    def close(self) -> None:
        """Give the connection up; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def connect(sock: socket, path: str) -> None:
    """Connect a socket, also where the path is longer than an address holds (107 bytes)."""
    if len(os.fsencode(path)) < 108:
        sock.connect(path)
        return
    directory = os.open(os.path.dirname(path), os.O_PATH)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


_shared = _Line()
_waiting = _Line()


def _after_fork() -> None:
    """Let a forked child open its own connection; the lock may be held by a thread it lacks."""
    global _shared, _waiting
    _shared.close()  # its copy only
    _waiting.close()
    _shared, _waiting = _Line(), _Line()


os.register_at_fork(after_in_child=_after_fork)
