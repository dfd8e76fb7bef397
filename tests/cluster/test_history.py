"""The history of a cluster: recorded by a pod, kept in a claim, read through the API server."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest

from taskctl.api.resources import TASKS
from tests.cluster.conftest import ROLLOUT_S, SYSTEM_NAMESPACE
from tests.cluster.release import must, printed
from tests.cluster.world import ClusterWorld
from tests.embedded.world import eventually
from tests.realnode.node import NativeNode

pytestmark = pytest.mark.timeout(600)

RECORDER = "deployment/taskctl-history"


@pytest.fixture(scope="module")
def recorder(installation: NativeNode) -> Iterator[NativeNode]:
    """Add a recorder to what is installed, as docs/history.md says; take it away in the end."""
    node = installation
    token = f"--from-literal=token={secrets.token_hex(32)}"
    plain = printed("install", "--skip-crds")
    added = printed("install", "--skip-crds", "--history")
    must(node, "-n", SYSTEM_NAMESPACE, "create", "secret", "generic", "taskctl-history", token)
    try:
        must(node, "apply", "-f", "-", text=added)
        rolled_out(node)
        yield node
    finally:
        known = set(plain.split("---\n"))
        own = "---\n".join(one for one in added.split("---\n") if one not in known)
        must(node, "delete", "--ignore-not-found", "-f", "-", text=own)
        must(node, "-n", SYSTEM_NAMESPACE, "delete", "secret", "taskctl-history")


def rolled_out(node: NativeNode) -> None:
    must(
        node, "-n", SYSTEM_NAMESPACE, "rollout", "status", RECORDER, f"--timeout={ROLLOUT_S}s"
    )  # fmt: skip


async def taskctl(world: ClusterWorld, *words: str) -> tuple[int, str, str]:
    """Run a verb in the test's namespace."""
    command = [sys.executable, "-m", "taskctl", "--kubeconfig", str(world.kubeconfig)]
    command += ["--namespace", world.namespace, *words]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=90, check=False
    )
    return done.returncode, done.stdout, done.stderr


async def test_a_deleted_tree_is_answered_also_after_a_restart(
    recorder: NativeNode, world: ClusterWorld
) -> None:
    await world.cluster()
    await world.task("top", "sh", "-c", "taskctl-init spawn --name kid -- sh -c 'exit 3'")
    await world.finished("kid", timeout_s=120)
    await world.finished("top", timeout_s=120)
    await world.client.delete(TASKS, "top", world.namespace)

    async def gone() -> set[str]:
        code, out, err = await taskctl(world, "get", "--history", "-o", "name")
        assert code == 0, err
        return {line.rpartition("/")[2] for line in out.split()}

    await eventually(gone, lambda names: names == {"top", "kid"}, timeout_s=120)
    code, out, err = await taskctl(world, "tree", "top")
    assert (code, "kid" in out, "NonZeroExit 3" in out) == (0, True, True), out + err
    assert "top is gone; this is from the history of the cluster" in err

    await asyncio.to_thread(
        must, recorder, "-n", SYSTEM_NAMESPACE, "rollout", "restart", RECORDER
    )  # fmt: skip
    await asyncio.to_thread(rolled_out, recorder)

    async def answered() -> tuple[int, str, str]:
        # The API server may know the old pod for a moment.
        return await taskctl(world, "tree", "top")

    _, out, err = await eventually(answered, lambda found: found[0] == 0, timeout_s=120)
    assert "kid" in out
    await refused(recorder, world)


async def refused(recorder: NativeNode, world: ClusterWorld) -> None:
    """A user without the role is told which right is missing; one with it may read."""
    user = f"system:serviceaccount:{world.namespace}:default"

    def may(verb: str, what: str) -> bool:
        words = ("auth", "can-i", verb, what, "-n", SYSTEM_NAMESPACE, f"--as={user}")
        return recorder.kubectl(*words).returncode == 0

    assert not await asyncio.to_thread(may, "get", "secrets/taskctl-history")
    binding = ("-n", SYSTEM_NAMESPACE, "create", "rolebinding", f"reads-{world.namespace}")
    await asyncio.to_thread(
        must, recorder, *binding, "--role=taskctl-history-view",
        f"--serviceaccount={world.namespace}:default",
    )  # fmt: skip
    try:
        assert await asyncio.to_thread(may, "get", "secrets/taskctl-history")
        assert not await asyncio.to_thread(may, "get", "secrets/taskctl-page")
        assert not await asyncio.to_thread(may, "list", "secrets")
    finally:
        await asyncio.to_thread(
            must, recorder, "-n", SYSTEM_NAMESPACE, "delete", "rolebinding", binding[-1]
        )
