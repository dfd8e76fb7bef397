from __future__ import annotations

import pytest

from taskctl.embedded.node.decide import ContainerStopReason, PodPlan, crash_delay_s, decide
from taskctl.embedded.node.model import ContainerView, Json
from tests.unit.embedded_node.builders import NOW, RUNNING, container, ended, later, pod

INITS = [container("i1"), container("i2")]
SIDECAR = container("side", restartPolicy="Always")


def plan(subject: Json, **views: ContainerView) -> PodPlan:
    return decide(subject, views, NOW)


def test_everything_is_started_in_a_new_pod() -> None:
    assert plan(pod(container("a"), container("b"))).start == ("a", "b")


def test_ephemeral_containers_come_first_and_wait_for_nobody() -> None:
    subject = pod(initContainers=INITS, ephemeralContainers=[container("e2"), container("e1")])
    assert plan(subject).start == ("e2", "e1", "i1")


@pytest.mark.parametrize("view", [RUNNING, ended(0), ended(1)])
def test_ephemeral_containers_are_never_started_again(view: ContainerView) -> None:
    subject = pod(ephemeralContainers=[container("e")])
    assert plan(subject, main=RUNNING, e=view) == PodPlan()


@pytest.mark.parametrize(
    ("views", "start"),
    [
        ({}, ("i1",)),
        ({"i1": RUNNING}, ()),
        ({"i1": ended(0)}, ("i2",)),
        ({"i1": ended(1)}, ("i1",)),
        ({"i1": ended(0), "i2": ended(0)}, ("main",)),
        ({"main": RUNNING}, ()),  # proves that they are done, records or not
    ],
)
def test_init_containers_run_one_after_another(
    views: dict[str, ContainerView], start: tuple[str, ...]
) -> None:
    assert plan(pod(initContainers=INITS), **views).start == start


def test_failed_init_container_with_policy_never_ends_the_pod() -> None:
    subject = pod(initContainers=INITS, restartPolicy="Never")
    assert plan(subject, i1=ended(1)).stop is ContainerStopReason.FINISHED


def test_sidecar_must_run_before_the_next_and_is_restarted() -> None:
    subject = pod(initContainers=[SIDECAR, container("i")], restartPolicy="Never")
    assert plan(subject).start == ("side",)
    assert plan(subject, side=RUNNING).start == ("i",)
    assert plan(subject, side=RUNNING, i=ended(0)).start == ("main",)
    assert plan(subject, side=ended(0), i=ended(0), main=RUNNING).start == ("side",)
    assert (
        plan(subject, side=RUNNING, i=ended(0), main=ended(0)).stop is ContainerStopReason.FINISHED
    )


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policy(policy: str, code: int, again: bool) -> None:
    found = plan(pod(restartPolicy=policy), main=ended(code))
    assert (found.start == ("main",)) == again
    assert (found.stop is ContainerStopReason.FINISHED) != again


def test_back_off_delays_the_start_and_says_until_when() -> None:
    found = plan(pod(), main=ended(1, not_before=later(10)))
    assert found == PodPlan(wake_at=later(10))
    assert plan(pod(), main=ended(1, not_before=NOW)).start == ("main",)


def test_one_running_container_keeps_the_pod() -> None:
    subject = pod(container("a"), container("b"), restartPolicy="Never")
    assert plan(subject, a=ended(1), b=RUNNING) == PodPlan()
    assert plan(subject, a=ended(1), b=ended(0)).stop is ContainerStopReason.FINISHED


def test_deleted_and_finished_pods_are_stopped() -> None:
    deleted = pod(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert plan(deleted, main=RUNNING) == PodPlan(stop=ContainerStopReason.DELETED)
    assert plan(pod(status={"phase": "Failed"})) == PodPlan(stop=ContainerStopReason.FINISHED)


def test_active_deadline() -> None:
    subject = pod(activeDeadlineSeconds=60, status={"startTime": "2026-01-02T03:04:00Z"})
    assert plan(subject, main=RUNNING) == PodPlan(wake_at=later(55))
    assert decide(subject, {"main": RUNNING}, later(55)).stop is ContainerStopReason.DEADLINE


def test_crash_delays_double_up_to_five_minutes() -> None:
    assert [crash_delay_s(n) for n in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert crash_delay_s(10_000) == 300
