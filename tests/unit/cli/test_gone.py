"""Verbs that answer from the history of a local stack when a Task is gone."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.gone import tasks_gone
from taskctl.clock import SystemClock
from taskctl.history.files import HistoryFiles, HistoryLimits
from taskctl.history.lines import Transition, encode
from taskctl.outside import session as sessions
from taskctl.testing.builders import task, taskcluster
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

ROOT = task("root").state(TaskState.FAILED, "NonZeroExit").build()
KID = task("kid").child_of(ROOT).running("c-1").status(state="Failed", reason="Timeout").build()
ALIVE = task("alive").build()
CLAIM = {"claimName": "c-workspace"}


def kept(root: Path, *found: tuple[dict[str, Any], bool]) -> None:
    """Append a line for each Task, and whether it was deleted, 90 s ago."""
    clock = SystemClock()
    at = clock.now() - timedelta(seconds=90)
    with HistoryFiles(root, "history", HistoryLimits(), clock) as files:
        for number, (one, deleted) in enumerate(found, 1):
            entry = Transition(task=one, at=at, deleted=deleted, workspace=CLAIM)
            files.append([encode(entry, sequence=number)])


def names_in(text: str) -> set[str]:
    return {line.rpartition("/")[2] for line in text.split()}


@pytest.fixture
def data_dir(client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stack whose tree `root` is gone; `alive` is there."""
    client.put(ALIVE, taskcluster("c").build())
    kept(tmp_path, (ROOT, False), (KID, True), (ROOT, True), (ALIVE, False))
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: tmp_path)
    return tmp_path


def test_get_says_that_it_comes_from_the_history(run: Run, data_dir: Path) -> None:
    result = run("get", "root", "-o", "json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["status"]["state"] == "Failed"
    assert shown["history"]["deleted"] is True
    assert f"root is gone; this is from the history in {data_dir}/history" in result.stderr
    assert "deleted 90s ago" in result.stderr or "deleted 91s ago" in result.stderr
    there = run("get", "alive")
    assert "history" not in there.stderr
    assert run("get", "ghost").exit_code == 3
    assert run("get", "root", "-n", "elsewhere").exit_code == 3


def test_a_tree_that_is_gone(run: Run, data_dir: Path, tmp_path: Path) -> None:
    result = run("tree", "root")
    assert result.exit_code == 0, result.output
    assert "root" in result.stdout
    assert "kid" in result.stdout
    assert "alive" not in result.stdout
    assert names_in(run("get", "--root", "root", "-o", "name").stdout) == {"root", "kid"}
    assert run("get", "--root", "root", "--state", "running", "-o", "name").stdout == ""
    page = tmp_path / "run.html"
    assert run("report", "root", "-o", str(page)).exit_code == 0
    assert "kid" in page.read_text()


def test_one_is_not_many() -> None:
    assert [tasks_gone(count) for count in (0, 1, 2)] == [
        "0 tasks that are gone",
        "1 task that is gone",
        "2 tasks that are gone",
    ]


def test_a_list_of_all_that_is_gone(run: Run, data_dir: Path) -> None:
    result = run("get", "--history", "-o", "name")
    assert result.exit_code == 0, result.output
    assert names_in(result.stdout) == {"root", "kid"}
    assert "2 tasks that are gone" in result.stderr
    assert "kid" in run("tree", "--history").stdout
    assert run("get", "alive", "--history").exit_code == 3
    assert "kid" in run("tree", "root", "--history").stdout
    # Without the option only what is there is listed.
    assert run("get", "-o", "name").stdout == "task.taskctl.dev/alive\n"


def test_an_earlier_task_of_the_same_name(run: Run, client: FakeClient, data_dir: Path) -> None:
    client.put(task("root").uid("uid-2").build())
    assert json.loads(run("get", "root", "-o", "json").stdout)["metadata"]["uid"] == "uid-2"
    earlier = run("get", "root", "--history", "-o", "json")
    assert json.loads(earlier.stdout)["metadata"]["uid"] == "uid-root"


def test_the_log_of_a_task_whose_taskcluster_is_gone_too(
    run: Run, client: FakeClient, data_dir: Path
) -> None:
    from taskctl.agent.workspace import log_file

    del client.objects["TaskCluster", "c"]
    path = data_dir / "volumes" / "default" / "c-workspace" / log_file("kid", "uid-kid", 1)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"what it said\n")
    for words in (("kid",), ("kid", "--history")):
        result = run("logs", *words)
        assert result.exit_code == 0, result.output
        assert result.stdout == "what it said\n"
    tree = run("logs", "root", "--tree")
    assert "kid | what it said" in tree.stdout
    path.unlink()
    gone = run("logs", "kid")
    assert gone.exit_code == 3
    assert "afterDeletionSeconds" in str(gone.exception) + gone.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("get", "--history", "--from", "x"),
        ("tree", "--history", "-w"),
        ("logs", "root", "--history", "-f"),
        ("get", "--history", "-l", "a=b"),
        ("get", "--root", "root", "-l", "a=b"),
    ],
)
def test_what_excludes_each_other(run: Run, data_dir: Path, words: tuple[str, ...]) -> None:
    assert run(*words).exit_code == 2


def test_without_a_history(
    run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: tmp_path)
    assert run("get", "root").exit_code == 3
    result = run("get", "--history")
    assert result.exit_code == 1
    assert "there is no history" in str(result.exception) + result.stderr


def test_a_line_that_cannot_be_read_is_named_and_left_out(run: Run, data_dir: Path) -> None:
    with (data_dir / "history" / "tasks-00000001.jsonl").open("ab") as file:
        file.write(b"rubbish\n")
        file.write(b'{"kind":"Task","half')  # is being written just now
    assert names_in(run("get", "--history", "-o", "name").stdout) == {"root", "kid"}
    result = run("get", "--from", str(data_dir / "history"), "-o", "name")
    assert names_in(result.stdout) == {"root", "kid", "alive"}
    assert "tasks-00000001.jsonl:5: not JSON" in result.stderr
    assert ":6" not in result.stderr


def test_a_directory_can_be_read_elsewhere(run: Run, data_dir: Path) -> None:
    result = run("get", "--from", str(data_dir / "history"), "-o", "name")
    assert names_in(result.stdout) == {"alive", "kid", "root"}
