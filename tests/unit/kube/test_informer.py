"""The informer against a scripted server: every turn a list and watch can take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from taskctl.api.resources import TASKS
from taskctl.errors import ApiError, Forbidden, Gone, Throttled, Unavailable
from taskctl.kube.informer import Informer, InformerOptions
from taskctl.kube.interface import EventType, KubeObject, ListOptions, ListPage, WatchEvent
from taskctl.kube.interface import WatchOptions as Options
from taskctl.kube.resources import Resource
from tests.unit.kube.fakes import FakeTime, bookmark, settle, task

ADDED, MODIFIED, DELETED = EventType.ADDED, EventType.MODIFIED, EventType.DELETED

_LIST = ListOptions()
_WATCH = Options()

Step = WatchEvent | ApiError | Callable[[], None]


class Hang:
    """In a script: the stream stays open and says nothing."""


class ScriptedServer:
    """Answers lists and watches one by one from two scripts; then it hangs."""

    def __init__(self, time: FakeTime) -> None:
        self.time = time
        self.lists: list[ListPage | ApiError] = []
        self.watches: list[list[Step | type[Hang]]] = []
        self.log: list[str] = []
        self.list_options: list[ListOptions] = []
        self.watch_options: list[Options] = []
        self.open_streams = 0

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> KubeObject:
        raise NotImplementedError

    async def list(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        raise NotImplementedError

    async def list_all(
        self, res: Resource, namespace: str | None = None, *, options: ListOptions = _LIST
    ) -> ListPage:
        self.log.append(f"list@{self.time.now_s - 1000:g}")
        self.list_options.append(options)
        if not self.lists:
            await asyncio.Event().wait()
        answer = self.lists.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def watch(
        self, res: Resource, namespace: str | None = None, *, options: Options = _WATCH
    ) -> AsyncGenerator[WatchEvent, None]:
        self.log.append(f"watch:{options.resource_version}@{self.time.now_s - 1000:g}")
        self.watch_options.append(options)
        steps = self.watches.pop(0) if self.watches else [Hang]
        self.open_streams += 1
        try:
            for step in steps:
                if isinstance(step, ApiError):
                    raise step
                if isinstance(step, WatchEvent):
                    yield step
                elif step is Hang:
                    await asyncio.Event().wait()
                else:
                    step()
        finally:
            self.open_streams -= 1


def page(version: int, *items: dict[str, Any]) -> ListPage:
    return ListPage(list(items), str(version))


def added(name: str, version: int) -> WatchEvent:
    return WatchEvent(ADDED, task(name, version))


class Case:
    """An informer on a scripted server, with all changes written down."""

    def __init__(self, **options: Any) -> None:
        self.time = FakeTime(auto=True)
        self.server = ScriptedServer(self.time)
        self.informer = Informer(
            self.server,
            TASKS,
            "default",
            options=InformerOptions(**options),
            timing=self.time.timing,
        )
        self.changes: list[str] = []
        self.informer.add_handler(self._note)

    def _note(self, old: KubeObject | None, new: KubeObject | None) -> None:
        some = new if new is not None else old
        assert some is not None
        sign = "+" if old is None else "-" if new is None else "~"
        self.changes.append(sign + some["metadata"]["name"] + some["metadata"]["resourceVersion"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.informer.run())
        await settle(300)
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert self.server.open_streams == 0


async def test_list_then_watch() -> None:
    case = Case(label_selector="x=y")
    case.server.lists = [page(10, task("a", 3), task("b", 4))]
    case.server.watches = [
        [WatchEvent(MODIFIED, task("a", 11)), WatchEvent(DELETED, task("b", 12)), Hang]
    ]
    assert not case.informer.synced.is_set()
    async with case.running():
        assert case.informer.synced.is_set()
        assert case.changes == ["+a3", "+b4", "~a11", "-b4"]
    assert case.server.log == ["list@0", "watch:10@0"]
    assert case.server.list_options == [ListOptions(label_selector="x=y", limit=500)]
    assert case.server.watch_options[0].bookmarks
    assert case.server.watch_options[0].label_selector == "x=y"
    assert case.server.watch_options[0].timeout_s == 0  # the client picks one


async def test_end_of_stream_resumes_at_once_from_the_last_event_or_bookmark() -> None:
    case = Case()
    case.server.lists = [page(10)]
    case.server.watches = [
        [added("a", 11)],
        [WatchEvent(EventType.BOOKMARK, bookmark(50))],
        [added("b", 51), Hang],
    ]
    async with case.running():
        assert case.changes == ["+a11", "+b51"]
    assert case.server.log == ["list@0", "watch:10@0", "watch:11@0", "watch:50@0"]


async def test_streams_that_end_as_they_begin_are_not_run_against() -> None:
    case = Case()
    case.server.lists = [page(10)]
    case.server.watches = [[], [], [], [Hang]]
    async with case.running():
        pass
    assert case.server.log == ["list@0", "watch:10@0", "watch:10@0", "watch:10@0.8", "watch:10@2.4"]


async def test_gone_event_lists_anew_and_announces_what_vanished() -> None:
    case = Case()
    case.server.lists = [page(10, task("a", 3), task("b", 4)), page(90, task("b", 80))]

    def later() -> None:
        case.time.now_s += 400

    case.server.watches = [[added("c", 11), later, Gone("too old", 410, "Expired")], [Hang]]
    async with case.running():
        assert case.changes == ["+a3", "+b4", "+c11", "~b80", "-a3", "-c11"]
    assert case.server.log == ["list@0", "watch:10@0", "list@400", "watch:90@400"]
    assert [options.resource_version for options in case.server.list_options] == ["", ""]


async def test_gone_right_after_a_list_does_not_spin() -> None:
    case = Case()
    case.server.lists = [page(10), page(10), page(10)]
    case.server.watches = [[Gone("x", 410)], [Gone("x", 410)], [Hang]]
    async with case.running():
        pass
    assert case.server.log == [
        "list@0",
        "watch:10@0",
        "list@0.8",
        "watch:10@0.8",
        "list@2.4",
        "watch:10@2.4",
    ]


async def test_too_new_a_version_lists_anew() -> None:
    case = Case()
    case.server.lists = [page(10), page(12)]

    def later() -> None:
        case.time.now_s += 5

    too_large = Unavailable("Too large resource version: 10, current: 9", 504, "Timeout")
    case.server.watches = [[later, too_large], [Hang]]
    async with case.running():
        pass
    assert case.server.log == ["list@0", "watch:10@0", "list@5", "watch:12@5"]


async def test_broken_stream_resumes_then_backs_off_then_lists() -> None:
    case = Case()
    case.server.lists = [page(10), page(60, task("a", 55))]
    broken = Unavailable("refused")
    case.server.watches = [[added("a", 11), broken], [broken], [broken], [broken], [Hang]]
    async with case.running():
        assert case.changes == ["+a11", "~a55"]
    log = case.server.log
    assert log[:5] == ["list@0", "watch:10@0", "watch:11@0", "watch:11@0.8", "watch:11@2.4"]
    assert [line.split("@")[0] for line in log[5:]] == ["list", "watch:60"]


async def test_an_outage_soon_after_another_begins_with_short_pauses() -> None:
    case = Case()
    down = Unavailable("refused")
    case.server.lists = [*[down] * 6, page(10), *[down] * 2, page(20)]

    def calm() -> None:
        case.time.now_s += 31

    case.server.watches = [[added("a", 11), calm, down], [down], [down], [down], [down], [Hang]]
    async with case.running():
        assert case.informer.synced.is_set()
    assert case.time.slept[:6] == [0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert case.time.slept[6:] == [0.8, 1.6, 3.2, 6.4, 10.0]


async def test_an_event_ends_the_memory_of_the_outage_before() -> None:
    case = Case()
    down = Unavailable("refused")
    case.server.lists = [*[down] * 4, page(10), page(20)]
    case.server.watches = [[added("a", 11), down], [down], [down], [down], [Hang]]
    async with case.running():
        assert case.informer.synced.is_set()
    assert case.time.slept[:4] == [0.8, 1.6, 3.2, 6.4]
    assert case.time.slept[4:] == [0.8, 1.6, 3.2]


async def test_one_failure_in_a_long_while_never_adds_up() -> None:
    case = Case()
    case.server.lists = [page(10)]
    broken = Unavailable("reset")
    case.server.watches = [[added("a", 11 + n), broken] for n in range(8)]
    async with case.running():
        pass
    assert [line for line in case.server.log if line.startswith("list")] == ["list@0"]
    assert case.time.slept == []


async def test_throttled_watch_waits_as_long_as_asked() -> None:
    case = Case()
    case.server.lists = [page(10)]
    case.server.watches = [[Throttled("busy", 429, retry_after_s=9)], [Hang]]
    async with case.running():
        pass
    assert case.server.log == ["list@0", "watch:10@0", "watch:10@9"]


async def test_failing_list_is_tried_again_and_reported() -> None:
    case = Case()
    case.server.lists = [Forbidden("tasks is forbidden", 403), Unavailable("down"), page(10)]
    async with case.running():
        assert case.informer.synced.is_set()
        assert case.informer.last_error == ""
    assert case.server.log == ["list@0", "list@0.8", "list@2.4", "watch:10@2.4"]


async def test_wait_synced_says_what_is_wrong() -> None:
    case = Case()
    case.server.lists = [Forbidden("tasks is forbidden", 403)]
    async with case.running():
        with pytest.raises(Unavailable, match=r"tasks could not be listed .*tasks is forbidden"):
            await case.informer.wait_synced(0.01)


async def test_own_write_survives_a_list_taken_before_it() -> None:
    case = Case()
    case.server.lists = [page(10), page(20, task("a", 15))]

    def observe() -> None:
        case.time.now_s += 5
        assert case.informer.store.observe(task("a", 25))

    case.server.watches = [[added("a", 15), observe, Gone("x", 410)], [Hang]]
    async with case.running():
        assert case.changes == ["+a15", "~a25"]


async def test_server_whose_data_was_thrown_away() -> None:
    case = Case()
    case.server.lists = [page(500, task("a", 400)), page(7, task("z", 6))]

    def later() -> None:
        case.time.now_s += 5

    case.server.watches = [[later, Gone("unknown version", 410)], [added("y", 8), Hang]]
    async with case.running():
        assert case.changes == ["+a400", "+z6", "-a400", "+y8"]
    assert case.server.log[-1] == "watch:7@5"


async def test_full_list_once_in_a_while() -> None:
    case = Case(relist_period_s=600)

    def later() -> None:
        case.time.now_s += 400

    case.server.lists = [page(10), page(30)]
    case.server.watches = [[added("a", 11), later], [added("b", 12), later], [Hang]]
    async with case.running():
        assert case.changes == ["+a11", "+b12", "-a11", "-b12"]
    assert case.server.log == ["list@0", "watch:10@0", "watch:11@400", "list@800", "watch:30@800"]


async def test_metadata_only() -> None:
    case = Case(metadata_only=True)
    case.server.lists = [page(10, task("a", 3, spec={"big": 1}, status={"x": 1}))]
    async with case.running():
        (found,) = case.informer.store.objects()
    assert set(found) == {"apiVersion", "kind", "metadata"}
    assert case.server.list_options[0].metadata_only
    assert case.server.watch_options[0].metadata_only


async def test_transform_sees_each_object_once() -> None:
    time = FakeTime(auto=True)
    server = ScriptedServer(time)
    seen: list[str] = []

    def shrink(obj: KubeObject) -> KubeObject:
        seen.append(obj["metadata"]["resourceVersion"])
        obj.pop("spec")
        return obj

    informer = Informer(server, TASKS, transform=shrink, timing=time.timing)
    server.lists = [page(10, task("a", 3, spec={}))]
    server.watches = [[WatchEvent(MODIFIED, task("a", 11, spec={})), Hang]]
    running = asyncio.create_task(informer.run())
    await settle()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert seen == ["3", "11"]
    assert "spec" not in informer.store.objects()[0]


async def test_silence_is_measured() -> None:
    case = Case()
    assert case.informer.silent_s == float("inf")
    case.server.lists = [page(10)]
    async with case.running():
        case.time.now_s += 100
        assert case.informer.silent_s == 100


async def test_what_is_optional_is_done_without_while_it_is_forbidden() -> None:
    case = Case(optional=True)
    refused = Forbidden("tasks is forbidden", 403)
    case.server.lists = [refused, refused, page(10, task("a", 3))]
    case.server.watches = [[WatchEvent(MODIFIED, task("a", 11)), Hang]]
    running = asyncio.create_task(case.informer.run())
    await case.informer.wait_synced(5)
    assert (case.informer.refusal, case.changes) == ("tasks is forbidden", [])
    assert case.informer.silent_s < 10, "the server answers"
    await settle(300)
    assert (case.informer.refusal, case.changes) == ("", ["+a3", "~a11"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_is_no_longer_allowed_is_not_believed_for_ever() -> None:
    case = Case(optional=True)
    case.server.lists = [page(10, task("a", 3)), Forbidden("tasks is forbidden", 403)]
    case.server.watches = [[Gone("too old", 410)]]
    async with case.running():
        assert case.informer.refusal == "tasks is forbidden"
        assert case.changes == ["+a3", "-a3"]


async def test_a_watch_alone_that_is_forbidden_leaves_what_was_listed() -> None:
    case = Case(optional=True)
    case.server.lists = [page(10, task("a", 3)), page(12, task("a", 12))]
    case.server.watches = [[Forbidden("no watch", 403)]]
    async with case.running():
        assert case.changes == ["+a3", "~a12"]
        assert case.informer.refusal == "no watch", "until a watch has worked"
