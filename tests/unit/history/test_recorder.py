"""The recorder: a line for each transition, what it missed, and a disk that is full."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.history import recorder as module
from taskctl.history.files import HistoryFiles, HistoryLimits
from taskctl.history.reading import Wanted, read_history
from taskctl.history.recorder import Recorder, RecorderWorld
from taskctl.testing.builders import task
from tests.unit.clocks import SetClock

BELOW = "history"
LIMITS = HistoryLimits(16_000_000, 0)
PENDING = task("a")
RUNNING = PENDING.running("c-1")
FAILED = PENDING.state(TaskState.FAILED, "NonZeroExit")
WORKSPACE = {"claimName": "c-workspace"}


class Site:
    """A directory, and what a recorder asks of others."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = SetClock()
        self.synced = asyncio.Event()
        self.broken: OSError | None = None
        self.opens = False  # though broken: only writing fails
        self.pauses: list[float] = []

    def open_files(self) -> HistoryFiles:
        if self.broken is not None and not self.opens:
            raise self.broken
        files = HistoryFiles(self.root, BELOW, LIMITS, self.clock)
        if self.broken is not None:
            files.append = self.fail  # type: ignore[method-assign]
        return files

    def fail(self, lines: Sequence[bytes]) -> None:
        assert self.broken is not None
        raise self.broken

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.pass_s(seconds)
        await asyncio.sleep(0)

    def recorder(self) -> Recorder:
        around = RecorderWorld(self.synced, lambda _: WORKSPACE, self.clock, self.sleep)
        return Recorder(self.open_files, around)

    @asynccontextmanager
    async def running(self, recorder: Recorder) -> AsyncIterator[None]:
        work = asyncio.create_task(recorder.run())
        try:
            yield
            await recorder.close()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def lines(self) -> list[dict[str, Any]]:
        paths = sorted((self.root / BELOW).glob("tasks-*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    def told(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Name, state and remarks of each line."""
        return [
            (
                one["metadata"]["name"],
                one["status"]["state"],
                tuple(word for word in ("deleted", "late") if one["history"].get(word)),
            )
            for one in self.lines()
        ]


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_line_for_each_transition_and_one_for_the_deletion(site: Site) -> None:
    site.synced.set()
    recorder = site.recorder()
    async with site.running(recorder):
        recorder.on_task(None, PENDING.build())
        recorder.on_task(PENDING.build(), RUNNING.build())
        progressed = RUNNING.status(progress={"done": 1}).build()
        recorder.on_task(RUNNING.build(), progressed)  # no transition
        recorder.on_task(progressed, FAILED.build())
        recorder.on_task(FAILED.build(), None)
    states = [("a", "Pending", ()), ("a", "Running", ()), ("a", "Failed", ())]
    assert site.told() == [*states, ("a", "Failed", ("deleted",))]
    assert [one["history"]["sequence"] for one in site.lines()] == [1, 2, 3, 4]
    assert site.lines()[-1]["history"]["workspace"] == WORKSPACE


async def test_a_recorder_that_starts_again_writes_nothing_twice(site: Site) -> None:
    site.synced.set()
    first = site.recorder()
    async with site.running(first):
        first.on_task(None, PENDING.build())
        first.on_task(None, task("b").build())
    site.synced.clear()
    second = site.recorder()
    second.on_task(None, PENDING.build())
    second.on_task(None, task("b").state(TaskState.RUNNING).build())
    site.synced.set()
    async with site.running(second):
        pass
    assert site.told()[2:] == [("b", "Running", ("late",))]
    assert [one["history"]["sequence"] for one in site.lines()] == [1, 2, 3]


async def test_what_was_deleted_meanwhile_is_noted_late(site: Site) -> None:
    site.synced.set()
    first = site.recorder()
    async with site.running(first):
        first.on_task(None, FAILED.build())
        first.on_task(None, task("b").build())
        first.on_task(task("b").build(), None)  # its deletion has a line
    site.synced.clear()
    second = site.recorder()
    async with site.running(second):
        second.on_task(None, task("c").build())
        site.synced.set()
        await second.close()
    assert site.told()[3:] == [("c", "Pending", ("late",)), ("a", "Failed", ("deleted", "late"))]
    # A third one has nothing to add.
    third = site.recorder()
    third.on_task(None, task("c").build())
    async with site.running(third):
        pass
    assert len(site.lines()) == 5


async def test_a_task_of_the_same_name_is_another_one(site: Site) -> None:
    site.synced.set()
    recorder = site.recorder()
    async with site.running(recorder):
        recorder.on_task(None, FAILED.build())
        recorder.on_task(FAILED.build(), None)
        recorder.on_task(None, PENDING.uid("uid-2").build())
    gone = read_history(site.root, BELOW, Wanted(name="a", gone=True)).tasks
    assert [one["metadata"]["uid"] for one in gone] == ["uid-a"]
    assert len(read_history(site.root, BELOW, Wanted(name="a")).tasks) == 2


@pytest.mark.parametrize("opens", [False, True])
async def test_a_disk_that_is_full_is_said_and_tried_again(
    site: Site, caplog: pytest.LogCaptureFixture, opens: bool
) -> None:
    site.synced.set()
    site.opens = opens
    site.broken = OSError(28, "No space left on device")
    recorder = site.recorder()
    with caplog.at_level(logging.INFO):
        async with site.running(recorder):
            recorder.on_task(None, PENDING.build())
            while len(site.pauses) < 12:
                await asyncio.sleep(0)
            assert recorder.trouble == "No space left on device"
            site.broken = None
    assert site.told() == [("a", "Pending", ())]
    assert recorder.trouble == ""
    assert site.pauses[:3] == [0.5, 1.0, 2.0]
    assert max(site.pauses) == 30.0
    warnings = [one for one in caplog.messages if "No space left" in one]
    assert 0 < len(warnings) < len(site.pauses)  # once a minute
    assert caplog.text.count("it can be written again") == 1


async def test_another_recorder_is_said(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.synced.set()
    recorder = site.recorder()
    with site.open_files():
        work = asyncio.create_task(recorder.run())
        while not recorder.trouble:
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    assert "another process writes to it" in caplog.text


async def test_a_file_that_was_cut_is_opened_again(site: Site) -> None:
    site.synced.set()
    recorder = site.recorder()
    async with site.running(recorder):
        recorder.on_task(None, PENDING.build())
        await recorder.close()
        path = site.root / BELOW / "tasks-00000001.jsonl"
        path.write_bytes(path.read_bytes()[:-7])
        recorder.on_task(PENDING.build(), FAILED.build())
    assert site.told() == [("a", "Failed", ())]


async def test_what_waits_is_bounded_and_what_is_lost_is_said(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    monkeypatch.setattr(module, "MAX_WAITING_TASKS", 8)
    site.synced.set()
    recorder = site.recorder()
    recorder._room = 10
    for number in range(100):  # nothing is written meanwhile
        recorder.on_task(None, PENDING.status(attempt=number).build())
    for number in range(30):
        recorder.on_task(None, task(f"t-{number}").build())
        assert len(recorder._waiting) <= 20
    async with site.running(recorder):
        pass
    assert site.told()[-1][0] == "t-29"
    found = site.lines()
    assert len(found) + found[0]["history"]["lost"] == 130


async def test_a_text_that_looks_like_a_deletion_is_none(site: Site) -> None:
    site.synced.set()
    recorder = site.recorder()
    odd = task("odd").spec(env=[{"name": "X", "value": 'is "deleted":true'}]).metadata(deleted=True)
    async with site.running(recorder):
        recorder.on_task(None, odd.build())
        recorder.on_task(None, PENDING.build())
        recorder.on_task(PENDING.build(), None)
    gone = read_history(site.root, BELOW, Wanted(gone=True)).tasks
    assert [one["metadata"]["name"] for one in gone] == ["a"]


async def test_many_more_than_a_batch(site: Site) -> None:
    site.synced.set()
    recorder = site.recorder()
    async with site.running(recorder):
        for number in range(1700):
            recorder.on_task(None, task(f"t-{number}").build())
    assert [one["history"]["sequence"] for one in site.lines()] == list(range(1, 1701))


@pytest.mark.parametrize(
    "line", ["not json", "[]", '{"metadata": 7}', '{"metadata": {"uid": "x"}, "status": 7}', "{}"]
)
async def test_lines_of_others_are_no_reason_to_stop(site: Site, line: str) -> None:
    (site.root / BELOW).mkdir()
    path = site.root / BELOW / "tasks-00000001.jsonl"
    path.write_text(line + "\n")
    site.synced.set()
    recorder = site.recorder()
    async with site.running(recorder):
        recorder.on_task(None, PENDING.build())
    found = read_history(site.root, BELOW)
    assert [one["metadata"]["name"] for one in found.tasks] == ["a"]
    assert len(found.problems) == 1
    assert found.problems[0].startswith("tasks-00000001.jsonl:1: ")
