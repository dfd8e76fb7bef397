"""Status writes and Events, with the API server replaced by a list of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.embedded.node import reporter as module
from taskctl.embedded.node.api import ApiClient
from taskctl.embedded.node.events import EventReason, EventRecorder, Subject
from taskctl.embedded.node.model import PodRef
from taskctl.embedded.node.options import NodePaths
from taskctl.embedded.node.reporter import Delivery, StatusReporter
from taskctl.errors import AlreadyExists, ApiError, Invalid, NotFound, Unavailable
from taskctl.kube.interface import PatchType
from tests.unit.embedded_node.builders import FakeClock

Json = dict[str, Any]
REF = PodRef("ns", "p", "u")


class FakeApi(ApiClient):
    def __init__(self) -> None:
        super().__init__(NodePaths(Path("/nonexistent")))
        self.sent: list[Json] = []
        self.paths: list[str] = []
        self.failures: list[ApiError] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.pod: Json | None = {"metadata": {"uid": "other"}}

    async def patch(self, path: str, body: Json, kind: PatchType = PatchType.MERGE) -> Json:
        return await self._take(path, body)

    async def create(self, path: str, body: Json) -> Json:
        return await self._take(path, body)

    async def get(self, path: str, params: Any = None) -> Json:
        if self.pod is None:
            raise NotFound("gone")
        return self.pod

    async def _take(self, path: str, body: Json) -> Json:
        await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(body)
        self.paths.append(path)
        return body


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def reporter(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StatusReporter]:
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    monkeypatch.setattr(module, "MIN_INTERVAL_S", 0.0)
    reporter = StatusReporter(api, REF)
    task = asyncio.create_task(reporter.run())
    yield reporter
    task.cancel()
    await asyncio.wait([task])


async def test_the_status_is_written_with_the_uid(api: FakeApi, reporter: StatusReporter) -> None:
    reporter.submit({"phase": "Running"})
    assert await reporter.flush(5)
    assert api.sent == [{"metadata": {"uid": "u"}, "status": {"phase": "Running"}}]
    assert api.paths == ["/api/v1/namespaces/ns/pods/p/status"]


async def test_only_the_latest_is_written(api: FakeApi, reporter: StatusReporter) -> None:
    api.hold.clear()
    reporter.submit({"n": 1})
    await asyncio.sleep(0.01)
    for number in (2, 3, 4):
        reporter.submit({"n": number})
    assert not await reporter.flush(0)
    api.hold.set()
    assert await reporter.flush(5)
    assert [body["status"]["n"] for body in api.sent] == [1, 4]


async def test_what_is_known_is_not_written_again(api: FakeApi, reporter: StatusReporter) -> None:
    reporter.assume({"n": 1})
    reporter.submit({"n": 1})
    assert await reporter.flush(5)
    reporter.submit({"n": 2})
    await reporter.flush(5)
    reporter.submit({"n": 2})
    await reporter.flush(5)
    assert [body["status"]["n"] for body in api.sent] == [2]


async def test_a_change_back_while_a_write_is_under_way_is_written(
    api: FakeApi, reporter: StatusReporter
) -> None:
    reporter.assume({"n": 1})
    api.hold.clear()
    reporter.submit({"n": 2})
    await asyncio.sleep(0.01)
    reporter.submit({"n": 1})
    api.hold.set()
    assert await reporter.flush(5)
    assert [body["status"]["n"] for body in api.sent] == [2, 1]


async def test_failures_are_tried_again_with_the_latest(
    api: FakeApi, reporter: StatusReporter
) -> None:
    api.failures = [Unavailable("away"), Unavailable("away")]
    reporter.submit({"n": 1})
    await asyncio.sleep(0.01)
    reporter.submit({"n": 2})
    assert await reporter.flush(5)
    assert [body["status"]["n"] for body in api.sent] == [2]


@pytest.mark.parametrize("failure", [NotFound("gone"), Invalid("metadata.uid: immutable")])
async def test_a_pod_that_has_gone_ends_it(
    api: FakeApi, reporter: StatusReporter, failure: ApiError
) -> None:
    api.failures = [failure]
    reporter.submit({"n": 1})
    assert await reporter.flush(5)
    assert reporter.delivery is Delivery.GONE
    reporter.submit({"n": 2})
    assert api.sent == []


async def written(api: FakeApi, recorder: EventRecorder, count: int) -> None:
    task = asyncio.create_task(recorder.run())
    async with asyncio.timeout(5):
        while len(api.sent) < count:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def test_equal_events_are_counted(api: FakeApi) -> None:
    recorder = EventRecorder(api, FakeClock(), "local")
    for _ in range(3):
        recorder.emit(Subject.pod(REF, "c", "containers"), EventReason.STARTED, "Started c")
    await written(api, recorder, 3)
    first, *others = api.sent
    assert first["involvedObject"]["fieldPath"] == "spec.containers{c}"
    assert (first["reason"], first["type"], first["count"]) == ("Started", "Normal", 1)
    assert [body["count"] for body in others] == [2, 3]


async def test_an_object_cannot_flood_the_server(api: FakeApi) -> None:
    clock = FakeClock()
    recorder = EventRecorder(api, clock, "local")
    for number in range(40):
        recorder.warn(Subject.pod(REF), EventReason.FAILED, f"no {number}")
    await written(api, recorder, 25)
    assert len(api.sent) == 25
    clock.seconds = 301
    recorder.warn(Subject.pod(REF), EventReason.FAILED, "later")
    recorder.warn(Subject.pod(REF), EventReason.FAILED, "too much")
    await written(api, recorder, 26)
    assert api.sent[-1]["message"] == "later"


async def test_an_event_of_a_former_node_is_renewed(api: FakeApi) -> None:
    recorder = EventRecorder(api, FakeClock(), "local")
    api.failures = [AlreadyExists("there", status=409, reason="AlreadyExists")]
    recorder.emit(Subject.pod(REF), EventReason.STARTED, "Started c")
    await written(api, recorder, 1)
    assert api.sent == [{"lastTimestamp": "2026-01-02T03:04:05Z"}]
