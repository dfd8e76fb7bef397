from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from taskctl.api.states import TaskState
from taskctl.cli.app import build_app
from taskctl.cli.logprint import Payload
from taskctl.errors import ApiError, Forbidden
from taskctl.kube.interface import EventType, WatchEvent
from taskctl.outside import session as sessions
from taskctl.outside.logpieces import LogPieces, cut_mark
from taskctl.policy.entry import container_name
from taskctl.testing.builders import TaskBuilder, task, taskcluster
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


def step(number: int, builder: TaskBuilder) -> WatchEvent:
    return WatchEvent(
        EventType.MODIFIED, builder.metadata(resourceVersion=str(100 + number)).build()
    )


def test_follow_waits_for_the_start(run: Run, client: FakeClient) -> None:
    client.put(task("t").build())
    client.events = [
        step(1, task("t").running("c-1")),
        step(2, task("t").running("c-1").state(TaskState.SUCCEEDED)),
    ]
    client.logs = {("c-1", container(1)): b"hello\n"}
    assert run("logs", "-f", "t").stdout_bytes == b"hello\n"


def test_follow_goes_over_retries_until_the_task_is_over(run: Run, client: FakeClient) -> None:
    client.put(task("t").running("c-1").build())
    past = [{"attempt": n, "podName": f"c-{n}"} for n in (1, 2)]
    client.events = [
        step(1, task("t").running("c-1").state(TaskState.PENDING)),
        # Attempt 2 was over before we looked again.
        step(2, task("t").running("c-3", attempt=3).status(attempts=past)),
        step(3, task("t").running("c-3", attempt=3).state(TaskState.SUCCEEDED)),
    ]
    client.logs = {(f"c-{n}", container(n)): f"attempt {n}\n".encode() for n in (1, 2, 3)}
    result = run("logs", "-f", "t", "--tail", "1")
    assert result.stdout_bytes == b"attempt 1\nattempt 2\nattempt 3\n"
    assert result.stderr == "--- attempt 2 ---\n--- attempt 3 ---\n"
    assert result.exit_code == 0


def test_follow_of_one_attempt_ends_with_it(run: Run, client: FakeClient) -> None:
    client.put(task("t").running("c-1").build())
    client.logs = {("c-1", container(1)): b"one\n"}
    assert run("logs", "-f", "t", "--attempt", "1").stdout_bytes == b"one\n"


def test_between_attempts_the_latest_that_began_is_shown(run: Run, client: FakeClient) -> None:
    past = [{"attempt": 1, "podName": "c-1"}]
    scheduled = task("t").running("c-2", attempt=2).state(TaskState.SCHEDULED)
    client.put(scheduled.status(attempts=past).build())
    client.logs = {("c-1", container(1)): b"one\n"}
    assert run("logs", "t").stdout_bytes == b"one\n"


def test_a_task_that_never_ran(run: Run, client: FakeClient) -> None:
    client.put(task("t").state(TaskState.CANCELLED, "Cancelled").build())
    for args in (("t",), ("-f", "t")):
        result = run("logs", *args)
        assert (result.exit_code, "never ran (Cancelled" in result.stderr) == (1, True)


def test_a_root_with_tasks_has_no_log(run: Run, client: FakeClient) -> None:
    tasks = [{"name": "a", "command": ["true"]}]
    client.put(task("t").spec(tasks=tasks).status(attempt=1).state(TaskState.FAILED).build())
    for args in (("t",), ("-f", "t")):
        result = run("logs", *args)
        assert result.exit_code == 1
        assert "taskctl logs --tree t prints those of its tasks" in result.stderr


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: tmp_path)
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


LOG = b"".join(b"line %d\n" % number for number in range(2000))
ENDED = task("t").running("c-2", attempt=2).state(TaskState.SUCCEEDED)


@pytest.fixture
def copy(client: FakeClient, volumes: Path) -> Path:
    """A whole copy beside a container's log that has lost its beginning."""
    client.put(ENDED.build(), taskcluster("c").workspace(enable=True).build())
    client.logs = {("c-2", container(2)): LOG[-5000:]}
    path = volumes / "t.uid-t.2.log"
    path.write_bytes(LOG)
    return path


def test_what_the_container_has_lost_comes_from_the_copy(
    run: Run, client: FakeClient, copy: Path
) -> None:
    result = run("logs", "t")
    assert result.stdout_bytes == LOG
    assert "has lost its beginning; this is the copy" in result.stderr
    assert result.exit_code == 0


def test_a_tail_that_reaches_over_the_rotation(run: Run, client: FakeClient, copy: Path) -> None:
    lines = LOG.splitlines(keepends=True)
    for count in (0, 1, 100, 1000, 2000, 9999):
        result = run("logs", "t", "--tail", str(count))
        assert result.stdout_bytes == b"".join(lines[len(lines) - min(count, len(lines)) :])
        assert bool(result.stderr) == (count >= 1000)


def test_times_that_are_lost_are_an_error(run: Run, client: FakeClient, copy: Path) -> None:
    stamped = b"".join(b"2026-01-01T00:00:00.000000001Z " + x for x in LOG.splitlines(True))
    client.logs["c-2", container(2)] = stamped
    whole = run("logs", "t", "--timestamps")
    assert (whole.exit_code, whole.stdout_bytes) == (0, stamped)
    client.logs["c-2", container(2)] = stamped[len(stamped) // 2 :]
    part = run("logs", "t", "--timestamps")
    assert (part.exit_code, part.stdout_bytes) == (1, stamped[len(stamped) // 2 :])
    assert "leave out --timestamps" in part.stderr
    client.logs.clear()
    none = run("logs", "t", "--timestamps")
    assert (none.exit_code, none.stdout_bytes) == (3, b"")
    assert "leave out --timestamps" in none.stderr


def test_a_copy_that_broke_off_is_not_preferred(run: Run, client: FakeClient, copy: Path) -> None:
    copy.write_bytes(LOG[:100])
    result = run("logs", "t")
    assert (result.stdout_bytes, result.stderr) == (LOG[-5000:], "")


@pytest.mark.parametrize("what", ["link", "fifo", "directory", "parent"])
def test_nothing_but_a_file_of_the_workspace_is_read(
    run: Run, client: FakeClient, copy: Path, tmp_path: Path, what: str
) -> None:
    secret = tmp_path / "t.uid-t.2.log"
    secret.write_bytes(b"secret" * 2000)
    copy.unlink()
    if what == "link":
        copy.symlink_to(secret)
    elif what == "fifo":
        os.mkfifo(copy)
    elif what == "directory":
        copy.mkdir()
    else:
        copy.parent.rmdir()
        copy.parent.symlink_to(tmp_path)
    beside = run("logs", "t")
    assert (beside.exit_code, beside.stdout_bytes) == (0, LOG[-5000:])
    client.logs.clear()
    alone = run("logs", "t")
    assert (alone.exit_code, alone.stdout_bytes) == (3, b"")
    assert "cannot be read" in alone.stderr
    followed = run("logs", "-f", "t")
    assert (followed.exit_code, followed.stdout_bytes) == (3, b"")


def test_follow_adds_the_end_that_the_stream_lost(run: Run, client: FakeClient, copy: Path) -> None:
    client.logs["c-2", container(2)] = LOG[:5000]
    result = run("logs", "-f", "t")
    assert (result.exit_code, result.stdout_bytes) == (0, LOG)


def test_follow_says_what_is_missing(run: Run, client: FakeClient, copy: Path) -> None:
    client.logs["c-2", container(2)] = LOG[:5000] + LOG[-5000:]
    result = run("logs", "-f", "t")
    assert result.exit_code == 1
    assert f"{len(LOG) - 10000} bytes are missing above" in result.stderr
    assert "taskctl logs --attempt 2 t" in result.stderr


def test_follow_of_a_long_log_that_has_rotated_uses_the_copy(
    run: Run, client: FakeClient, copy: Path
) -> None:
    long = LOG * 100
    copy.write_bytes(long)
    result = run("logs", "-f", "t")
    assert (result.exit_code, result.stdout_bytes) == (0, long)


def test_a_stream_that_breaks_is_continued_from_the_copy(
    run: Run, client: FakeClient, copy: Path
) -> None:
    client.logs["c-2", container(2)] = LOG[:7777]
    client.broken.add(("c-2", container(2)))
    result = run("logs", "-f", "t")
    assert (result.exit_code, result.stdout_bytes) == (0, LOG)
    assert "the connection broke; what follows is the copy" in result.stderr
    copy.unlink()
    client.objects.pop(("TaskCluster", "c"))
    assert run("logs", "-f", "t").exit_code == 5


def worker_pod(name: str) -> dict[str, Any]:
    state = {"name": "agent", "state": {"running": {}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "labels": {"taskctl.dev/cluster": "c"},
        },
        "status": {"phase": "Running", "containerStatuses": [state]},
    }


def test_through_a_worker(
    run: Run, client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put(ENDED.build(), taskcluster("c").workspace(enable=True).build())
    client.put(worker_pod("c-9"))
    (tmp_path / ".taskctl" / "logs").mkdir(parents=True)
    (tmp_path / ".taskctl" / "logs" / "t.uid-t.2.log").write_bytes(LOG)
    monkeypatch.setenv("TASKCTL_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: None)

    def execute(command: list[str]) -> bytes:
        result = CliRunner().invoke(build_app(), command[1:])
        if result.exit_code:
            raise ApiError(result.stderr)
        return result.stdout_bytes

    client.execute = execute
    result = run("logs", "t")
    assert (result.stdout_bytes, result.exit_code) == (LOG, 0), result.stderr
    assert run("logs", "t", "--tail", "2").stdout_bytes == b"line 1998\nline 1999\n"
    client.logs = {("c-2", container(2)): LOG[:5000]}
    assert run("logs", "-f", "t").stdout_bytes == LOG
    (tmp_path / ".taskctl" / "logs" / "t.uid-t.2.log").unlink()
    client.logs.clear()
    missing = run("logs", "t")
    assert missing.exit_code == 3
    assert "is not there" in missing.stderr


def test_what_cannot_be_checked_is_said(
    run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: None)
    client.put(ENDED.build(), taskcluster("c").workspace(enable=True).build(), worker_pod("c-9"))
    client.logs = {("c-2", container(2)): LOG}

    def refuse(_: list[str]) -> bytes:
        raise Forbidden("pods/exec is forbidden")

    client.execute = refuse
    result = run("logs", "t")
    assert (result.exit_code, result.stdout_bytes) == (0, LOG)
    assert "could not be checked: " in result.stderr
    assert "the right to create and get pods/exec" in result.stderr
    client.execute = lambda _: b"none\n"
    assert run("logs", "t").stderr == ""


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("lines", [0, 1, 2, 3, 20_000])
def test_tails(tmp_path: Path, lines: int, ends: bool) -> None:
    content = b"".join(b"%d\n" % number for number in range(15_000)) + b"\n\nend"
    content += b"\n" if ends else b""
    path = tmp_path / "log"
    path.write_bytes(content)
    split = content.splitlines(keepends=True)
    want = b"".join(split[len(split) - min(lines, len(split)) :])
    assert content[LogPieces(tmp_path, "log").tail_offset(lines) :] == want
    path.write_bytes(b"")
    assert LogPieces(tmp_path, "log").tail_offset(lines) == 0


CUT = b"begin\n" + cut_mark(994) + b"end\n"


def cut(path: Path) -> None:
    """Leave of a log of 1004 bytes its beginning and its end."""
    path.write_bytes(b"begin\n")
    later = path.with_name(path.name + ".d")
    later.mkdir()
    (later / "1000").write_bytes(b"end\n")


@pytest.mark.parametrize("options", [(), ("-f",), ("--tail", "1")])
def test_a_copy_that_was_cut(
    run: Run, client: FakeClient, copy: Path, options: tuple[str, ...]
) -> None:
    cut(copy)
    client.logs.clear()
    want = b"end\n" if "--tail" in options else CUT
    assert run("logs", "t", *options).stdout_bytes == want


def test_a_copy_that_was_cut_through_a_worker(
    run: Run, client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put(ENDED.build(), taskcluster("c").workspace(enable=True).build(), worker_pod("c-9"))
    logs = tmp_path / ".taskctl" / "logs"
    logs.mkdir(parents=True)
    cut(logs / "t.uid-t.2.log")
    monkeypatch.setenv("TASKCTL_WORKSPACE", str(tmp_path))
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: None)
    client.execute = lambda command: CliRunner().invoke(build_app(), command[1:]).stdout_bytes
    assert run("logs", "t").stdout_bytes == CUT
    assert run("logs", "-f", "t").stdout_bytes == CUT


@given(st.lists(st.binary(max_size=8)), st.data())
def test_times_do_not_count(lines: list[bytes], data: st.DataObject) -> None:
    kept = [line.replace(b"\n", b"") + b"\n" for line in lines]
    whole = b"".join(kept)
    stamped = b"".join(b"2026-01-01T00:00:00Z " + line for line in kept)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stamped)), max_size=6)))
    payload = Payload(timestamps=True)
    for start, end in zip([0, *cuts], [*cuts, len(stamped)], strict=True):
        payload.add(stamped[start:end])
    assert (payload.size, payload.lines) == (len(whole), whole.count(b"\n"))


def test_the_log_of_a_task_that_only_a_file_knows(
    run: Run, client: FakeClient, volumes: Path, tmp_path: Path
) -> None:
    client.put(RUN_TWICE, taskcluster("c").workspace(enable=True).build())
    name = RUN_TWICE["metadata"]["name"]
    (volumes / f"{name}.uid-t.2.log").write_bytes(b"one\n")
    path = str(tmp_path / "run.jsonl")
    assert run("export", "-o", path).exit_code == 0
    printed = run("logs", name).stdout
    del client.objects["Task", name]
    assert run("logs", name).exit_code == 3
    kept = run("logs", name, "--from", path)
    assert kept.exit_code == 0, kept.output
    assert kept.stdout == printed
    assert printed
    assert run("logs", "ghost", "--from", path).exit_code == 3
    assert run("logs", name, "--from", path, "--attempt", "9").exit_code == 1
    for option in ("-f", "--tree"):
        refused = run("logs", name, "--from", path, option)
        assert (refused.exit_code, "exclude each other" in refused.stderr) == (2, True)
