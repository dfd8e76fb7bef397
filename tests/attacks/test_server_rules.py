"""Rules of a definition that would take for ever, sent by a client that may define kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.attacks.test_server_bodies import FREE, define, free
from tests.attacks.victim import Victim, running

pytestmark = pytest.mark.attack

ITEMS = {"type": "array", "items": {"type": "string"}}
FOUR_LOOPS = "self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b + c + d != ''))))"


@pytest.fixture
async def victim() -> AsyncIterator[Victim]:
    async with running() as victim:
        yield victim


@pytest.mark.parametrize(
    "rule",
    [
        FOUR_LOOPS,
        "self.l.all(a, a.find('(a*)*b') != '')",
        "'%.999999999f'.format([1.5]) == ''",
        "[self.l]" + ".map(a, a + a)" * 40 + " == []",
        "self.l.map(a, self.l.map(b, self.l)).size() == 0",
        "self.l.all(a, self.l.all(b, a.matches(b + '{999}') && false))",
    ],
)
async def test_rules(victim: Victim, rule: str) -> None:
    schema = {
        "type": "object",
        "properties": {"l": ITEMS},
        "x-kubernetes-validations": [{"rule": rule, "message": "no"}],
    }
    await define(victim, schema)
    async with victim.unhindered():
        for _ in range(5):
            status, found = await victim.send("POST", FREE, free("a", {"l": ["a" * 30] * 2000}))
            assert status == 422, found
