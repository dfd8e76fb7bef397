"""Frames in and out: what they may cost, and on whose account."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskctl.agent.connection import FRAME_LIMITS, Connection
from taskctl.agent.framescan import Cost, Limits, TooMuchError, scan
from taskctl.agent.ration import GUARANTEED_BYTES, Pool, Ration, Rations
from taskctl.errors import WireError
from taskctl.wire import MAX_FRAME_BYTES, encode
from tests.unit.agent.conftest import World
from tests.unit.agent.fakes import Peer, eventually

MIB = 1024 * 1024
ROOMY = Limits(items=100_000, depth=1000, memory_bytes=1 << 40)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.builds(msgpack.ExtType, st.integers(0, 100), st.binary(max_size=20))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(st.text(max_size=8) | st.binary(max_size=8), inner, max_size=20)
    ),
    max_leaves=60,
)


def count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(count(key) + count(item) for key, item in value.items())
    if isinstance(value, list):
        return 1 + sum(count(item) for item in value)
    return 1


def memory(value: Any) -> int:
    """Return what CPython says that a value takes; what it shares, it counts again."""
    own = sys.getsizeof(value)
    if isinstance(value, dict):
        return own + sum(memory(key) + memory(item) for key, item in value.items())
    if isinstance(value, list):
        return own + sum(memory(item) for item in value)
    small = (
        isinstance(value, bool) or value is None or (isinstance(value, int) and -5 <= value < 0x80)
    )
    return 0 if small else own


# The smallest tables of a dict, with text and with any other keys; a text that is not ASCII.
@example({"\x80": None})
@example({b"": None})
@example({"": None, b"": None})
@given(VALUES)
def test_cost_of_a_value(value: Any) -> None:
    """The items are exact; the memory is never below what CPython takes."""
    cost = scan(msgpack.packb(value), ROOMY)
    assert cost.items == count(value)
    if not any(isinstance(item, msgpack.ExtType) for item in flat(value)):
        assert cost.memory_bytes >= memory(msgpack.unpackb(msgpack.packb(value)))


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from flat(item)
    else:
        yield value


@given(VALUES, st.data())
def test_cut_or_longer_is_malformed(value: Any, data: st.DataObject) -> None:
    body = msgpack.packb(value)
    at = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(WireError):
        scan(body[:at], ROOMY)
    with pytest.raises(WireError):
        scan(body + b"\xc0", ROOMY)


@given(st.binary(max_size=60))
def test_same_verdict_as_msgpack(body: bytes) -> None:
    """What the scan takes for whole, msgpack does too, but for what it says of its content."""
    try:
        scan(body, ROOMY)
    except (WireError, TooMuchError):
        with pytest.raises((ValueError, msgpack.exceptions.UnpackException)):
            msgpack.unpackb(body, raw=True, strict_map_key=False, object_pairs_hook=len)
    else:
        unpacker = msgpack.Unpacker(raw=True)
        unpacker.feed(body)
        unpacker.skip()
        assert unpacker.tell() == len(body)


def array(n: int, item: bytes) -> bytes:
    return b"\xdd" + struct.pack(">I", n) + item * n


COSTLY = {
    "empty maps": array(8 * MIB, b"\x80"),
    "empty arrays": array(8 * MIB, b"\x90"),
    "empty texts": array(8 * MIB, b"\xa0"),
    "small integers": array(16 * MIB - 100, b"\x07"),
    "pairs": b"\xdf" + struct.pack(">I", 4 * MIB) + b"\xa0\xc0" * (4 * MIB),
    "a false count": array(10, b"\x80").replace(b"\x00\x00\x00\x0a", b"\xff\xff\xff\xff"),
    "nesting": b"\x91" * (15 * MIB) + b"\xc0",
    "nested maps": b"\x81\xa0" * (7 * MIB) + b"\xc0",
    "wide and nested": b"\x92\x80" * (7 * MIB) + b"\xc0",
}


@pytest.mark.parametrize("what", sorted(COSTLY))
def test_costly_bodies_are_found_out_early(what: str) -> None:
    began = time.process_time()
    with pytest.raises((TooMuchError, WireError)):
        scan(COSTLY[what], FRAME_LIMITS)
    assert time.process_time() - began < 1.5


def test_what_people_send_is_within_the_limits() -> None:
    thousand = [{"key": f"k-{n}", "value": {"n": n, "text": "x" * 8000}} for n in range(1000)]
    for value in ("x" * (MAX_FRAME_BYTES - 100), "ü" * (8 * MIB - 100), thousand, [1.5] * 250_000):
        assert isinstance(scan(msgpack.packb({"id": 1, "v": value}), FRAME_LIMITS), Cost)


# --- accounts ------------------------------------------------------------------------------


async def is_waiting(work: asyncio.Task[Any]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return not work.done()


async def test_over_the_own_limit_one_waits_for_oneself() -> None:
    pool = Pool(100 * MIB)
    mine, other = Ration(pool, 10 * MIB), Ration(pool, 10 * MIB)
    await mine.take(8 * MIB)
    more = asyncio.create_task(mine.take(4 * MIB))
    assert await is_waiting(more)
    await asyncio.wait_for(other.take(9 * MIB), 1)
    mine.give(8 * MIB)
    await asyncio.wait_for(more, 1)
    assert mine.held_bytes == 4 * MIB


async def test_small_requests_never_wait_for_others() -> None:
    pool = Pool(10 * MIB)
    greedy, modest = Ration(pool), Ration(pool)
    await greedy.take(10 * MIB + GUARANTEED_BYTES)
    large = asyncio.create_task(modest.take(5 * MIB))
    assert await is_waiting(large)
    await asyncio.wait_for(modest.take(GUARANTEED_BYTES), 1)
    modest.give(GUARANTEED_BYTES)
    greedy.give(10 * MIB + GUARANTEED_BYTES)
    await asyncio.wait_for(large, 1)
    modest.give(5 * MIB)
    assert pool.free_bytes == 10 * MIB


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3 * MIB)), max_size=40))
def test_nothing_is_lost_from_the_pool(steps: list[tuple[int, int]]) -> None:
    async def play() -> None:
        pool = Pool(20 * MIB)
        rations = [Ration(pool) for _ in range(3)]
        held: list[list[int]] = [[], [], []]
        for who, size in steps:
            work = asyncio.create_task(rations[who].take(size))
            if await is_waiting(work):
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                for number, sizes in enumerate(held):
                    while sizes:
                        rations[number].give(sizes.pop())
            else:
                held[who].append(size)
            assert 0 <= pool.free_bytes <= 20 * MIB
        for number, sizes in enumerate(held):
            for size in sizes:
                rations[number].give(size)
        assert pool.free_bytes == 20 * MIB

    asyncio.run(play())


async def test_accounts_go_with_the_last_connection() -> None:
    rations = Rations()
    first = rations.of("a")
    assert rations.of("a") is first
    assert rations.of("b") is not first
    await first.take(5)
    del first
    assert rations.of("a").held_bytes == 0


# --- a connection --------------------------------------------------------------------------


@pytest.fixture
async def link() -> AsyncIterator[tuple[Connection, socket.socket, Ration]]:
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    with ThreadPoolExecutor(1) as decoding:
        connection = Connection(reader, writer, decoding)
        ration = Ration(Pool())
        connection.identify(ration)
        yield connection, peer, ration
        peer.close()
        await connection.close()


Link = tuple[Connection, socket.socket, Ration]


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


async def test_a_peer_that_never_reads_pushes_is_cut_off(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, _, _ = link
    monkeypatch.setattr("taskctl.agent.connection.MAX_UNREAD_BYTES", 1_000_000)
    for number in range(100):
        connection.push({"id": 0, "op": "signal", "text": "x" * 100_000, "n": number})
    assert await connection.receive() is None


async def test_a_peer_that_never_reads_answers_is_cut_off(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many answers one at a time is in the buffer, and counts; then it is over."""
    connection, _, ration = link
    monkeypatch.setattr("taskctl.agent.connection.SEND_S", 0.2)
    answers = [
        asyncio.create_task(connection.send({"id": n, "text": "x" * 3_000_000})) for n in range(20)
    ]
    await asyncio.sleep(0.05)
    assert 3_000_000 <= ration.held_bytes < 3_100_000
    await asyncio.wait_for(asyncio.gather(*answers), 5)
    assert ration.held_bytes == 0
    assert await connection.receive() is None


async def test_what_arrives_counts_and_not_what_is_announced(link: Link) -> None:
    connection, peer, ration = link
    loop = asyncio.get_running_loop()
    receiving = asyncio.create_task(connection.receive())
    await loop.sock_sendall(peer, struct.pack(">I", MAX_FRAME_BYTES) + b"\xdc" + b"x" * 99_999)
    await eventually(lambda: ration.held_bytes > 0)
    await asyncio.sleep(0.05)
    assert ration.held_bytes == 100_000
    peer.close()
    assert await receiving is None
    assert ration.held_bytes == 0


async def test_decoded_counts_until_it_is_released(link: Link) -> None:
    connection, peer, ration = link
    body = msgpack.packb({"id": 1, "op": "x", "value": [{}] * 50_000})
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(peer, frame(body)))
    received = await connection.receive()
    await sending
    assert received is not None
    assert 50_000 * 64 < ration.held_bytes < 50_000 * 100
    connection.release(received)
    connection.release(received)
    assert ration.held_bytes == 0


async def test_a_connection_that_ends_leaves_nothing_behind(link: Link) -> None:
    connection, peer, ration = link
    await asyncio.get_running_loop().sock_sendall(peer, encode({"id": 1, "op": "x"}))
    assert await connection.receive() is not None
    assert ration.held_bytes > 0
    await connection.close()
    assert ration.held_bytes == 0


async def test_costly_request_is_refused_by_its_number(link: Link) -> None:
    connection, peer, ration = link
    body = b"\x83\xa2op\xa1x\xa5value" + array(MIB, b"\x80") + b"\xa2id\x07"
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(peer, frame(body)))
    received = await connection.receive()
    await sending
    assert received is not None
    assert received.message == {"id": 7}
    assert received.refusal is not None
    assert "300000 values" in received.refusal.message
    assert ration.held_bytes == 0


# --- the whole agent -------------------------------------------------------------------------


async def lag_while(work: asyncio.Task[Any]) -> float:
    """Return the longest time in seconds that the loop stood still meanwhile."""
    longest = 0.0
    while not work.done():
        began = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - began)
    return longest


async def test_costly_frames_hold_up_nobody(world: World) -> None:
    _, _, told = await world.running()
    hostile, other = await world.attached(told), await world.attached(told)
    body = b"\x83\xa2id\x09\xa2op\xa6output\xa5value" + array(15 * MIB, b"\x80")

    async def attack() -> None:
        for _ in range(5):
            hostile.writer.write(frame(body))
            await hostile.writer.drain()
            answer = await hostile.receive()
            assert answer is not None
            assert answer["error"] == "too_large"

    attacking = asyncio.create_task(attack())
    assert await lag_while(attacking) < 1.0
    await attacking
    await other.good("info")


async def test_the_costliest_frame_allowed_holds_up_nobody(world: World) -> None:
    _, _, told = await world.running()
    hostile = await world.attached(told)
    value = array(299_000, b"\x80")
    hostile.writer.write(frame(b"\x83\xa2id\x09\xa2op\xa6output\xa5value" + value))
    answering = asyncio.create_task(hostile.receive())
    assert await lag_while(answering) < 1.0
    assert (await answering or {})["ok"]


async def test_requests_of_one_task_are_limited_over_all_connections(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskctl.agent.ration.REQUESTS", 3)
    _, _, told = await world.running()
    peers = [await world.attached(told) for _ in range(3)]
    world.api.down = True
    for number, peer in itertools.product(range(10), peers):
        peer.send("spawn", tasks=[{"key": f"{number} {id(peer)}"}])
    await eventually(lambda: world.api.count("create") == 3)
    await asyncio.sleep(0.1)
    assert world.api.count("create") == 3, "each tries for the first time"


async def test_stalled_frames_hold_up_nobody_else(world: World) -> None:
    """Sixty connections of one task that announce 16 MiB each and send a little of it."""
    _, _, told = await world.running()
    task = world.task("other")
    init, _ = await world.init(world.place(task, nonce="n1"), nonce="n1")
    other = await init.good("next")
    for _ in range(60):
        stalled = await world.attached(told)
        stalled.writer.write(struct.pack(">I", MAX_FRAME_BYTES) + b"\x81" + b"\xa0" * 70_000)
    peer: Peer = await world.attached(other)
    value = {"text": "x" * 200_000}
    await asyncio.wait_for(peer.good("output", value=value), 5)
