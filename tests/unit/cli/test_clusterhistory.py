"""Verbs that answer from the history of a cluster: through the API server, with its rights."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from taskctl.errors import Forbidden, NotFound, Unavailable
from taskctl.history.asking import TOKEN_HEADER, End, parse_question
from taskctl.history.reading import NewestLines, matching_lines
from taskctl.kube.resources import SECRETS, Resource
from taskctl.outside import session as sessions
from taskctl.testing.builders import task
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient
from tests.unit.cli.test_gone import kept

TOKEN = "0123456789abcdef" * 2
PROXY = "/api/v1/namespaces/taskctl-system/services/taskctl-history:history/proxy/history"
ROOT = task("root").build()
KID = task("kid").child_of(ROOT).build()


class Recorder:
    """What stands behind the proxy of the API server."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[str] = []
        self.refuse: Exception | None = None
        self.change: Callable[[bytes], bytes] = lambda body: body

    async def stream(
        self, path: str, *, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes, None]:
        assert path == PROXY
        assert headers == {TOKEN_HEADER: TOKEN}
        self.asked.append(json.dumps(dict(query)))
        if self.refuse is not None:
            raise self.refuse
        question = parse_question(query)
        lines: Any = matching_lines(self.root, "history", question.wanted)
        if question.newest:
            lines = NewestLines(self.root, "history", question.wanted, question.newest)
        body = b"".join(line.data for line in lines) + End().encode()
        body = self.change(body)
        for at in range(0, len(body), 97):  # chunks are not lines
            yield body[at : at + 97]


@pytest.fixture
def recorder(client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    kept(tmp_path, (ROOT, False), (KID, True), (ROOT, True))
    data = {"token": base64.b64encode(TOKEN.encode() + b"\n").decode()}
    secret = {"kind": "Secret", "metadata": {"name": "taskctl-history"}, "data": data}
    client.put(secret, task("alive").build())
    found = Recorder(tmp_path)
    monkeypatch.setattr(sessions, "data_dir_of", lambda *_: None)
    monkeypatch.setattr(client, "stream", found.stream, raising=False)
    return found


def secrets_answer(client: FakeClient, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real = client.get

    async def get(res: Resource, name: str, namespace: str | None = None) -> Any:
        if res is SECRETS:
            raise error
        return await real(res, name, namespace)

    monkeypatch.setattr(client, "get", get)


def test_what_is_gone_is_answered(run: Run, recorder: Recorder, tmp_path: Path) -> None:
    result = run("get", "root", "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["history"]["deleted"] is True
    assert "root is gone; this is from the history of the cluster (taskctl-system)" in result.stderr
    tree = run("tree", "root")
    assert "kid" in tree.stdout
    listed = run("get", "--history", "-o", "name")
    assert {line.rpartition("/")[2] for line in listed.stdout.split()} == {"root", "kid"}
    page = tmp_path / "run.html"
    assert run("report", "root", "-o", str(page)).exit_code == 0
    assert "kid" in page.read_text()


def test_what_exists_asks_nobody_else(run: Run, recorder: Recorder) -> None:
    assert run("get", "alive").exit_code == 0
    assert run("get").exit_code == 0
    assert recorder.asked == []
    assert run("get", "ghost").exit_code == 3
    assert len(recorder.asked) == 1


def test_a_missing_right_is_named(
    run: Run, client: FakeClient, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder.refuse = Forbidden('services "taskctl-history:history" is forbidden', 403)
    result = run("get", "--history")
    assert result.exit_code != 0
    for word in ("services/proxy", "taskctl-history-view", "taskctl-system"):
        assert word in result.stderr
    secrets_answer(client, monkeypatch, Forbidden("secrets is forbidden", 403))
    result = run("get", "--history")
    assert result.exit_code != 0
    for word in ("Secret", "taskctl-history-view", "taskctl-system"):
        assert word in result.stderr
    # Whether there is a history is not known, and the question was for a Task.
    assert run("get", "ghost").exit_code == 3


def test_a_cluster_without_a_history_says_how_to_get_one(
    run: Run, client: FakeClient, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets_answer(client, monkeypatch, NotFound("no such secret", 404))
    result = run("get", "--history")
    assert result.exit_code != 0
    assert "taskctl install --history" in result.stderr
    assert run("get", "ghost").exit_code == 3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda body: body[:-20], "broke"),
        (lambda body: b"", "broke"),
        (lambda body: End(problem="Input/output error").encode(), "Input/output error"),
    ],
    ids=["cut", "empty", "problem"],
)
def test_half_an_answer_is_no_answer(
    run: Run, recorder: Recorder, change: Callable[[bytes], bytes], word: str
) -> None:
    recorder.change = change
    result = run("get", "--history")
    assert result.exit_code != 0
    assert "not read to its end" in result.stderr
    assert word in result.stderr


def test_a_recorder_that_is_away(run: Run, recorder: Recorder) -> None:
    recorder.refuse = Unavailable("no endpoints available", 503)
    result = run("get", "--history")
    assert result.exit_code != 0
    assert "Deployment taskctl-history in taskctl-system" in result.stderr


@pytest.mark.parametrize("data", [None, {}, {"token": "%%%"}, {"token": ""}, {"other": "eA=="}])
def test_a_secret_without_a_token(
    run: Run, client: FakeClient, recorder: Recorder, data: dict[str, str] | None
) -> None:
    client.put({"kind": "Secret", "metadata": {"name": "taskctl-history"}, "data": data})
    result = run("get", "--history")
    assert result.exit_code != 0
    assert "holds no token" in result.stderr
