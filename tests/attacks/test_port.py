"""The server's port: flooded, and taken over while the server is down."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import pytest

from taskctl.kube.client import KubeClient
from tests.attacks.conftest import Local, StartLocal
from tests.embedded.world import World

FLOOD = 700
# More than any checkpoint of the database, and any stranger's connection, takes to come round.
HOLD_S = 12.0

# Binds the port in every way there is, for 6 seconds; prints what it got.
THIEF = """
import itertools, socket, sys, time
port, until, got = int(sys.argv[1]), time.monotonic() + 6, []
ways = itertools.product(("127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"), (0, 1), (0, 1))
for host, address, shared in itertools.cycle(list(ways)):
    if time.monotonic() > until:
        break
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, address)
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:
            thief.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host == "::")
        try:
            thief.bind((host, port)); thief.listen(); thief.settimeout(0.2)
            connection, _ = thief.accept()
            got.append(connection.recv(4096))
        except OSError:
            time.sleep(0.005)
print("got", got)
"""


@pytest.fixture
def local(start_local: StartLocal) -> Local:
    """A stack whose processes may open few files, so that a small flood could exhaust them."""
    return start_local(files=640)


@pytest.fixture
def flood(local: Local) -> Iterator[list[socket.socket]]:
    """Connections that say nothing, begin a handshake, or ask without a token and stay."""
    connections: list[socket.socket] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for number in range(FLOOD):
        try:
            made = socket.create_connection(("127.0.0.1", local.port), timeout=5)
            if number % 10 == 1:
                made.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            elif number % 10 == 2:
                made = context.wrap_socket(made)
                made.sendall(b"GET /api HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        except OSError:
            continue
        connections.append(made)
    yield connections
    for made in connections:
        made.close()


async def test_a_flood_keeps_nobody_out(local: Local, flood: list[socket.socket]) -> None:
    server = local.pid("server")
    async with local.world() as world:
        await world.cluster()
        began = asyncio.get_running_loop().time()
        number = 0
        while asyncio.get_running_loop().time() - began < HOLD_S:
            await world.task(f"t{number}", "true")
            await world.finished(f"t{number}")
            await local.answers()
            number += 1
            await asyncio.sleep(0.5)
    assert local.pid("server") == server, "the server died of it"
    log = (local.data_dir / "logs" / "server.log").read_text()
    assert "have not authenticated" in log
    for secret in local.secrets:
        assert secret not in log


async def run_thief(world: World, port: int) -> str:
    await world.task("thief", "python3", "-c", THIEF, str(port))
    await world.in_state("thief", "Running")
    return "thief"


async def test_the_port_cannot_be_taken_while_the_server_is_down(local: Local) -> None:
    port = local.port
    async with local.world() as world:
        await world.cluster()
        name = await run_thief(world, port)
        for _ in range(3):
            local.kill("server")
            await local.answers()
        task = await world.finished(name)
        assert task["status"]["state"] == "Succeeded", task["status"]
        logs = [path.read_text() for path in local.data_dir.rglob("log") if path.is_file()]
        assert any("got []" in text for text in logs), logs
        assert local.port == port
        await world.task("after", "true")
        assert (await world.finished("after"))["status"]["state"] == "Succeeded"


async def test_a_port_that_was_taken_while_the_stack_was_stopped(local: Local) -> None:
    """The stack says so, is elsewhere from then on, and nobody asks at the old port."""
    port = local.port
    local.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        await asyncio.to_thread(local.start)
        assert f"port {port}, where the API server was, is taken" in local.output.read_text()
        assert local.port != port
        taken.settimeout(0.1)
        with suppress(TimeoutError):  # those who asked before the server had said where it is
            while True:
                taken.accept()[0].close()
        async with local.world() as world:
            await world.cluster()
            await world.task("t", "true")
            assert (await world.finished("t"))["status"]["state"] == "Succeeded"
        taken.settimeout(0.5)
        with pytest.raises(TimeoutError):
            taken.accept()
    moved = local.port
    local.stop()
    await asyncio.to_thread(local.start)
    assert local.port == moved


# Listens on the port for 20 seconds and keeps what is sent to it; ends when it may not any more.
IMPOSTOR = """
import socket, sys, time
port, until = int(sys.argv[1]), time.monotonic() + 20
heard = open("/workspace/heard", "wb", buffering=0)
while time.monotonic() < until:
    try:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port)); listener.listen(); listener.settimeout(0.3)
        open("/workspace/listening", "w").close()
    except OSError:
        time.sleep(0.02)
        continue
    while time.monotonic() < until:
        try:
            connection, _ = listener.accept()
            connection.settimeout(0.3)
            heard.write(connection.recv(65536))
            connection.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
            heard.write(connection.recv(65536))
        except OSError:
            pass
"""


@pytest.mark.timeout(120)
async def test_who_takes_the_port_of_a_dead_stack_hears_no_token(start_local: StartLocal) -> None:
    """Containers outlive a kill -9 of everything; their agents go on asking at the old port."""
    local = start_local()
    port = local.port
    async with local.world() as world:
        await world.cluster()
        await world.task("impostor", "python3", "-c", IMPOSTOR, str(port))
        await world.in_state("impostor", "Running")
        workspace = world.workspace()
        assert local.process is not None
        local.process.kill()
        local.process.wait()
        async with asyncio.timeout(20):
            while not (workspace / "listening").exists():
                await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        (local.data_dir / "ready").unlink(missing_ok=True)
        await asyncio.to_thread(local.start)
        assert local.port != port
    async with await KubeClient.connect(local.settings()) as client:
        again = World(client, world.namespace, local.data_dir)
        task = await again.finished("impostor", timeout_s=60)
        assert (task["status"]["state"], task["status"]["attempt"]) == ("Succeeded", 1)
        await again.task("after", "true")
        assert (await again.finished("after"))["status"]["state"] == "Succeeded"
    heard = (workspace / "heard").read_bytes()
    assert heard, "nobody asked, so that this proves nothing"
    assert b"Bearer" not in heard
    assert b"HTTP/1.1" not in heard
    for secret in local.secrets:
        assert secret.encode() not in heard
