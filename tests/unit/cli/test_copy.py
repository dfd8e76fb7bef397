"""``taskctl cp``: which of two words is in a workspace, and errors that come before any copy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskctl.cli.copy import Remote, parse_place
from taskctl.cli.exits import UsageError
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient, Object


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("sweep:data/x", Remote("TaskCluster", "sweep", "data/x")),
        ("sweep:", Remote("TaskCluster", "sweep", "")),
        (":x", Remote("TaskCluster", "default", "x")),
        ("tc/sweep:x", Remote("TaskCluster", "sweep", "x")),
        ("taskclusters.taskctl.dev/sweep:x", Remote("TaskCluster", "sweep", "x")),
        ("task/task-0:a:b", Remote("Task", "task-0", "a:b")),
        ("data", "data"),
        ("./sweep:data", "./sweep:data"),
        ("../sweep:data", "../sweep:data"),
        ("/tmp/a:b", "/tmp/a:b"),
        ("folder/a:b", "folder/a:b"),
        ("-", "-"),
    ],
)
def test_places(text: str, place: str | Remote) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "Data:x", "a b:x", "task/Upper:x", "task/:x"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(UsageError):
        parse_place(text)


def cluster(name: str, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "default", "uid": "u"}
    return {"kind": "TaskCluster", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("a", "b"), 2, "one of FROM and TO is in a workspace"),
        (("x:a", "y:b"), 2, "one of FROM and TO is in a workspace"),
        (("Data:x", "-"), 2, "written ./Data:x"),
        (("gone:a", "b"), 3, "gone"),
        (("task/gone:a", "b"), 3, "gone"),
        (("sweep:../a", "b"), 1, "sweep:../a has '..'"),
        (("sweep:/etc/passwd", "-"), 1, "is not in the workspace"),
        (("sweep:a", "b"), 1, "has no running worker"),
        (("bare:a", "b"), 1, "has no workspace"),
        (("./nothing", "sweep:"), 3, "./nothing does not exist"),
    ],
)
def test_what_is_refused(
    run: Run, client: FakeClient, words: tuple[str, ...], code: int, said: str
) -> None:
    client.put(cluster("sweep", replicas=0, workspace={"enable": True}), cluster("bare"))
    result = run("cp", *words)
    assert result.exit_code == code, result.output
    assert said in result.output


def test_what_a_worker_writes_where_there_is_none(run: Run, tmp_path: Path) -> None:
    for verb in ("workspace-read", "workspace-write"):
        result = run(verb, str(tmp_path))
        assert result.exit_code == 2
        assert "this is not a worker" in result.output
