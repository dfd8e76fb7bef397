"""What an operator does: Helm installs, a browser and Prometheus look, an upgrade, the end."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from taskctl import __version__
from taskctl.api.resources import TASKS
from tests.cluster.conftest import DEPLOYMENT, INSTALLED, SYSTEM_NAMESPACE, install
from tests.cluster.release import (
    CHART,
    HELM_S,
    Release,
    delete_accounts,
    delete_work,
    left,
    left_in_the_end,
    must,
    uninstall,
)
from tests.cluster.scraping import Prometheus, definitions, scrape_config, scraping
from tests.cluster.world import ClusterWorld
from tests.embedded.world import Object, eventually
from tests.realnode.helm import ensure_helm, find_helm
from tests.realnode.node import NativeNode

pytestmark = pytest.mark.timeout(600)

IMAGE = f"docker.io/library/taskctl:{__version__}"
NEXT = f"{__version__}-next"
TOKEN = "0123456789abcdef" * 4
PAGE_HOST = "localhost:8080"
CRDS = {
    f"CustomResourceDefinition <none> {kind}.taskctl.dev"
    for kind in ("tasks", "taskclusters", "taskobjects")
}
# What Helm did not make: the namespace, what the controller and the operator made in it, and what
# Kubernetes makes in each.
KEPT = CRDS | {
    "Namespace <none> taskctl-system",
    "Lease taskctl-system taskctl-controller",
    "Secret taskctl-system taskctl-page",
    "Secret taskctl-system taskctl-history",
    "ServiceAccount taskctl-system default",
    "ConfigMap taskctl-system kube-root-ca.crt",
}
SETTINGS = (
    "--set=monitoring=true,page.enabled=true,history.enabled=true",
    "--wait",
    f"--timeout={HELM_S}s",
)
WAITS = "until [ -e /workspace/go ]; do sleep 0.1; done; echo $TASK_NAME >> /workspace/ran"


@pytest.fixture(scope="module")
def bare(node: NativeNode) -> Iterator[NativeNode]:
    """Return the node without anything of taskctl, but with the Prometheus operator's kinds.

    What was installed is uninstalled as the docs say, and put back in the end.
    """
    if os.environ.get(INSTALLED):
        pytest.skip("another controller is to stay")
    try:
        if left(node):
            if node.kubectl("-n", SYSTEM_NAMESPACE, "get", DEPLOYMENT).returncode != 0:
                install(node)
            uninstall(node)
        assert left_in_the_end(node, set()) == set()
        kinds = {"apiVersion": "v1", "kind": "List", "items": definitions()}
        must(node, "apply", "-f", "-", text=json.dumps(kinds))
        tagged = node.ctr("images", "tag", "--force", IMAGE, IMAGE.replace(__version__, NEXT))
        assert tagged.returncode == 0, tagged.stderr
        yield node
    finally:
        release = the_release(node)
        if release.is_there():
            release.run("uninstall")
        # The installation that comes next brings the CRDs up to date.
        install(node)
        names = [one["metadata"]["name"] for one in definitions()]
        must(node, "delete", "crd", "--ignore-not-found", *names)


def the_release(node: NativeNode) -> Release:
    """Return the release, whether it is installed or not."""
    return Release(find_helm() or str(ensure_helm()), node, SYSTEM_NAMESPACE)


@pytest.fixture
def release(bare: NativeNode) -> Release:
    """Return the release, installed as docs/install.md and docs/page.md say."""
    release = the_release(bare)
    if release.is_there():
        return release
    if bare.kubectl("get", "namespace", SYSTEM_NAMESPACE).returncode != 0:
        must(bare, "create", "namespace", SYSTEM_NAMESPACE)
        for name in ("taskctl-page", "taskctl-history"):
            must(
                bare, "-n", SYSTEM_NAMESPACE, "create", "secret", "generic", name,
                f"--from-literal=token={TOKEN}",
            )  # fmt: skip
    release.run("install", str(CHART), "--create-namespace", *SETTINGS)
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    must(bare, "label", "namespace", SYSTEM_NAMESPACE, enforce)
    return release


@pytest.fixture
def installation(release: Release) -> NativeNode:
    """Take the place of what the other tests have installed."""
    return release.node


async def test_the_page_shows_tasks_to_those_who_know_the_token(world: ClusterWorld) -> None:
    await world.cluster()
    await world.task("shown", "true")
    await world.finished("shown")
    async with forwarded(world.node) as page, aiohttp.ClientSession() as http:
        # The port on this side is any free one here, so the Host is said as it would be.
        host = {"Host": PAGE_HOST}
        own = host | {"Origin": f"http://{PAGE_HOST}"}
        async with http.get(page, headers=host) as answer:
            assert answer.status == 200
            assert "Content-Security-Policy" in answer.headers
        async with http.get(f"{page}/api/events", headers=host) as answer:
            assert answer.status == 401
        wrong = {"token": TOKEN + "x"}
        async with http.post(f"{page}/api/session", json=wrong, headers=own) as answer:
            assert answer.status == 401
        async with http.get(page) as answer:
            assert answer.status == 421, "it answers to a name that is not its own"
        async with http.post(f"{page}/api/session", json={"token": TOKEN}, headers=own) as answer:
            assert answer.status == 200
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        headers = host | {"Cookie": cookie}
        async with http.get(f"{page}/api/events", headers=headers) as answer:
            assert answer.status == 200
            text = ""
            async with asyncio.timeout(60):
                while world.namespace not in text or "shown" not in text:
                    text += (await answer.content.readany()).decode()


@asynccontextmanager
async def forwarded(node: NativeNode | None) -> AsyncIterator[str]:
    """Forward a port of this machine to the page's Service; returns its address."""
    assert node is not None
    process = await asyncio.create_subprocess_exec(
        "kubectl", f"--kubeconfig={node.admin}", "-n", SYSTEM_NAMESPACE,
        "port-forward", "service/taskctl-page", ":8080",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        found = re.search(r"127\.0\.0\.1:\d+", line)
        assert found, line
        yield f"http://{found[0]}"
    finally:
        process.terminate()
        await process.wait()


async def test_prometheus_finds_controllers_and_agents(world: ClusterWorld, tmp_path: Path) -> None:
    program = shutil.which("prometheus")
    if program is None:
        message = "needs a Prometheus on PATH"
        if os.environ.get("TASKCTL_REQUIRE_PROMETHEUS"):
            pytest.fail(message)
        pytest.skip(message)
    await world.cluster(replicas=2)
    ours = f'{{namespace="{world.namespace}"}}'
    monitors = await listed(world, "servicemonitors,podmonitors")
    jobs = await asyncio.to_thread(
        lambda: [scrape_config(one, functools.partial(selected, world)) for one in monitors]
    )
    (rules,) = await listed(world, "prometheusrules")
    async with scraping(program, tmp_path, jobs, rules["spec"]) as prometheus:
        # Two controllers and the recorder of the history.
        up = {
            "ServiceMonitor/taskctl-controller": ["up"] * 3,
            "PodMonitor/taskctl-workers": ["up"] * 2,
        }
        await eventually(prometheus.health, lambda found: found == up, timeout_s=180)
        await world.task("seen", "sh", "-c", WAITS)
        await eventually(
            lambda: prometheus.value(f"sum(taskctl_agent_runs{ours})"),
            lambda found: found == 1,
            timeout_s=60,
            what="seen as it runs",
        )
        (world.workspace() / "go").touch()
        await world.finished("seen")
        for query in (f"sum(taskctl_tasks_finished_total{ours})",
                      f"sum(taskctl_agent_outcomes_total{ours})"):  # fmt: skip
            await eventually(
                functools.partial(prometheus.value, query), lambda found: found == 1, timeout_s=60
            )
        await eventually(
            lambda: prometheus.value("sum(taskctl_history_lines)"),
            lambda found: found is not None and found > 0,
            timeout_s=60,
            what="recorded",
        )
        assert await prometheus.value("sum(taskctl_leader)") == 1
        assert await prometheus.value('count by (alertname) (ALERTS{alertstate="firing"})') is None
        (group,) = (await prometheus.ask("rules"))["groups"]
        assert not [rule["name"] for rule in group["rules"] if rule.get("lastError")]
        assert await failing_queries(world, prometheus) == []


async def listed(world: ClusterWorld, kinds: str) -> list[Object]:
    """Return the release's objects of these kinds."""
    assert world.node is not None
    text = await asyncio.to_thread(
        must, world.node, "-n", SYSTEM_NAMESPACE, "get", kinds, "-o", "json"
    )
    items: list[Object] = json.loads(text)["items"]
    return items


def selected(world: ClusterWorld, kind: str, namespace: str | None, selector: str) -> list[Object]:
    """Return the objects of a namespace that a label selector chooses.

    For all namespaces, the test's own stands: workers of other tests are on their way out.
    """
    assert world.node is not None
    where = ["-n", world.namespace if namespace is None else namespace]
    text = must(world.node, "get", kind, "-l", selector, *where, "-o", "json")
    items: list[Object] = json.loads(text)["items"]
    return items


async def failing_queries(world: ClusterWorld, prometheus: Prometheus) -> list[str]:
    """Return the queries of the dashboard in the cluster that Prometheus refuses."""
    maps = await listed(world, "configmaps")
    (text,) = (one["data"]["taskctl.json"] for one in maps if "taskctl.json" in one["data"])
    failing = []
    for panel in json.loads(text)["panels"]:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "30s")
            if "result" not in await prometheus.ask("query", query=query):
                failing.append(target["expr"])
    return failing


async def test_an_upgrade_ends_no_task(world: ClusterWorld, release: Release) -> None:
    await world.cluster(slotsPerWorker=1)
    await world.task("runs", "sh", "-c", WAITS)
    await world.in_state("runs", "Running")
    await world.task("waits", "sh", "-c", WAITS)
    (worker,) = await world.workers()
    await asyncio.to_thread(
        release.run, "upgrade", str(CHART), "--reset-then-reuse-values",
        f"--set=image.tag={NEXT}", "--wait", f"--timeout={HELM_S}s",
    )  # fmt: skip
    assert (await world.get(TASKS, "runs"))["status"]["state"] == "Running"
    (world.workspace() / "go").touch()
    for name in ("runs", "waits"):
        status = (await world.finished(name, timeout_s=180))["status"]
        assert (status["state"], status["attempt"]) == ("Succeeded", 1), status
        if name == "runs":
            assert status["podUID"] == worker["metadata"]["uid"]
    assert sorted((world.workspace() / "ran").read_text().split()) == ["runs", "waits"]

    async def images() -> set[str]:
        return {pod["spec"]["containers"][0]["image"] for pod in await world.workers()}

    await eventually(images, lambda found: found == {f"taskctl:{NEXT}"}, timeout_s=180)


def test_nothing_is_left_but_what_the_docs_say(release: Release) -> None:
    node = release.node
    delete_work(node)
    release.run("uninstall", "--wait", f"--timeout={HELM_S}s")
    delete_accounts(node)
    assert left_in_the_end(node, KEPT) == KEPT
