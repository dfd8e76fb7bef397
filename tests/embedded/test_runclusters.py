"""A root with workers and a workspace of its own."""

from __future__ import annotations

from typing import Any

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.kube.resources import PVCS
from tests.embedded.world import World, eventually

SCRIPT = """
echo kept > /workspace/file
name=$(taskctl-init spawn --key below -- sh -c 'taskctl-init output "\\"$(cat /workspace/file)\\""')
taskctl-init results
"""


async def test_a_run_with_workers_of_its_own(world: World) -> None:
    spec = {"replicas": 1, "slotsPerWorker": 4, "workspace": {"enable": True}}
    body: dict[str, Any] = {"cluster": spec, "image": world.image, "command": ["sh", "-ec", SCRIPT]}
    root = await world.make(TASKS, "run", spec=body)
    found = await world.finished("run", timeout_s=120)
    assert found["status"]["state"] == "Succeeded", found["status"]
    [cluster] = await world.all(TASKCLUSTERS)
    name = cluster["metadata"]["name"]
    assert found["status"]["clusterName"] == name
    assert cluster["metadata"]["ownerReferences"][0]["uid"] == root["metadata"]["uid"]
    [child] = [task for task in await world.all(TASKS) if "lineage" in task["spec"]]
    assert (child["spec"]["clusterName"], "cluster" in child["spec"]) == (name, False)
    assert (world.workspace(name) / "file").read_text() == "kept\n"

    await world.patch(TASKS, "run", {"spec": {"ttlSecondsAfterFinished": {"success": 0}}})

    async def left() -> list[Any]:
        kinds = (TASKS, TASKCLUSTERS, PVCS)
        return [one for kind in kinds for one in await world.all(kind)] + await world.workers()

    await eventually(left, lambda them: them == [], timeout_s=120, what="gone with the root")
