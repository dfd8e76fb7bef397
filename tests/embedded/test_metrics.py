"""The controller's metrics, scraped over HTTP, and by a real Prometheus where there is one."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from taskctl.agent import runtime_dir
from taskctl.kube.timing import SYSTEM_TIMING
from taskctl.metrics.catalog import CATALOG
from taskctl.metrics.dashboard import build_dashboard
from taskctl.testing.stack import LocalStack
from tests.embedded.world import World, eventually
from tests.unit.agent.conftest import World as Worker
from tests.unit.agent.conftest import exit_of
from tests.unit.metrics.exposition import samples, total

PROMETHEUS = shutil.which("prometheus")
FINISHED = "taskctl_tasks_finished_total"
# Queries of the dashboard that have an answer only after something that need not happen here.
NOT_YET = {
    "Why tasks wait: {{reason}}",
    "Spans of traces: {{outcome}}",
    "Workers that go: {{reason}}",
    "Requests on the agents' sockets: refused: {{error}}",
    "Requests of agents to the API server: {{verb}} {{code}}",
    "Requests to the API server: again: {{verb}}",
    "Reconciles: {{controller}} {{outcome}}",
    "Attempts that failed or were lost: failed",
    "Attempts that failed or were lost: lost",
    # A local stack has no recorder of its own.
    "History: lines written: lines",
    "History: lines that wait: waiting",
    "History: requests: {{outcome}}",
}


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


async def scrape(stack: LocalStack) -> str:
    return await asyncio.to_thread(_get, stack.metrics_url())


async def test_a_scrape_tells_of_tasks_that_ran(stack: LocalStack, world: World) -> None:
    ours = {"namespace": world.namespace, "cluster": "c"}
    await world.cluster()
    await world.task("good", "true")
    env = [{"name": "TOKEN", "value": "secret-word"}]
    await world.task("bad", "sh", "-c", "echo secret-word; exit 3", env=env)
    await world.finished("good", timeout_s=60)
    await world.finished("bad", timeout_s=60)

    async def finished() -> float:
        return total(await scrape(stack), FINISHED, **ours)

    await eventually(finished, lambda count: count == 2, timeout_s=60)
    text = await scrape(stack)
    assert total(text, FINISHED, **ours, state="Succeeded", reason="Completed") == 1
    assert total(text, FINISHED, **ours, state="Failed", reason="NonZeroExit") == 1
    assert total(text, "taskctl_attempts_started_total", **ours) >= 2
    assert total(text, "taskctl_slots", **ours) == 4
    assert total(text, "taskctl_leader") == 1
    assert total(text, "taskctl_task_stage_duration_seconds_count", stage="running") >= 2
    assert total(text, "taskctl_api_requests_total", verb="patch") > 0
    assert "secret-word" not in text
    known = {metric.name for metric in CATALOG}
    ends = ("_bucket", "_sum", "_count")
    for name in samples(text):
        bare = next((name.removesuffix(end) for end in ends if name.endswith(end)), name)
        assert name in known or bare in known, name


@pytest.mark.skipif(
    PROMETHEUS is None and os.environ.get("TASKCTL_REQUIRE_PROMETHEUS") != "1",
    reason="needs a Prometheus on PATH",
)
@pytest.mark.timeout(300)
async def test_a_real_prometheus_scrapes_it(
    stack: LocalStack,
    world: World,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scrape the controller and an agent, evaluate the rules and draw the dashboard."""
    monkeypatch.setattr(runtime_dir, "fill", lambda directory: None)
    caplog.set_level("INFO")
    (tmp_path / "agent").mkdir()
    worker = Worker(tmp_path / "agent", timing=SYSTEM_TIMING)
    worker.settings = dataclasses.replace(worker.settings, metrics_port=0)
    await worker.start()
    try:
        agent = re.search(r"metrics on http://([\d.:]+)/metrics", caplog.text)
        assert agent
        peer, _, told = await worker.running("ended")
        await peer.good("exited", **exit_of(told))
        await worker.running()
        await _scraped(stack, world, tmp_path, agent[1])
    finally:
        await worker.close()


async def _scraped(stack: LocalStack, world: World, tmp_path: Path, agent: str) -> None:
    await world.cluster()
    await world.task("t", "true")
    await world.finished("t", timeout_s=60)
    base = _start_of(stack.metrics_url())
    config = tmp_path / "prometheus.yml"
    rules = Path(__file__).resolve().parents[2] / "config/monitoring/alerts.rules.yaml"
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(rules)],
                "scrape_configs": [
                    {
                        "job_name": "taskctl",
                        "honor_labels": True,
                        "static_configs": [
                            {"targets": [base]},
                            {"targets": [agent], "labels": {"pod": "w-1"}},
                        ],
                    }
                ],
            }
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                str(PROMETHEUS),
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        query = f'sum({FINISHED}{{namespace="{world.namespace}"}})'
        url = f"http://127.0.0.1:{port}/api/v1"

        async def values(query: str) -> list[str]:
            ask = f"{url}/query?{urllib.parse.urlencode({'query': query})}"
            try:
                answer: Any = json.loads(await asyncio.to_thread(_get, ask))
            except OSError:
                return []
            return [one["value"][1] for one in answer["data"]["result"]]

        await eventually(lambda: values(query), lambda found: found == ["1"], timeout_s=90)

        async def undrawn() -> set[str]:
            return {
                legend
                for legend, expression in _queries().items()
                if not await values(_filled(expression))
            }

        # What has not happened has no series.
        await eventually(undrawn, lambda left: left <= NOT_YET, timeout_s=90)
        rule_groups = json.loads(await asyncio.to_thread(_get, f"{url}/rules"))
        (group,) = rule_groups["data"]["groups"]
        assert not [rule["name"] for rule in group["rules"] if rule.get("lastError")]
    finally:
        server.terminate()
        server.wait(timeout=30)


def _queries() -> dict[str, str]:
    """Each query of the dashboard by its panel's title and its legend."""
    return {
        f"{panel['title']}: {query['legendFormat']}": query["expr"]
        for panel in build_dashboard()["panels"]
        for query in panel["targets"]
    }


def test_queries_that_may_stay_empty_are_queries_of_the_dashboard() -> None:
    """A renamed panel must not leave its old name here: only a run with Prometheus would tell."""
    assert _queries().keys() >= NOT_YET


def _filled(expression: str) -> str:
    """Fill in Grafana's variables as it does with everything chosen."""
    for name in ("$namespace", "$cluster"):
        expression = expression.replace(f'"{name}"', '".*"')
    return expression.replace("$__rate_interval", "30s")


def _start_of(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc
