"""The container of ``taskctl debug``."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.constants import (
    ENV_NONCE,
    RUNTIME_VOLUME,
    TOKEN_VOLUME,
    WORKSPACE_VOLUME,
)
from taskctl.policy.debugging import DebugRequest, build_debug_container, choose_worker
from taskctl.policy.entry import parse_entry
from taskctl.policy.handover import is_parked_name
from taskctl.policy.workerpod import build_worker
from tests.unit.policy.build import raw_cluster, view

WANTED = DebugRequest(name="debug-0a", image="", limit_s=60, term="")


def worker(name: str, created: int = 0, **spec: Any) -> dict[str, Any]:
    pod = build_worker(raw_cluster(**spec), name)
    pod["metadata"] |= {"uid": f"uid-{name}", "creationTimestamp": f"2030-01-01T00:00:0{created}Z"}
    running = {"name": "agent", "state": {"running": {}}, "ready": True}
    pod["status"] = {"phase": "Running", "containerStatuses": [running]}
    return pod


def deleted(pod: dict[str, Any]) -> dict[str, Any]:
    pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:09Z"
    return pod


def unframed(pod: dict[str, Any]) -> dict[str, Any]:
    pod["metadata"]["annotations"] = {}
    return pod


def dead(pod: dict[str, Any]) -> dict[str, Any]:
    pod["status"] = {"phase": "Failed"}
    return pod


@pytest.mark.parametrize(
    ("pods", "chosen", "same"),
    [
        ([worker("a"), worker("b", 1)], "a", True),
        ([deleted(worker("a")), worker("b", 1), worker("c", 2)], "c", False),
        ([dead(worker("a")), worker("b", 1)], "b", False),
        ([unframed(worker("a")), worker("b")], "b", False),
        ([worker("b")], "b", False),
        ([dead(worker("a"))], None, False),
        ([], None, False),
    ],
)
def test_the_worker_where_the_task_ran_or_another(
    pods: list[dict[str, Any]], chosen: str | None, same: bool
) -> None:
    pod, is_same = choose_worker(pods, "uid-a")
    assert (None if pod is None else pod["metadata"]["name"], is_same) == (chosen, same)


def test_the_container_has_what_the_task_has_and_no_rights() -> None:
    task = view(
        spec={
            "image": "mine",
            "readOnlyWorkspace": True,
            "env": [{"name": "A", "value": "1"}, {"name": "TASKCTL_NONCE", "value": "x"}],
        }
    )
    pod = worker("w", serviceAccountName="mine", workspace={"claimName": "files"})
    mounted = {one["name"] for one in pod["spec"]["containers"][0]["volumeMounts"]}
    assert TOKEN_VOLUME in mounted
    made = build_debug_container(task, pod, WANTED)
    assert made["image"] == "mine"
    assert {one["name"] for one in made["volumeMounts"]} == {RUNTIME_VOLUME, WORKSPACE_VOLUME}
    assert all(one.get("readOnly") for one in made["volumeMounts"])
    assert {one["name"]: one["value"] for one in made["env"]} == {
        "A": "1",
        "TASKCTL_WORKSPACE": "/workspace",
    }
    assert ENV_NONCE not in {one["name"] for one in made["env"]}
    assert made["workingDir"] == "/workspace"
    # Neither the controller nor the agent takes it for a task's.
    assert parse_entry(made) is None
    assert not is_parked_name(made["name"])


def test_another_image_and_a_terminal() -> None:
    task = view(spec={"env": [{"name": "TERM", "value": "dumb"}]})
    wanted = DebugRequest(name="debug-0a", image="tools:1", limit_s=60, term="xterm")
    made = build_debug_container(task, worker("w"), wanted)
    assert made["image"] == "tools:1"
    assert [one["value"] for one in made["env"] if one["name"] == "TERM"] == ["xterm"]
    assert made["command"][1:] == ["debug-hold", "debug-0a", "60"]
