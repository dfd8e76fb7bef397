"""current(): who this task is, its input, its directory; large values."""

from __future__ import annotations

import errno
import json
import stat
from pathlib import Path

import msgpack
import pytest

from taskctl import sdk
from taskctl.sdk import _stored, sync
from tests.unit.sdk.fake_agent import FakeAgent


def test_who_am_i(agent: FakeAgent, workspace: Path) -> None:
    me = sdk.current()
    assert (me.name, me.namespace, me.uid, me.attempt) == ("count-1", "default", "uid-1", 2)
    assert (me.root, me.parent, me.depth, me.cluster) == ("count-0", "count-0", 1, "main")
    assert me.workspace == workspace
    assert sdk.current() is me
    assert agent.attaches == 1


def test_without_workspace(agent: FakeAgent) -> None:
    agent.attached["workspace"] = ""
    me = sdk.current()
    assert me.workspace is None
    with pytest.raises(sdk.NoWorkspace, match="task_dir"):
        _ = me.task_dir


def test_task_dir_is_kept_across_attempts(agent: FakeAgent, workspace: Path) -> None:
    first = sdk.current().task_dir
    (first / "checkpoint").write_text("7")
    assert sdk.current().task_dir == first
    assert first == workspace / ".taskctl" / "tasks" / "uid-1"
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o1777


def test_input_is_asked_for_once(agent: FakeAgent) -> None:
    agent.input = {"value": {"n": 1, "list": [1, None]}}
    assert sdk.current().input == {"n": 1, "list": [1, None]}
    assert sdk.current().input == {"n": 1, "list": [1, None]}
    assert agent.requests == [{"id": 2, "op": "input", "format": "value"}]


def test_no_input(agent: FakeAgent) -> None:
    assert sdk.current().input is None


def test_large_input(agent: FakeAgent) -> None:
    value = {"text": "x" * 5000}
    agent.input = {"ref": agent.store(value)}
    assert sdk.current().input == value


def test_large_input_as_msgpack(agent: FakeAgent, workspace: Path) -> None:
    import hashlib

    encoded = msgpack.packb({"raw": b"\xff"})
    (workspace / "file").write_bytes(encoded)
    digest = hashlib.sha256(encoded).hexdigest()
    reference = {"path": "file", "sha256": digest, "size": len(encoded), "codec": "msgpack"}
    agent.input = {"ref": reference}
    assert sdk.current().input == {"raw": b"\xff"}


def test_input_is_gone(agent: FakeAgent, workspace: Path) -> None:
    reference = agent.store([1])
    (workspace / reference["path"]).unlink()
    agent.input = {"ref": reference}
    with pytest.raises(sdk.InputMissing, match=reference["path"]):
        _ = sdk.current().input


@pytest.mark.parametrize("content", [b"[2]", b"[1] ", b""])
def test_input_was_changed(agent: FakeAgent, workspace: Path, content: bytes) -> None:
    reference = agent.store([1])
    (workspace / reference["path"]).write_bytes(content)
    agent.input = {"ref": reference}
    with pytest.raises(sdk.InputCorrupt, match="changed after it was written"):
        _ = sdk.current().input


@pytest.mark.parametrize(
    ("codec", "message"), [("pickle", "pickle"), ("msgpack", "not valid msgpack")]
)
def test_input_in_another_codec(agent: FakeAgent, codec: str, message: str) -> None:
    agent.input = {"ref": {**agent.store([1, "a longer one"]), "codec": codec}}
    with pytest.raises(sdk.InputCorrupt, match=message):
        _ = sdk.current().input


# --- values over the inline limit --------------------------------------------------------------


def test_large_output_goes_to_the_workspace(agent: FakeAgent, workspace: Path) -> None:
    value = {"text": "ü" * 2000}
    sync.output(value)
    [request] = agent.asked("output")
    reference = request["ref"]
    assert "value" not in request
    assert reference["codec"] == "json"
    digest = reference["sha256"]
    assert reference["path"] == f".taskctl/objects/{digest[:2]}/{digest}"
    path = workspace / reference["path"]
    assert path.stat().st_size == reference["size"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o1777
    assert json.loads(path.read_bytes()) == value
    agent.input = {"ref": reference}
    assert sdk.current().input == value, "what was spilled can be read"


def test_equal_values_are_stored_once(agent: FakeAgent, workspace: Path) -> None:
    sync.spawn_many([sdk.child(["a"], key=str(n), input="x" * 2000) for n in range(3)])
    files = [path for path in (workspace / ".taskctl").rglob("*") if path.is_file()]
    assert len(files) == 1
    assert len({spec["ref"]["sha256"] for spec in agent.spawned()}) == 1


@pytest.mark.parametrize("size", [100, 900, 990])
def test_small_values_stay_inline(agent: FakeAgent, size: int) -> None:
    sync.output("x" * size)
    assert agent.asked("output")[0]["value"] == "x" * size


def test_size_is_that_of_the_json(agent: FakeAgent) -> None:
    sync.output("\0" * 300)  # 300 bytes as msgpack, 1,800 as JSON
    assert "ref" in agent.asked("output")[0]


def test_a_workspace_that_cannot_be_written_is_left_to_the_agent(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(_stored, "make_shared_directory", read_only)
    sync.output("x" * 500_000)
    sync.spawn(["true"], input=["y" * 500_000])
    assert agent.asked("output")[0]["value"] == "x" * 500_000
    assert agent.spawned()[0]["value"] == ["y" * 500_000]
    with pytest.raises(sdk.Unsendable, match=r"the output: has 16000002 bytes .*readOnlyWorkspace"):
        sync.output("x" * 16_000_000)


def test_without_workspace_the_agent_decides(agent: FakeAgent) -> None:
    agent.attached["workspace"] = ""
    agent.refusals["output"] = ("no_workspace", "value: has 2002 bytes")
    with pytest.raises(sdk.NoWorkspace, match="2002 bytes"):
        sync.output("x" * 2000)


def test_lone_surrogate(agent: FakeAgent) -> None:
    with pytest.raises(sdk.Unsendable, match=r"the output: .*lone surrogate"):
        sync.output("\ud800")
