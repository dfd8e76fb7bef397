"""The node and the server come and go; containers stay, and none runs twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from taskctl.embedded.node import records, removal
from taskctl.embedded.node.api import core_path
from taskctl.embedded.node.records import Liveness
from taskctl.errors import Unavailable
from tests.embedded.node_world import Json, NodeWorld, container_status, node_world
from tests.unit.embedded_node.shim_box import is_running

LOOP = "echo run >> /ws/main; trap 'exit 0' TERM; while :; do sleep 0.05; done"
WS = {"volumes": [{"name": "ws", "emptyDir": {}}]}
AT_WS = {"volumeMounts": [{"name": "ws", "mountPath": "/ws"}]}


@pytest.fixture
async def world() -> AsyncIterator[NodeWorld]:
    async with node_world() as world:
        yield world


async def worker_pod(world: NodeWorld) -> Json:
    await world.pod("p", "sh", "-c", LOOP, main=AT_WS, **WS)
    return await world.ready("p")


def run_directory(world: NodeWorld, pod: Json, container: str, run: int = 0) -> Path:
    return world.options.paths.instance(pod["metadata"]["uid"], container, run)


async def test_a_new_node_takes_running_containers_over(world: NodeWorld) -> None:
    pod = await worker_pod(world)
    volume = world.volume(pod, "ws")
    long = "echo run >> /ws/long; while [ ! -e /ws/go ]; do sleep 0.02; done; exit 7"
    await world.add("p", "long", "sh", "-c", long, **AT_WS)
    await world.add("p", "short", "sh", "-c", "echo run >> /ws/short; sleep 0.3; exit 8", **AT_WS)
    await world.file(volume / "long", "run")
    await world.file(volume / "short", "run")
    before = container_status((await world.ready("p"))["status"], "main")
    await world.drop_node()
    await world.file(run_directory(world, pod, "short") / "exit")  # ends while there is no node
    await world.add("p", "new", "sh", "-c", "echo run >> /ws/new", **AT_WS)
    world.start_node()
    ended = await world.state("p", "short", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 8
    await world.state("p", "new", "terminated")
    (volume / "go").touch()
    ended = await world.state("p", "long", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 7
    after = container_status((await world.get("pods", "p"))["status"], "main")
    assert after["containerID"] == before["containerID"]
    assert after["state"] == before["state"]
    for name in ("main", "long", "short", "new"):
        assert (volume / name).read_text() == "run\n"


async def test_a_killed_node_process_is_replaced(world: NodeWorld) -> None:
    await world.drop_node()
    code = (
        "import asyncio, sys; from pathlib import Path;"
        " from taskctl.embedded.node.main import run_node;"
        " from taskctl.embedded.node.options import NodeOptions;"
        " asyncio.run(run_node(NodeOptions(Path(sys.argv[1]))))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(world.data_dir))
    pod = await worker_pod(world)
    await world.add("p", "e", "sh", "-c", "echo run >> /ws/e; sleep 1000", **AT_WS)
    await world.file(world.volume(pod, "ws") / "e", "run")
    process.kill()
    await process.wait()
    alive, _ = records.liveness(run_directory(world, pod, "e"))
    assert alive is Liveness.ALIVE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(world.data_dir))
    await world.add("p", "e2", "sh", "-c", "echo run >> /ws/e2", **AT_WS)
    await world.state("p", "e2", "terminated")
    await world.state("p", "e", "running")
    assert (world.volume(pod, "ws") / "e").read_text() == "run\n"
    assert (world.volume(pod, "ws") / "main").read_text() == "run\n"
    process.send_signal(signal.SIGTERM)  # the orderly end: nothing is left running
    assert await process.wait() == 0
    for name in ("main", "e"):
        assert records.liveness(run_directory(world, pod, name))[0] is Liveness.DEAD


async def test_a_run_that_vanished_is_unknown_and_not_repeated(world: NodeWorld) -> None:
    pod = await worker_pod(world)
    await world.add("p", "e", "sh", "-c", "echo run >> /ws/e; sleep 1000", **AT_WS)
    await world.file(world.volume(pod, "ws") / "e", "run")
    await world.drop_node()
    for name in ("e", "main"):
        _, pid = records.liveness(run_directory(world, pod, name))
        os.kill(pid, signal.SIGKILL)
    world.start_node()
    ended = (await world.state("p", "e", "terminated"))["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "ContainerStatusUnknown")
    await world.file(world.volume(pod, "ws") / "main", "run\nrun\n")  # that one is restarted
    assert (world.volume(pod, "ws") / "e").read_text() == "run\n"
    main = await world.until(
        lambda: world.state("p", "main", "running"), lambda s: s["restartCount"] == 1, "restarted"
    )
    assert main["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


async def test_a_run_that_was_only_prepared_is_started(world: NodeWorld) -> None:
    """As if the node was killed between writing the spec and starting the shim."""
    pod = await worker_pod(world)
    await world.drop_node()
    await world.add("p", "e", "sh", "-c", "echo run >> /ws/e", **AT_WS)
    directory = run_directory(world, pod, "e")
    directory.mkdir(parents=True)
    (directory / "spec").write_bytes(b"arg\0false\0")
    world.start_node()
    ended = await world.state("p", "e", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 0
    assert (world.volume(pod, "ws") / "e").read_text() == "run\n"


async def test_without_records_the_api_still_says_what_has_run(world: NodeWorld) -> None:
    pod = await worker_pod(world)
    await world.add("p", "e", "sh", "-c", "echo run >> /ws/e; exit 5", **AT_WS)
    await world.state("p", "e", "terminated")
    await world.drop_node()
    await asyncio.to_thread(
        removal.remove_tree, world.options.paths.containers(pod["metadata"]["uid"]) / "e"
    )
    world.start_node()
    await world.add("p", "e2", "true")
    await world.state("p", "e2", "terminated")
    ended = await world.state("p", "e", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 5
    assert (world.volume(pod, "ws") / "e").read_text() == "run\n"


async def test_containers_of_a_pod_that_has_gone_are_killed(world: NodeWorld) -> None:
    pod = await worker_pod(world)
    await world.drop_node()
    await world.delete("pods", "p", grace_s=0)
    await world.gone("pods", "p")
    directory = run_directory(world, pod, "main")
    _, pid = records.liveness(directory)
    world.start_node()
    files = world.options.paths.pod(pod["metadata"]["uid"])

    async def left() -> bool:
        return files.exists()

    await world.until(left, lambda there: not there, "removed")
    assert not is_running(pid)


async def test_a_pod_of_the_same_name_is_another_pod(world: NodeWorld) -> None:
    old = await worker_pod(world)
    await world.drop_node()
    await world.delete("pods", "p", grace_s=0)
    await world.gone("pods", "p")
    await world.pod("p", "sh", "-c", LOOP, main=AT_WS, **WS)
    world.start_node()
    new = await world.ready("p")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert (world.volume(new, "ws") / "main").read_text() == "run\n"


async def test_an_orderly_stop_ends_containers_and_keeps_the_pods(world: NodeWorld) -> None:
    pod = await worker_pod(world)
    await world.add(
        "p", "e", "sh", "-c", "echo run >> /ws/e; trap 'exit 9' TERM; sleep 60 & wait", **AT_WS
    )
    await world.file(world.volume(pod, "ws") / "e", "run")
    await world.stop_node()
    status = (await world.get("pods", "p"))["status"]
    assert container_status(status, "e")["state"]["terminated"]["exitCode"] == 9
    assert container_status(status, "main")["state"]["terminated"]["exitCode"] == 0
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (status["phase"], ready["status"]) == ("Running", "False")
    node = await world.api.get(core_path("nodes", name="local"))
    assert (
        next(c for c in node["status"]["conditions"] if c["type"] == "Ready")["status"] == "False"
    )
    world.start_node()
    await world.ready("p")
    assert (world.volume(pod, "ws") / "main").read_text() == "run\nrun\n"
    assert (world.volume(pod, "ws") / "e").read_text() == "run\n"


async def test_the_server_may_go_and_come_back(world: NodeWorld) -> None:
    pod = await worker_pod(world)
    await world.add(
        "p", "e", "sh", "-c", "while [ ! -e /ws/go ]; do sleep 0.02; done; exit 3", **AT_WS
    )
    await world.state("p", "e", "running")
    await world.stop_server()
    (world.volume(pod, "ws") / "go").touch()
    await world.file(run_directory(world, pod, "e") / "exit")
    await world.start_server()
    ended = await world.state("p", "e", "terminated")
    assert ended["state"]["terminated"]["exitCode"] == 3
    await world.add("p", "after", "true")
    await world.state("p", "after", "terminated")
    assert (world.volume(pod, "ws") / "main").read_text() == "run\n"


async def test_the_node_waits_for_the_server(world: NodeWorld) -> None:
    await world.drop_node()
    await world.stop_server()
    for name in ("server.json", "token"):
        (world.data_dir / name).rename(world.data_dir / f"{name}.away")
    world.start_node()
    await asyncio.sleep(0.3)
    for name in ("server.json", "token"):
        (world.data_dir / f"{name}.away").rename(world.data_dir / name)
    await world.start_server()
    await world.pod("p", "sleep", "60")
    await world.ready("p")


async def test_two_nodes_on_one_directory_are_refused(world: NodeWorld) -> None:
    from taskctl.embedded.node.main import Node
    from taskctl.errors import ConfigError

    await world.pod("p", "sleep", "60")
    await world.ready("p")
    with pytest.raises(ConfigError, match="another node uses"):
        await Node(world.options).run()


async def test_clients_of_a_server_that_moved_are_started_again(world: NodeWorld) -> None:
    """Who has a token and the old address would ask there for ever; the others are left alone."""
    script = "echo $KUBERNETES_SERVICE_PORT >> /ws/$0; while :; do sleep 0.05; done"
    told = {**WS, "terminationGracePeriodSeconds": 0}
    await world.pod("client", "sh", "-c", script, "main", main=AT_WS, **told)
    await world.pod(
        "other", "sh", "-c", script, "main", main=AT_WS, automountServiceAccountToken=False, **told
    )
    client, other = await world.ready("client"), await world.ready("other")
    await world.file(world.volume(client, "ws") / "main")
    await world.file(world.volume(other, "ws") / "main")
    await world.drop_node()
    await world.stop_server()
    (world.data_dir / "server.json").unlink()  # as with --port
    await world.start_server()
    world.start_node()

    with suppress(Unavailable):  # our own client learns of the new address, too
        await world.get("pods", "client")

    async def ports() -> list[str]:
        return (world.volume(client, "ws") / "main").read_text().split()

    async def restarts() -> int:
        status = container_status((await world.get("pods", "client"))["status"], "main")
        return int(status["restartCount"])

    await world.until(restarts, lambda count: count == 1, "started again")
    found = await world.until(ports, lambda lines: len(lines) == 2, "told")
    moved = json.loads((world.data_dir / "server.json").read_text())["port"]
    assert found[0] != found[1] == str(moved)
    status = container_status((await world.get("pods", "other"))["status"], "main")
    assert status["restartCount"] == 0
    assert len((world.volume(other, "ws") / "main").read_text().split()) == 1
