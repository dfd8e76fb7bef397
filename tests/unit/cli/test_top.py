from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.render_top import TopStyle, render_top
from taskctl.cli.terminal import columns
from taskctl.cli.top import Fleet, draw
from taskctl.constants import LABEL_CLUSTER
from taskctl.errors import Forbidden
from taskctl.kube.resources import PODS, Resource
from taskctl.testing.builders import EPOCH, task, taskcluster
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

NOW = EPOCH + timedelta(seconds=90)
Object = dict[str, Any]


def cluster(name: str, is_ready: str = "True", **status: Any) -> Object:
    condition = {"type": "Ready", "status": is_ready, "message": "c-2: ErrImagePull\x1b[2J"}
    builder = taskcluster(name).spec(replicas=2, slotsPerWorker=4)
    return builder.status(conditions=[condition], replicas=2, **status).build()


def worker_pod(name: str) -> Object:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    agent = {"name": "agent", "ready": True, "state": {"running": {}}}
    conditions = [{"type": "Ready", "status": "True"}]
    return {
        "kind": "Pod",
        "metadata": metadata | {"labels": {LABEL_CLUSTER: "c"}},
        "status": {
            "phase": "Running",
            "containerStatuses": [agent],
            "conditions": conditions,
        },
    }


def fleet() -> tuple[list[Object], list[Object], list[Object]]:
    pod = worker_pod("c-1")
    uid = pod["metadata"]["uid"]
    tasks = [task("wait").cluster("c").build(), task("other").cluster("d").build()]
    for number in range(5):
        running = task(f"run-{number}").cluster("c").running("c-1").status(podUID=uid)
        tasks.append(running.build())
    ends = (NOW - timedelta(seconds=3), NOW - timedelta(seconds=30))
    for number, end in enumerate(ends):
        failed = task(f"bad-{number}").cluster("c").state(TaskState.FAILED, "Timeout")
        tasks.append(failed.times(exited=end).build())
    clusters = [cluster("d"), cluster("c", "False", ready=1, busySlots=5, freeSlots=3)]
    return clusters, [pod], tasks


def test_golden() -> None:
    assert render_top(*fleet(), TopStyle(NOW)) == [
        "CLUSTER   WORKERS   SLOTS   RUNNING   QUEUED   OLDEST   ENDED/S   FAILED/S",
        "c         1/2       5/8     5         1        90s      0.1       0.1",
        "d         0/2       -       0         1        90s      0.0       0.0",
        "c: c-2: ErrImagePull\\x1b[2J",
        "",
        "WORKER   STATE   SLOTS   TASKS",
        "c-1      ready   5/4     run-0 run-1 run-2 +2",
    ]


@pytest.mark.parametrize(("width", "lines"), [(80, 24), (40, 5), (20, 1), (200, 50)])
def test_it_fits(width: int, lines: int) -> None:
    clusters, pods, tasks = fleet()
    pods += [worker_pod(f"c-{number}") for number in range(2, 60)]
    known = Fleet(
        clusters={obj["metadata"]["uid"]: obj for obj in clusters},
        pods={obj["metadata"]["uid"]: obj for obj in pods},
        tasks={obj["metadata"]["uid"]: obj for obj in tasks},
    )
    drawn = draw(known, width=width, lines=lines, colour=True)
    assert len(drawn) <= lines
    assert max(columns(line) for line in drawn) <= width


def test_once(run: Run, client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No TaskClusters" in run("top", "--once").stderr
    clusters, _, tasks = fleet()
    client.put(*clusters, *tasks)
    list_all = client.list_all

    async def refuse(res: Resource, *args: Any, **kwargs: Any) -> Any:
        if res is PODS:
            raise Forbidden("no", 403)
        return await list_all(res, *args, **kwargs)

    monkeypatch.setattr(client, "list_all", refuse)
    result = run("top")  # no terminal: once
    assert result.exit_code == 0
    assert "5/8" in result.stdout
    assert "no right to see pods" in result.stdout
