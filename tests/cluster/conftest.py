"""taskctl installed on the native node as a user would; a namespace for each test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from taskctl.kube.client import KubeClient
from taskctl.kube.config import ClientSettings
from tests.cluster.oracle import Oracle
from tests.cluster.world import ClusterWorld
from tests.realnode import image_buildah
from tests.realnode.images import ImageError
from tests.realnode.node import NativeNode, cluster_directory

SYSTEM_NAMESPACE = "taskctl-system"
DEPLOYMENT = "deployment/taskctl-controller"
REQUIRE = "TASKCTL_REQUIRE_CLUSTER"
REQUIRE_BUILDAH = "TASKCTL_REQUIRE_BUILDAH"
# A controller runs already (one under development, say): don't install, don't restart.
INSTALLED = "TASKCTL_CLUSTER_INSTALLED"
ROLLOUT_S = 120
LOG_LINES = 60


@pytest.fixture(scope="session")
def node() -> NativeNode:
    """Return the native node, which ``scripts/cluster up`` has started."""
    node = NativeNode(cluster_directory())
    if not node.is_up():
        message = "no native node runs; start it with ./scripts/cluster up (./scripts/test-cluster)"
        if os.environ.get(REQUIRE):
            pytest.fail(message)
        pytest.skip(message)
    return node


@pytest.fixture(scope="session")
def shipped(node: NativeNode) -> str:
    """Return the image that buildah makes from the Containerfile, which is on the node then."""
    try:
        return load_shipped(node)
    except ImageError as error:
        pytest.skip(str(error))


def load_shipped(node: NativeNode) -> str:
    """Load the image that buildah makes from the Containerfile; returns its name.

    Raises:
        ImageError: it cannot be built here, and that is no failure.
    """
    try:
        node.load(image_buildah.archive())
    except ImageError as error:
        if os.environ.get(REQUIRE_BUILDAH):
            pytest.fail(str(error))
        raise
    return image_buildah.REFERENCE


@pytest.fixture(scope="session")
def installation(node: NativeNode) -> NativeNode:
    """Install taskctl for the whole cluster, with kubectl, and wait until it serves."""
    if os.environ.get(INSTALLED):
        return node
    install(node)
    return node


def install(node: NativeNode) -> None:
    """Install taskctl as docs/install.md says, and wait until it serves."""
    manifests = subprocess.run(
        [sys.executable, "-m", "taskctl", "install", "--namespace", SYSTEM_NAMESPACE],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    applied = node.kubectl("apply", "-f", "-", text=manifests)
    assert applied.returncode == 0, applied.stderr
    # The image may have been built anew under the same name.
    node.kubectl("-n", SYSTEM_NAMESPACE, "rollout", "restart", DEPLOYMENT)
    wait_rolled_out(node)


def wait_rolled_out(node: NativeNode) -> None:
    """Wait until all replicas of the controller are up."""
    done = node.kubectl(
        "-n", SYSTEM_NAMESPACE, "rollout", "status", DEPLOYMENT, f"--timeout={ROLLOUT_S}s",
        "--request-timeout=0", timeout_s=ROLLOUT_S + 10,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + controller_logs(node)


def controller_logs(node: NativeNode) -> str:
    """Return the ends of the controllers' logs."""
    selector = "app.kubernetes.io/name=taskctl-controller"
    arguments = ("-n", SYSTEM_NAMESPACE, "logs", "-l", selector, "--prefix", f"--tail={LOG_LINES}")
    done = node.kubectl(*arguments)
    return done.stdout + done.stderr


def agent_logs(world: ClusterWorld) -> str:
    """Return the ends of the logs of a world's agents, and of those that crashed before."""
    assert world.node is not None
    selector = "app.kubernetes.io/managed-by=taskctl"
    base = ("-n", world.namespace, "logs", "-l", selector, "-c", "agent", "--prefix")
    parts = [world.node.kubectl(*base, f"--tail={LOG_LINES}", *more) for more in ((), ("-p",))]
    return "\n".join(done.stdout + done.stderr for done in parts)


@pytest.fixture
async def client(installation: NativeNode) -> AsyncIterator[KubeClient]:
    """Return an administrator's client."""
    settings = ClientSettings(kubeconfig=installation.admin)
    async with await KubeClient.connect(settings) as client:
        yield client


@pytest.fixture
async def world(
    installation: NativeNode, client: KubeClient, request: pytest.FixtureRequest
) -> AsyncIterator[ClusterWorld]:
    """Return a namespace of the test's own, deleted afterwards."""
    world = await ClusterWorld.on_node(client, request.node.name, installation)
    try:
        yield world
        if getattr(request.node, "failed_call", False):
            await asyncio.to_thread(describe, request.node, world)
    finally:
        await world.delete()


@pytest.fixture
async def oracle(world: ClusterWorld, node: NativeNode) -> AsyncIterator[Oracle]:
    """Return the judge of what happens in the test's namespace."""
    async with Oracle.watching(world, node) as oracle:
        yield oracle


def describe(item: pytest.Item, world: ClusterWorld) -> None:
    """Keep what a failed test's namespace looked like, for its report."""
    assert world.node is not None
    parts = []
    for what in ("taskclusters,tasks", "pods", "events"):
        done = world.node.kubectl("-n", world.namespace, "get", what, "-o", "wide")
        parts.append(done.stdout + done.stderr)
    parts.append(agent_logs(world))
    parts.append(controller_logs(world.node))
    item.user_properties.append(("cluster", "\n".join(parts)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Put the state of the cluster into a failing test's report."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when == "call":
        item.failed_call = report.failed  # type: ignore[attr-defined]
    if report.when == "teardown":
        for name, text in item.user_properties:
            if name == "cluster":
                print(f"--- state of the cluster after {item.name}\n{text}")
