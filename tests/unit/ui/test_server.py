"""The page's server, asked over HTTP by friends and by strangers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from taskctl.testing.builders import EPOCH, task
from taskctl.ui import server
from taskctl.ui.earlier import whole_trees
from taskctl.ui.guard import CSRF_HEADER
from taskctl.ui.model import row_of
from tests.browser.served import Served, gone, served


@pytest.fixture
async def page() -> AsyncIterator[Served]:
    async with served([task("a").build()], write=True) as page:
        yield page


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


def base(page: Served) -> str:
    return page.url.partition("/#")[0]


def cookie(page: Served) -> dict[str, str]:
    return {"Cookie": f"{page.guard.cookie_name}={page.guard.session}"}


def own(page: Served) -> dict[str, str]:
    """What our own page sends with a change."""
    return {**cookie(page), "Origin": base(page), CSRF_HEADER: page.guard.csrf}


async def ask(
    http: aiohttp.ClientSession, method: str, url: str, **options: Any
) -> tuple[int, Any]:
    async with http.request(method, url, **options) as answer:
        try:
            return answer.status, await answer.json()
        except aiohttp.ContentTypeError:
            return answer.status, await answer.text()


async def test_the_token_opens_a_session(page: Served, http: aiohttp.ClientSession) -> None:
    url, headers = f"{base(page)}/api/session", {"Origin": base(page)}
    async with http.post(url, json={"token": "the-token"}, headers=headers) as answer:
        assert answer.status == 200
        assert (await answer.json())["csrf"] == page.guard.csrf
        said = answer.headers["Set-Cookie"]
        assert "HttpOnly" in said
        assert "SameSite=Strict" in said
        assert "the-token" not in said
        assert "Secure" not in said, "the loopback address has no TLS"
    for body in ({"token": "x"}, {"token": None}, {}, {"token": ["the-token"]}):
        status, _ = await ask(http, "POST", url, json=body, headers=headers)
        assert status == 401
    no_objects: list[Any] = [[], "x", 1]
    for value in no_objects:
        status, _ = await ask(http, "POST", url, json=value, headers=headers)
        assert status == 400
    status, _ = await ask(http, "POST", url, json={}, headers={**headers, **cookie(page)})
    assert status == 200


@pytest.mark.parametrize("path", ["/api/events", "/api/task?uid=uid-a", "/api/log?uid=uid-a"])
async def test_nothing_is_told_without_a_session(
    page: Served, http: aiohttp.ClientSession, path: str
) -> None:
    for headers in ({}, {"Cookie": f"{page.guard.cookie_name}=the-token"}):
        status, body = await ask(http, "GET", base(page) + path, headers=headers)
        assert status == 401
        assert "taskctl printed" in body["error"]
    wrong = [{"Host": "evil.example"}, {"Host": f"evil.example:{page.guard.port}"}]
    for headers in wrong:
        status, _ = await ask(http, "GET", base(page) + path, headers=cookie(page) | headers)
        assert status == 421
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        status, _ = await ask(http, "GET", base(page) + path, headers=cookie(page) | headers)
        assert status == 403


async def test_a_change_needs_all_of_it(page: Served, http: aiohttp.ClientSession) -> None:
    url, right = f"{base(page)}/api/cancel", own(page)
    body = {"uid": "uid-a"}
    for missing in right:
        headers = {name: value for name, value in right.items() if name != missing}
        status, _ = await ask(http, "POST", url, json=body, headers=headers)
        assert status in (401, 403), missing
    status, _ = await ask(http, "POST", url, data="uid=uid-a", headers=right)
    assert status == 415
    status, _ = await ask(http, "GET", url, headers=right)
    assert status == 405
    status, _ = await ask(http, "POST", url, json={"uid": "uid-other"}, headers=right)
    assert status == 404
    assert page.ops.done == []
    status, _ = await ask(http, "POST", url, json=body, headers=right)
    assert status == 200
    assert page.ops.done == [("cancel", "a")]


async def test_a_page_that_only_looks_changes_nothing(http: aiohttp.ClientSession) -> None:
    async with served([task("a").build()]) as page:
        for verb in ("cancel", "retry"):
            url = f"{base(page)}/api/{verb}"
            status, body = await ask(http, "POST", url, json={"uid": "uid-a"}, headers=own(page))
            assert status == 403
            assert "--write" in body["error"]
        assert page.ops.done == []


async def test_every_answer_carries_the_policy(page: Served, http: aiohttp.ClientSession) -> None:
    for path in ("/", "/static/app.js", "/static/none.js", "/api/task", "/nowhere"):
        async with http.get(base(page) + path) as answer:
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"], path
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with http.get(f"{base(page)}/api/events", headers=cookie(page)) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "name", ["..%2fserver.py", "%2e%2e/server.py", "..%5cserver.py", "page.py", "", "%00", "x/y.js"]
)
async def test_only_the_page_s_files_are_served(
    page: Served, http: aiohttp.ClientSession, name: str
) -> None:
    from yarl import URL

    url = URL(f"{base(page)}/static/{name}", encoded=True)
    async with http.get(url) as answer:
        assert answer.status in (400, 404)


async def test_the_stream_begins_with_everything(page: Served, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{base(page)}/api/events", headers=cookie(page)) as answer:
        assert answer.content_type == "text/event-stream"
        seen = b""
        while b"event: synced" not in seen:
            seen += await asyncio.wait_for(answer.content.readany(), 10)
        assert seen.index(b"event: reset") < seen.index(b"event: rows") < seen.index(b"synced")
        assert b'"uid":"uid-a"' in seen
        page.rows.tasks.remove("uid-a")
        while b'event: gone\ndata: ["uid-a"]' not in seen:
            seen += await asyncio.wait_for(answer.content.readany(), 10)


async def test_streams_are_few(
    page: Served, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MAX_STREAMS", 2)
    url = f"{base(page)}/api/events"
    async with http.get(url, headers=cookie(page)), http.get(url, headers=cookie(page)):
        status, body = await ask(http, "GET", url, headers=cookie(page))
        assert status == 503
        assert "close some" in body["error"]


async def test_bodies_are_small_and_lookups_end(
    page: Served, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"uid": "x" * 100_000}
    status, _ = await ask(http, "POST", f"{base(page)}/api/retry", json=body, headers=own(page))
    assert status == 413
    monkeypatch.setattr(server, "_LOOKUP_TIMEOUT_S", 0.05)

    async def never(ref: Any) -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    monkeypatch.setattr(page.ops, "get", never)
    status, said = await ask(http, "GET", f"{base(page)}/api/task?uid=uid-a", headers=cookie(page))
    assert status == 504
    assert "in time" in said["error"]


async def test_a_log_is_shown_without_what_a_terminal_would_do(
    page: Served, http: aiohttp.ClientSession
) -> None:
    url = f"{base(page)}/api/log?uid=uid-a"
    status, body = await ask(http, "GET", url, headers=cookie(page))
    assert (status, body) == (404, {"error": "a has no log"})
    page.ops.logs["uid-a"] = (
        b"\x1b[1;31mred\x1b[0m\r\n 10 %\r 50 %\r100 %\n\xff\x00\x1b]0;t\x07end\n"
    )
    status, body = await ask(http, "GET", url, headers=cookie(page))
    assert body["text"] == "red\n100 %\n\ufffd\\x00end\n"
    status, body = await ask(http, "GET", f"{url}&attempt=x", headers=cookie(page))
    assert status == 400


async def test_what_is_gone_is_read_once_for_all(page: Served, http: aiohttp.ClientSession) -> None:
    url = f"{base(page)}/api/earlier"
    page.put_gone([gone(task("old").build(), EPOCH)])
    assert (await ask(http, "GET", url))[0] == 401
    answers = await asyncio.gather(
        *(ask(http, "GET", url, headers=cookie(page)) for _ in range(20))
    )
    assert {status for status, _ in answers} == {200}
    assert page.history.reads == 1
    (row,) = answers[0][1]["rows"]
    assert (row["name"], row["gone"]) == ("old", EPOCH.timestamp() * 1000)
    # Its panel and its log are answered like those of what exists.
    page.ops.logs["uid-old"] = b"said\n"
    status, log = await ask(http, "GET", f"{base(page)}/api/log?uid=uid-old", headers=cookie(page))
    assert (status, log["text"]) == (200, "said\n")


async def test_a_browser_that_goes_away_does_not_end_the_reading(
    page: Served, http: aiohttp.ClientSession
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    newest = page.history.newest

    async def slow(limit: int) -> Any:
        begun.set()
        await go.wait()
        return await newest(limit)

    page.history.newest = slow  # type: ignore[method-assign]
    url = f"{base(page)}/api/earlier"
    first = asyncio.create_task(ask(http, "GET", url, headers=cookie(page)))
    await begun.wait()
    first.cancel()
    second = asyncio.create_task(ask(http, "GET", url, headers=cookie(page)))
    await asyncio.sleep(0)
    go.set()
    assert (await second)[0] == 200
    assert page.history.reads == 1


def test_a_tree_that_may_be_cut_is_left_out() -> None:
    root, old = task("root").build(), task("old").build()
    rows = [row_of(one) for one in (task("kid").child_of(root).build(), root, old)]
    assert whole_trees(rows, more=False) == rows
    assert whole_trees(rows, more=True) == rows[:2]
    assert whole_trees(rows[:2], more=True) == rows[:2]
