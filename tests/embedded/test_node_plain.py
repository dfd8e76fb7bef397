"""The local node where the kernel allows no mount namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskctl.embedded.node import main
from taskctl.embedded.node.api import core_path
from taskctl.embedded.node.isolation import Finding, describe
from taskctl.embedded.node.shimspec import Isolation
from tests.embedded.node_world import NodeWorld, container_status, node_world
from tests.unit.embedded_node.shim_box import is_running

WS = {"volumes": [{"name": "ws", "emptyDir": {}}]}
AT_WS = {"volumeMounts": [{"name": "ws", "mountPath": "/workspace"}]}


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodeWorld]:
    async def none(shim: Path, scratch: Path) -> Finding:
        return Finding(Isolation.NONE, describe(Isolation.NONE, "as the test says"))

    monkeypatch.setattr(main, "find_isolation", none)
    async with node_world() as world:
        yield world


async def test_paths_of_volumes_are_those_of_the_host(world: NodeWorld) -> None:
    script = "echo $TASKCTL_WORKSPACE $SOCKET $1; pwd; echo x > $TASKCTL_WORKSPACE/f"
    main_container = {
        "args": ["sh", "/workspace/arg"],
        "env": [{"name": "SOCKET", "value": "/workspace/agent.sock"}],
        "workingDir": "/workspace",
        **AT_WS,
    }
    pod = await world.pod("p", "sh", "-c", script, main=main_container, restartPolicy="Never", **WS)
    await world.phase("p", "Succeeded")
    path = str(world.volume(pod, "ws"))
    lines = (await world.logs("p")).splitlines()
    assert lines == [f"{path} {path}/agent.sock {path}/arg", path]
    assert (Path(path) / "f").read_text() == "x\n"


async def test_a_program_in_a_volume_is_found(world: NodeWorld) -> None:
    pod = await world.pod("p", "sleep", "60", main=AT_WS, **WS)
    await world.ready("p")
    program = world.volume(pod, "ws") / "program"
    program.write_text("#!/bin/sh\nexit 6\n")
    program.chmod(0o755)
    await world.add("p", "e", "/workspace/program", **AT_WS)
    ended = await world.state("p", "e", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 6


async def test_the_node_says_so(world: NodeWorld) -> None:
    await world.pod("p", "sleep", "60")
    await world.ready("p")
    node = await world.api.get(core_path("nodes", name="local"))
    found = next(c for c in node["status"]["conditions"] if c["type"] == "ReducedIsolation")
    assert found["status"] == "True"
    assert "as the test says" in found["message"]
    await world.until(lambda: world.events("IsolationReduced"), bool, "an event")


async def test_everything_in_a_container_is_stopped(world: NodeWorld) -> None:
    script = "setsid sleep 1000 & echo $! > /proc/self/cwd/pid; wait"
    fields = {"workingDir": "/workspace", **AT_WS}
    pod = await world.pod("p", "sh", "-c", script, main=fields, **WS)
    pid = int(await world.file(world.volume(pod, "ws") / "pid", "\n"))
    await world.delete("pods", "p", grace_s=1)
    await world.gone("pods", "p")
    assert not is_running(pid)
    assert container_status(pod["status"], "main") == {}
