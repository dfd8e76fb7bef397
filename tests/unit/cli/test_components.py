from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from taskctl.cli import components
from taskctl.cli.logsetup import JsonFormatter, LogFormat, LogLevel, TextFormatter
from taskctl.embedded.images.store import ImageStore
from taskctl.errors import ConfigError
from taskctl.kube.logcontext import RECONCILE_ID
from tests.unit.cli.conftest import Run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Settings that components were started with; logging of the test run stays as it is."""
    seen: list[Any] = []

    async def note(settings: Any) -> None:
        seen.append(settings)

    monkeypatch.setattr("taskctl.cli.components.set_up_logging", lambda *_: None)
    monkeypatch.setattr("taskctl.embedded.server.main.run_server", note)
    monkeypatch.setattr("taskctl.controllers.main.run_controller", note)
    monkeypatch.setattr("taskctl.embedded.node.main.run_node", note)
    monkeypatch.setattr("taskctl.agent.main.run_agent", note)
    return seen


def test_server(run: Run, started: list[Any], tmp_path: Path) -> None:
    result = run("server", "--data-dir", str(tmp_path), "--port", "81")
    assert result.exit_code == 0, result.stderr
    assert (started[0].data_dir, started[0].port, started[0].host) == (tmp_path, 81, "127.0.0.1")


def test_controller_of_a_local_stack_and_of_a_cluster(
    run: Run, started: list[Any], tmp_path: Path
) -> None:
    assert run("controller", "--data-dir", str(tmp_path)).exit_code == 0
    assert started[0].client.kubeconfig == str(tmp_path / "kubeconfig")
    args = ("-n", "a", "--health-port", "8080", "--lease-namespace", "kube-system")
    assert run("controller", *args).exit_code == 0
    assert started[1].client.kubeconfig is None
    assert (started[1].namespace, started[1].health_port) == ("a", 8080)
    assert started[1].lease_namespace == "kube-system"


def test_where_the_controller_may_send_notifications(
    run: Run, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("controller").exit_code == 0
    option = "--notify-allow"
    assert run("controller", option, "a.example.com", option, "http://b:*").exit_code == 0
    monkeypatch.setenv("TASKCTL_NOTIFY_ALLOW", "*.example.com  http://c:8080")
    assert run("controller").exit_code == 0
    hosts = [[(one.scheme, one.host) for one in each.notify_allow] for each in started]
    assert hosts == [
        [],
        [("https", "a.example.com"), ("http", "b")],
        [("https", "example.com"), ("http", "c")],
    ]
    monkeypatch.setenv("TASKCTL_NOTIFY_ALLOW", "https://a/b")
    result = run("controller")
    assert result.exit_code == 2
    assert "'https://a/b' names no host" in result.stderr


def test_controllers_rate_of_requests(run: Run, started: list[Any]) -> None:
    assert run("controller").exit_code == 0
    assert run("controller", "--qps", "12.5", "--burst", "30").exit_code == 0
    limits = [(settings.client.qps, settings.client.burst) for settings in started]
    assert limits == [(100.0, 200), (12.5, 30)]


@pytest.mark.parametrize(
    "args",
    [
        *(("controller", f"--qps={text}") for text in ("-1", "nan", "inf", "-inf", "1e400", "1e9")),
        *(("controller", f"--burst={text}") for text in ("0", "-1", "1.5", "nan", "1" + "0" * 400)),
        *(("controller", f"--health-port={text}") for text in ("-1", "65536", "nan")),
        *(("server", f"--port={text}") for text in ("-1", "65536", "1e3")),
        *(("server", f"--listen-fd={text}") for text in ("2", "-1", "4294967296")),
        *(("local", f"--port={text}") for text in ("0", "-1", "65536", "inf")),
        *(("install", f"--replicas={text}") for text in ("0", "-1", "nan", "1001", "9" * 400)),
    ],
    ids=" ".join,
)
def test_numbers_out_of_bounds(run: Run, started: list[Any], args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    option = args[1].partition("=")[0]
    assert option in result.output + result.stderr
    assert started == []


def test_node(run: Run, started: list[Any], tmp_path: Path) -> None:
    assert run("node", "--data-dir", str(tmp_path), "--image", f"a:1={tmp_path}").exit_code == 0
    names = ImageStore(tmp_path / "images").names()
    assert {name: image.path for name, image in names.items()} == {
        "docker.io/library/a:1": tmp_path
    }


def test_agent_says_which_setting_is_missing(
    run: Run, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POD_NAME", raising=False)
    result = run("agent")
    assert result.exit_code == 2
    assert "POD_NAME" in result.stderr


def test_errors_are_logged_without_a_traceback_if_foreseen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise ConfigError("the port is taken")

    with pytest.raises(ConfigError):
        components.run(fail)
    assert caplog.records[-1].exc_info is None
    assert caplog.records[-1].getMessage() == "the port is taken"


def record(message: str, *, failed: bool = False) -> logging.LogRecord:
    made = logging.LogRecord("taskctl.x", logging.INFO, "f", 1, message, None, None)
    made.created = 1_767_225_600.0625
    if failed:
        try:
            raise ValueError("bad\nvalue")
        except ValueError as error:
            made.exc_info = (ValueError, error, error.__traceback__)
    return made


def test_text_log_golden() -> None:
    formatter = TextFormatter()
    token = RECONCILE_ID.set("task default/a #12")
    try:
        assert formatter.format(record("two\nlines")) == (
            "2026-01-01T00:00:00.062Z INFO  taskctl.x: [task default/a #12] two\n    lines"
        )
    finally:
        RECONCILE_ID.reset(token)
    with_traceback = formatter.format(record("failed", failed=True)).splitlines()
    assert with_traceback[0] == "2026-01-01T00:00:00.062Z INFO  taskctl.x: failed"
    assert all(line.startswith("    ") for line in with_traceback[1:])


def test_json_log_is_one_object_a_line() -> None:
    text = JsonFormatter().format(record("two\nlines", failed=True))
    assert "\n" not in text
    entry = json.loads(text)
    assert (entry["level"], entry["logger"], entry["message"]) == (
        "info",
        "taskctl.x",
        "two\nlines",
    )
    assert "ValueError" in entry["exception"]


def test_levels_and_formats_have_the_names_of_the_options() -> None:
    assert [str(level) for level in LogLevel] == ["debug", "info", "warning", "error"]
    assert [str(form) for form in LogFormat] == ["text", "json"]
