"""Clients that ask for much and read nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.attacks.victim import MAPS, MIB, Victim, running

pytestmark = pytest.mark.attack


@pytest.fixture
async def victim() -> AsyncIterator[Victim]:
    async with running() as victim:
        yield victim


async def fill(victim: Victim, count: int = 30, size_bytes: int = 900_000) -> None:
    for number in range(count):
        body = {"metadata": {"name": f"big-{number}"}, "data": {"text": "x" * size_bytes}}
        await victim.made(MAPS, body)


@pytest.mark.parametrize("accept", ["", "as=Table", "as=PartialObjectMetadataList"])
async def test_a_hundred_unread_lists(victim: Victim, accept: str) -> None:
    await fill(victim)
    if accept:
        form = f"application/json;{accept};v=v1;g=meta.k8s.io"
        victim.headers["Accept"] = form
    async with victim.unhindered():
        # With rows that carry whole objects, the table is as large as the list.
        for _ in range(100):
            await victim.connect(f"GET {MAPS}?includeObject=Object")
        await asyncio.sleep(1)


async def test_unread_watches_of_a_busy_collection(victim: Victim) -> None:
    await fill(victim)
    async with victim.unhindered():
        options = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        for _ in range(100):
            await victim.connect(f"GET {MAPS}?watch=1&allowWatchBookmarks=true&{options}")
        for number in range(100):
            patch = {"data": {"text": str(number % 10) * 900_000}}
            status, _ = await victim.send(
                "PATCH", f"{MAPS}/big-{number % 30}", patch, "application/merge-patch+json"
            )
            assert status == 200


async def test_lists_in_yaml(victim: Victim) -> None:
    await fill(victim, 5)
    headers = {"Accept": "application/yaml"}
    async with victim.unhindered(), victim.session.get(MAPS, headers=headers) as answer:
        assert len(await answer.read()) > 4 * MIB


async def test_what_is_read_slowly_is_whole(victim: Victim) -> None:
    await fill(victim, 10)
    reader, _ = await victim.connect(f"GET {MAPS}?limit=500")
    await asyncio.sleep(0.5)
    size = 0
    while chunk := await asyncio.wait_for(reader.read(65536), 5):
        size += len(chunk)
        if chunk.endswith(b"0\r\n\r\n"):
            break
    assert size > 9_000_000
