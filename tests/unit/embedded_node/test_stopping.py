from __future__ import annotations

from datetime import timedelta

from taskctl.embedded.node.stopping import Stopping
from tests.unit.embedded_node.builders import NOW, later


class Recorder:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def terminate(self) -> None:
        self.calls.append("term")

    def kill(self) -> None:
        self.calls.append("kill")

    def kill_shim(self) -> None:
        self.calls.append("shim")


def test_signals_come_in_order_and_once() -> None:
    item, stop = Recorder(), Stopping(NOW)
    grace = timedelta(seconds=10)
    assert stop.advance([item], NOW, grace) == later(10)
    assert stop.advance([item], later(5), grace) == later(10)
    assert item.calls == ["term"]
    assert stop.advance([item], later(10), grace) == later(15)
    assert stop.advance([item], later(12), grace) == later(17)
    assert item.calls == ["term", "kill"]
    stop.advance([item], later(15), grace)
    assert item.calls == ["term", "kill", "shim"]
    assert stop.advance([], later(16), grace) is None


def test_no_grace_kills_at_once() -> None:
    item = Recorder()
    Stopping(NOW).advance([item], NOW, timedelta(0))
    assert item.calls == ["kill"]


def test_grace_can_be_shortened_but_not_prolonged() -> None:
    item, stop = Recorder(), Stopping(NOW)
    stop.advance([item], NOW, timedelta(seconds=30))
    stop.advance([item], later(5), timedelta(seconds=5))
    assert item.calls == ["term", "kill"]
    other, stop = Recorder(), Stopping(NOW)
    stop.advance([other], NOW, timedelta(seconds=5))
    stop.advance([other], later(6), timedelta(seconds=60))
    assert other.calls == ["term", "kill"]


def test_a_late_comer_is_told_too() -> None:
    first, late, stop = Recorder(), Recorder(), Stopping(NOW)
    stop.advance([first], NOW, timedelta(seconds=10))
    stop.advance([first, late], later(1), timedelta(seconds=10))
    assert late.calls == ["term"]
