"""The client's pure parts."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.resources import TASKS
from taskctl.errors import ApiError, ConfigError, Conflict, Gone, Throttled, Unavailable
from taskctl.kube.interface import ListOptions, PatchOptions, PatchType, WatchOptions
from taskctl.kube.ratelimit import TokenBucket
from taskctl.kube.requests import (
    Request,
    Verb,
    create_request,
    list_request,
    patch_request,
    replace_request,
    watch_request,
)
from taskctl.kube.resources import CRDS, NODES, PODS
from taskctl.kube.responses import error_from_status, is_resource_version_too_large
from taskctl.kube.retry import RetryPolicy
from taskctl.kube.timing import REFLECTOR_BACKOFF, Pauses
from taskctl.kube.watch import LineBuffer
from tests.unit.kube.fakes import FakeTime, settle


def test_paths() -> None:
    assert PODS.path("ns", "p", "ephemeralcontainers") == (
        "/api/v1/namespaces/ns/pods/p/ephemeralcontainers"
    )
    assert TASKS.path(None) == "/apis/taskctl.dev/v1alpha1/tasks"
    assert NODES.path(None, "n/../x") == "/api/v1/nodes/n%2F..%2Fx"
    assert CRDS.api_version == "apiextensions.k8s.io/v1"
    assert PODS.api_version == "v1"


@pytest.mark.parametrize(
    ("namespace", "name", "subresource"),
    [("ns", "", None), ("", "p", None), (None, "p", None), ("ns", None, "status")],
)
def test_paths_that_would_address_something_else(
    namespace: str | None, name: str | None, subresource: str | None
) -> None:
    with pytest.raises(ConfigError):
        PODS.path(namespace, name, subresource)


def test_cluster_kinds_ignore_the_namespace() -> None:
    assert list_request(NODES, "ns", ListOptions()).path == "/api/v1/nodes"


def test_list_leaves_the_version_out_beside_a_continue_token() -> None:
    options = ListOptions(resource_version="5", continue_token="t")
    assert list_request(TASKS, None, options).query == "continue=t"


def test_streamed_list_request() -> None:
    request = watch_request(TASKS, None, WatchOptions(send_initial_events=True), 60)
    assert request.query == (
        "watch=1&timeoutSeconds=60&allowWatchBookmarks=true&sendInitialEvents=true"
        "&resourceVersionMatch=NotOlderThan"
    )


def test_bodies_that_cannot_be_sent() -> None:
    with pytest.raises(ConfigError, match="not JSON"):
        create_request(TASKS, {"metadata": {"namespace": "d"}, "x": {1, 2}}, None, dry_run=False)
    with pytest.raises(ConfigError, match="metadata is missing"):
        create_request(TASKS, {}, None, dry_run=False)
    with pytest.raises(ConfigError, match="name the namespace"):
        create_request(TASKS, {"metadata": {"name": "x"}}, None, dry_run=False)
    with pytest.raises(ConfigError, match=r"metadata\.name is missing"):
        replace_request(TASKS, {"metadata": {"namespace": "d"}}, None)
    with pytest.raises(ConfigError, match="field_manager"):
        patch_request(TASKS, "a", "d", {}, PatchOptions(type=PatchType.APPLY))
    with pytest.raises(ConfigError, match="force"):
        patch_request(TASKS, "a", "d", {}, PatchOptions(force=True))
    with pytest.raises(ConfigError, match="limit"):
        list_request(TASKS, None, ListOptions(limit=-1))


def test_expired_with_an_odd_code_is_gone() -> None:
    assert isinstance(error_from_status({"code": 400, "reason": "Expired"}), Gone)
    assert isinstance(error_from_status({"code": 409, "reason": "Conflict"}), Conflict)


def test_too_large_resource_version() -> None:
    status = {
        "code": 504,
        "reason": "Timeout",
        "details": {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large"}],
            "retryAfterSeconds": 1,
        },
    }
    error = error_from_status(status)
    assert is_resource_version_too_large(error)
    assert error.retry_after_s == 1
    assert not is_resource_version_too_large(Unavailable("no answer"))


def test_long_messages_are_cut() -> None:
    assert len(str(error_from_status({"code": 500, "message": "x" * 10_000}))) == 2048


@given(st.lists(st.binary(max_size=20)), st.data())
def test_lines_do_not_depend_on_the_chunks(lines: list[bytes], data: st.DataObject) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    raw = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    buffer = LineBuffer()
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        found += buffer.feed(raw[start:end])
    assert found == [line for line in lines if line]
    assert not buffer.pending


def test_lines_have_a_limit() -> None:
    buffer = LineBuffer(max_line_bytes=10)
    assert [*buffer.feed(b"123456789\n1234567")] == [b"123456789"]
    with pytest.raises(Unavailable, match="longer than 10 bytes"):
        [*buffer.feed(b"89012")]


# --- rate limit -----------------------------------------------------------------------------


async def test_bucket_lends_in_order() -> None:
    time = FakeTime()
    bucket = TokenBucket(qps=2, burst=1, timing=time.timing)
    assert [bucket.reserve_s() for _ in range(3)] == [0.0, 0.5, 1.0]
    time.advance(10)
    assert [bucket.reserve_s() for _ in range(2)] == [0.0, 0.5]


async def test_bucket_refuses_waits_that_are_too_long_and_keeps_the_token() -> None:
    bucket = TokenBucket(qps=1, burst=1, timing=FakeTime().timing)
    assert await bucket.acquire(0.0)
    assert not await bucket.acquire(0.5)
    assert not await bucket.acquire(0.5)
    assert bucket.reserve_s() == 1.0


async def test_cancelled_waiter_gives_its_token_back() -> None:

    time = FakeTime()
    bucket = TokenBucket(qps=1, burst=1, timing=time.timing)
    await bucket.acquire()
    waiting = asyncio.create_task(bucket.acquire())
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert bucket.reserve_s() == 1.0


async def test_bucket_that_is_closed_for_a_while() -> None:
    time = FakeTime()
    bucket = TokenBucket(qps=2, burst=10, timing=time.timing)
    bucket.pause(5.0)
    assert [bucket.reserve_s() for _ in range(2)] == [5.5, 6.0]
    bucket.pause(1.0)
    time.advance(2.0)
    assert bucket.reserve_s() == 4.5
    time.advance(100)
    assert bucket.reserve_s() == 0.0


async def test_a_pause_holds_for_those_that_wait_already() -> None:
    time = FakeTime(chance=0.5)
    bucket = TokenBucket(qps=1, burst=1, timing=time.timing)
    await bucket.acquire()
    waiting = asyncio.create_task(bucket.acquire())
    await settle()
    bucket.pause(10.0)
    time.advance(1.0)
    await settle()
    assert not waiting.done()
    time.advance(9.0 * 1.25)
    await settle()
    assert waiting.done()


async def test_without_a_limit_a_pause_holds_too() -> None:
    time = FakeTime()
    bucket = TokenBucket(qps=0, burst=1, timing=time.timing)
    bucket.pause(3.0)
    assert bucket.reserve_s() == 3.0
    time.advance(3.0)
    assert bucket.reserve_s() == 0.0


@given(
    st.floats(0.5, 50),
    st.integers(1, 20),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=60),
    st.sets(st.integers(0, 59)),
)
def test_bucket_never_exceeds_its_rate(
    qps: float, burst: int, pauses: list[float], closed: set[int]
) -> None:
    time = FakeTime()
    bucket = TokenBucket(qps, burst, time.timing)
    uses = []
    closed_until_s = 0.0
    for number, pause_s in enumerate(pauses):
        time.advance(pause_s)
        if number in closed:
            bucket.pause(pause_s)
            closed_until_s = max(closed_until_s, time.now_s + pause_s)
        uses.append(time.now_s + bucket.reserve_s())
        assert uses[-1] >= closed_until_s - 1e-9
    for first, start_s in enumerate(uses):
        for last in range(first, len(uses)):
            allowed = burst + (uses[last] - start_s) * qps
            assert last - first + 1 <= allowed + 1 + 1e-6


def test_bucket_settings() -> None:
    with pytest.raises(ConfigError, match="qps"):
        TokenBucket(-1, 1)
    with pytest.raises(ConfigError, match="burst"):
        TokenBucket(1, 0)
    assert TokenBucket(0, 1).reserve_s() == 0.0


# --- retries and back-off -------------------------------------------------------------------

GET = Request(Verb.GET, "GET", "/x", "x", idempotent=True)
POST = Request(Verb.CREATE, "POST", "/x", "x")
WATCH = Request(Verb.WATCH, "GET", "/x", "x", idempotent=True)


@pytest.mark.parametrize(
    ("request_", "error", "sent", "again"),
    [
        (GET, Unavailable("broken"), True, True),
        (GET, Unavailable("x", 503), True, True),
        (GET, Unavailable("x", 500), True, False),
        (GET, Conflict("x", 409), True, False),
        (POST, Unavailable("broken"), True, False),
        (POST, Unavailable("refused"), False, True),
        (POST, Unavailable("x", 503), True, False),
        (POST, Throttled("x", 429), True, True),
        (WATCH, Unavailable("broken"), True, False),
        (WATCH, Throttled("x", 429), True, False),
    ],
)
def test_what_is_sent_again(request_: Request, error: ApiError, sent: bool, again: bool) -> None:
    delay_s = RetryPolicy().delay_s(request_, error, attempt=1, sent=sent, chance=0.5)
    assert (delay_s is not None) == again


def test_retries_end_and_heed_the_server() -> None:
    policy = RetryPolicy(attempts=3)
    error = Unavailable("x", 503)
    delays = [
        policy.delay_s(GET, error, attempt=number, sent=True, chance=0.5) for number in (1, 2, 3)
    ]
    assert delays == [pytest.approx(0.1), pytest.approx(0.2), None]
    asked = Throttled("x", 429, retry_after_s=7)
    delays = [policy.delay_s(GET, asked, attempt=1, sent=True, chance=c) for c in (0.0, 1.0)]
    assert delays == [7.0, 8.75], "not earlier, and not everybody at the same moment"


def test_pauses_grow_are_capped_and_forgotten() -> None:
    time = FakeTime(chance=0.0)
    pauses = Pauses(REFLECTOR_BACKOFF, time.timing)
    assert [pauses.next_s() for _ in range(8)] == pytest.approx(
        [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    )
    time.advance(119)
    assert pauses.next_s() == 30
    time.advance(121)
    assert pauses.next_s() == pytest.approx(0.8)
    assert Pauses(timing=FakeTime(chance=0.999).timing).next_s() == pytest.approx(1.6, rel=0.01)


def test_strict_is_asked_of_the_server() -> None:
    task = {"metadata": {"name": "x"}}
    created = create_request(TASKS, task, "d", dry_run=True, strict=True)
    assert created.query == "dryRun=All&fieldValidation=Strict"
    patched = patch_request(TASKS, "x", "d", {}, PatchOptions(strict=True))
    assert patched.query == "fieldValidation=Strict"
    assert create_request(TASKS, task, "d").query == ""
