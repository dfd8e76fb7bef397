"""Reading pods and clusters' numbers."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.api.states import ConditionStatus, TaskState
from taskctl.constants import ANNOTATION_CREATED, Reason
from taskctl.policy.clusterstatus import (
    ClusterCounts,
    WorkspaceFacts,
    decide_cluster_status,
    ready_condition,
    workspace_condition,
)
from taskctl.policy.lost import worker_end
from taskctl.policy.podview import ContainerState, container_report, parse_pod
from taskctl.policy.view import parse_task
from taskctl.policy.workspace import WorkspaceVolume
from tests.unit.policy.build import CREATED, NOW, at, merged, pod_view, raw_cluster, raw_task, view

POD: dict[str, Any] = {
    "metadata": {
        "namespace": "ns",
        "name": "w-1",
        "uid": "pod-1",
        "labels": {"taskctl.dev/cluster-uid": "uid-c"},
        "creationTimestamp": "2030-01-01T12:00:00Z",
    },
    "spec": {},
}


def pod(**status: Any) -> Any:
    return parse_pod(POD | {"status": status})


def agent(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "agent", "state": state}]


def test_running_pod() -> None:
    found = pod(phase="Running", containerStatuses=agent({"running": {}}))
    assert found.agent_running
    assert found.problem == ""
    assert (found.cluster_uid, found.created) == ("uid-c", NOW)


def test_pod_whose_node_has_fallen_silent() -> None:
    """The container's state is the kubelet's last word, the condition the node controller's."""
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2030-01-01T12:00:00Z"}
    found = pod(phase="Running", containerStatuses=agent({"running": {}}), conditions=[ready])
    assert not found.agent_running
    assert (found.unreachable_since, found.problem) == (NOW, "NodeNotReady")
    starting = pod(phase="Pending", containerStatuses=agent({"waiting": {}}), conditions=[ready])
    assert starting.unreachable_since is None


def test_pin() -> None:
    assert not pod().pinned
    pinned = POD | {"metadata": POD["metadata"] | {"finalizers": ["x/y", "taskctl.dev/evidence"]}}
    assert parse_pod(pinned).pinned


@pytest.mark.parametrize(
    ("terminated", "code", "words"),
    [
        ({"exitCode": 0, "reason": "Completed"}, 0, "Completed, exit code 0"),
        ({"exitCode": 3, "reason": "Error"}, 3, "Error, exit code 3"),
        ({"exitCode": 137, "reason": "Error"}, None, "Error"),
        ({"exitCode": 255, "reason": "Unknown"}, None, "Unknown"),
        ({"exitCode": 137, "reason": "OOMKilled"}, None, "OOMKilled"),
        (
            {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "not located"},
            None,
            "ContainerStatusUnknown: not located",
        ),
    ],
)
def test_exit_codes_are_believed_where_somebody_saw_them(
    terminated: dict[str, Any], code: int | None, words: str
) -> None:
    report = container_report({"state": {"terminated": terminated}})
    assert (report.exit_code, report.words) == (code, words)


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ({}, "Pending"),
        (
            {"containerStatuses": agent({"waiting": {"reason": "ErrImagePull", "message": "m"}})},
            "ErrImagePull: m",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "no node",
                    }
                ]
            },
            "Unschedulable: no node",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, "Evicted: disk"),
        (
            {
                "containerStatuses": agent({"waiting": {"reason": "PodInitializing"}}),
                "initContainerStatuses": agent(
                    {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
                ),
            },
            "ImagePullBackOff: no such image",
        ),
        (
            {
                "containerStatuses": agent({"waiting": {"reason": "PodInitializing"}}),
                "initContainerStatuses": agent({"terminated": {"reason": "Error", "exitCode": 3}}),
            },
            "Error, exit code 3",
        ),
        (
            {
                "containerStatuses": agent({"waiting": {"reason": "ContainerCreating"}}),
                "initContainerStatuses": agent(
                    {"terminated": {"reason": "Completed", "exitCode": 0}}
                ),
            },
            "ContainerCreating",
        ),
        (
            {
                "containerStatuses": [
                    agent({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}})[0]
                    | {"lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}
                ],
            },
            "CrashLoopBackOff: back-off 10s (OOMKilled, exit code 137)",
        ),
    ],
)
def test_problems(status: dict[str, Any], problem: str) -> None:
    found = pod(**status)
    assert not found.agent_running
    assert found.problem == problem
    assert found.dead is (status.get("phase") == "Failed")


@pytest.mark.parametrize(
    ("entry", "state", "reason"),
    [
        ({}, ContainerState.UNKNOWN, ""),
        ({"state": {"running": {}}}, ContainerState.RUNNING, ""),
        (
            {"state": {"terminated": {"reason": "Error"}}},
            ContainerState.TERMINATED,
            "Error",
        ),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff"}}},
            ContainerState.WAITING,
            "ImagePullBackOff",
        ),
        (
            {
                "state": {"waiting": {"reason": "RunContainerError"}},
                "lastState": {"terminated": {"reason": "StartError"}},
            },
            ContainerState.TERMINATED,
            "StartError",
        ),
    ],
)
def test_container_reports(entry: dict[str, Any], state: ContainerState, reason: str) -> None:
    report = container_report(entry)
    assert (report.state, report.reason) == (state, reason)


def test_what_a_kubelet_says_of_any_container_at_first_is_no_news() -> None:
    usual = container_report({"state": {"waiting": {"reason": "ContainerCreating"}}})
    odd = container_report({"state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}})
    assert (usual.words, odd.words) == ("", "ErrImagePull: no")


def test_task_of_an_unknown_state_counts_as_pending() -> None:
    assert view(status={"state": "Fancy"}).state is TaskState.PENDING


def test_task_without_status() -> None:
    task = raw_task()
    del task["status"]
    parsed = parse_task(task)
    assert (parsed.state, parsed.attempt, parsed.is_root) == (TaskState.PENDING, 0, True)


def test_malformed_annotations_do_no_harm() -> None:
    assert view(annotations={"taskctl.dev/created": "deep"}).created == CREATED
    assert view(status={"nextAttemptTime": "soon"}).next_attempt_time is None


# --- status of a TaskCluster --------------------------------------------------------

COUNTS = ClusterCounts(
    wanted=2,
    workers=2,
    ready=1,
    busy_slots=3,
    free_slots=1,
    queue_length=5,
    last_serial=7,
    problems=["w-2: ErrImagePull"],
)


def test_cluster_status_is_written_once() -> None:
    cluster = raw_cluster()
    conditions = [ready_condition(COUNTS, 1)]
    patch = decide_cluster_status(cluster, COUNTS, conditions, NOW)
    assert patch is not None
    status = merged({}, patch)
    assert (status["replicas"], status["ready"], status["availableReplicas"]) == (2, 1, 1)
    assert (status["busySlots"], status["queueLength"], status["workerSerial"]) == (3, 5, 7)
    assert status["selector"] == f"taskctl.dev/cluster-uid={cluster['metadata']['uid']}"
    assert "ErrImagePull" in status["conditions"][0]["message"]
    assert decide_cluster_status(cluster | {"status": status}, COUNTS, conditions, at(9)) is None


def test_ready() -> None:
    assert ready_condition(COUNTS, 1).status is ConditionStatus.FALSE
    none = ClusterCounts(0, 0, 0, 0, 0, 0, 0)
    assert ready_condition(none, 1).status is ConditionStatus.TRUE


def test_ready_says_why_workers_were_refused() -> None:
    refused = ready_condition(COUNTS, 1, "A worker could not be created: exceeded quota")
    assert (refused.status, refused.reason) == (ConditionStatus.FALSE, "WorkersRefused")
    assert "1 of 2" in refused.message
    assert "exceeded quota" in refused.message
    enough = ClusterCounts(1, 1, 1, 0, 4, 0, 1)
    assert ready_condition(enough, 1, "of yesterday").status is ConditionStatus.TRUE


@pytest.mark.parametrize(
    ("plan", "facts", "reason"),
    [
        (WorkspaceVolume(None, "/w"), WorkspaceFacts(), "WorkspaceDisabled"),
        (WorkspaceVolume({"name": "workspace"}, "/w"), WorkspaceFacts(), "WorkspaceReady"),
        (
            WorkspaceVolume({}, "/w", claim_name="x"),
            WorkspaceFacts(exists=True, phase="Bound"),
            "WorkspaceReady",
        ),
        (WorkspaceVolume({}, "/w", claim_name="x"), WorkspaceFacts(), "WorkspacePending"),
        (
            WorkspaceVolume({}, "/w", claim_name="x"),
            WorkspaceFacts(exists=True, reason=Reason.NAME_CONFLICT, message="taken", held=True),
            "NameConflict",
        ),
    ],
)
def test_workspace_condition(plan: WorkspaceVolume, facts: WorkspaceFacts, reason: str) -> None:
    assert workspace_condition(plan, facts, 1).reason == reason


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ("2026-01-02T03:04:05.600000Z", "2026-01-02T03:04:05.600000Z"),
        ("2026-01-02T03:09:05.600000Z", "2026-01-02T03:04:05Z"),  # the server's second denies it
        ("yesterday", "2026-01-02T03:04:05Z"),
        (None, "2026-01-02T03:04:05Z"),
    ],
)
def test_created_is_the_creators_note_if_the_server_bears_it_out(
    noted: str | None, expected: str
) -> None:
    metadata: dict[str, object] = {
        "name": "t",
        "uid": "u",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "annotations": {} if noted is None else {ANNOTATION_CREATED: noted},
    }
    assert parse_task({"metadata": metadata}).created == expected


# --- the end of a worker ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "over", "look_again_s"),
    [
        ({}, False, None),
        ({"unreachable_since": at(-9999)}, False, None),
        ({"deletion": at(30)}, False, 60.0),
        ({"deletion": at(-29)}, False, 1.0),
        ({"deletion": at(-30)}, True, None),
        ({"dead": True}, True, None),
        ({"dead": True, "deletion": at(30)}, True, None),
    ],
)
def test_end_of_a_worker(fields: dict[str, Any], over: bool, look_again_s: float | None) -> None:
    overdue_s = (NOW - fields["deletion"]).total_seconds() if "deletion" in fields else 0.0
    end = worker_end(pod_view(1, **fields), overdue_s)
    assert (end.over, end.look_again_s) == (over, look_again_s)
    assert bool(end.why) is over
