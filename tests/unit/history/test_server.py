"""The history over HTTP: who may ask, for what, and whether an answer is whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from taskctl.controllers.recordermetrics import RecorderMetrics
from taskctl.errors import ConfigError
from taskctl.history import server
from taskctl.history.asking import PATH, TOKEN_HEADER, End, Question, parse_end, parse_question
from taskctl.history.reading import Wanted, matching_lines
from taskctl.history.server import HistoryServer
from tests.unit.history.test_reading import BELOW, record

TOKEN = "0123456789abcdef" * 2
OWN = {TOKEN_HEADER: TOKEN}
Http = aiohttp.ClientSession


@pytest.fixture
async def metrics() -> RecorderMetrics:
    return RecorderMetrics()


@pytest.fixture
async def url(tmp_path: Path, metrics: RecorderMetrics) -> AsyncIterator[str]:
    one = HistoryServer(tmp_path, BELOW, TOKEN, metrics.on_request)
    await one.start("127.0.0.1", 0)
    yield f"http://127.0.0.1:{one.port}{PATH}"
    await one.stop()


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(http: Http, url: str, **query: str) -> tuple[list[bytes], End | None]:
    async with http.get(url, headers=OWN, params=query) as answer:
        assert answer.status == 200, await answer.text()
        *lines, last = (await answer.read()).splitlines()
        return lines, parse_end(last)


def counted(metrics: RecorderMetrics, outcome: str) -> float:
    line = f'taskctl_history_requests_total{{outcome="{outcome}"}} '
    (found,) = [one for one in metrics.render().decode().splitlines() if one.startswith(line)]
    return float(found.removeprefix(line))


async def test_lines_come_as_they_stand_there(tmp_path: Path, url: str, http: Http) -> None:
    assert await ask(http, url) == ([], End())  # nothing has happened yet
    record(tmp_path, "a", "b")
    stored = (tmp_path / BELOW / "tasks-00000001.jsonl").read_bytes().splitlines()
    assert await ask(http, url) == (stored, End())
    assert await ask(http, url, name="b", gone="true") == (stored[3:], End())
    assert await ask(http, url, gone="true", newest="1") == (stored[3:], End(more=True))
    assert await ask(http, url, gone="true", newest="2") == ([stored[3], stored[1]], End())
    assert await ask(http, url, name="ghost") == ([], End())


@pytest.mark.parametrize(
    "headers",
    [{}, {TOKEN_HEADER: ""}, {TOKEN_HEADER: TOKEN + "x"}, {"Authorization": f"Bearer {TOKEN}"}],
)
async def test_nothing_without_the_token(
    url: str, http: Http, headers: dict[str, str], metrics: RecorderMetrics
) -> None:
    async with http.get(url, headers=headers) as answer:
        assert answer.status == 401
        assert TOKEN_HEADER in await answer.text()
    assert counted(metrics, "refused") == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
async def test_nothing_can_be_changed(url: str, http: Http, method: str) -> None:
    async with http.request(method, url, headers=OWN) as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("colour=red", "colour"),
        ("name=", "name"),
        ("name=" + "x" * 254, "name"),
        ("uid=a%00b", "uid"),
        ("namespace=a%22b", "namespace"),
        ("gone=yes", "gone"),
        ("newest=5", "newest"),
        ("gone=true&newest=0", "newest"),
        ("gone=true&newest=10001", "newest"),
        ("gone=true&newest=" + "9" * 100, "newest"),
        ("name=a&name=b", "twice"),
    ],
)
async def test_what_cannot_be_asked_is_named(
    url: str, http: Http, query: str, field: str, metrics: RecorderMetrics
) -> None:
    async with http.get(f"{url}?{query}", headers=OWN) as answer:
        assert answer.status == 400
        assert field in await answer.text()
    assert counted(metrics, "bad") == 1


async def test_few_read_at_once(
    tmp_path: Path, url: str, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, "a")
    monkeypatch.setattr(server, "MAX_AT_ONCE", 0)
    async with http.get(url, headers=OWN) as answer:
        assert answer.status == 503
    monkeypatch.setattr(server, "MAX_AT_ONCE", 1)
    for _ in range(3):  # one after the other
        assert len((await ask(http, url))[0]) == 2


async def test_an_answer_that_broke_off_says_so(
    tmp_path: Path, url: str, http: Http, monkeypatch: pytest.MonkeyPatch, metrics: RecorderMetrics
) -> None:
    record(tmp_path, "a", "b")
    real = matching_lines

    def breaks(*args: Any) -> Any:
        yield from list(real(*args))[:2]
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(server, "matching_lines", breaks)
    monkeypatch.setattr(server, "_PIECE_BYTES", 1)
    lines, end = await ask(http, url)
    assert len(lines) == 2
    assert end is not None
    assert "Input/output error" in end.problem
    assert counted(metrics, "failed") == 1


async def test_an_answer_has_a_deadline(
    tmp_path: Path, url: str, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, "a")
    monkeypatch.setattr(server, "ANSWER_S", 0.0)
    async with asyncio.timeout(60):
        _, end = await ask(http, url)
    assert end is not None
    assert end.problem


@pytest.mark.parametrize(
    "question",
    [
        Question(Wanted()),
        Question(Wanted(namespace="n", name="a", root_uid="r", uid="u", gone=True), 10),
    ],
)
def test_a_question_survives_the_way(question: Question) -> None:
    assert parse_question(question.query()) == question


def test_a_line_of_a_task_is_no_end() -> None:
    assert parse_end(End(more=True, problem="x").encode()) == End(more=True, problem="x")
    for line in (b"", b'{"end":', b'{"end":1}', b'{"end":{}}', b'{"kind":"Task"}'):
        assert parse_end(line) is None
    with pytest.raises(ConfigError):
        parse_question({"end": "x"})
