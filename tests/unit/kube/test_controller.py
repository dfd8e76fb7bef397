"""What becomes of a key after each way a reconcile can end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from taskctl.cli.logsetup import TextFormatter
from taskctl.controllers.metrics import Metrics
from taskctl.errors import Conflict, NotFound, TaskctlError, TerminalError, Throttled, Unavailable
from taskctl.kube.controller import Controller, ControllerOptions, Outcome, Result
from taskctl.kube.workqueue import WorkQueue
from tests.unit.kube.fakes import FakeTime, settle


class Case:
    """A controller whose reconciler does what the test says."""

    def __init__(self, *, workers: int = 1, timeout_s: float = 60.0) -> None:
        self.time = FakeTime(chance=0.999999)
        self.metrics = Metrics()
        self.queue = WorkQueue[str]("q", timing=self.time.timing)
        self.outcome: Result | BaseException | None = None
        self.calls: list[str] = []
        self.gate: asyncio.Event | None = None
        self.controller = Controller(
            "task",
            self.queue,
            self.reconcile,
            workers,
            options=ControllerOptions(
                timeout_s=timeout_s,
                observer=self.metrics.on_reconcile,
                timing=self.time.timing,
            ),
        )
        self.metrics.declare_controller("task")

    async def reconcile(self, key: str) -> Result | None:
        self.calls.append(key)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def count(self, outcome: Outcome) -> float | None:
        labels = {"controller": "task", "outcome": outcome.value}
        return self.metrics.registry.get_sample_value("taskctl_reconcile_total", labels)


async def test_success_forgets_earlier_failures() -> None:
    case = Case()
    case.queue.add_rate_limited("a")
    assert await case.controller.process("a") is Outcome.SUCCESS
    assert case.queue.failures("a") == 0
    assert case.count(Outcome.SUCCESS) == 1
    assert case.count(Outcome.ERROR) == 0


async def test_requeue_after() -> None:
    case = Case()
    case.outcome = Result(requeue_after_s=5)
    assert await case.controller.process("a") is Outcome.REQUEUE_AFTER
    case.time.advance(4.9)
    assert len(case.queue) == 0
    case.time.advance(0.2)
    assert case.queue.waiting() == ["a"]
    case.outcome = Result(requeue_after_s=0)
    await case.controller.process("b")
    assert case.queue.waiting() == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "outcome", "level"),
    [
        (Conflict("changed", 409), Outcome.CONFLICT, logging.DEBUG),
        (Unavailable("down"), Outcome.ERROR, logging.INFO),
        (NotFound("no", 404), Outcome.ERROR, logging.WARNING),
        (TaskctlError("other"), Outcome.ERROR, logging.WARNING),
        (RuntimeError("bug"), Outcome.PANIC, logging.ERROR),
        (TimeoutError("somebody else's"), Outcome.PANIC, logging.ERROR),
    ],
)
async def test_failures_are_retried_ever_more_slowly(
    error: Exception, outcome: Outcome, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "taskctl.kube.controller")
    case = Case()
    case.outcome = error
    for _ in range(3):
        assert await case.controller.process("a") is outcome
    assert case.queue.failures("a") == 3
    assert case.count(outcome) == 3
    assert {record.levelno for record in caplog.records} == {level}
    assert ("Traceback" in caplog.text) == (outcome is Outcome.PANIC)
    case.time.advance(0.006)
    assert case.queue.waiting() == ["a"]


async def test_server_that_asks_for_patience_gets_it() -> None:
    case = Case()
    case.outcome = Throttled("busy", 429, retry_after_s=8)
    await case.controller.process("a")
    case.time.advance(7.9)
    assert len(case.queue) == 0
    case.time.advance(0.2)
    assert case.queue.waiting() == ["a"]


async def test_terminal_error_is_not_retried(caplog: pytest.LogCaptureFixture) -> None:
    case = Case()
    case.outcome = TerminalError("spec.image is nonsense")
    assert await case.controller.process("a") is Outcome.TERMINAL
    case.time.advance(1000)
    assert len(case.queue) == 0
    assert case.queue.failures("a") == 0
    assert "spec.image is nonsense" in caplog.text


async def test_deadline() -> None:
    case = Case(timeout_s=0.01)
    case.gate = asyncio.Event()
    assert await case.controller.process("a") is Outcome.TIMEOUT
    assert case.queue.failures("a") == 1


async def test_workers_live_through_everything_and_end_with_the_queue() -> None:
    case = Case(workers=2)
    running = asyncio.create_task(case.controller.run())
    case.outcome = RuntimeError("bug")
    for key in "abc":
        case.queue.add(key)
    await settle()
    assert case.calls == ["a", "b", "c"]
    case.outcome = None
    case.time.advance(1)
    await settle()
    assert sorted(case.calls[3:]) == ["a", "b", "c"]
    case.queue.shutdown()
    await asyncio.wait_for(running, 1)


async def test_as_many_keys_at_a_time_as_workers() -> None:
    case = Case(workers=2)
    case.gate = asyncio.Event()
    running = asyncio.create_task(case.controller.run())
    for key in "abc":
        case.queue.add(key)
    case.queue.add("a")
    await settle()
    assert case.calls == ["a", "b"]
    case.queue.add("a")
    await settle()
    assert case.calls == ["a", "b"]
    case.gate.set()
    await settle()
    assert case.calls == ["a", "b", "c", "a"]
    case.queue.shutdown()
    await running


async def test_cancellation_stops_a_reconcile_under_way() -> None:
    case = Case()
    case.gate = asyncio.Event()
    running = asyncio.create_task(case.controller.run())
    case.queue.add("a")
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert case.queue.processing == ()


async def test_log_lines_name_their_reconcile() -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(TextFormatter())
    logger = logging.getLogger("test.reconcile")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    async def reconcile(key: str) -> None:
        logger.info("hello")

    queue = WorkQueue[str]("q", timing=FakeTime().timing)
    await Controller("task", queue, reconcile).process("default/a")
    logger.info("outside")
    logger.removeHandler(handler)
    assert [line.partition("test.reconcile:")[2] for line in lines] == [
        " [task default/a #1] hello",
        " outside",
    ]
