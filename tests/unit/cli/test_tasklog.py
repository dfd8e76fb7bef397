"""``taskctl export --follow``: a line for each transition, in a file that is rotated."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.exits import CliError
from taskctl.cli.tasklog import TaskLog
from taskctl.history.transitions import Transitions
from taskctl.kube.interface import EventType, WatchEvent
from taskctl.testing.builders import TaskBuilder, task
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

MB = 1_000_000


def ended(builder: TaskBuilder) -> dict[str, Any]:
    conditions = [{"type": "Complete", "status": "True"}, {"type": "Succeeded", "status": "True"}]
    return builder.state(TaskState.SUCCEEDED).status(conditions=conditions).build()


ROOT = task("root").state(TaskState.RUNNING).build()
KID = task("kid").child_of(ROOT)
STRANGER = task("stranger").state(TaskState.RUNNING).build()


def events(*objects: dict[str, Any]) -> list[WatchEvent]:
    return [WatchEvent(EventType.MODIFIED, one) for one in objects]


def lines(path: Path) -> list[tuple[str, str]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [(one["metadata"]["name"], one["status"]["state"]) for one in found]


def test_a_line_for_each_transition_until_the_tree_has_ended(
    run: Run, client: FakeClient, tmp_path: Path
) -> None:
    client.put(ROOT, KID.state(TaskState.PENDING).build(), STRANGER)
    running = KID.state(TaskState.RUNNING)
    client.events = events(
        running.build(),
        running.status(progress={"done": 1}).build(),  # no transition
        KID.state(TaskState.FAILED, "Timeout").build(),
        ended(task("stranger")),
        ended(task("root")),
    )
    path = tmp_path / "run.jsonl"
    result = run("export", "root", "--follow", "-o", str(path))
    assert result.exit_code == 0, result.output
    assert sorted(lines(path)[:2]) == [("kid", "Pending"), ("root", "Running")]
    assert lines(path)[2:] == [("kid", "Running"), ("kid", "Failed"), ("root", "Succeeded")]
    assert os.stat(path).st_mode & 0o777 == 0o600
    # Once more: what stands there is not written again, and readers take the last line of each.
    assert run("export", "root", "-f", "-o", str(path)).exit_code == 0
    assert len(lines(path)) == 5
    shown = run("get", "--from", str(path), "-o", "json")
    states = {one["metadata"]["name"]: one["status"]["state"] for one in _items(shown.stdout)}
    assert states == {"root": "Succeeded", "kid": "Failed"}


def _items(text: str) -> list[dict[str, Any]]:
    found = json.loads(text)
    return list(found["items"]) if isinstance(found, dict) else list(found)


def test_to_stdout_and_until_the_root_is_deleted(run: Run, client: FakeClient) -> None:
    client.put(ROOT)
    client.events = [WatchEvent(EventType.DELETED, ROOT)]
    result = run("export", "root", "-f")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["metadata"]["name"] for line in result.stdout.splitlines()] == ["root"]


@pytest.mark.parametrize(
    "words", [("--max-size", "5"), ("--max-size", "5", "-o", "x"), ("-f", "--max-size", "5")]
)
def test_a_size_needs_a_file_that_is_followed(run: Run, words: tuple[str, ...]) -> None:
    assert run("export", *words).exit_code == 2


def test_a_line_that_a_crash_cut_off(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with TaskLog(path, MB) as log:
        log.append([ROOT], [ROOT])
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[: len(whole) // 2])
    result = run("get", "--from", str(path), "-o", "name")
    assert result.exit_code == 0, result.output
    assert "cut off" in result.stderr
    with TaskLog(path, MB) as log:
        assert path.read_bytes() == whole
        log.append([STRANGER], [])
    assert lines(path) == [("root", "Running"), ("stranger", "Running")]
    path.write_bytes(whole[:20])  # nothing but a part of a line
    with TaskLog(path, MB):
        assert path.read_bytes() == b""


def test_a_full_file_is_kept_once_and_the_next_has_all_that_exists(tmp_path: Path) -> None:
    path, older = tmp_path / "run.jsonl", tmp_path / "run.jsonl.1"
    one = len(json.dumps(ROOT))
    with TaskLog(path, 4 * one) as log:
        for _ in range(40):
            log.append([ROOT], [ROOT, STRANGER])
            assert path.stat().st_size <= 5 * one
    assert ("stranger", "Running") in lines(path)
    assert {name for name, _ in lines(older)} <= {"root", "stranger"}
    assert sorted(os.listdir(tmp_path)) == ["run.jsonl", "run.jsonl.1"]


def test_tasks_that_need_more_room_than_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    many = [task(f"t-{number}").build() for number in range(50)]
    with TaskLog(path, 100) as log:
        log.append(many, many)
        inode = path.stat().st_ino
        log.append([ROOT], [*many, ROOT])
        assert path.stat().st_ino == inode  # not begun again for each line


def test_two_do_not_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with TaskLog(path, MB), pytest.raises(CliError, match="another taskctl"):
        TaskLog(path, MB)
    with TaskLog(path, MB):
        pass
    with pytest.raises(CliError, match="cannot be written"):
        TaskLog(tmp_path / "nowhere" / "x", MB)


def test_what_is_remembered_is_bounded_by_what_exists() -> None:
    known = Transitions([KID.build()])
    assert known.update([ROOT, STRANGER], deleted=False, complete=True) == [ROOT, STRANGER]
    assert known.update([STRANGER], deleted=True, complete=False) == []
    assert list(known.tasks) == [ROOT["metadata"]["uid"]]
