"""Status writes and Events, with the API server replaced by a list of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.embedded.node import reporter as module
from taskctl.embedded.node.api import ApiClient
from taskctl.embedded.node.events import EventReason, NodeEvents, Subject
from taskctl.embedded.node.model import PodRef
from taskctl.embedded.node.options import NodePaths
from taskctl.embedded.node.reporter import Delivery, StatusReporter
from taskctl.errors import ApiError, Invalid, NotFound, Unavailable
from taskctl.kube.interface import PatchType
from tests.unit.clocks import SetClock

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


async def test_events_name_the_node_and_the_container(api: FakeApi) -> None:
    events = NodeEvents(api, SetClock(), "local")
    events.tell(Subject.pod(REF, "c", "containers"), EventReason.STARTED, "Started c")
    events.tell(Subject.pod(REF, "d", "containers"), EventReason.STARTED, "Started c")
    running = asyncio.create_task(events.run())
    async with asyncio.timeout(60):
        while len(api.sent) < 2:
            await asyncio.sleep(0)
        events.tell(Subject.pod(REF, "c", "containers"), EventReason.STARTED, "Started c")
        events.warn(Subject.pod(REF), EventReason.FAILED, "no")
        while len(api.sent) < 4:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    first, second, again, third = api.sent
    assert first["involvedObject"] == {
        "apiVersion": "v1", "kind": "Pod", "namespace": "ns", "name": "p", "uid": "u",
        "fieldPath": "spec.containers{c}",
    }  # fmt: skip
    assert second["involvedObject"]["fieldPath"] == "spec.containers{d}"
    assert (first["reason"], first["type"], first["count"]) == ("Started", "Normal", 1)
    assert first["source"] == {"component": "taskctl-node", "host": "local"}
    assert again["count"] == 2
    name = first["metadata"]["name"]
    assert api.paths[0] == "/api/v1/namespaces/ns/events"
    assert api.paths[2] == f"/api/v1/namespaces/ns/events/{name}"
    assert (third["type"], third["message"]) == ("Warning", "no")
    assert "fieldPath" not in third["involvedObject"]
