"""A small output in a Task's status is kept as the JSON value that it is."""

from __future__ import annotations

from typing import Any

from taskctl.policy.status import status_operations
from tests.conformance.conftest import install
from tests.conformance.samples import real_definition
from tests.conformance.target import JSON_PATCH, MERGE, Api
from tests.conformance.test_task_texts import GROUP, task


async def test_an_output_is_kept_as_it_is(api: Api) -> None:
    """Nulls in it stay, with the write of the agent and with later merge patches of others."""
    path = f"/apis/{GROUP}/v1alpha1/namespaces/{api.namespace}/tasks"
    await install(api, real_definition("tasks", GROUP), path)
    output: Any = {"a": None, "b": [None, {"c": None}], "n": 2**63 - 1, "f": 0.5, "e": "日本😀"}
    made = (await api.create(path, task())).ok()
    one = f"{path}/{made['metadata']['name']}"
    operations = status_operations(
        {**made, "status": {"state": "Running"}}, {"state": "Succeeded", "output": output}
    )
    first = [{"op": "add", "path": "/status", "value": {}}, *operations]
    written = (await api.patch(f"{one}/status", first, JSON_PATCH)).ok()
    assert written["status"] == {"state": "Succeeded", "output": output}
    (await api.patch(f"{one}/status", operations, JSON_PATCH)).refused(409, "Conflict")
    later = {"status": {"descendants": {"total": 1}}}
    assert (await api.patch(f"{one}/status", later, MERGE)).ok()["status"]["output"] == output
    assert (await api.get(one)).ok()["status"]["output"] == output
    gone = (await api.patch(f"{one}/status", {"status": {"output": None}}, MERGE)).ok()
    assert "output" not in gone["status"]
