"""The real taskctl-init against the real agent; only the API server is a stand-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.errors import ConfigError
from taskctl.init import init_binary_path
from taskctl.kube.timing import SYSTEM_TIMING
from tests.unit.agent.conftest import World
from tests.unit.agent.fakes import eventually
from tests.unit.agent.test_results import end, succeed


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[World]:
    """Return a worker whose runtime volume is filled and whose time is real."""
    try:
        init_binary_path()
    except ConfigError as error:
        pytest.skip(str(error))
    world = World(tmp_path, timing=SYSTEM_TIMING)
    await world.start()
    try:
        yield world
    finally:
        await world.close()


class Container:
    """A taskctl-init process, as the kubelet would start it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(
        cls, world: World, name: str, task: dict[str, Any], attempt: int = 1
    ) -> Container:
        env = {
            "PATH": os.environ["PATH"],
            "TASKCTL_CONTAINER": name,
            "TASKCTL_TASK": task["metadata"]["name"],
            "TASKCTL_TASK_UID": task["metadata"]["uid"],
            "TASKCTL_ATTEMPT": str(attempt),
            "TASKCTL_NONCE": "n0",
            "TASKCTL_SOCKET": str(world.settings.runtime_dir / "agent.sock"),
        }
        process = await asyncio.create_subprocess_exec(
            str(world.settings.runtime_dir / "bin" / "taskctl-init"),
            env=env,
            cwd="/",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def end(self) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        out, err = await asyncio.wait_for(self.process.communicate(), 60)
        return self.process.returncode or 0, out.decode(), err.decode()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()


async def run(world: World, name: str, script: str, **spec: Any) -> Container:
    task = world.task(name, command=["sh", "-ec", script], args=None, **spec)
    return await Container.start(world, world.place(task), task)


async def test_a_task_grows_and_ends(real: World) -> None:
    script = (
        'echo "n is $(taskctl-init input n)"; echo oops >&2; '
        'taskctl-init spawn --key next --name child --data "n=$((1 + 1))" >/dev/null; '
        "taskctl-init output --data done=yes; "
        "taskctl-init progress 1 2 half"
    )
    container = await run(real, "job", script, input={"n": 1}, env=[{"name": "E", "value": "v"}])
    code, out, err = await container.end()
    assert code == 0, err
    assert out == "n is 1\n"
    status = real.status()
    assert status["state"] == "Succeeded", status
    assert status["outputObject"] == "job-output"
    assert status["times"]["userCode"] <= status["times"]["exited"]
    assert status["usage"]["maxRssBytes"] > 0
    assert real.api.see(TASKOBJECTS, "job-output")["data"] == {"done": "yes"}
    assert real.api.see(TASKOBJECTS, "child-input")["data"] == {"n": "2"}
    assert real.api.see(TASKS, "child")["metadata"]["annotations"]["taskctl.dev/parent"] == "job"
    assert real.settings.workspace is not None
    (log,) = (real.settings.workspace / ".taskctl" / "logs").iterdir()
    assert log.name.startswith("job.")
    assert sorted(log.read_text().splitlines()) == ["n is 1", "oops"]
    assert not list((real.settings.workspace / ".taskctl" / "exits").iterdir())


async def test_sh_joins_its_children(real: World) -> None:
    script = (
        "a=$(taskctl-init spawn --key a --name a --group g -- true); "
        "b=$(taskctl-init spawn --key b --name b --group g --set retry.limit=2 -- true); "
        "taskctl-init spawn --key c --name c --then /parts $a $b --when Always -- true; "
        "taskctl-init results $b $a; taskctl-init results --min-success 1 --details $a c"
    )
    container = await run(real, "job", script)
    await eventually(lambda: {"a", "b", "c"} <= set(real.api.names(TASKS)), timeout_s=60)
    after = real.api.see(TASKS, "c")["spec"]
    assert after["inputFrom"] == [{"path": "/parts", "tasks": ["a", "b"]}]
    assert (after["runAfter"], after["when"]) == ({"tasks": ["a", "b"]}, "Always")
    assert real.api.see(TASKS, "b")["spec"]["retry"] == {"limit": 2}
    end(real, "c", "Failed", exitCode=3)
    succeed(real, "a", {"n": 1})
    succeed(real, "b", ["ü"])
    code, out, err = await container.end()
    assert code == 0, err
    assert [line if line == "c" else json.loads(line) for line in out.splitlines()] == [
        "c",
        ["ü"],
        {"n": 1},
        {"name": "a", "state": "Succeeded", "reason": "Completed", "exit_code": None}
        | {"result": {"n": 1}},
        {"name": "c", "state": "Failed", "reason": "Completed", "exit_code": 3, "result": None},
    ]


async def test_python_sdk_in_a_task(real: World) -> None:
    script = "import taskctl.wire, msgpack; print(taskctl.wire.__file__)"
    task = real.task("py", command=["/usr/bin/env", "python3", "-S", "-c", script], args=None)
    container = await Container.start(real, real.place(task), task)
    code, out, err = await container.end()
    assert code == 0, err
    sdk = (real.settings.runtime_dir / "python").resolve()
    assert Path(out.strip()).resolve() == sdk / "taskctl" / "wire.py"


async def test_failure_and_its_message(real: World) -> None:
    container = await run(real, "job", "echo the reason; exit 3")
    code, _, _ = await container.end()
    assert code == 3
    status = real.status()
    assert (status["state"], status["exitCode"]) == ("Failed", 3)
    assert "the reason" in status["message"]


async def test_started_twice_runs_once(real: World) -> None:
    marks = real.settings.workspace
    assert marks is not None
    task = real.task("job", command=["sh", "-c", f"echo ran >>{marks}/ran"], args=None)
    name = real.place(task)
    first = await Container.start(real, name, task)
    second = await Container.start(real, name, task)
    assert [(await first.end())[0], (await second.end())[0]] == [0, 0]
    assert (marks / "ran").read_text() == "ran\n"
    assert real.status()["state"] == "Succeeded"


async def test_cancel_stops_the_process(real: World) -> None:
    container = await run(real, "job", "trap 'echo stopping; exit 7' TERM; sleep 30 & wait")
    await eventually(lambda: real.status().get("state") == "Running", timeout_s=10)
    await asyncio.sleep(0.2)
    real.api.change(TASKS, "job", spec={"cancel": True})
    _, out, _ = await container.end()
    assert "stopping" in out
    assert (real.status()["state"], real.status()["reason"]) == ("Cancelled", "Cancelled")


async def test_deleted_task_is_stopped_and_nothing_is_recorded(real: World) -> None:
    container = await run(real, "job", "sleep 30")
    await eventually(lambda: real.status().get("state") == "Running", timeout_s=10)
    await asyncio.sleep(0.2)
    real.api.remove(TASKS, "job")
    await container.end()
    assert real.api.names(TASKS) == []


@pytest.mark.parametrize("restarts", [1, 3])
async def test_agent_is_killed_while_the_task_runs(real: World, restarts: int) -> None:
    workspace = real.settings.workspace
    script = (
        f"echo ran >>{workspace}/ran; until [ -e {workspace}/go ]; do sleep 0.02; done; "
        "taskctl-init output --data n=1"
    )
    container = await run(real, "job", script)
    await eventually(lambda: real.status().get("state") == "Running", timeout_s=10)
    for _ in range(restarts):
        await asyncio.sleep(0.1)
        await real.restart()
    await real.kill()
    assert workspace is not None
    (workspace / "go").touch()
    await asyncio.sleep(0.3)
    (real.settings.runtime_dir / "ready").unlink(missing_ok=True)
    await real.start()
    code, _, err = await container.end()
    assert code == 0, err
    assert real.status()["state"] == "Succeeded"
    assert real.status()["outputObject"] == "job-output"
    assert (workspace / "ran").read_text() == "ran\n"
    assert real.status()["attempt"] == 1


async def test_server_is_away_at_the_end(real: World) -> None:
    container = await run(real, "job", "sleep 0.3")
    await eventually(lambda: real.status().get("state") == "Running", timeout_s=10)
    real.api.down = True
    await asyncio.sleep(1.0)
    assert container.process.returncode is None, "it waits until the outcome is recorded"
    assert real.settings.workspace is not None
    (record,) = (real.settings.workspace / ".taskctl" / "exits").iterdir()
    assert record.stat().st_size > 0
    real.api.down = False
    assert (await container.end())[0] == 0
    assert real.status()["state"] == "Succeeded"
    assert not record.exists()


async def test_killed_init_that_had_recorded_its_exit(real: World) -> None:
    container = await run(real, "job", "exit 4")
    real.api.hooks.append(
        lambda verb, plural, name: (
            setattr(real.api, "down", True)
            if verb == "patch_status" and real.api.count("patch_status") == 2
            else None
        )
    )
    assert real.settings.workspace is not None
    exits = real.settings.workspace / ".taskctl" / "exits"
    await eventually(lambda: real.api.down, timeout_s=10)
    await eventually(lambda: bool(list(exits.iterdir())))
    await container.kill()
    await real.kill()  # so that only the record knows
    real.api.hooks.clear()
    real.api.down = False
    await real.restart()
    await eventually(lambda: real.status()["state"] == "Failed", timeout_s=10)
    assert real.status()["exitCode"] == 4


async def test_latency(real: World) -> None:
    """Ten tiny tasks one after another: the way through the agent is short."""
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    for number in range(10):
        container = await run(real, f"job-{number}", "true")
        assert (await container.end())[0] == 0
    assert loop.time() - started_s < 5
    states = {real.status(f"job-{number}")["state"] for number in range(10)}
    assert states == {"Succeeded"}, json.dumps(sorted(states))
