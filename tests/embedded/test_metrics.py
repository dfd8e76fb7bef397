"""The controller's metrics, scraped over HTTP, and by a real Prometheus where there is one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from taskctl.metrics.catalog import CATALOG
from taskctl.testing.stack import LocalStack
from tests.embedded.world import World, eventually
from tests.unit.metrics.exposition import samples, total

PROMETHEUS = shutil.which("prometheus")
FINISHED = "taskctl_tasks_finished_total"


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
@pytest.mark.timeout(180)
async def test_a_real_prometheus_scrapes_it(
    stack: LocalStack, world: World, tmp_path: Path
) -> None:
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
                        "static_configs": [{"targets": [base]}],
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
        ask = f"{url}/query?{urllib.parse.urlencode({'query': query})}"

        async def values() -> list[str]:
            try:
                answer: Any = json.loads(await asyncio.to_thread(_get, ask))
            except OSError:
                return []
            return [one["value"][1] for one in answer["data"]["result"]]

        await eventually(values, lambda found: found == ["1"], timeout_s=90)
        rule_groups = json.loads(await asyncio.to_thread(_get, f"{url}/rules"))
        (group,) = rule_groups["data"]["groups"]
        assert not [rule["name"] for rule in group["rules"] if rule.get("lastError")]
    finally:
        server.terminate()
        server.wait(timeout=30)


def _start_of(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc
