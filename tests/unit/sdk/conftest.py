"""A process that looks like a task, and the fake agent behind it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskctl.sdk import _blocking, _cancel, _context, _keys, _results
from tests.unit.sdk.fake_agent import TOKEN, FakeAgent


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a process keeps for its life."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(_cancel._State, "requested", False)
    for name in ("TASKCTL_SOCKET", "TASKCTL_TOKEN", "TASKCTL_KEYS", "TASKCTL_DEADLINE_S"):
        monkeypatch.delenv(name, raising=False)
    yield
    signal.signal(signal.SIGTERM, handler)
    _blocking._shared.close()
    _context._current.clear()
    _keys._ledgers.clear()
    _blocking._waiting.close()
    _results.board.__init__()  # type: ignore[misc]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def agent(tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    agent = FakeAgent(tmp_path / "agent.sock", workspace)
    agent.start()
    keys = tmp_path / "keys"
    keys.touch()
    monkeypatch.setenv("TASKCTL_SOCKET", str(agent.path))
    monkeypatch.setenv("TASKCTL_TOKEN", TOKEN)
    monkeypatch.setenv("TASKCTL_KEYS", str(keys))
    monkeypatch.setenv("TASKCTL_DEADLINE_S", "10")
    yield agent
    agent.stop()
