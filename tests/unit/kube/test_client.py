"""The client against a server that misbehaves."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
import pytest
from aiohttp import web

from taskctl.api.resources import TASKS
from taskctl.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Throttled,
    Unauthorized,
    Unavailable,
)
from taskctl.kube.client import KubeClient
from taskctl.kube.interface import (
    DeleteOptions,
    EventType,
    ListOptions,
    ListPage,
    LogOptions,
    PatchOptions,
    PatchType,
    Propagation,
    WatchOptions,
)
from taskctl.kube.paging import LARGE_PAGES, next_limit
from taskctl.kube.resources import PODS
from tests.unit.kube.fakes import (
    FakeTime,
    bookmark,
    client_of,
    drop,
    event,
    fake_server,
    refuse,
    respond,
    status_object,
    stream,
    task,
    task_list,
)


async def test_get_sends_path_token_and_agent() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [respond(200, task("a", 5))]
        obj = await client.get(TASKS, "a", "default")
    assert obj == task("a", 5)
    seen = server.seen[0]
    assert seen.path == "/apis/taskctl.dev/v1alpha1/namespaces/default/tasks/a"
    assert seen.headers["Authorization"] == "Bearer secret-1"
    assert seen.headers["User-Agent"].startswith("taskctl/")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", BadRequest),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (405, "MethodNotAllowed", BadRequest),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Expired", Gone),
        (413, "RequestEntityTooLarge", BadRequest),
        (415, "UnsupportedMediaType", BadRequest),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", Throttled),
        (500, "InternalError", Unavailable),
        (503, "ServiceUnavailable", Unavailable),
        (504, "Timeout", Unavailable),
    ],
)
async def test_status_becomes_error(code: int, reason: str, kind: type[ApiError]) -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [refuse(code, reason, "said the server")]
        with pytest.raises(kind) as caught:
            await client.create(TASKS, task("a", 0), "default")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason) == (code, reason)
    assert str(caught.value) == "said the server"


async def test_invalid_carries_field_causes() -> None:
    causes = [{"field": "spec.image", "reason": "FieldValueRequired", "message": "Required value"}]
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [refuse(422, "Invalid", causes=causes)]
        with pytest.raises(Invalid) as caught:
            await client.create(TASKS, task("a", 0))
    (cause,) = caught.value.causes
    assert (cause.field, cause.reason) == ("spec.image", "FieldValueRequired")


async def test_foreign_error_pages_are_not_quoted() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [respond(403, b"<html>proxy says secret things</html>" * 100_000)]
        with pytest.raises(Forbidden) as caught:
            await client.get(TASKS, "a", "default")
    assert "secret things" not in str(caught.value)
    assert "HTTP 403 without a Status" in str(caught.value)


async def test_redirect_is_refused_and_not_followed() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [respond(302, b"", Location="/elsewhere")]
        with pytest.raises(BadRequest, match="check that the address"):
            await client.get(TASKS, "a", "default")
    assert len(server.seen) == 1


async def test_answer_that_is_not_json() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [respond(200, b"<html>")]
        with pytest.raises(Unavailable, match="not JSON"):
            await client.get(TASKS, "a", "default")


async def test_reads_are_repeated_after_passing_faults() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [refuse(503, "ServiceUnavailable"), drop(), respond(200, task("a", 5))]
        assert (await client.get(TASKS, "a", "default"))["metadata"]["name"] == "a"
    assert len(server.seen) >= 3


async def test_create_is_not_repeated_when_its_outcome_is_unknown() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [refuse(503, "ServiceUnavailable"), respond(201, task("a", 5))]
        with pytest.raises(Unavailable):
            await client.create(TASKS, task("a", 0), "default")
    assert len(server.seen) == 1


async def test_patch_is_repeated_on_the_callers_word_only() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [refuse(503, "ServiceUnavailable"), respond(200, task("a", 5))]
        with pytest.raises(Unavailable):
            await client.patch(TASKS, "a", "default", {})
        server.script = [refuse(503, "ServiceUnavailable"), respond(200, task("a", 5))]
        await client.patch(TASKS, "a", "default", {}, options=PatchOptions(idempotent=True))
    assert len(server.seen) == 3


async def test_throttled_write_waits_as_long_as_asked_and_is_repeated() -> None:
    time = FakeTime(auto=True)
    async with fake_server() as server, client_of(server.url, timing=time.timing) as client:
        too_many = respond(429, status_object(429, "TooManyRequests"), Retry_After="3")
        server.script = [too_many, respond(201, task("a", 5))]
        await client.create(TASKS, task("a", 0), "default")
    assert time.slept[0] == 3.0
    assert sum(time.slept) < 3.1
    assert server.bodies[0] == server.bodies[1] == orjson.dumps(task("a", 0))


async def test_throttling_of_one_request_slows_all_of_them() -> None:
    time = FakeTime(auto=True)
    async with (
        fake_server() as server,
        client_of(server.url, timing=time.timing, qps=10.0) as client,
    ):
        server.script = [
            respond(429, status_object(429, "TooManyRequests"), Retry_After="7"),
            respond(200, task("a", 5)),
        ]
        begun_s = time.now_s
        with pytest.raises(Throttled):
            await client.request("GET", "/slow", timeout_s=5.0)
        assert time.now_s == begun_s, "too long for that one; it does not wait"
        await client.get(TASKS, "a", "default")
        assert time.now_s == pytest.approx(begun_s + 7.1)
        await client.get(TASKS, "a", "default")
        assert time.now_s == pytest.approx(begun_s + 7.2), "at the rate, not in a burst"


async def test_a_lease_does_not_wait_behind_a_flood() -> None:
    """Neither for the rate limit nor for a connection."""
    time = FakeTime(auto=True)
    async with (
        fake_server() as server,
        client_of(server.url, timing=time.timing, qps=1.0, burst=200) as client,
    ):
        release = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            if request.path.endswith("/slow"):
                await release.wait()
            if "watch" in request.query:
                return await stream()(request)
            return await respond(200, task("a", 5))(request)

        server.script = [answer]
        flood = [asyncio.create_task(client.get(TASKS, "slow", "default")) for _ in range(100)]
        while len(server.seen) < 64:
            await asyncio.sleep(0.01)
        client._bucket.pause(1000.0)
        begun_s = time.now_s
        async with asyncio.timeout(5):
            assert (await client.urgent().get(TASKS, "a", "default"))["metadata"]["name"] == "a"
            assert await collect(client) == []
        assert time.now_s == begun_s
        release.set()
        await asyncio.gather(*flood)


async def test_repetition_ends_at_the_deadline() -> None:
    time = FakeTime(auto=True)
    async with (
        fake_server() as server,
        client_of(server.url, timing=time.timing, timeout_s=5.0) as client,
    ):
        server.script = [respond(429, status_object(429, "TooManyRequests"), Retry_After="20")]
        with pytest.raises(Throttled) as caught:
            await client.get(TASKS, "a", "default")
    assert caught.value.retry_after_s == 20
    assert time.slept == []


async def test_slow_body_runs_into_the_deadline() -> None:
    async with fake_server() as server, client_of(server.url, timeout_s=0.15) as client:
        server.script = [stream(b'{"kind":', hang=True)]
        with pytest.raises(Unavailable, match="no answer from"):
            await client.create(TASKS, task("a", 0), "default")


async def test_refused_connection_names_server_and_remedy(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with client_of(url) as client:
        with pytest.raises(Unavailable) as caught:
            await client.create(TASKS, task("a", 0), "default")
    assert url in str(caught.value)
    assert "taskctl local" in str(caught.value)
    assert "the test" in str(caught.value)


async def test_401_renews_the_credentials_once() -> None:
    class Renewable:
        def __init__(self) -> None:
            self.token = "old"
            self.refused: list[str | None] = []

        async def authorization(self) -> str | None:
            return f"Bearer {self.token}"

        async def refresh(self, refused: str | None) -> bool:
            self.refused.append(refused)
            self.token = "new"
            return True

    credentials = Renewable()
    async with (
        fake_server() as server,
        client_of(server.url, credentials=credentials) as client,
    ):
        server.script = [refuse(401, "Unauthorized"), respond(201, task("a", 5))]
        await client.create(TASKS, task("a", 0), "default")
        server.script = [refuse(401, "Unauthorized")]
        with pytest.raises(Unauthorized):
            await client.get(TASKS, "a", "default")
        server.script = [refuse(401, "Unauthorized"), stream(event("ADDED", task("a", 5)))]
        events = [found async for found in client.watch(TASKS)]
    assert credentials.refused[0] == "Bearer old"
    assert server.seen[1].headers["Authorization"] == "Bearer new"
    assert len(server.seen) == 6
    assert len(events) == 1


async def test_tokens_stay_out_of_logs_and_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [refuse(503, "ServiceUnavailable")]
        with pytest.raises(Unavailable) as caught:
            await client.get(TASKS, "a", "default")
    assert "secret-1" not in caplog.text
    assert "secret-1" not in repr(caught.value)


async def test_own_rate_limit_keeps_requests_apart() -> None:
    time = FakeTime(auto=True)
    async with (
        fake_server() as server,
        client_of(server.url, timing=time.timing, qps=10, burst=2) as client,
    ):
        server.script = [respond(200, task("a", 5))]
        for _ in range(5):
            await client.get(TASKS, "a", "default")
    assert time.slept == pytest.approx([0.1, 0.1, 0.1])


async def test_own_rate_limit_gives_up_at_the_deadline() -> None:
    async with (
        fake_server() as server,
        client_of(server.url, qps=0.01, burst=1, timeout_s=5) as client,
    ):
        server.script = [respond(200, task("a", 5))]
        await client.get(TASKS, "a", "default")
        with pytest.raises(Throttled, match="our own limit"):
            await client.get(TASKS, "a", "default")
    assert len(server.seen) == 1


async def test_observer_counts_attempts() -> None:
    counted: list[tuple[str, str, int]] = []

    def observe(*, verb: str, resource: str, code: int, duration_s: float) -> None:
        counted.append((verb, resource, code))

    async with fake_server() as server, client_of(server.url, observer=observe) as client:
        server.script = [refuse(503, "ServiceUnavailable"), respond(200, task("a", 5))]
        await client.get(TASKS, "a", "default")
        server.script = [stream(event("ADDED", task("a", 5)))]
        async for _ in client.watch(TASKS):
            pass
    assert counted == [("get", "tasks", 503), ("get", "tasks", 200), ("watch", "tasks", 200)]


# --- writes ---------------------------------------------------------------------------------


async def test_write_requests_as_the_api_expects_them() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [respond(200, task("a", 5))]
        await client.create(TASKS, task("a", 0), dry_run=True)
        await client.replace(TASKS, task("a", 3), subresource="status")
        await client.patch_status(TASKS, "a", "default", {"status": {"state": "Running"}})
        await client.patch(
            TASKS,
            "a",
            "default",
            {"spec": {}},
            options=PatchOptions(type=PatchType.APPLY, field_manager="taskctl", force=True),
        )
        await client.delete(
            PODS,
            "w-1",
            "default",
            options=DeleteOptions(uid="u", grace_s=0, propagation=Propagation.FOREGROUND),
        )
    base = "/apis/taskctl.dev/v1alpha1/namespaces/default/tasks"
    lines = [(seen.method, str(seen.rel_url), seen.content_type) for seen in server.seen]
    assert lines == [
        ("POST", f"{base}?dryRun=All", "application/json"),
        ("PUT", f"{base}/a/status", "application/json"),
        ("PATCH", f"{base}/a/status", "application/merge-patch+json"),
        ("PATCH", f"{base}/a?fieldManager=taskctl&force=true", "application/apply-patch+yaml"),
        ("DELETE", "/api/v1/namespaces/default/pods/w-1", "application/json"),
    ]
    assert orjson.loads(server.bodies[4]) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u"},
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground",
    }


async def test_raw_request() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [respond(200, {"gitVersion": "v1.34.0"})]
        body = await client.request("get", "/version", query={"a": "b c"})
    assert orjson.loads(body)["gitVersion"] == "v1.34.0"
    assert str(server.seen[0].rel_url) == "/version?a=b+c"


# --- lists ----------------------------------------------------------------------------------


async def test_list_fills_in_kind_and_passes_options() -> None:
    bare = {"metadata": {"name": "p", "namespace": "default"}}
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [respond(200, {"metadata": {"resourceVersion": "7"}, "items": [bare]})]
        page = await client.list(
            PODS, options=ListOptions(label_selector="a=b", limit=5, metadata_only=True)
        )
    assert page.resource_version == "7"
    assert page.items[0]["kind"] == "Pod"
    assert page.items[0]["apiVersion"] == "v1"
    assert str(server.seen[0].rel_url) == "/api/v1/pods?labelSelector=a%3Db&limit=5"
    assert "as=PartialObjectMetadataList" in server.seen[0].headers["Accept"]


async def test_list_all_pages_through() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [
            respond(200, task_list(9, task("a", 1), token="next")),
            respond(200, task_list(9, task("b", 2))),
        ]
        page = await client.list_all(TASKS, "default")
    assert [item["metadata"]["name"] for item in page.items] == ["a", "b"]
    assert page.resource_version == "9"
    assert dict(server.seen[0].query) == {"limit": "500"}
    assert server.seen[1].query["continue"] == "next"


async def test_list_all_starts_over_when_a_page_has_expired() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [
            respond(200, task_list(9, task("a", 1), token="next")),
            refuse(410, "Expired"),
            respond(200, task_list(12, task("b", 2), task("c", 3))),
        ]
        page = await client.list_all(TASKS, "default")
    assert [item["metadata"]["name"] for item in page.items] == ["b", "c"]
    assert page.resource_version == "12"
    assert dict(server.seen[2].query) == {}


async def test_pages_shrink_when_objects_are_large() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        heavy = [task(f"t{n}", n, spec={"x": "y" * 20_000}) for n in range(100)]
        server.script = [respond(200, task_list(9, *heavy, token="t"))]
        page = await client.list(TASKS)
    assert next_limit(page, 500) == pytest.approx(1024 * 1024 / 20_300, rel=0.05)


@pytest.mark.parametrize(
    ("bytes_each", "small", "large"),
    [(1_600, 500, 5_242), (100, 500, 10_000), (200_000, 20, 41), (10_000_000, 20, 20)],
)
def test_the_size_of_pages(bytes_each: int, small: int, large: int) -> None:
    page = ListPage([{}] * 10, "9", "t", bytes_each * 10)
    assert (next_limit(page, 500), next_limit(page, 500, LARGE_PAGES)) == (small, large)


@pytest.mark.parametrize(
    ("took_s", "limit"), [(0.0, 5_242), (0.2, 5_242), (1.0, 1_500), (2.0, 750), (60.0, 655)]
)
def test_pages_over_a_slow_line_stay_small(took_s: float, limit: int) -> None:
    page = ListPage([{}] * 500, "9", "t", 1_600 * 500)
    assert next_limit(page, 500, LARGE_PAGES, took_s) == limit


async def test_a_command_reads_a_long_list_in_few_requests() -> None:
    async with fake_server() as server, client_of(server.url, pages=LARGE_PAGES) as client:
        server.script = [
            respond(200, task_list(9, *[task(f"a{n}", n) for n in range(500)], token="next")),
            respond(200, task_list(9, task("b", 2))),
        ]
        await client.list_all(TASKS, "default")
    assert [seen.query["limit"] for seen in server.seen] == ["500", "10000"]


# --- watches --------------------------------------------------------------------------------


async def collect(client: KubeClient, **options: Any) -> list[tuple[EventType, str]]:
    events = client.watch(TASKS, options=WatchOptions(**options))
    return [(seen.type, seen.object["metadata"]["resourceVersion"]) async for seen in events]


async def test_watch_puts_lines_together_from_chunks() -> None:
    raw = event("ADDED", task("a", 5)) + event("BOOKMARK", bookmark(8)) + b"\n"
    raw += event("DELETED", task("a", 9))
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [stream(raw[:10], raw[10:150], raw[150:])]
        found = await collect(client, resource_version="4", timeout_s=100)
    assert found == [
        (EventType.ADDED, "5"),
        (EventType.BOOKMARK, "8"),
        (EventType.DELETED, "9"),
    ]
    assert dict(server.seen[0].query) == {
        "watch": "1",
        "timeoutSeconds": "100",
        "resourceVersion": "4",
        "allowWatchBookmarks": "true",
    }


async def test_watch_takes_a_random_timeout() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [stream()]
        await collect(client)
    assert server.seen[0].query["timeoutSeconds"] == "450"


async def test_watch_line_of_several_megabytes() -> None:
    heavy = task("a", 5, spec={"x": "y" * 3_000_000})
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [stream(event("ADDED", heavy))]
        assert await collect(client) == [(EventType.ADDED, "5")]


async def test_watch_gone_as_answer_and_as_event() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [refuse(410, "Expired")]
        with pytest.raises(Gone):
            await collect(client)
        server.script = [stream(event("ERROR", status_object(410, "Expired")))]
        with pytest.raises(Gone):
            await collect(client)


async def test_watch_cut_in_the_middle_of_a_line() -> None:
    raw = event("ADDED", task("a", 5))
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [stream(raw[:40])]
        with pytest.raises(Unavailable, match="middle of an event"):
            await collect(client)
        server.script = [stream(raw, raw[:40], cut=True)]
        with pytest.raises(Unavailable, match="broke"):
            await collect(client)


async def test_watch_with_garbage() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        for garbage in (b"<html>\n", b'{"type":"ADDED"}\n', b'{"type":"X","object":{}}\n'):
            server.script = [stream(garbage)]
            with pytest.raises(Unavailable, match="not an event"):
                await collect(client)


async def test_watch_that_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskctl.kube.client.INACTIVITY_LIMIT_S", 0.1)
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [stream(event("ADDED", task("a", 5)), hang=True)]
        with pytest.raises(Unavailable, match="silent"):
            await collect(client)


async def test_open_watches_do_not_hold_up_requests() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        hanging = stream(event("ADDED", task("a", 5)), hang=True)

        async def answer(request: web.Request) -> web.StreamResponse:
            if "watch" in request.query:
                return await hanging(request)
            return await respond(200, task("a", 5))(request)

        server.script = [answer]
        watches = [asyncio.create_task(collect(client)) for _ in range(80)]
        await asyncio.sleep(0)
        assert (await client.get(TASKS, "a", "default"))["metadata"]["name"] == "a"
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def test_log_stream() -> None:
    async with fake_server() as server, client_of(server.url) as client:
        server.script = [stream(b"one\n", b"two\n")]
        options = LogOptions(follow=True, tail_lines=0, since_s=5)
        chunks = [part async for part in client.stream_log("p", "default", "t-1", options=options)]
        server.script = [refuse(400, "BadRequest", "container t-1 is waiting to start")]
        with pytest.raises(BadRequest, match="waiting to start"):
            async for _ in client.stream_log("p", "default", "t-1"):
                pass
    assert b"".join(chunks) == b"one\ntwo\n"
    assert dict(server.seen[0].query) == {
        "container": "t-1",
        "follow": "true",
        "tailLines": "0",
        "sinceSeconds": "5",
    }
