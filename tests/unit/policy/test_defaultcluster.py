from __future__ import annotations

import pytest

from taskctl.api.taskcluster import TaskCluster
from taskctl.policy.defaultcluster import choose_cluster, default_cluster
from taskctl.policy.leftovers import cleanup_rules


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], None),
        (["a"], "a"),
        (["default"], "default"),
        (["a", "b"], None),
        (["z", "default", "a"], "default"),
    ],
)
def test_which_one_is_meant(names: list[str], chosen: str | None) -> None:
    assert choose_cluster(names) == chosen


@pytest.mark.parametrize(("processors", "slots"), [(1, 4), (4, 4), (12, 12), (500, 32)])
def test_the_one_of_a_local_stack(processors: int, slots: int) -> None:
    made = TaskCluster.model_validate(default_cluster(processors))
    assert (made.metadata.name, made.metadata.namespace) == ("default", "default")
    assert (made.spec.replicas, made.spec.slots_per_worker) == (1, slots)


def test_how_long_logs_outlive_their_tasks() -> None:
    for keep_files_s in (0, 60):
        made = default_cluster(1, keep_files_s=keep_files_s)
        TaskCluster.model_validate(made)
        made["metadata"]["uid"] = "1"
        assert cleanup_rules(made).after_deletion_s == keep_files_s
