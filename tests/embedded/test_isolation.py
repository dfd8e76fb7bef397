"""What task code can and cannot see and touch on the local node."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from taskctl.cli.datadir import stack_registry
from taskctl.embedded.node.secrecy import register
from tests.embedded.world import World

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and not os.path.exists("/proc/self/ns/user"), reason="no namespaces here"
)


async def run(world: World, script: str, **spec: object) -> dict[str, object]:
    await world.task("probe", "sh", "-c", script, **spec)
    status: dict[str, object] = (await world.finished("probe"))["status"]
    return status


async def test_the_workspace_is_shared_between_workers(world: World) -> None:
    await world.cluster(replicas=2, slotsPerWorker=1)
    await world.task("a", "sh", "-c", "echo hi >/workspace/hi; sleep 1")
    await world.task("b", "sh", "-c", "until [ -e /workspace/hi ]; do sleep 0.05; done; sleep 1")
    pods = {(await world.finished(name))["status"]["podName"] for name in ("a", "b")}
    assert len(pods) == 2


async def test_no_token_in_a_task(world: World) -> None:
    await world.cluster()
    status = await run(world, "! ls /var/run/secrets/kubernetes.io/serviceaccount/token")
    assert status["state"] == "Succeeded"


async def test_the_stack_s_data_directory_is_hidden(world: World) -> None:
    await world.cluster()
    status = await run(world, f"! cat {world.data_dir}/token && ! cat {world.data_dir}/kubeconfig")
    assert status["state"] == "Succeeded"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
async def test_the_data_directory_is_hidden_at_every_mount_of_it(world: World) -> None:
    await world.cluster()
    with tempfile.TemporaryDirectory(prefix="taskctl-alias-", dir="/var/tmp") as alias:
        subprocess.run(["mount", "--bind", world.data_dir.parent, alias], check=True)
        try:
            same = Path(alias) / world.data_dir.name / "token"
            assert same.read_bytes()
            status = await run(world, f"ls {same.parent}; ! cat {same}")
        finally:
            subprocess.run(["umount", alias], check=True)
    assert status["state"] == "Succeeded"


async def test_data_directories_of_other_stacks_are_hidden(world: World) -> None:
    await world.cluster()
    registry = stack_registry()
    assert registry is not None
    with tempfile.TemporaryDirectory(prefix="taskctl-other-", dir="/var/tmp") as other:
        (Path(other) / "token").write_text("secret")
        register(registry, Path(other))
        status = await run(world, f"! cat {other}/token && ! ls {registry}/*")
    assert status["state"] == "Succeeded"


async def test_a_task_has_no_way_to_the_kernel(world: World) -> None:
    await world.cluster()
    script = (
        "! (: >> /proc/sys/kernel/core_pattern) 2>/dev/null && ! [ -e /dev/kvm ]"
        " && ! [ -e /dev/fuse ] && ! unshare -U true && ! unshare -m true"
        " && [ $(grep CapBnd /proc/self/status | tr -d '[:alpha:][:space:]:0' | wc -c) = 0 ]"
    )
    assert (await run(world, script))["state"] == "Succeeded"


async def test_the_host_is_read_only(world: World) -> None:
    await world.cluster()
    status = await run(world, "! touch /etc/taskctl-was-here && ! touch /usr/taskctl-was-here")
    assert status["state"] == "Succeeded"


async def test_the_runtime_is_read_only(world: World) -> None:
    await world.cluster()
    status = await run(world, "! touch /taskctl/bin/x && ! rm /taskctl/agent.sock")
    assert status["state"] == "Succeeded"


async def test_the_agent_s_state_is_not_mounted(world: World) -> None:
    await world.cluster()
    status = await run(world, '! ls /taskctl-state/* && [ -z "$TASKCTL_NONCE" ]')
    assert status["state"] == "Succeeded"


async def test_tmp_is_private_and_writable(world: World) -> None:
    await world.cluster()
    with tempfile.NamedTemporaryFile(prefix="taskctl-secret-") as secret:
        status = await run(world, f"! ls {secret.name} && touch /tmp/mine")
    assert status["state"] == "Succeeded"
    assert not os.path.exists("/tmp/mine")


async def test_read_only_workspace(world: World) -> None:
    await world.cluster()
    status = await run(world, "! touch /workspace/x", readOnlyWorkspace=True)
    assert status["state"] == "Succeeded"
