"""An upgrade while tasks run: newer CRDs and a newer controller, over workers of an older commit.

The older version is whole: its CRDs, its controller, its agents, its taskctl-init and its SDK, all
taken from the repository's history. API server and node stand for Kubernetes and are not upgraded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.errors import AlreadyExists, ApiError, ConfigError
from taskctl.kube.client import KubeClient
from taskctl.kube.resources import CRDS, PODS
from taskctl.testing.stack import Component, LocalStack
from tests.embedded.world import Object, World, eventually

ROOT = Path(__file__).resolve().parents[2]
# The last commit before CRDs, the controller's role and the agent got what 0.1.0 has on top.
PREVIOUS = "e33085eef88d8037e173b4499cfefa88d1c1d443"
OLD_IMAGE, NEW_IMAGE = "taskctl-previous:1", "taskctl-current:1"
PARTS = ("taskctl", "scripts", "crds", "pyproject.toml")
WAIT_S = 120.0

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a Python environment whose ``taskctl`` is the older one, with all its files."""
    archive = subprocess.run(
        ["git", "archive", PREVIOUS, *PARTS], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode != 0:
        pytest.skip(
            f"commit {PREVIOUS[:7]} is not in this copy's history, so it cannot be upgraded"
        )
    directory = tmp_path_factory.mktemp("previous")
    tree, programs = directory / "tree", directory / "bin"
    tree.mkdir()
    programs.mkdir()
    subprocess.run(["tar", "x", "-C", str(tree)], input=archive.stdout, check=True)
    subprocess.run([sys.executable, "scripts/build_hook.py"], cwd=tree, check=True, timeout=300)
    (programs / "python").symlink_to(sys.executable)
    command = programs / "taskctl"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(tree)!r})\n"
        "from taskctl.__main__ import main\nmain()\n"
    )
    command.chmod(0o755)
    return directory


@contextlib.contextmanager
def controller(program: list[str], stack: LocalStack, image: str) -> Iterator[Path]:
    """Run a controller for as long as the block lasts; yields its log."""
    log = stack.data_dir / "logs" / f"{image.partition(':')[0]}.log"
    arguments = ["controller", "--kubeconfig", str(stack.kubeconfig), "--worker-image", image]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield log
        assert process.poll() is None, f"it has ended: {log.read_text()[-4000:]}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def stack(tmp_path: Path, previous: Path) -> Iterator[LocalStack]:
    """Return an API server and a node on which no controller runs yet."""
    images = {"counter-sh:latest": ROOT / "demo" / "counter-sh" / "image"}
    stack = LocalStack(
        tmp_path / "data", image_roots=images, image_environments={OLD_IMAGE: previous}
    )
    try:
        stack.start(Component.SERVER, Component.NODE)
        yield stack
    finally:
        stack.stop()


@asynccontextmanager
async def connected(stack: LocalStack, previous: Path) -> AsyncIterator[KubeClient]:
    """Connect as soon as the server answers, and install the older CRDs."""
    crds = [
        yaml.safe_load(path.read_text())
        for path in (previous / "tree" / "crds").glob("taskctl.dev_*")
    ]
    assert len(crds) == 3
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(ApiError, ConfigError):
                async with await KubeClient.connect(stack.client_settings()) as client:
                    for crd in crds:
                        with contextlib.suppress(AlreadyExists):
                            await client.create(CRDS, crd)
                    await stack.wait_ready()  # finds CRDs, and leaves them alone
                    yield client
                    return
            await asyncio.sleep(0.1)


async def agent_of(world: World, pod: str) -> tuple[str, int]:
    """Return the image of a worker's agent and how often it was started again."""
    found = await world.get(PODS, pod)
    [status] = [s for s in found["status"]["containerStatuses"] if s["name"] == "agent"]
    image = next(c["image"] for c in found["spec"]["containers"] if c["name"] == "agent")
    return image, status["restartCount"]


async def upgrade_crds(stack: LocalStack) -> None:
    """Apply this version's CRDs, as a user does."""
    command = [sys.executable, "-m", "taskctl", "crds", "--apply"]
    environment = os.environ | {"KUBECONFIG": str(stack.kubeconfig)}
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == 0


async def test_tasks_run_through_an_upgrade(stack: LocalStack, previous: Path) -> None:
    async with connected(stack, previous) as client:
        world = await World.create(client, "upgrade", stack.data_dir)
        with controller([str(previous / "bin" / "taskctl")], stack, OLD_IMAGE):
            worker = await start_work(world)
            [agent] = await asyncio.to_thread(stack.agent_pids)
            program = os.fsencode(previous / "bin" / "taskctl")
            assert program in Path(f"/proc/{agent}/cmdline").read_bytes(), "the older agent"
            await upgrade_crds(stack)
            # The older controller goes on with newer CRDs.
            await world.task("between", *appending("between"))
            await eventually(lambda: world.get(TASKS, "between"), lambda t: "status" in t,
                             timeout_s=WAIT_S, what="seen by the older controller")  # fmt: skip
        with controller([sys.executable, "-m", "taskctl"], stack, NEW_IMAGE) as log:
            await eventually(
                lambda: asyncio.to_thread(log.read_text),
                lambda text: "caches are in step" in text,
                timeout_s=WAIT_S,
                what="ready",
            )
            await world.task("later", *appending("later"))
            assert await agent_of(world, worker) == (OLD_IMAGE, 0), "it is busy, so it stays"
            for name in ("hold", "parent"):
                assert (await world.get(TASKS, name))["status"]["state"] == "Running"
            (world.workspace() / "go").touch()
            await check_end(world, worker)
            await eventually(
                world.workers,
                lambda pods: {pod["spec"]["containers"][0]["image"] for pod in pods} == {NEW_IMAGE},
                timeout_s=WAIT_S,
                what="replaced by one of the newer image",
            )
            # Who looks for what was written before the upgrade still finds it.
            assert (await world.get(TASKOBJECTS, await output_of(world, "parent")))["data"] == {
                "said": "of the older agent"
            }


def appending(name: str) -> tuple[str, ...]:
    """Return a command that leaves a line for each time that it is started."""
    return ("sh", "-c", f"echo {name} >>/workspace/runs")


async def start_work(world: World) -> str:
    """Have two tasks run and three wait; returns the worker's name."""
    await world.cluster(slotsPerWorker=2)
    waits = "until [ -e /workspace/go ]; do sleep 0.1; done"
    await world.task("hold", "sh", "-c", f"echo hold >>/workspace/runs; {waits}")
    grows = "taskctl-init spawn --key child --name child -- sh -c 'echo child >>/workspace/runs'"
    says = "taskctl-init output --data 'said=of the older agent'"
    script = f"echo parent >>/workspace/runs; {waits}; {grows}; {says}"
    await world.task("parent", "sh", "-ec", script)
    running = [
        await world.in_state(name, "Running", timeout_s=WAIT_S) for name in ("hold", "parent")
    ]
    for number in range(3):
        await world.task(f"queued-{number}", *appending(f"queued-{number}"))
    [worker] = {task["status"]["podName"] for task in running}
    assert await agent_of(world, worker) == (OLD_IMAGE, 0)
    return str(worker)


async def check_end(world: World, worker: str) -> None:
    names = ["hold", "parent", "child", "between", "later", *(f"queued-{n}" for n in range(3))]
    for name in names:
        status: Object = (await world.finished(name, timeout_s=WAIT_S))["status"]
        assert (status["state"], status["attempt"]) == ("Succeeded", 1), (name, status)
        assert not status.get("infraFailures"), (name, status)
        if name in ("hold", "parent"):
            assert status["podName"] == worker, "not started again elsewhere"
    runs = (world.workspace() / "runs").read_text().split()
    assert sorted(runs) == sorted(names), "each once"


async def output_of(world: World, task: str) -> str:
    return str((await world.get(TASKS, task))["status"]["outputObject"])
