"""Who may have a TaskCluster made by `spec.cluster`: the admission policy on a real API server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.world import ClusterWorld

EVE = "eve"
RUN: dict[str, Any] = {
    "apiVersion": "taskctl.dev/v1alpha1",
    "kind": "Task",
    "metadata": {"name": "run"},
    "spec": {"cluster": {"replicas": 0}, "image": "i", "command": ["true"], "suspend": True},
}


async def test_a_run_with_workers_of_its_own_needs_the_right_to_make_taskclusters(
    world: ClusterWorld,
) -> None:
    async def allow(name: str, *rule: str) -> None:
        await world.kubectl("create", "role", name, *rule)
        await world.kubectl("create", "rolebinding", name, f"--role={name}", f"--user={EVE}")

    await allow("tasks", "--verb=create,get,patch", "--resource=tasks.taskctl.dev")
    with pytest.raises(AssertionError, match="needs the right to create taskclusters"):
        await world.kubectl("create", "-f", "-", f"--as={EVE}", body=RUN)
    other = RUN | {"metadata": {"name": "other"}}
    other["spec"] = {"clusterName": "c", "image": "i", "command": ["true"]}
    await world.kubectl("create", "-f", "-", f"--as={EVE}", body=other)
    await allow("clusters", "--verb=create", "--resource=taskclusters.taskctl.dev")
    await world.kubectl("create", "-f", "-", f"--as={EVE}", body=RUN)
    await world.kubectl("delete", "rolebinding", "clusters")
    await world.kubectl("label", "task", "run", "a=b", f"--as={EVE}")
