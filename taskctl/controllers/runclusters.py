"""TaskClusters of single runs (``spec.cluster`` of a root): made at its start, idle after its end.

They go with the root: the garbage collector deletes them. Until then the tree can be run again,
so the TaskCluster and its workspace stay; only its workers end some time after the run.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.controllers.ages import Ages
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.writes import namespace_goes
from taskctl.errors import AlreadyExists, BadRequest, Forbidden, Invalid, NotFound
from taskctl.kube.interface import KubeObject
from taskctl.objectkey import ObjectKey
from taskctl.policy.runcluster import (
    build_run_cluster,
    cluster_of_task,
    is_run_cluster,
    run_of,
    workers_stay_s,
)
from taskctl.policy.runclusterrule import RunClusters, problem_with
from taskctl.policy.status import completion_time
from taskctl.policy.view import TaskView

log = logging.getLogger(__name__)

# One that was refused, or whose name is taken, is tried again.
_LOOK_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Made:
    """What came of making a run's TaskCluster.

    Attributes:
        problem: why there is none, as a sentence; empty: it is there.
    """

    problem: str = ""

    @property
    def look_again_s(self) -> float:
        """Seconds until the Task is to be looked at again."""
        return _LOOK_S if self.problem else 0.0


class RunClusterMaker:
    """Makes the TaskCluster of a run when the first of its tasks is ready to start.

    Args:
        api: the API server and its caches.
        mode: which TaskClusters are made for runs at all.
    """

    def __init__(self, api: CachedApi, mode: RunClusters = RunClusters.PLAIN) -> None:
        self._api = api
        self._mode = mode

    async def make(self, view: TaskView) -> Made | None:
        """Make the TaskCluster that a Task waits for, if it is that of its tree's root.

        A controller that was killed in between, and one that comes second, finds it by its name.

        Returns:
            What came of it; None: the Task waits for a TaskCluster that has another owner.

        Raises:
            Conflict: the root has changed meanwhile.
            ApiError: the API server did not answer, or the namespace is on its way out.
        """
        root = self._api.caches.tasks.get_by_uid(view.root_uid)
        if root is None or root["metadata"].get("namespace", "") != view.namespace:
            return None
        own = root["spec"].get("cluster") is not None and cluster_of_task(root) == view.cluster
        if not own or root["metadata"].get("deletionTimestamp"):
            return None
        problem = problem_with(root["spec"]["cluster"], self._mode)
        if problem:
            return Made(problem)
        if (root.get("status") or {}).get("clusterName") != view.cluster:
            await self._api.write_status(TASKS, root, {"clusterName": view.cluster})
        return await self._create(root)

    async def _create(self, root: KubeObject) -> Made:
        client, manifest = self._api.client, build_run_cluster(root)
        key = ObjectKey.of(manifest)
        try:
            stored = await client.create(TASKCLUSTERS, manifest, key.namespace)
            log.info("%s: made for the run of task %s", key, root["metadata"]["name"])
        except AlreadyExists:
            try:
                stored = await client.get(TASKCLUSTERS, key.name, key.namespace)
            except NotFound:
                return Made(f"TaskCluster {key.name!r} comes and goes.")
            if not is_run_cluster(stored, root):
                return Made(
                    f"TaskCluster {key.name!r} exists and was not made for this Task "
                    "(spec.cluster): delete it, or create the Task again."
                )
        except (BadRequest, Forbidden, Invalid) as error:
            if namespace_goes(error):
                raise
            return Made(f"TaskCluster {key.name!r} (spec.cluster) could not be created: {error}")
        self._api.caches.clusters.observe(stored)
        return Made()


class RunEnds:
    """Knows whether the run that a TaskCluster was made for is over.

    Args:
        api: the API server and its caches.
    """

    def __init__(self, api: CachedApi) -> None:
        self._api = api
        self._ages = Ages(api.timing.clock)

    def forget(self, uid: str) -> None:
        """Forget a TaskCluster that is gone."""
        self._ages.drop(uid)

    def workers_left_s(self, cluster: KubeObject) -> float | None:
        """Return for how many seconds the workers stay; None: for as long as it is not over.

        A tree that is run again is not over any more.
        """
        uid = cluster["metadata"]["uid"]
        root = self._api.caches.tasks.get_by_uid(run_of(cluster))
        ended = None if root is None else completion_time(root.get("status") or {})
        if ended is None:
            self._ages.drop(uid)
            return None
        return max(workers_stay_s(cluster) - self._ages.age_s(uid, ended), 0.0)
