"""Events: merged, bounded, and never anybody's problem."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypothesis import given
from hypothesis import strategies as st

from taskctl.errors import Forbidden, Unavailable
from taskctl.kube.events import EventRecorder, EventSort, truncate
from taskctl.kube.resources import EVENTS
from tests.unit.kube.fakes import FakeTime, settle, task
from tests.unit.kube.memory_server import MemoryServer

NORMAL, WARNING = EventSort.NORMAL, EventSort.WARNING


class Case:
    """A recorder on a small server."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.server = MemoryServer()
        self.dropped: list[str] = []
        self.recorder = EventRecorder(
            self.server,
            "taskctl-controller",
            "pod-1",
            timing=self.time.timing,
            dropped=self.dropped.append,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.recorder.run())
        await settle()
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_an_event_as_kubectl_describe_wants_it() -> None:
    case = Case()
    async with case.running():
        case.recorder.record(task("a", 5), NORMAL, "Started", "on worker w-1")
        assert await case.recorder.flush(1)
    (event,) = case.server.of(EVENTS)
    assert event["metadata"]["namespace"] == "default"
    assert event["metadata"]["name"].startswith("a.")
    assert event["involvedObject"] == {
        "apiVersion": "taskctl.dev/v1alpha1",
        "kind": "Task",
        "name": "a",
        "namespace": "default",
        "uid": "uid-a",
        "resourceVersion": "5",
    }
    assert (event["type"], event["reason"], event["message"]) == (
        "Normal",
        "Started",
        "on worker w-1",
    )
    assert event["count"] == 1
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["source"] == {"component": "taskctl-controller", "host": "pod-1"}


async def test_equal_events_are_counted_waiting_or_written() -> None:
    case = Case()
    for _ in range(3):
        case.recorder.record(task("a", 5), WARNING, "BackOff", "again")
        case.time.advance(1)
    async with case.running():
        assert await case.recorder.flush(1)
        for _ in range(2):
            case.recorder.record(task("a", 6), WARNING, "BackOff", "again")
        assert await case.recorder.flush(1)
    (event,) = case.server.of(EVENTS)
    assert event["count"] == 5
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T00:00:03Z"
    assert [line.split()[0] for line in case.server.requests] == ["create", "patch"]


async def test_event_that_the_server_has_forgotten_begins_anew() -> None:
    case = Case()
    async with case.running():
        case.recorder.record(task("a", 5), WARNING, "BackOff", "again")
        await case.recorder.flush(1)
        case.server.objects.clear()
        case.recorder.record(task("a", 5), WARNING, "BackOff", "again")
        await case.recorder.flush(1)
    (event,) = case.server.of(EVENTS)
    assert event["count"] == 1


async def test_failures_are_dropped_and_the_next_event_is_written() -> None:
    case = Case()
    case.server.faults = [Unavailable("down"), Forbidden("no", 403)]
    async with case.running():
        for number in range(3):
            case.recorder.record(task("a", 5), NORMAL, "R", str(number))
        assert await case.recorder.flush(1)
    assert [event["message"] for event in case.server.of(EVENTS)] == ["2"]
    assert case.dropped == ["error", "error"]


async def test_namespace_that_is_going_away_is_no_failure() -> None:
    case = Case()
    message = "unable to create new content in namespace x because it is being terminated"
    case.server.faults = [Forbidden(message, 403)]
    async with case.running():
        case.recorder.record(task("a", 5), NORMAL, "R", "m")
        assert await case.recorder.flush(1)
    assert case.dropped == []


async def test_object_that_talks_too_much_is_cut_off_and_let_back_in() -> None:
    case = Case()
    for number in range(30):
        case.recorder.record(task("a", 5), NORMAL, "R", str(number))
    case.recorder.record(task("b", 5), NORMAL, "R", "other")
    assert case.dropped == ["spam"] * 5
    case.time.advance(301)
    case.recorder.record(task("a", 5), NORMAL, "R", "later")
    assert len(case.dropped) == 5


async def test_waiting_events_are_bounded() -> None:
    case = Case()
    for number in range(1010):
        case.recorder.record(task(f"t{number}", 5), NORMAL, "R", "m")
    assert case.dropped == ["full"] * 10


async def test_odd_objects_and_cluster_kinds() -> None:
    case = Case()
    case.recorder.record({}, NORMAL, "R", "m")
    case.recorder.record({"metadata": {"name": "node-1"}, "kind": "Node"}, NORMAL, "R", "m")
    async with case.running():
        assert await case.recorder.flush(1)
    (event,) = case.server.of(EVENTS)
    assert event["metadata"]["namespace"] == "default"
    assert "namespace" not in event["involvedObject"]


async def test_flush_gives_up() -> None:
    case = Case()
    case.recorder.record(task("a", 5), NORMAL, "R", "m")
    assert not await case.recorder.flush(0.01)


async def test_messages_are_safe_on_terminals() -> None:
    case = Case()
    async with case.running():
        case.recorder.record(task("a", 5), NORMAL, "R", "\x1b]0;owned\x07 \u202eb")
        await case.recorder.flush(1)
    (event,) = case.server.of(EVENTS)
    assert event["message"] == r"\x1b]0;owned\x07 \u202eb"


async def test_long_names_and_messages_fit() -> None:
    case = Case()
    async with case.running():
        case.recorder.record(task("n" * 253, 5, uid="u"), NORMAL, "R", "ä" * 2000)
        await case.recorder.flush(1)
    (event,) = case.server.of(EVENTS)
    assert len(event["metadata"]["name"]) <= 253
    assert len(event["message"].encode()) <= 1024


@given(st.text(), st.integers(3, 40))
def test_truncation_never_breaks_a_character(text: str, limit: int) -> None:
    cut = truncate(text, limit)
    raw = text.encode("utf-8", "replace")
    assert len(cut.encode()) <= limit
    if len(raw) <= limit:
        assert cut.encode() == raw
    else:
        assert cut.endswith("…")
        assert raw.startswith(cut[:-1].encode())
