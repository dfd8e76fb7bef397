from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from taskctl.api.meta import describe_errors
from taskctl.api.retry import Retry
from taskctl.api.states import Reclaim, TaskState, When
from taskctl.api.task import Task
from taskctl.api.taskcluster import TaskCluster
from taskctl.api.taskobject import TaskObject
from taskctl.api.taskrules import ONE_CLUSTER_MESSAGE
from taskctl.api.workspace import WorkspaceClaim
from taskctl.objectkey import ObjectKey
from taskctl.testing.builders import task, taskcluster, taskobject


def errors_of(model: type[Any], obj: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(obj)
    return describe_errors(caught.value)


def test_defaults() -> None:
    spec = Task.from_json(task().build()).spec
    assert (spec.when, spec.slots, spec.priority) == (When.SUCCESS, 1, 0)
    # A default of the schema would hide spec.taskDefaults of the TaskCluster.
    assert spec.start_deadline_seconds is None
    assert spec.retry is None
    retry = Retry()
    assert (retry.limit, retry.backoff_seconds, retry.max_backoff_seconds) == (0, 1, 300)
    assert retry.jitter == 0.2
    cluster = TaskCluster.from_json(taskcluster().workspace().build()).spec
    assert cluster.workspace is not None
    assert (cluster.workspace.mount_path, cluster.workspace.reclaim) == (
        "/workspace",
        Reclaim.DELETE,
    )
    claim = WorkspaceClaim()
    assert claim.access_modes == ["ReadWriteOnce"]
    assert claim.resources.requests == {"storage": "1Gi"}


def test_defaults_are_not_shared() -> None:
    WorkspaceClaim().access_modes.append("ReadWriteMany")
    assert WorkspaceClaim().access_modes == ["ReadWriteOnce"]


def test_names_on_the_wire() -> None:
    running = task().running("c-1").status(infraFailures=1, nextAttemptTime="x").build()
    status = Task.from_json(running).status
    assert status.state is TaskState.RUNNING
    assert (status.pod_uid, status.infra_failures) == ("uid-c-1", 1)
    sent = Task.from_json(task().spec(timeoutSeconds=5, inputObject="i").build()).to_json()
    assert sent["spec"]["timeoutSeconds"] == 5
    assert "workingDir" not in sent["spec"]


def test_a_task_without_status_is_pending() -> None:
    obj = task().build()
    del obj["status"]
    assert Task.from_json(obj).status.state is TaskState.PENDING


def test_status_of_a_newer_version_is_read() -> None:
    obj = task().status(somethingNew=1).build()
    assert Task.from_json(obj).status.state is TaskState.PENDING


def test_metadata_is_kept_as_it_is() -> None:
    obj = task().metadata(managedFields=[{"manager": "x"}], selfLink="y").build()
    dumped = Task.from_json(obj).to_json()
    assert dumped["metadata"] == obj["metadata"]


def test_errors_name_the_field_and_the_remedy() -> None:
    assert errors_of(Task, task().spec(comand=["x"]).build()) == [
        "spec.comand: unknown field; see `kubectl explain` for the ones there are"
    ]
    assert errors_of(Task, task().spec(clusterName=None).build()) == [
        f"spec: {ONE_CLUSTER_MESSAGE}"
    ]
    assert errors_of(Task, task().spec(env=[{"name": "A", "value": 1}]).build()) == [
        "spec.env[0].value: Input should be a valid string"
    ]
    assert errors_of(Task, task().spec(runAfter={"tasks": ["a", "a"]}).build()) == [
        "spec.runAfter: tasks names a task twice; remove the repetition"
    ]
    doubled = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    assert errors_of(Task, task().spec(env=doubled).build()) == [
        "spec.env: env names A twice; remove one"
    ]
    doubled_volumes = [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]
    assert errors_of(TaskCluster, taskcluster().spec(volumes=doubled_volumes).build()) == [
        "spec: volumes has the same name twice; rename one"
    ]


def test_numbers_must_be_finite() -> None:
    assert errors_of(Task, task().spec(retry={"backoffSeconds": float("inf")}).build())


def test_volumes_keep_what_kubernetes_knows() -> None:
    volume = {"name": "a", "persistentVolumeClaim": {"claimName": "b"}}
    built = taskcluster().spec(volumes=[volume]).build()
    assert TaskCluster.from_json(built).to_json()["spec"]["volumes"] == [volume]


def test_values_of_every_shape() -> None:
    values: list[Any] = [None, 0, "", [], {"a": [None]}]
    for value in values:
        parsed = TaskObject.from_json(taskobject().value(value).build())
        assert parsed.value == value
        assert parsed.to_json()["value"] == value


def test_keys() -> None:
    key = ObjectKey.of(task("a").namespace("n").build())
    assert (str(key), str(ObjectKey("", "b"))) == ("n/a", "b")
    assert sorted([ObjectKey("b", "a"), ObjectKey("a", "b")])[0].namespace == "a"
