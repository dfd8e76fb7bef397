from __future__ import annotations

from dataclasses import replace

import pytest

from taskctl.embedded.node.decide import ContainerStopReason
from taskctl.embedded.node.model import ContainerView, Json, Terminated
from taskctl.embedded.node.status import StatusInputs, differs, pod_status
from tests.unit.embedded_node.builders import NOW, RUNNING, container, ended, later, pod


def status(
    subject: Json, stop: ContainerStopReason = ContainerStopReason.NONE, /, **views: ContainerView
) -> Json:
    return pod_status(subject, StatusInputs(views, NOW, stop))


def conditions(found: Json) -> dict[str, str]:
    return {c["type"]: c["status"] for c in found["conditions"]}


def with_message(view: ContainerView, message: str) -> ContainerView:
    assert isinstance(view.terminated, Terminated)
    return replace(view, terminated=replace(view.terminated, message=message))


@pytest.mark.parametrize(
    ("policy", "views", "phase"),
    [
        ("Always", {}, "Pending"),
        ("Always", {"a": RUNNING}, "Pending"),
        ("Always", {"a": RUNNING, "b": RUNNING}, "Running"),
        ("Always", {"a": RUNNING, "b": ended(1)}, "Running"),
        ("Always", {"a": ended(0), "b": ended(0)}, "Running"),
        ("Never", {"a": RUNNING, "b": ended(1)}, "Running"),
        ("Never", {"a": ended(0), "b": ended(0)}, "Succeeded"),
        ("Never", {"a": ended(0), "b": ended(2)}, "Failed"),
        ("OnFailure", {"a": ended(0), "b": ended(2)}, "Running"),
    ],
)
def test_phase(policy: str, views: dict[str, ContainerView], phase: str) -> None:
    subject = pod(container("a"), container("b"), restartPolicy=policy)
    assert status(subject, **views)["phase"] == phase


def test_final_phase_stays() -> None:
    assert status(pod(status={"phase": "Succeeded"}))["phase"] == "Succeeded"


def test_ephemeral_containers_do_not_count() -> None:
    subject = pod(ephemeralContainers=[container("e")])
    found = status(subject, main=RUNNING, e=ended(1))
    assert found["phase"] == "Running"
    assert conditions(found)["Ready"] == "True"
    assert found["ephemeralContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 1


def test_a_pod_is_over_when_its_last_container_is() -> None:
    parts: Json = {
        "ephemeralContainers": [container("e")],
        "status": {"phase": "Running"},
    }
    subject = pod(restartPolicy="Never", **parts)
    assert status(subject, main=ended(0), e=RUNNING)["phase"] == "Running"
    assert status(subject, main=ended(0), e=ended(1))["phase"] == "Succeeded"
    deleted = pod(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}, **parts)
    assert status(deleted, main=ended(7), e=RUNNING)["phase"] == "Running"
    over = status(deleted, main=ended(0), e=ended(137))
    assert over["phase"] == "Succeeded"
    reasons = {c["type"]: c.get("reason") for c in over["conditions"]}
    assert reasons["Initialized"] == "PodCompleted"


def test_deadline_fails_the_pod() -> None:
    found = status(pod(), ContainerStopReason.DEADLINE, main=RUNNING)
    assert (found["phase"], found["reason"]) == ("Failed", "DeadlineExceeded")


def test_conditions_of_a_ready_pod() -> None:
    found = conditions(status(pod(), main=RUNNING))
    names = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    assert found == dict.fromkeys(names, "True")


def test_conditions_while_init_containers_run() -> None:
    found = status(pod(initContainers=[container("i")]), i=RUNNING)
    assert conditions(found)["Initialized"] == "False"
    assert conditions(found)["Ready"] == "False"
    assert found["phase"] == "Pending"
    assert found["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_readiness_gates() -> None:
    subject = pod(readinessGates=[{"conditionType": "example.com/x"}])
    assert conditions(status(subject, main=RUNNING))["Ready"] == "False"
    subject["status"]["conditions"] = [{"type": "example.com/x", "status": "True"}]
    assert conditions(status(subject, main=RUNNING))["Ready"] == "True"


def test_transition_time_moves_only_with_the_status() -> None:
    old = {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    subject = pod(status={"conditions": [old]})
    ready = {c["type"]: c for c in status(subject, main=RUNNING)["conditions"]}["Ready"]
    assert ready["lastTransitionTime"] == old["lastTransitionTime"]
    unready = {c["type"]: c for c in status(subject)["conditions"]}["Ready"]
    assert unready["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_running_container() -> None:
    found = status(pod(), main=RUNNING)["containerStatuses"][0]
    assert found["state"] == {"running": {"startedAt": "2026-01-02T03:04:05Z"}}
    assert (found["ready"], found["started"], found["restartCount"]) == (True, True, 0)
    assert found["containerID"] == "process://u/c/0"


def test_crash_loop_shows_the_last_end() -> None:
    found = status(pod(), main=ended(3, not_before=later(10), restarts=1))["containerStatuses"][0]
    assert found["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert found["lastState"]["terminated"]["exitCode"] == 3
    assert found["ready"] is False


def test_waiting_reason_of_a_start_that_failed() -> None:
    view = ContainerView(waiting_reason="CreateContainerConfigError", waiting_message="no secret")
    state = status(pod(), main=view)["containerStatuses"][0]["state"]
    assert state == {"waiting": {"reason": "CreateContainerConfigError", "message": "no secret"}}


def test_messages_share_what_a_pod_may_say() -> None:
    subject = pod(ephemeralContainers=[container(f"e{n}") for n in range(11)])
    views = {f"e{n}": with_message(ended(1), "x" * 5000) for n in range(11)}
    found = status(subject, main=RUNNING, **views)["ephemeralContainerStatuses"]
    assert {len(s["state"]["terminated"]["message"]) for s in found} == {12 * 1024 // 12}


def test_without_a_record_the_api_is_believed() -> None:
    old = {"name": "e", "state": {"terminated": {"exitCode": 9}}}
    subject = pod(
        ephemeralContainers=[container("e")], status={"ephemeralContainerStatuses": [old]}
    )
    assert status(subject, main=RUNNING)["ephemeralContainerStatuses"] == [old]


def test_deleted_pod_whose_containers_have_ended_is_terminal() -> None:
    subject = pod(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert status(subject, ContainerStopReason.DELETED, main=ended(143))["phase"] == "Failed"
    assert status(subject, ContainerStopReason.DELETED, main=RUNNING)["phase"] == "Running"


def test_differs_sees_only_what_the_node_writes() -> None:
    subject = pod()
    written = status(subject, main=RUNNING)
    foreign = {"type": "example.com/x", "status": "True"}
    server = {**written, "qosClass": "BestEffort", "conditions": [foreign, *written["conditions"]]}
    assert not differs(server, written)
    assert differs(server, status(subject, main=ended(1)))
