"""The agent's metrics, as Prometheus gets them, and as a hostile task may ask for them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskctl.agent.metricsserver import MAX_AT_ONCE, MetricsServer
from taskctl.agent.settings import AgentSettings
from taskctl.api.resources import TASKS
from taskctl.errors import ConfigError
from taskctl.kube.timing import SYSTEM_TIMING
from taskctl.metrics.catalog import CATALOG, MetricKind, Process
from tests.unit.agent.conftest import World, exit_of
from tests.unit.agent.fakes import eventually
from tests.unit.agent.test_parked import give, parked
from tests.unit.metrics.exposition import samples, total

PROMTOOL = shutil.which("promtool")
OURS = {"namespace": "ns", "cluster": "c"}
ASK = b"GET /metrics HTTP/1.1\r\nHost: w\r\n\r\n"


async def asked(port: int, request: bytes = ASK) -> tuple[bytes, str]:
    """Return the status line and the body of an answer."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], body.decode()


@pytest.fixture
async def measured(
    tmp_path: Path, no_fill: None, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[World]:
    caplog.set_level("INFO")
    world = World(tmp_path, timing=SYSTEM_TIMING)
    world.settings = dataclasses.replace(world.settings, metrics_port=0)
    await world.start()
    found = re.search(r"metrics on http://127\.0\.0\.1:(\d+)/metrics", caplog.text)
    assert found
    world.settings = dataclasses.replace(world.settings, metrics_port=int(found[1]))
    try:
        yield world
    finally:
        await world.close()


def port_of(world: World) -> int:
    assert world.settings.metrics_port is not None
    return world.settings.metrics_port


async def scrape(world: World) -> str:
    await asyncio.sleep(1.1)  # it is made once a second at most
    status, text = await asked(port_of(world))
    assert status == b"HTTP/1.1 200 OK"
    return text


async def test_what_an_agent_does_is_counted(measured: World) -> None:
    peer, _, told = await measured.running("secret-name", args=["secret-word"])
    task = await measured.attached(told)
    await task.good("spawn", tasks=[{"key": "a"}, {"key": "b"}])
    assert (await task.refused("no-such-thing"))[0] == "bad_request"
    handed, _, _ = await parked(measured)
    give(measured, measured.task("other-secret"))
    second = await handed.receive()
    assert second is not None
    Path(told["log"]).write_bytes(b"x" * 900)
    later = Path(told["log"] + ".d")
    later.mkdir()
    (later / "1").write_bytes(b"x" * 100)
    before = await scrape(measured)
    assert total(before, "taskctl_agent_runs", **OURS) == 2
    assert total(before, "taskctl_agent_starts_total", **OURS, container="own") == 1
    assert total(before, "taskctl_agent_starts_total", **OURS, container="standby") == 1
    assert total(before, "taskctl_agent_handovers_total", **OURS) == 1
    assert total(before, "taskctl_agent_claims_total", **OURS, outcome="won") == 2
    assert total(before, "taskctl_agent_children_created_total", **OURS) == 2
    assert total(before, "taskctl_agent_requests_total", operation="spawn") == 1
    assert total(before, "taskctl_agent_requests_total", operation="(other)") == 1
    assert total(before, "taskctl_agent_refusals_total", error="bad_request") == 1
    assert total(before, "taskctl_agent_connections") == 3
    assert total(before, "taskctl_agent_memory_bytes") > 1_000_000
    assert total(before, "taskctl_workspace_free_bytes", **OURS) > 0
    await peer.good("exited", **exit_of(told))
    await handed.good("exited", **exit_of(second, code=3))
    after = await scrape(measured)
    assert total(after, "taskctl_agent_runs") == 0
    assert total(after, "taskctl_agent_outcomes_total", **OURS, state="Succeeded") == 1
    assert total(after, "taskctl_agent_outcomes_total", **OURS, state="Failed") == 1
    assert total(after, "taskctl_agent_log_bytes_total", **OURS) == 1000
    for hidden in ("secret", told["uid"], told["env"]["TASKCTL_TOKEN"], "no-such"):
        assert hidden not in after


async def test_a_claim_that_does_not_count_is_lost(measured: World) -> None:
    task = measured.task()
    container = measured.place(task)
    measured.api.change(TASKS, "job", spec={"cancel": True})
    peer, _ = await measured.init(container)
    assert (await peer.good("next"))["action"] == "exit"
    assert total(await scrape(measured), "taskctl_agent_claims_total", outcome="lost") == 1


async def test_what_is_exposed_is_what_the_catalog_says(measured: World) -> None:
    text = await scrape(measured)
    ours = {metric.name: metric for metric in CATALOG if metric.process is Process.AGENT}
    found = samples(text)
    assert found.keys() <= ours.keys()
    for name, by_labels in found.items():
        for labels in by_labels:
            assert {key for key, _ in labels} == set(ours[name].labels)
    assert all(m.kind is not MetricKind.HISTOGRAM for m in ours.values())
    # What nothing has been counted of yet has labels whose values are not known.
    missing = {
        "taskctl_agent_outcomes_total",
        "taskctl_agent_requests_total",
        "taskctl_agent_refusals_total",
        "taskctl_agent_api_requests_total",
    }
    assert ours.keys() - found.keys() == missing
    if PROMTOOL is not None:
        done = await asyncio.to_thread(
            subprocess.run,
            [PROMTOOL, "check", "metrics"],
            input=text.encode(),
            timeout=50,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    else:
        assert os.environ.get("TASKCTL_REQUIRE_PROMETHEUS") != "1"


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics/../etc HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/9\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"\r\n\r\n",
        b"GET /metrics HTTP/1.1".ljust(8192, b"x"),
    ],
)
async def test_there_is_nothing_else_to_ask_for(measured: World, request_: bytes) -> None:
    status, body = await asked(port_of(measured), request_)
    assert status == b"HTTP/1.1 404 Not Found"
    assert "taskctl_" not in body


async def test_silent_connections_delay_a_scrape_and_no_task(
    measured: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskctl.agent.metricsserver.CONNECTION_S", 0.5)
    silent = [
        await asyncio.open_connection("127.0.0.1", port_of(measured))
        for _ in range(MAX_AT_ONCE * 2)
    ]
    _, _, told = await measured.running()
    assert told["action"] == "run"
    assert (await asked(port_of(measured)))[0] == b"HTTP/1.1 200 OK"
    for _, writer in silent:
        writer.close()


async def test_an_agent_whose_port_is_taken_serves_its_tasks(
    tmp_path: Path, no_fill: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        world = World(tmp_path)
        port = int(taken.getsockname()[1])
        world.settings = dataclasses.replace(world.settings, metrics_port=port)
        await world.start()
        try:
            assert "metrics cannot be served" in caplog.text
            _, _, told = await world.running()
            assert told["action"] == "run"
            taken.close()
            world.time.advance(31)
            await eventually(lambda: "metrics on http" in caplog.text, "served")
            assert (await asked(port))[0] == b"HTTP/1.1 200 OK"
        finally:
            await world.close()


async def test_head_and_get_are_answered() -> None:
    made = 0

    def render() -> bytes:
        nonlocal made
        made += 1
        return b"taskctl_x 1\n"

    server = MetricsServer("127.0.0.1", 0, render, SYSTEM_TIMING)
    await server.start()
    try:
        head = b"HEAD /metrics HTTP/1.0\r\n\r\n"
        assert (await asked(server.port, head)) == (b"HTTP/1.1 200 OK", "")
        assert (await asked(server.port, b"GET /metrics?a=b HTTP/1.0\r\n\r\n"))[
            1
        ] == "taskctl_x 1\n"
    finally:
        await server.stop()
    assert made == 2


@pytest.mark.parametrize(("text", "port"), [("", None), ("9464", 9464)])
def test_the_port_is_in_the_environment(tmp_path: Path, text: str, port: int | None) -> None:
    env = {"POD_NAME": "w", "POD_NAMESPACE": "ns", "POD_UID": "u", "TASKCTL_CLUSTER": "c"}
    env |= {"TASKCTL_RUNTIME_DIR": str(tmp_path), "TASKCTL_STATE_DIR": str(tmp_path)}
    settings = AgentSettings.from_env(env | {"TASKCTL_METRICS_PORT": text, "POD_IP": "10.0.0.9"})
    assert (settings.metrics_port, settings.metrics_host) == (port, "10.0.0.9")


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "９", " 80"])
def test_a_port_that_cannot_be_is_named(tmp_path: Path, text: str) -> None:
    env = {"POD_NAME": "w", "POD_NAMESPACE": "ns", "POD_UID": "u", "TASKCTL_CLUSTER": "c"}
    env |= {"TASKCTL_RUNTIME_DIR": str(tmp_path), "TASKCTL_STATE_DIR": str(tmp_path)}
    with pytest.raises(ConfigError, match="TASKCTL_METRICS_PORT"):
        AgentSettings.from_env(env | {"TASKCTL_METRICS_PORT": text})
