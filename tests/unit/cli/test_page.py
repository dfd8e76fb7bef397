"""The page's part of the command line: where it listens, and what it asks of single tasks."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.access import Access
from taskctl.cli.exits import UsageError
from taskctl.cli.gone import LocalHistory
from taskctl.cli.page import UiOptions, read_token, ui
from taskctl.cli.pagefile import bind_page, read_page_token, stored_page_url
from taskctl.cli.pageops import LOG_BYTES, LOG_LINES, EarlierTasks, PageOps
from taskctl.clock import SystemClock
from taskctl.embedded import listening
from taskctl.errors import ConfigError, NotFound, TaskctlError
from taskctl.history.files import HistoryFiles, HistoryLimits
from taskctl.history.lines import Transition, encode
from taskctl.policy.entry import container_name
from taskctl.testing.builders import task
from taskctl.ui.ops import TaskRef
from tests.unit.cli.fake import FakeClient

REF = TaskRef("default", "a", "uid-a")


def ops_of(*objects: dict[str, Any]) -> tuple[PageOps, FakeClient]:
    client = FakeClient()
    client.put(*objects)
    return PageOps(Access(), client), client  # type: ignore[arg-type]


# --- the port and the token -------------------------------------------------------------


def test_port_and_token_stay_over_restarts(tmp_path: Path) -> None:
    with bind_page(tmp_path) as first:
        port, token, url = first.getsockname()[1], read_page_token(tmp_path), ""
        url = stored_page_url(tmp_path)
    assert url == f"http://127.0.0.1:{port}/#{token}"
    assert stat.S_IMODE((tmp_path / "page.json").stat().st_mode) == 0o600
    with bind_page(tmp_path) as second:
        assert second.getsockname()[1] == port
        assert stored_page_url(tmp_path) == url


def test_whoever_has_the_old_port_is_not_sent_a_token_that_still_opens(tmp_path: Path) -> None:
    with bind_page(tmp_path) as first:
        port, token = first.getsockname()[1], read_page_token(tmp_path)
    with listening.bind("127.0.0.1", port), bind_page(tmp_path) as second:
        assert second.getsockname()[1] != port
        assert read_page_token(tmp_path) != token


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"port": "x"}', '{"port": 99999999, "token": ""}', "null"]
)
def test_a_damaged_file_is_made_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "page.json").write_text(text)
    with bind_page(tmp_path):
        assert json.loads((tmp_path / "page.json").read_text())["token"]


def test_without_a_page_there_is_no_address(tmp_path: Path) -> None:
    assert stored_page_url(tmp_path) == ""
    with pytest.raises(ConfigError, match="taskctl local"):
        read_page_token(tmp_path)


# --- single tasks -----------------------------------------------------------------------


async def test_another_task_of_the_same_name_is_not_the_one_that_was_shown() -> None:
    ops, _ = ops_of(task("a").uid("another").build())
    for ask in (ops.get, ops.cancel, ops.retry):
        with pytest.raises(NotFound, match="another task"):
            await ask(REF)


async def test_a_log_is_its_last_lines() -> None:
    found = task("a").running("c-1").build()
    ops, client = ops_of(found)
    container = container_name("uid-a", 1)
    client.logs["c-1", container] = b"one\ntwo\n"
    assert (await ops.log(REF, None)).text == b"one\ntwo\n"
    assert not (await ops.log(REF, 1)).cut
    client.logs["c-1", container] = b"x" * (3 * LOG_BYTES)
    cut = await ops.log(REF, None)
    assert len(cut.text) == LOG_BYTES
    assert cut.cut
    client.logs["c-1", container] = b"line\n" * (2 * LOG_LINES)
    assert (await ops.log(REF, None)).text.count(b"\n") <= LOG_LINES + 1
    with pytest.raises(TaskctlError, match="no attempt 7"):
        await ops.log(REF, 7)


async def test_a_task_that_has_not_begun_has_no_log() -> None:
    ops, _ = ops_of(task("a").build())
    with pytest.raises(TaskctlError, match="has not started"):
        await ops.log(REF, None)


async def test_cancel_and_retry_write_what_the_verbs_write() -> None:
    failed = task("a").state(TaskState.FAILED, "NonZeroExit").status(attempt=1, exitCode=1).build()
    ops, client = ops_of(failed)
    await ops.retry(REF)
    status = client.objects["Task", "a"]["status"]
    assert (status["state"], status["attempt"]) == ("Pending", 1)
    with pytest.raises(TaskctlError, match="cannot be retried"):
        await ops.retry(REF)
    await ops.cancel(REF)
    assert client.objects["Task", "a"]["spec"]["cancel"] is True


# --- in a cluster ---------------------------------------------------------------------------------


def test_the_token_of_a_file_opens_the_page(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a" * 64 + "\n")
    assert read_token(path) == "a" * 64


@pytest.mark.parametrize("text", ["", "short", "a" * 31, "a" * 40 + " b", "\u00e9" * 40])
def test_a_token_that_keeps_nobody_out_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(ConfigError, match="openssl rand"):
        read_token(tmp_path / "token")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(tmp_path / "missing")


@pytest.mark.parametrize("addresses", [["0.0.0.0"], ["127.0.0.1", "::"], ["localhost"]])
async def test_nobody_listens_for_others_with_a_token_in_the_log(addresses: list[str]) -> None:
    with pytest.raises(UsageError, match="--token-file"):
        await ui(Access(), UiOptions(listen=addresses))


async def test_a_token_of_a_file_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[Any] = []

    async def serve(
        access: Any, listeners: Any, guard: Any, *, everywhere: bool, ready: Any
    ) -> None:
        told.append(([one.getsockname() for one in listeners], guard, everywhere))
        ready()

    monkeypatch.setattr("taskctl.cli.page.serve", serve)
    token = "0123456789abcdef" * 4
    (tmp_path / "token").write_text(token)
    options = UiOptions(
        listen=["127.0.0.1", "127.0.0.2"],
        token_file=str(tmp_path / "token"),
        origin=["https://tasks.example/"],
        all_namespaces=True,
    )
    assert await ui(Access(), options) == 0
    ((names, guard, everywhere),) = told
    assert everywhere
    assert [name[0] for name in names] == ["127.0.0.1", "127.0.0.2"]
    assert len({name[1] for name in names}) == 1, "one port"
    assert guard.token_right(token)
    assert guard.origins == ("https://tasks.example",)
    assert not guard.write
    said = capsys.readouterr()
    assert token not in said.out + said.err


# --- what is gone -----------------------------------------------------------------------


async def test_a_task_that_is_gone_is_looked_up_in_the_history(tmp_path: Path) -> None:
    one = task("a").state(TaskState.RUNNING, "Started").build()
    clock = SystemClock()
    with HistoryFiles(tmp_path, "history", HistoryLimits(), clock) as files:
        files.append([encode(Transition(task=one, at=clock.now(), deleted=True), sequence=1)])

    async def find() -> LocalHistory:
        return LocalHistory(tmp_path)

    client = FakeClient()
    client.put(task("a").uid("uid-2").build())  # another one has its name now
    ops = PageOps(Access(), client, find_history=find)  # type: ignore[arg-type]
    assert (await ops.get(REF))["history"]["deleted"] is True
    for change in (ops.cancel, ops.retry):
        with pytest.raises(NotFound, match="was deleted"):
            await change(REF)
    with pytest.raises(NotFound):
        await ops.get(TaskRef("default", "a", "uid-3"))
    source, newest = await EarlierTasks(find, "default").newest(10)
    assert source == f"the history in {tmp_path / 'history'}"
    assert [row.name for row in newest.found] == ["a"]
    assert (await EarlierTasks(find, "other").newest(10))[1].found == []


async def test_without_a_history_the_page_says_who_keeps_one() -> None:
    async def find() -> None:
        return None

    with pytest.raises(TaskctlError, match="taskctl local"):
        await EarlierTasks(find, "").newest(10)
