"""What is known of a worker when its TaskCluster's workers are planned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taskctl.constants import LABEL_CLUSTER_UID
from taskctl.controllers.ages import Ages
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.news import News
from taskctl.controllers.queues import Queues
from taskctl.kube.interface import KubeObject
from taskctl.kube.store import Store
from taskctl.objectkey import ObjectKey
from taskctl.placement.fleet import RetireReason, WorkerFacts
from taskctl.placement.workers import Worker
from taskctl.policy.nodes import leaving_taints, must_leave
from taskctl.policy.podview import PodView, tells_nothing
from taskctl.policy.volumewords import awaited_volumes

# A mount that fails is told of within seconds, and a worker that is well has come up by then.
_SAID_NOTHING_S: Final = 10.0
NODES_NOT_VISIBLE: Final = "NodesNotVisible"
_UNSEEN_MESSAGE: Final = (
    "Workers on nodes that are cordoned or drained are still given tasks, as the controller may "
    "not list and watch Nodes. Apply the roles of its version (`taskctl install`)"
)


def bare_node(node: KubeObject) -> KubeObject:
    """Keep what says whether a Node is to be emptied; the rest is large and changes often."""
    metadata, spec = node["metadata"], node.get("spec") or {}
    kept = {name: metadata[name] for name in ("name", "uid", "resourceVersion")}
    wanted = {name: spec[name] for name in ("unschedulable", "taints") if spec.get(name)}
    return {"metadata": kept, "spec": wanted}


class NodeNews:
    """Has TaskClusters looked at when a node of their workers is to be emptied, or no longer.

    Args:
        api: the API server and its caches.
        queues: keys to reconcile.
    """

    def __init__(self, api: CachedApi, queues: Queues) -> None:
        self._api = api
        self._queues = queues

    def on_node(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """A Node came, changed or went. A handler of the store of Nodes."""
        if leaving_taints(old) == leaving_taints(new):
            return
        name = (new or old or {})["metadata"]["name"]
        for pod in self._api.caches.pods:
            if pod["spec"].get("nodeName") != name:
                continue
            uid = (pod["metadata"].get("labels") or {}).get(LABEL_CLUSTER_UID, "")
            key = self._api.caches.cluster_key(uid)
            if key is not None:
                self._queues.clusters.add(key)


class NodeSight:
    """Tells people, once for each TaskCluster, that Nodes may not be seen.

    Args:
        api: the API server and its caches.
        news: tells people.
    """

    def __init__(self, api: CachedApi, news: News) -> None:
        self._api = api
        self._news = news
        self._told: set[str] = set()

    def look(self, cluster: KubeObject) -> None:
        """Publish the warning where it is due."""
        uid = cluster["metadata"]["uid"]
        refusal = self._api.caches.nodes_refusal()
        if not refusal:
            self._told.discard(uid)  # to be told again, should it be forbidden again
        elif uid not in self._told:
            self._told.add(uid)
            self._news.warn(cluster, NODES_NOT_VISIBLE, f"{_UNSEEN_MESSAGE}: {refusal}")

    def forget(self, uid: str) -> None:
        """Forget a TaskCluster that is gone."""
        self._told.discard(uid)


def age_keys(pod: PodView) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return under which names the ages of a pod, and of its node's silence, are kept."""
    return (pod.uid, "created"), (pod.uid, "silent")


def worker_facts(
    worker: Worker, ages: Ages, now_s: float, queued: float, nodes: Store | None
) -> WorkerFacts:
    """Return what is known of a worker.

    Args:
        worker: as the placement machine has it.
        ages: since when what is the case.
        now_s: the time (monotonic).
        queued: its share of the tasks that wait for a slot.
        nodes: what is known of Nodes; None: this controller may not see them.
    """
    pod = worker.pod
    created, silent = age_keys(pod)
    since = pod.unreachable_since
    node_name = worker.raw["spec"].get("nodeName")
    node = nodes.get(ObjectKey("", node_name)) if nodes is not None and node_name else None
    return WorkerFacts(
        pod=pod,
        # A batch in flight counts: its attempts are open, but be safe against a gap.
        active=max(worker.active, int(worker.in_flight)),
        wear=worker.wear(now_s, queued),
        was_surplus=worker.retiring is RetireReason.SURPLUS,
        was_worn=worker.worn,
        serves_in_s=worker.serves_in_s(now_s),
        age_s=None if pod.created is None else ages.age_s(created, pod.created),
        silent_s=None if since is None else ages.age_s(silent, since),
        leaving=must_leave(worker.raw, node),
    )


def worker_problem(worker: Worker, words: Mapping[str, str], ages: Ages) -> str:
    """Return why a worker is not up.

    Args:
        worker: one whose pod has a problem.
        words: what Events say, by UID.
        ages: since when what is the case.
    """
    pod = worker.pod
    if not tells_nothing(pod.problem):
        return pod.problem
    if words.get(pod.uid):
        return words[pod.uid]
    created, _ = age_keys(pod)
    old = pod.created is not None and ages.age_s(created, pod.created) >= _SAID_NOTHING_S
    awaited = awaited_volumes(worker.raw) if old else ""
    return f"{pod.problem}: {awaited}" if awaited else pod.problem
