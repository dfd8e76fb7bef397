"""Claims of workspaces: made before the workers, deleted after their TaskCluster and its Tasks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from taskctl.api.resources import TASKCLUSTERS
from taskctl.api.states import Reclaim
from taskctl.constants import LABEL_MANAGED_BY, Reason
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.news import News
from taskctl.controllers.queues import Queues
from taskctl.controllers.task import state_of
from taskctl.controllers.writes import namespace_goes
from taskctl.errors import AlreadyExists, BadRequest, Conflict, Forbidden, Invalid, NotFound
from taskctl.kube.controller import DONE, Result
from taskctl.kube.interface import DeleteOptions, KubeObject
from taskctl.kube.resources import PVCS
from taskctl.kube.store import Store
from taskctl.objectkey import ObjectKey
from taskctl.policy.clusterstatus import WorkspaceFacts
from taskctl.policy.colocation import named_claims
from taskctl.policy.runcluster import cluster_of_task
from taskctl.policy.workspace import (
    WorkspaceVolume,
    claim_name_of,
    cluster_name_of,
    plan_workspace,
    reclaim_of,
)
from taskctl.policy.workspaceclaim import (
    LeftClaim,
    cluster_uid_of,
    decide_claim,
    reclaim_at_end,
    record_patch,
    recorded_reclaim,
    terminating_message,
    why_kept,
)

log = logging.getLogger(__name__)

# A claim that we did not make is not watched; one that was refused is tried again.
_LOOK_S: Final = 10.0
# Unfinished Tasks are counted at most so often while a claim waits for them.
_COUNT_S: Final = 1.0


_NOTHING: Final = WorkspaceFacts()


class ClaimEvent(StrEnum):
    """Reasons of Events on PersistentVolumeClaims."""

    KEPT = "WorkspaceKept"


@dataclass(frozen=True, slots=True)
class ClaimStanding:
    """The claim of a TaskCluster's workspace, as it stands.

    Attributes:
        facts: for the status.
        claim: the claim; None: there is none (yet).
        look_again_s: when to look again, in seconds; None: an event will tell.
    """

    facts: WorkspaceFacts = _NOTHING
    claim: KubeObject | None = None
    look_again_s: float | None = None

    @property
    def uid(self) -> str:
        """UID of the claim; empty: there is none."""
        return "" if self.claim is None else str(self.claim["metadata"]["uid"])

    def with_words(self, words: Mapping[str, str]) -> ClaimStanding:
        """Return this with what an Event says of the claim, if one does."""
        found = words.get(self.uid, "") if self.claim is not None else ""
        return replace(self, facts=replace(self.facts, words=found)) if found else self


class ClaimKeeper:
    """Makes the claims of TaskClusters, and says whether workers may use them.

    Args:
        api: the API server and its caches.
        queues: keys to reconcile.
    """

    def __init__(self, api: CachedApi, queues: Queues) -> None:
        self._api = api
        self._queues = queues
        # By UID of the TaskCluster: the last answer about what no watch shows, and its age.
        self._unwatched: dict[str, tuple[ClaimStanding, float, int]] = {}

    def forget(self, uid: str) -> None:
        """Forget a TaskCluster that is gone."""
        self._unwatched.pop(uid, None)

    async def ensure(self, cluster: KubeObject, workspace: WorkspaceVolume) -> ClaimStanding:
        """See to it that the workspace has its claim.

        Raises:
            Conflict: the claim has changed meanwhile.
            ApiError: the API server did not answer, or the namespace is on its way out.
        """
        if not workspace.claim_name:
            return ClaimStanding()
        key = ObjectKey(cluster["metadata"]["namespace"], workspace.claim_name)
        existing = self._api.caches.claims.get(key)
        if existing is not None:
            self.forget(cluster["metadata"]["uid"])
            return await self._judge(cluster, workspace, existing)
        uid, now_s = cluster["metadata"]["uid"], self._api.now_s()
        generation = int(cluster["metadata"].get("generation") or 0)
        known, at_s, of = self._unwatched.get(uid, (ClaimStanding(), now_s - _LOOK_S, generation))
        if now_s - at_s >= _LOOK_S or of != generation:
            known, at_s = await self._look(cluster, workspace, key), now_s
            if known.look_again_s is None:
                self.forget(uid)
                return known
            self._unwatched[uid] = (known, at_s, generation)
        return ClaimStanding(known.facts, known.claim, at_s + _LOOK_S - now_s)

    async def _look(
        self, cluster: KubeObject, workspace: WorkspaceVolume, key: ObjectKey
    ) -> ClaimStanding:
        """Ask the API server for a claim that the cache does not hold; make ours if there is none.

        The answer has ``look_again_s`` where no watch will tell of a change.
        """
        client, store = self._api.client, self._api.caches.claims
        try:
            if workspace.claim is None:
                existing = await client.get(PVCS, key.name, key.namespace)
            else:
                try:
                    existing = await client.create(PVCS, workspace.claim, key.namespace)
                except AlreadyExists:
                    existing = await client.get(PVCS, key.name, key.namespace)
        except NotFound:
            return ClaimStanding(look_again_s=_LOOK_S)
        except (BadRequest, Forbidden, Invalid) as error:
            if namespace_goes(error):
                raise
            message = f"PersistentVolumeClaim {key.name!r} could not be created: {error}"
            facts = WorkspaceFacts(reason=Reason.WORKSPACE_PENDING, message=message, held=True)
            return ClaimStanding(facts, look_again_s=_LOOK_S)
        watched = _is_managed(existing)
        if watched:
            store.observe(existing)
        standing = await self._judge(cluster, workspace, existing)
        return ClaimStanding(standing.facts, standing.claim, None if watched else _LOOK_S)

    async def _judge(
        self, cluster: KubeObject, workspace: WorkspaceVolume, existing: KubeObject
    ) -> ClaimStanding:
        phase = (existing.get("status") or {}).get("phase") or ""
        if workspace.claim is None:
            if not existing["metadata"].get("deletionTimestamp"):
                return ClaimStanding(WorkspaceFacts(True, phase), existing)
            reason, message = (
                Reason.WORKSPACE_TERMINATING,
                terminating_message(existing["metadata"]["name"]),
            )
            return ClaimStanding(WorkspaceFacts(True, phase, reason, message, True), existing)
        inherited = cluster_uid_of(existing) != cluster["metadata"]["uid"]
        waiting = (
            unfinished_tasks(self._api.caches.tasks, ObjectKey.of(cluster)) if inherited else 0
        )
        verdict = decide_claim(workspace.claim, existing, needed=waiting > 0)
        if verdict.patch is not None:
            existing = await _patch(self._api, existing, verdict.patch)
        if not verdict.usable and inherited:
            self._queues.claims.add(ObjectKey.of(existing))
        facts = WorkspaceFacts(
            True, phase, verdict.reason, verdict.message, held=not verdict.usable
        )
        return ClaimStanding(facts, existing)

    async def record_end(self, cluster: KubeObject) -> None:
        """Note on the claim of a TaskCluster that is being deleted what becomes of it.

        Raises:
            Conflict: the claim has changed meanwhile.
            ApiError: the API server did not answer.
        """
        metadata = cluster["metadata"]
        key = ObjectKey(metadata["namespace"], claim_name_of(metadata["name"]))
        claim = self._api.caches.claims.get(key)
        if claim is None or cluster_uid_of(claim) != metadata["uid"]:
            return
        patch = record_patch(claim, reclaim_at_end(cluster, reclaim_of(cluster)))
        if patch is not None:
            try:
                await _patch(self._api, claim, patch)
            except NotFound:
                return


class ClaimReconciler:
    """Deletes the claims of TaskClusters that are gone, once no unfinished Task needs them.

    Args:
        api: the API server and its caches.
        queues: keys to reconcile.
        news: tells people.
    """

    def __init__(self, api: CachedApi, queues: Queues, news: News) -> None:
        self._api = api
        self._queues = queues
        self._news = news
        # By UID of a TaskCluster that was seen to go: what was asked for then. The claim's own
        # note may be older by a moment.
        self._ends: dict[str, Reclaim] = {}
        # Claims that stay for now, by key, with what was said about it.
        self._kept: dict[ObjectKey, str] = {}

    def on_cluster(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """Take in a TaskCluster event: one that goes may leave a claim behind."""
        if new is None and old is not None:
            metadata = old["metadata"]
            self._ends[metadata["uid"]] = reclaim_at_end(old, reclaim_of(old))
            key = ObjectKey(metadata["namespace"], claim_name_of(metadata["name"]))
            if key in self._api.caches.claims:
                self._queues.claims.add(key)
            else:
                self._ends.pop(metadata["uid"])
        if self._kept and (old is None or new is None):
            namespace = (new or old or {})["metadata"]["namespace"]
            for key in self._kept:
                if key.namespace == namespace:
                    self._queues.claims.add(key)

    def on_claim(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """Take in a claim event."""
        if new is None:
            if old is not None:
                self._forget(old)
        elif self._is_left(new):
            self._queues.claims.add(ObjectKey.of(new))

    def on_task_over(self, task: KubeObject) -> None:
        """Take note that a Task has ended or is gone: a claim may have waited for it."""
        if self._kept:
            namespace = task["metadata"]["namespace"]
            key = ObjectKey(namespace, claim_name_of(cluster_of_task(task)))
            if key in self._kept:
                self._queues.claims.add_after(key, _COUNT_S)

    async def reconcile(self, key: ObjectKey) -> Result:
        """Delete a claim that nothing needs any more.

        Raises:
            Conflict: it has changed meanwhile.
            ApiError: the API server refused, or did not answer.
        """
        claim = self._api.caches.claims.get(key)
        if claim is None or not self._is_left(claim):
            self._kept.pop(key, None)
            return DONE
        if await self._lives(key, cluster_uid_of(claim)):
            return Result(_LOOK_S)  # the cache of TaskClusters is behind
        reclaim = self._ends.get(cluster_uid_of(claim), recorded_reclaim(claim))
        patch = record_patch(claim, reclaim)
        if patch is not None:
            claim = await _patch(self._api, claim, patch)
        self._ends.pop(cluster_uid_of(claim), None)
        left = self._left(key, reclaim)
        why = why_kept(left)
        if why:
            self._keep(key, claim, why, tell=left.waiting > 0)
            return DONE
        metadata = claim["metadata"]
        options = DeleteOptions(uid=metadata["uid"], resource_version=metadata["resourceVersion"])
        try:
            await self._api.client.delete(PVCS, key.name, key.namespace, options=options)
        except NotFound:
            return DONE
        log.info("%s: deleted the workspace of a TaskCluster that is gone", key)
        return DONE

    def _is_left(self, claim: KubeObject) -> bool:
        """Whether taskctl made the claim for a TaskCluster that is gone, and it still stands."""
        uid = cluster_uid_of(claim)
        metadata = claim["metadata"]
        ours = _is_managed(claim) and bool(uid) and bool(cluster_name_of(metadata["name"]))
        deleting = bool(metadata.get("deletionTimestamp"))
        return ours and not deleting and self._api.caches.clusters.get_by_uid(uid) is None

    async def _lives(self, key: ObjectKey, uid: str) -> bool:
        """Ask the API server itself: what is deleted cannot be had back."""
        try:
            found = await self._api.client.get(
                TASKCLUSTERS, cluster_name_of(key.name), key.namespace
            )
        except NotFound:
            return False
        return bool(found["metadata"]["uid"] == uid)

    def _left(self, key: ObjectKey, reclaim: Reclaim) -> LeftClaim:
        caches = self._api.caches
        name = ObjectKey(key.namespace, cluster_name_of(key.name))
        successor = caches.clusters.get(name)
        users = [
            cluster["metadata"]["name"]
            for cluster in caches.clusters
            if cluster["metadata"]["namespace"] == key.namespace
            and key.name in named_claims(cluster)
        ]
        uses = successor is not None and plan_workspace(successor).claim is not None
        return LeftClaim(
            reclaim=reclaim,
            waiting=unfinished_tasks(caches.tasks, name),
            users=users,
            successor=successor is not None,
            successor_uses=uses,
        )

    def _keep(self, key: ObjectKey, claim: KubeObject, why: str, *, tell: bool) -> None:
        if key not in self._kept:
            log.info("%s: kept although its TaskCluster is gone: %s", key, why)
            if tell:
                self._news.note(claim, ClaimEvent.KEPT, f"Its TaskCluster is gone. {why}")
        said = self._kept.get(key)
        self._kept[key] = why
        successor = ObjectKey(key.namespace, cluster_name_of(key.name))
        # Only news: the successor has this claim looked at whenever it is reconciled itself.
        if why != said and successor in self._api.caches.clusters:
            self._queues.clusters.add(successor)

    def _forget(self, claim: KubeObject) -> None:
        self._kept.pop(ObjectKey.of(claim), None)
        self._ends.pop(cluster_uid_of(claim), None)


def unfinished_tasks(tasks: Store, cluster: ObjectKey) -> int:
    """Return how many Tasks that are not over name a TaskCluster. Costs O(Tasks)."""
    return sum(
        cluster_of_task(task) == cluster.name
        and task["metadata"]["namespace"] == cluster.namespace
        and not state_of(task).terminal
        for task in tasks
    )


def _is_managed(claim: KubeObject) -> bool:
    """Whether the informer of claims shows it."""
    return (claim["metadata"].get("labels") or {}).get(LABEL_MANAGED_BY) == "taskctl"


async def _patch(api: CachedApi, claim: KubeObject, patch: KubeObject) -> KubeObject:
    metadata = claim["metadata"]
    try:
        stored = await api.client.patch(PVCS, metadata["name"], metadata["namespace"], patch)
    except Invalid as error:
        raise Conflict(str(error), status=error.status) from error  # another of this name
    api.caches.claims.observe(stored)
    return stored
