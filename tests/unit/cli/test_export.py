"""``taskctl export``, and the verbs that read what it wrote when the cluster is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli import access
from taskctl.errors import ConfigError
from taskctl.history.lines import MAX_LINE_BYTES
from taskctl.testing.builders import task
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

ROOT = task("root").state(TaskState.SUCCEEDED).build()
KID = task("kid").child_of(ROOT).state(TaskState.FAILED, "Timeout").build()
STRANGER = task("stranger").build()


@pytest.fixture
def file(run: Run, client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An export of a tree and a stranger; afterwards there is no cluster any more."""
    client.put(ROOT, KID, STRANGER)
    path = tmp_path / "run.jsonl"
    result = run("export", "-o", str(path))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{path}: 3 tasks")

    async def no_cluster(_: access.Access) -> Any:
        raise ConfigError("there is no cluster")

    monkeypatch.setattr(access, "open_client", no_cluster)
    assert run("get").exit_code != 0
    return str(path)


def test_a_tree_one_line_a_task(run: Run, client: FakeClient) -> None:
    noisy = json.loads(json.dumps(ROOT))
    noisy["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    client.put(noisy, KID, STRANGER)
    lines = [json.loads(line) for line in run("export", "root").stdout.splitlines()]
    assert sorted(one["metadata"]["name"] for one in lines) == ["kid", "root"]
    assert all("managedFields" not in one["metadata"] for one in lines)
    assert {one["status"]["state"] for one in lines} == {"Succeeded", "Failed"}
    assert run("export", "ghost").exit_code == 3
    assert run("export", "root", "-A").exit_code == 2


def test_the_file_is_its_owners(file: str) -> None:
    assert os.stat(file).st_mode & 0o777 == 0o600


def test_what_cannot_be_written(run: Run, client: FakeClient, tmp_path: Path) -> None:
    client.put(ROOT)
    result = run("export", "-o", str(tmp_path / "nowhere" / "run.jsonl"))
    assert result.exit_code != 0
    assert "cannot be written" in str(result.exception) + result.stderr


@pytest.mark.parametrize("verb", [["tree", "root"], ["get"], ["get", "kid", "-o", "json"]])
def test_reading_shows_what_the_cluster_showed(
    run: Run, client: FakeClient, tmp_path: Path, verb: list[str]
) -> None:
    client.put(ROOT, KID)
    path = str(tmp_path / "run.jsonl")
    assert run("export", "-o", path).exit_code == 0
    live = run(*verb).stdout
    kept = run(*verb, "--from", path).stdout
    assert live
    assert kept == live


def test_get_selects_in_the_file(run: Run, file: str) -> None:
    def names(*arguments: str) -> set[str]:
        result = run("get", "--from", file, "-o", "name", *arguments)
        assert result.exit_code == 0, result.output
        return {line.rpartition("/")[2] for line in result.stdout.splitlines()}

    assert names() == {"root", "kid", "stranger"}
    assert names("--state", "failed") == {"kid"}
    assert names("--root", "root") == {"root", "kid"}
    assert names("--cluster", "nowhere") == set()
    assert names("kid", "root") == {"root", "kid"}
    assert names("-n", "elsewhere") == set()
    assert run("get", "ghost", "--from", file).exit_code == 3
    assert run("get", "-l", "a=b", "--from", file).exit_code == 2


def test_tree_and_report_from_the_file(run: Run, file: str, tmp_path: Path) -> None:
    shown = run("tree", "root", "--from", file).stdout
    assert "Timeout" in shown
    assert "stranger" not in shown
    assert run("tree", "root", "--watch", "--from", file).exit_code == 2
    page = tmp_path / "run.html"
    result = run("report", "root", "--from", file, "-o", str(page))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{page}: 2 tasks, 0 logs")
    assert "kid" in page.read_text()


def test_files_can_be_put_together(run: Run, tmp_path: Path) -> None:
    older = task("root").running("c-1").build()
    path = tmp_path / "both.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in (older, ROOT)) + "\n\n")
    assert run("get", "--from", str(path), "-o", "name").stdout.count("root") == 1
    assert "Succeeded" in run("get", "--from", str(path)).stdout


def test_tasks_of_several_namespaces(run: Run, tmp_path: Path) -> None:
    other = json.loads(json.dumps(STRANGER))
    other["metadata"] |= {"namespace": "elsewhere", "uid": "another"}
    path = tmp_path / "all.jsonl"
    path.write_text(json.dumps(ROOT) + "\n" + json.dumps(other) + "\n")
    refused = run("get", "--from", str(path))
    assert refused.exit_code == 2
    assert "elsewhere" in str(refused.exception) + refused.stderr
    assert "stranger" in run("get", "--from", str(path), "-n", "elsewhere").stdout
    assert "root" in run("get", "--from", str(path), "-A").stdout


def broken(**changes: Any) -> str:
    return json.dumps(json.loads(json.dumps(ROOT)) | changes)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "kind"),
        (broken(kind="Pod"), "kind"),
        (broken(apiVersion="taskctl.dev/v9"), "apiVersion"),
        (broken(metadata=None), "metadata.name"),
        (broken(metadata={"name": "x", "namespace": "y", "uid": 1}), "metadata.uid"),
        (broken(status=7), "spec or status"),
        (broken(spec=["a"]), "spec or status"),
        (broken(status={"times": 7}), "status.times"),
        (broken(status={"conditions": ["a"]}), "status.conditions"),
        ("x" * (MAX_LINE_BYTES + 1), "bytes"),
    ],
)
def test_a_line_that_is_no_task(run: Run, tmp_path: Path, line: str, complaint: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(ROOT) + "\n" + line + "\n")
    result = run("get", "--from", str(path))
    assert result.exit_code not in (0, 3)
    said = str(result.exception) + result.stderr
    assert f"{path}:2" in said
    assert complaint in said


def test_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    result = run("tree", "--from", str(tmp_path / "none"))
    assert result.exit_code != 0
    assert "cannot be read" in str(result.exception) + result.stderr
