"""Which workers a TaskCluster should have: whom to create, retire and delete.

A worker is consumed by use: containers of ended tasks stay in its pod and slow it down. So
one that nears the end of its share (:mod:`taskctl.placement.rotation`), or was made from an older
template, is *expiring*: its replacement is created first, it serves until that is ready, then
it is *retiring*: it gets no more tasks and is deleted once it runs none. A busy worker is never
deleted. One whose node has fallen silent is replaced too; when it comes back, one is surplus. So is
one whose node is to be emptied; it goes once it is idle, which makes way for workers that must
all be on one node.

Everything is derived from the pods, so a restarted controller goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from taskctl.backoff import EXACT, Backoff
from taskctl.placement.rotation import RotationRule, Wear, spread
from taskctl.policy.podview import PodView

DEFAULT_MAX_TASKS: Final = 100
DEFAULT_SLOTS: Final = 4
_CREATION_BACKOFF: Final = Backoff(1.0, 60.0, EXACT)
# Share of the workers that may be replaced at a time because the template has changed.
_SURGE_DIVISOR: Final = 4
# The node controller has waited 40 s already; a kubelet that starts again needs a moment more.
REPLACE_UNREACHABLE_AFTER_S: Final = 30.0
# Workers made at the same time are replaced by age over this share of it, not all at once.
_AGE_SPREAD: Final = 0.1


class RetireReason(StrEnum):
    """Why a worker gets no more tasks."""

    WORN = "worn"  # rotation.maxTasks, or as many bytes
    AGED = "aged"  # rotation.maxAgeSeconds
    OUTDATED = "outdated"  # made from an older template
    SURPLUS = "surplus"  # more workers than spec.replicas
    LEAVING = "leaving"  # its node is to be emptied: cordoned, drained, taken away
    WORKSPACE = "workspace"  # its workspace must not be used, or is another claim by now


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What a TaskCluster asks for.

    Attributes:
        prefix: what worker names begin with, without the dash.
        replicas: workers wanted.
        slots: slots of a worker.
        max_tasks: ``rotation.maxTasks``.
        max_age_s: ``rotation.maxAgeSeconds``; None: no limit.
        template: fingerprint of the template.
        last_serial: highest worker number known to have been used.
        deleting: the TaskCluster is being deleted; the garbage collector takes its pods.
        create_in_s: no creation before so many seconds from now (back-off after failed pods).
        held: the workspace must not be used: no worker is created, and those there are go.
        claim_uid: UID of the workspace's claim; empty: it has none, or it is not known.
        together: its workers must all be on one node.
    """

    prefix: str
    replicas: int
    slots: int
    max_tasks: int
    max_age_s: int | None
    template: str
    last_serial: int = 0
    deleting: bool = False
    create_in_s: float = 0.0
    held: bool = False
    claim_uid: str = ""
    together: bool = False

    @property
    def rotation(self) -> RotationRule:
        """When its workers are worn out."""
        return RotationRule(self.max_tasks, self.slots)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """One worker.

    Attributes:
        pod: its pod.
        active: attempts placed or running there, those on their way included.
        wear: how far it is used up.
        was_surplus: it was retiring as surplus before: it stays the one to go.
        was_worn: it neared its end before: it does so still, should the tasks come more
            slowly now.
        serves_in_s: seconds until its agent can be taken to serve; 0: it does.
        age_s: seconds since it was created; None: not known.
        silent_s: seconds since its node fell silent; None: it answers.
        leaving: its node is to be emptied (:func:`taskctl.policy.nodes.must_leave`).
    """

    pod: PodView
    active: int
    wear: Wear
    was_surplus: bool = False
    was_worn: bool = False
    serves_in_s: float = 0.0
    age_s: float | None = None
    silent_s: float | None = None
    leaving: bool = False

    @property
    def serves(self) -> bool:
        """Whether it can take the place of another."""
        return self.pod.agent_running and self.serves_in_s <= 0


@dataclass(frozen=True, slots=True)
class WorkersPlan:
    """What to do now.

    Attributes:
        create: names of pods to create.
        retiring: UID of each worker that gets no more tasks, with the reason.
        worn: UIDs of workers that near their end, retiring or not.
        moving: nothing is created before the last worker has left its node.
        delete: workers to delete: retiring ones that are idle, and dead pods.
        look_again_s: seconds until time alone changes the answer; None: only events do.
    """

    create: tuple[str, ...]
    retiring: dict[str, RetireReason]
    delete: tuple[PodView, ...]
    look_again_s: float | None
    worn: frozenset[str] = frozenset()
    moving: bool = False


def plan_workers(cluster: ClusterFacts, workers: Sequence[WorkerFacts]) -> WorkersPlan:
    """Return what brings the workers closer to what the TaskCluster asks for."""
    if cluster.deleting:
        everyone = {worker.pod.uid: RetireReason.SURPLUS for worker in workers}
        return WorkersPlan((), everyone, (), None)
    present = [w for w in workers if not w.pod.dead and w.pod.deletion is None]
    in_reach = [w for w in present if not _is_out_of_reach(w)]
    stranded = [w for w in in_reach if _is_stranded(cluster, w.pod)]
    leaving = [w for w in in_reach if w.leaving and w not in stranded]
    live = [w for w in in_reach if w not in stranded and not w.leaving]
    dead = [w.pod for w in workers if w.pod.dead and w.pod.deletion is None]
    expiry = {w.pod.uid: reason for w in live if (reason := _expiry(cluster, w))}
    fresh = [w for w in live if w.pod.uid not in expiry]
    expiring = [w for w in live if w.pod.uid in expiry]
    retiring = _surplus(cluster, fresh) | _replaced(cluster, fresh, expiring, expiry)
    retiring |= {w.pod.uid: RetireReason.WORKSPACE for w in stranded}
    retiring |= {w.pod.uid: RetireReason.LEAVING for w in leaving}
    # A worker that is made now would be refused by the scheduler, for those it must be with. It is
    # not looked at again when they have gone, but minutes later (interpodaffinity/plugin.go,
    # isSchedulableAfterPodChange).
    moving = cluster.together and any(w.leaving and not w.pod.dead for w in workers)
    missing = 0 if cluster.held or moving else _missing(cluster, fresh, expiring, expiry)
    create, wait_s = _names(cluster, workers, missing)
    idle = [w.pod for w in in_reach if w.pod.uid in retiring and w.active == 0]
    return WorkersPlan(
        create=create,
        retiring=retiring,
        delete=(*dead, *idle),
        look_again_s=_earliest(
            wait_s,
            _next_aging_s(cluster, fresh),
            _next_silence_s(live),
            _next_serving_s(fresh, expiring),
        ),
        worn=frozenset(uid for uid, reason in expiry.items() if reason is RetireReason.WORN),
        moving=moving,
    )


def _is_stranded(cluster: ClusterFacts, pod: PodView) -> bool:
    """Whether what tasks write there would be lost, or be seen by no other worker."""
    known = bool(cluster.claim_uid and pod.claim_uid)
    return cluster.held or (known and cluster.claim_uid != pod.claim_uid)


def _is_out_of_reach(worker: WorkerFacts) -> bool:
    return worker.silent_s is not None and worker.silent_s >= REPLACE_UNREACHABLE_AFTER_S


def _next_silence_s(live: Iterable[WorkerFacts]) -> float | None:
    silences = (worker.silent_s for worker in live if worker.silent_s is not None)
    return min((REPLACE_UNREACHABLE_AFTER_S - silent_s for silent_s in silences), default=None)


def _next_serving_s(fresh: Iterable[WorkerFacts], expiring: Sequence[WorkerFacts]) -> float | None:
    """When a replacement that is up may take the place of an expiring worker."""
    if not expiring:
        return None
    coming = (w.serves_in_s for w in fresh if w.pod.agent_running and not w.serves)
    return min(coming, default=None)


def _expiry(cluster: ClusterFacts, worker: WorkerFacts) -> RetireReason | None:
    if worker.was_worn or cluster.rotation.nears_end(worker.wear, _serial(cluster, worker.pod)):
        return RetireReason.WORN
    age_left_s = _age_left_s(cluster, worker)
    if age_left_s is not None and age_left_s <= 0:
        return RetireReason.AGED
    return RetireReason.OUTDATED if worker.pod.template != cluster.template else None


def _age_left_s(cluster: ClusterFacts, worker: WorkerFacts) -> float | None:
    if cluster.max_age_s is None or worker.age_s is None:
        return None
    early = _AGE_SPREAD * spread(_serial(cluster, worker.pod))
    return cluster.max_age_s * (1.0 - early) - worker.age_s


def _next_aging_s(cluster: ClusterFacts, fresh: Iterable[WorkerFacts]) -> float | None:
    ages = (_age_left_s(cluster, worker) for worker in fresh)
    return min((age for age in ages if age is not None), default=None)


def _surplus(cluster: ClusterFacts, fresh: Sequence[WorkerFacts]) -> dict[str, RetireReason]:
    """Too many: let go of those that are not up, then idle ones, then the least busy."""
    count = len(fresh) - cluster.replicas
    if count <= 0:
        return {}
    order = sorted(
        fresh,
        key=lambda w: (not w.was_surplus, w.pod.agent_running, w.active, -_serial(cluster, w.pod)),
    )
    return {worker.pod.uid: RetireReason.SURPLUS for worker in order[:count]}


def _replaced(
    cluster: ClusterFacts,
    fresh: Sequence[WorkerFacts],
    expiring: Sequence[WorkerFacts],
    expiry: dict[str, RetireReason],
) -> dict[str, RetireReason]:
    """Expiring workers that can take no more, or whose place a ready one has taken."""
    ready = sum(worker.serves for worker in fresh)
    serving = [w for w in expiring if not cluster.rotation.is_spent(w.wear)]
    serving.sort(key=lambda w: (w.wear.entries, _serial(cluster, w.pod)))
    kept = {w.pod.uid for w in serving[: max(cluster.replicas - ready, 0)]}
    return {w.pod.uid: expiry[w.pod.uid] for w in expiring if w.pod.uid not in kept}


def _missing(
    cluster: ClusterFacts,
    fresh: Sequence[WorkerFacts],
    expiring: Sequence[WorkerFacts],
    expiry: dict[str, RetireReason],
) -> int:
    """How many to create: a worn worker is replaced at once, outdated ones a few at a time."""
    missing = max(cluster.replicas - len(fresh), 0)
    outdated = sum(expiry[w.pod.uid] is RetireReason.OUTDATED for w in expiring)
    may_wait = min(outdated, missing)
    coming_up = sum(not worker.pod.agent_running for worker in fresh)
    surge = max(1, cluster.replicas // _SURGE_DIVISOR) - coming_up
    return missing - may_wait + min(may_wait, max(surge, 0))


def _names(
    cluster: ClusterFacts, workers: Sequence[WorkerFacts], count: int
) -> tuple[tuple[str, ...], float | None]:
    """Names follow from what exists: a repeated creation meets the same name, not a new pod."""
    if count <= 0:
        return (), None
    if cluster.create_in_s > 0:
        return (), cluster.create_in_s
    last = max((_serial(cluster, w.pod) for w in workers), default=0)
    first = max(last, cluster.last_serial) + 1
    return tuple(f"{cluster.prefix}-{number}" for number in range(first, first + count)), None


def _serial(cluster: ClusterFacts, pod: PodView) -> int:
    return serial_of(pod.name, cluster.prefix)


def serial_of(name: str, prefix: str) -> int:
    """Return the number in a worker's name; 0 where it has another form."""
    number = name.removeprefix(f"{prefix}-")
    return int(number) if number != name and number.isascii() and number.isdigit() else 0


def creation_backoff_s(failures: int) -> float:
    """Return how long to wait after that many workers have failed in a row: 1, 2, 4 … 60 s."""
    return _CREATION_BACKOFF.pause_s(failures)


def _earliest(*delays_s: float | None) -> float | None:
    return min((delay for delay in delays_s if delay is not None), default=None)


def cluster_slots(cluster: Mapping[str, Any]) -> int:
    """Return ``spec.slotsPerWorker`` of a raw TaskCluster."""
    return int(cluster["spec"].get("slotsPerWorker") or DEFAULT_SLOTS)


def cluster_max_tasks(cluster: Mapping[str, Any]) -> int:
    """Return ``spec.rotation.maxTasks`` of a raw TaskCluster."""
    return int((cluster["spec"].get("rotation") or {}).get("maxTasks") or DEFAULT_MAX_TASKS)
