from __future__ import annotations

from pathlib import Path

import pytest

from taskctl.api.states import TaskState
from taskctl.cli import datadir
from taskctl.client.base import EventType, WatchEvent
from taskctl.policy.entry import container_name
from taskctl.testing.builders import task, taskcluster
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

RUN_TWICE = (
    task("t")
    .running("c-2", attempt=2)
    .state(TaskState.FAILED)
    .status(attempts=[{"attempt": 1, "podName": "c-1"}])
    .build()
)


def container(attempt: int) -> str:
    return container_name("uid-t", attempt)


def test_latest_and_earlier_attempts(run: Run, client: FakeClient) -> None:
    client.put(RUN_TWICE)
    client.logs = {("c-2", container(2)): b"second\n", ("c-1", container(1)): b"first \xff\n"}
    assert run("logs", "t").stdout_bytes == b"second\n"
    assert run("logs", "t", "--attempt", "1").stdout_bytes == b"first \xff\n"
    missing = run("logs", "t", "--attempt", "3")
    assert (missing.exit_code, "has had 2 attempts" in missing.stderr) == (1, True)


def test_options_reach_the_server(run: Run, client: FakeClient) -> None:
    client.put(RUN_TWICE)
    client.logs = {("c-2", container(2)): b""}
    run("logs", "t", "-f", "--tail", "5", "--timestamps")
    options = client.calls[-1][3]
    assert (options.follow, options.tail_lines, options.timestamps) == (True, 5, True)


def test_not_started(run: Run, client: FakeClient) -> None:
    client.put(task("t").status(reason="Queued").build())
    result = run("logs", "t")
    assert result.exit_code == 1
    assert "t has not started (Pending: Queued)" in result.stderr


def test_follow_waits_for_the_start(run: Run, client: FakeClient) -> None:
    client.put(task("t").build())
    running = task("t").running("c-1").metadata(resourceVersion="101").build()
    client.events = [WatchEvent(EventType.MODIFIED, running)]
    client.logs = {("c-1", container(1)): b"hello\n"}
    assert run("logs", "-f", "t").stdout_bytes == b"hello\n"


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datadir, "data_dir_of", lambda *_: tmp_path)
    logs = tmp_path / "volumes" / "default" / "c-workspace" / ".taskctl" / "logs"
    logs.mkdir(parents=True)
    return logs


def test_copy_in_the_workspace(run: Run, client: FakeClient, volumes: Path) -> None:
    client.put(RUN_TWICE, taskcluster("c").workspace(enable=True).build())
    (volumes / "t.uid-t.2.log").write_bytes(b"one\ntwo\nthree\n")
    result = run("logs", "t")
    assert result.stdout_bytes == b"one\ntwo\nthree\n"
    assert "is not in pod c-2; this is the copy in the workspace" in result.stderr
    assert run("logs", "t", "--tail", "1").stdout_bytes == b"three\n"


def test_gone_without_a_copy_is_said_plainly(run: Run, client: FakeClient, volumes: Path) -> None:
    client.put(RUN_TWICE, taskcluster("c").build())
    result = run("logs", "t")
    assert result.exit_code == 3
    assert ".taskctl/logs/*.uid-t.2.log" in result.stderr
