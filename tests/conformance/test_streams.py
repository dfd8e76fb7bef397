"""Streams into containers, and watches, over WebSockets."""

from __future__ import annotations

import asyncio
import json
import struct
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.conformance.programs import Kubectl
from tests.conformance.target import WAIT_S, Api, Json, embedded_only, needs_connection
from tests.conformance.test_node import api as api_with_node
from tests.conformance.test_node import on_node

pytestmark = needs_connection("WebSockets, and a node that finds the server by its address")

FIRST_WITH_WEBSOCKETS = (31, "before, it had SPDY alone")
PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"]
STDIN, STDOUT, STDERR, STATUS = range(4)

api = api_with_node


@pytest.fixture
async def pod(api: Api) -> AsyncIterator[str]:
    """Return the path of a pod that runs, writes a line now and then, and serves a port."""
    script = "i=0; while :; do i=$((i+1)); echo line $i; echo bad >&2; sleep 0.2; done"
    (await api.create(api.core("pods"), on_node(script, held=False, grace_s=1))).ok()
    path = api.core("pods", "p")
    await api.until(path, lambda pod: pod["status"]["phase"] == "Running")
    yield path
    await api.delete(path)


class Session:
    """What a command says, by channel."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.is_text = "base64" in (socket.protocol or "")
        self.said = {STDOUT: b"", STDERR: b""}

    async def send(self, channel: int, data: bytes) -> None:
        if self.is_text:
            await self.socket.send_str(f"{channel}{b64encode(data).decode()}")
        else:
            await self.socket.send_bytes(bytes([channel]) + data)

    async def until(self, channel: int, data: bytes) -> None:
        """Read until a channel has said something."""
        async with asyncio.timeout(WAIT_S):
            while data not in self.said[channel]:
                assert await self._next() is None

    async def status(self) -> Json:
        """Read to the end, and return the status."""
        async with asyncio.timeout(WAIT_S):
            while (status := await self._next()) is None:
                pass
        return status

    async def _next(self) -> Json | None:
        message = await self.socket.receive()
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
        if self.is_text:
            channel, data = int(message.data[:1]), b64decode(message.data[1:])
        else:
            channel, data = message.data[0], message.data[1:]
        if channel == STATUS and data:
            found: Json = json.loads(data)
            return found
        if channel in self.said:
            self.said[channel] += data
        return None


def asked(*command: str, **flags: str) -> list[tuple[str, str]]:
    return [("command", word) for word in command] + list(flags.items())


async def run(api: Api, pod: str, *command: str, protocol: str = PROTOCOLS[0]) -> Json:
    query = asked(*command, stdout="true", stderr="true")
    async with api.websocket(f"{pod}/exec", protocol, query=query) as socket:
        session = Session(socket)
        status = await session.status()
        said = {name: session.said[n].decode() for n, name in ((STDOUT, "out"), (STDERR, "err"))}
        return {**said, **status}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_exec_carries_output_and_exit_code(api: Api, pod: str, protocol: str) -> None:
    found = await run(api, pod, "sh", "-c", "echo out; echo err >&2; exit 3", protocol=protocol)
    assert (found["out"], found["err"], found["status"]) == ("out\n", "err\n", "Failure")
    assert found["reason"] == "NonZeroExitCode"
    assert found["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert (await run(api, pod, "true", protocol=protocol))["status"] == "Success"


async def test_exec_of_a_program_that_is_not_there(api: Api, pod: str) -> None:
    found = await run(api, pod, "no-such-program")
    assert (found["status"], found["reason"]) == ("Failure", "InternalError")
    assert "no-such-program" in found["message"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_exec_takes_input(api: Api, pod: str, protocol: str) -> None:
    query = asked("sh", "-c", "read line; echo got $line", stdin="true", stdout="true")
    async with api.websocket(f"{pod}/exec", protocol, query=query) as socket:
        session = Session(socket)
        await session.send(STDIN, b"word\n")
        assert (await session.status())["status"] == "Success"
        assert session.said[STDOUT] == b"got word\n"


async def test_exec_input_ends_where_the_client_says_so(api: Api, pod: str) -> None:
    query = asked("cat", stdin="true", stdout="true")
    async with api.websocket(f"{pod}/exec", PROTOCOLS[0], query=query) as socket:
        session = Session(socket)
        data = b"0123456789abcdef" * 4096
        await session.send(STDIN, data)
        await session.socket.send_bytes(bytes([255, STDIN]))
        assert (await session.status())["status"] == "Success"
        assert session.said[STDOUT] == data


async def test_exec_with_a_terminal(api: Api, pod: str) -> None:
    script = "test -t 0 && echo terminal; read line; stty size; echo got $line"
    query = asked("sh", "-c", script, stdin="true", stdout="true", tty="true")
    async with api.websocket(f"{pod}/exec", PROTOCOLS[0], query=query) as socket:
        session = Session(socket)
        await session.until(STDOUT, b"terminal")
        await session.send(4, b'{"Width": 77, "Height": 33}')
        await asyncio.sleep(0.3)  # no answer tells when the size has been taken
        await session.send(STDIN, b"word\n")
        assert (await session.status())["status"] == "Success"
        assert b"got word" in session.said[STDOUT]
        assert b"33 77" in session.said[STDOUT] or b"stty" in session.said[STDOUT]


async def test_attach_carries_what_is_written_from_now_on(api: Api, pod: str) -> None:
    query = [("stdout", "true"), ("stderr", "true")]
    async with api.websocket(f"{pod}/attach", PROTOCOLS[0], query=query) as socket:
        session = Session(socket)
        await session.until(STDOUT, b"line ")
        await session.until(STDERR, b"bad")
        assert b"line 1\n" not in session.said[STDOUT]


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        pytest.param(
            "exec",
            [("stdout", "true")],  # no command
            400,
            marks=embedded_only("there the container runtime says so, after the handshake"),
        ),
        ("exec", [("command", "true")], 400),  # no stream
        ("exec", [("command", "true"), ("stdout", "true"), ("container", "other")], 400),
        ("portforward", [("ports", "0")], 400),
        ("portforward", [("ports", "many")], 400),
    ],
)
async def test_what_is_asked_wrongly_is_refused(
    api: Api, pod: str, path: str, query: list[tuple[str, str]], code: int
) -> None:
    # Not with v5: there a real API server shakes hands before it asks the kubelet.
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        async with api.websocket(f"{pod}/{path}", PROTOCOLS[1], query=query):
            pass
    assert refusal.value.status == code


async def test_exec_needs_a_websocket(api: Api, pod: str) -> None:
    reply = await api.get(f"{pod}/exec", command="true", stdout="true")
    reply.refused(400, "BadRequest")
    assert "Upgrade request required" in reply.text
    missing = await api.get(api.core("pods", "other", "exec"), command="true", stdout="true")
    missing.refused(404, "NotFound")


@embedded_only("a pod's port is one of this machine's")
async def test_port_forward_over_channels(api: Api, pod: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        query = [("ports", str(port))]
        async with api.websocket(f"{pod}/portforward", PROTOCOLS[1], query=query) as socket:
            for channel in (0, 1):
                assert await socket.receive_bytes() == bytes([channel]) + struct.pack("<H", port)
            await socket.send_bytes(b"\0hello\n")
            assert await socket.receive_bytes() == b"\0HELLO\n"
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


@embedded_only("a pod's port is one of this machine's")
async def test_port_forward_to_a_port_that_is_shut(api: Api, pod: str) -> None:
    query = [("ports", "1")]
    async with api.websocket(f"{pod}/portforward", PROTOCOLS[1], query=query) as socket:
        await socket.receive_bytes()
        await socket.receive_bytes()
        message = await socket.receive_bytes()
        assert message[0] == 1
        assert b"port 1" in message


async def test_kubectl_exec(api: Api, pod: str, kubectl: Kubectl) -> None:
    kubectl.needs(*FIRST_WITH_WEBSOCKETS)
    assert (await kubectl("exec", "p", "--", "echo", "hello")).out == "hello\n"
    failed = await kubectl("exec", "p", "--", "sh", "-c", "echo bad >&2; exit 3", code=3)
    assert "bad" in failed.err


async def test_kubectl_cp(api: Api, pod: str, kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl.needs(*FIRST_WITH_WEBSOCKETS)
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(bytes(range(256)) * 4096)
    await kubectl("cp", str(there), "p:/tmp/blob")
    await kubectl("cp", "p:/tmp/blob", str(back))
    assert back.read_bytes() == there.read_bytes()


async def test_watch_over_a_websocket(api: Api) -> None:
    path = api.core("configmaps")
    await api.until(api.core("configmaps", "kube-root-ca.crt"), lambda body: True)
    revision = (await api.get(path)).json["metadata"]["resourceVersion"]
    query = [("watch", "true"), ("resourceVersion", revision)]
    async with api.websocket(path, query=query) as socket:
        (await api.create(path, {"metadata": {"name": "one"}})).ok()
        (await api.delete(api.core("configmaps", "one"))).ok()
        for kind in ("ADDED", "DELETED"):
            message = await asyncio.wait_for(socket.receive(), WAIT_S)
            event = json.loads(message.data)
            assert (event["type"], event["object"]["metadata"]["name"]) == (kind, "one")


async def test_watch_over_a_websocket_ends_in_time(api: Api) -> None:
    query = [("watch", "true"), ("timeoutSeconds", "1"), ("resourceVersion", "0")]
    async with api.websocket(api.core("pods"), query=query) as socket:
        async with asyncio.timeout(WAIT_S):
            async for _ in socket:
                pass
        assert socket.closed
