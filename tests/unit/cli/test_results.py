"""``taskctl output``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from taskctl.agent.workspace import object_path
from taskctl.api.states import Codec, TaskState
from taskctl.outside import session as sessions
from taskctl.testing.builders import task, taskcluster, taskobject
from taskctl.wire import pack_value
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient
from tests.unit.cli.test_logs import worker_pod

DONE = task("t").state(TaskState.SUCCEEDED).status(outputObject="t-output")
REF = {"count": list(range(9))}


def stored(root: Path, content: bytes, codec: Codec = Codec.JSON) -> Any:
    """Put a value into a workspace; returns the TaskObject that points to it."""
    digest = hashlib.sha256(content).hexdigest()
    path = root / object_path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return taskobject("t-output").ref(object_path(digest), digest, len(content), codec).build()


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the workspace, as a local stack keeps it."""
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: tmp_path)
    return tmp_path / "volumes" / "default" / "c-workspace"


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        ("json", {"a": [1, "é"]}, '{\n  "a": [\n    1,\n    "é"\n  ]\n}\n'),
        ("json", "two\nlines", '"two\\nlines"\n'),
        ("raw", "two\nlines", "two\nlines"),
        ("raw", {"a": 1}, '{"a":1}\n'),
        ("raw", None, "null\n"),
        ("yaml", {"a": "no"}, 'a: "no"\n'),
        ("json", "\x1b]0;x\x07", '"\\u001b]0;x\\u0007"\n'),
    ],
)
def test_forms(run: Run, client: FakeClient, form: str, value: Any, shown: str) -> None:
    client.put(DONE.build(), taskobject("t-output").value(value).build())
    result = run("output", "t", "-o", form)
    assert (result.exit_code, result.stdout) == (0, shown)


@pytest.mark.parametrize("value", [0, "", [None], {"a": None}])
def test_a_small_output_is_in_the_task(run: Run, client: FakeClient, value: Any) -> None:
    root = task("t").state(TaskState.SUCCEEDED).status(output=value)
    client.put(root.build())
    result = run("output", "t")
    assert (result.exit_code, json.loads(result.stdout)) == (0, value)
    tree = json.loads(run("output", "t", "--tree").stdout)
    assert tree == [{"task": "t", "state": "Succeeded", "output": value}]


def test_data_counts_as_a_map(run: Run, client: FakeClient) -> None:
    client.put(DONE.build(), taskobject("t-output").data(count="3").build())
    assert json.loads(run("output", "t").stdout) == {"count": "3"}
    assert json.loads(run("output", "taskobject/t-output").stdout) == {"count": "3"}


@pytest.mark.parametrize(
    ("state", "reason", "code", "words"),
    [
        (TaskState.RUNNING, "Started", 1, "t has not finished, it is Running (Started)"),
        (TaskState.PENDING, "Queued", 1, "taskctl wait t"),
        (TaskState.FAILED, "NonZeroExit", 1, "t failed (NonZeroExit), so it has no result"),
        (TaskState.CANCELLED, "Cancelled", 1, "t cancelled (Cancelled), so it has no result"),
        (TaskState.SUCCEEDED, None, 0, "t succeeded without a result"),
    ],
)
def test_without_a_result(
    run: Run, client: FakeClient, state: TaskState, reason: str | None, code: int, words: str
) -> None:
    client.put(task("t").state(state, reason).build())
    result = run("output", "t")
    assert (result.exit_code, words in result.stderr) == (code, True), result.stderr


def test_what_a_failed_task_left_is_shown_and_the_code_says_failed(
    run: Run, client: FakeClient
) -> None:
    failed = task("t").state(TaskState.FAILED, "NonZeroExit").status(outputObject="t-output")
    client.put(failed.build(), taskobject("t-output").value(5).build())
    result = run("output", "t")
    assert (result.exit_code, result.stdout) == (1, "5\n")
    assert "this is what it left" in result.stderr


def test_a_deleted_output_says_so(run: Run, client: FakeClient) -> None:
    client.put(DONE.build())
    result = run("output", "t")
    assert result.exit_code == 1
    assert "TaskObject t-output, was deleted" in result.stderr


@pytest.mark.parametrize("codec", list(Codec))
def test_large_values_in_a_directory(
    run: Run, client: FakeClient, local: Path, codec: Codec
) -> None:
    content = json.dumps(REF).encode() if codec is Codec.JSON else pack_value(REF)
    client.put(taskcluster("c").workspace(enable=True).build(), DONE.build())
    client.put(stored(local, content, codec))
    assert json.loads(run("output", "t").stdout) == REF


def test_large_values_through_a_worker(
    run: Run, client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: None)
    content = json.dumps(REF).encode()
    client.put(taskcluster("c").workspace(enable=True).build(), DONE.build())
    client.put(worker_pod("c-1"))
    client.put(stored(tmp_path, content))
    client.execute = lambda _: content
    result = run("output", "t")
    assert json.loads(result.stdout) == REF, result.stderr
    digest = hashlib.sha256(content).hexdigest()
    asked = ["taskctl", "workspace-object", digest, str(len(content))]
    assert client.calls[-1] == ("exec", "c-1", "agent", asked)
    client.execute = lambda _: content[:-1] + b" "
    assert "was changed after it was written" in run("output", "t").stderr


def break_size(root: Path, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def break_content(root: Path, path: Path) -> None:
    path.write_bytes(b"[" + path.read_bytes()[1:])


def break_link(root: Path, path: Path) -> None:
    secret = root / "secret"
    secret.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(secret)


def break_gone(root: Path, path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [break_size, break_content, break_link, break_gone])
def test_a_damaged_file_is_not_printed(
    run: Run, client: FakeClient, local: Path, tmp_path: Path, damage: Any
) -> None:
    client.put(taskcluster("c").workspace(enable=True).build(), DONE.build())
    found = stored(local, json.dumps(REF).encode())
    client.put(found)
    damage(tmp_path, local / found["ref"]["path"])
    result = run("output", "t")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "run the task that made it again" in result.stderr


@pytest.mark.parametrize(
    "ref",
    [
        {"path": "other", "sha256": "0" * 64, "size": 1, "codec": "json"},
        {"path": object_path("0" * 64), "sha256": "0" * 64, "size": 2**40, "codec": "json"},
        {"path": object_path("0" * 64), "sha256": "0" * 64, "size": -1, "codec": "json"},
        {"path": object_path("0" * 64), "sha256": "0" * 64, "size": 1, "codec": "pickle"},
    ],
)
def test_a_reference_that_no_agent_would_write_is_refused(
    run: Run, client: FakeClient, local: Path, ref: dict[str, Any]
) -> None:
    client.put(taskcluster("c").workspace(enable=True).build(), DONE.build())
    client.put(taskobject("t-output").build() | {"ref": ref})
    result = run("output", "t")
    assert (result.exit_code, "TaskObject t-output" in result.stderr) == (1, True)


def test_msgpack_that_is_no_json_is_refused(run: Run, client: FakeClient, local: Path) -> None:
    import msgpack

    client.put(taskcluster("c").workspace(enable=True).build(), DONE.build())
    client.put(stored(local, msgpack.packb({"a": b"\xff"}), Codec.MSGPACK))
    result = run("output", "t")
    assert (result.exit_code, "is not valid msgpack" in result.stderr) == (1, True)


def test_the_tree(run: Run, client: FakeClient) -> None:
    root = DONE.build()
    good = task("b").child_of(root).state(TaskState.SUCCEEDED).status(outputObject="b-output")
    bad = task("a").child_of(root).state(TaskState.FAILED, "NonZeroExit").build()
    client.put(root, good.build(), bad)
    client.put(taskobject("t-output").value(1).build(), taskobject("b-output").value("x").build())
    result = run("output", "t", "--tree")
    assert result.exit_code == 1
    assert "a failed (NonZeroExit)" in result.stderr
    found = json.loads(result.stdout)
    assert found[0] == {"task": "t", "state": "Succeeded", "output": 1}
    assert {entry["task"]: entry for entry in found[1:]} == {
        "b": {"task": "b", "state": "Succeeded", "output": "x"},
        "a": {"task": "a", "state": "Failed", "reason": "NonZeroExit"},
    }


def test_of_an_inner_task_only_what_is_below_it(run: Run, client: FakeClient) -> None:
    root = DONE.build()
    inner = task("b").child_of(root).state(TaskState.SUCCEEDED).build()
    leaf = task("c").child_of(inner).state(TaskState.SUCCEEDED).build()
    client.put(root, inner, leaf, task("other").child_of(root).build())
    found = json.loads(run("output", "b", "--tree").stdout)
    assert [entry["task"] for entry in found] == ["b", "c"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("t", "--tree", "-o", "raw"), "a list has no raw form"),
        (("taskobject/x", "--tree"), "--tree takes a Task"),
        (("t", "--cluster", "c"), "--cluster is for a TaskObject"),
        (("pod/x",), "names neither a Task nor a TaskObject"),
    ],
)
def test_wrong_usage(run: Run, client: FakeClient, arguments: tuple[str, ...], words: str) -> None:
    result = run("output", *arguments)
    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


def test_the_verb_in_a_worker(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKCTL_WORKSPACE", str(tmp_path))
    content = bytes(range(256)) * 999
    ref = stored(tmp_path, content)["ref"]
    result = run("workspace-object", ref["sha256"], str(ref["size"]))
    assert (result.exit_code, result.stdout_bytes) == (0, content)
    assert run("workspace-object", ref["sha256"], "5").exit_code == 1
    assert run("workspace-object", "../../etc/passwd", "5").exit_code == 2
