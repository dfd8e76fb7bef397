"""What no process can be started with is refused with its field, counted in bytes as Linux does.

The definition is the real one, under another group: the API server must find it cheap enough.
"""

from __future__ import annotations

from typing import Any

from tests.conformance.conftest import install
from tests.conformance.samples import real_definition
from tests.conformance.target import Api, Json

GROUP = "texts.taskctl.test"
FITS = "é" * 65_535  # 131,070 bytes
LONG = "é" * 65_536  # one byte too many, with the NUL at the end


def task(**spec: Any) -> Json:
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "Task",
        "metadata": {"generateName": "t-"},
        "spec": {"clusterName": "c", "image": "img", "command": ["run"]} | spec,
    }


async def test_arguments_and_variables_are_counted_in_bytes(api: Api) -> None:
    path = f"/apis/{GROUP}/v1alpha1/namespaces/{api.namespace}/tasks"
    await install(api, real_definition("tasks", GROUP), path)
    fits: list[Json] = [
        {"args": [FITS]},
        {"command": [*["a"] * 255, FITS]},
        {"env": [{"name": "ä", "value": "é" * 65_533}, {"name": "B"}]},
        {"args": ["x" * 131_071]},
    ]
    for spec in fits:
        (await api.create(path, task(**spec), dryRun="All")).ok()
    too_long: list[tuple[Json, str]] = [
        ({"args": [LONG]}, "spec.args"),
        ({"args": [*["a"] * 200, LONG]}, "spec.args"),
        ({"command": [LONG]}, "spec.command"),
        ({"command": [*["a"] * 255, LONG]}, "spec.command"),
        ({"args": ["😀" * 32_768]}, "spec.args"),
        ({"env": [{"name": "ä", "value": FITS}]}, "spec.env"),
        ({"env": [*({"name": f"A{n}"} for n in range(200)), {"name": "B", "value": LONG}]},
         "spec.env"),
    ]  # fmt: skip
    for spec, field in too_long:
        refusal = (await api.create(path, task(**spec), dryRun="All")).refused(422, "Invalid")
        causes = refusal["details"]["causes"]
        assert [cause["field"] for cause in causes] == [field]
        assert "Linux starts no process" in causes[0]["message"]
