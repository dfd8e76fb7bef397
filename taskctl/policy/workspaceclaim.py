"""What to do about the claim that taskctl makes for a workspace: use it, wait, or let it go.

The claim outlives its TaskCluster where ``reclaim`` is Retain, and as long as unfinished Tasks
wait for a TaskCluster of that name: what they have written is still needed. A later TaskCluster
of the name takes over such a claim, if it is what its spec asks for. No worker runs on a claim
that has another owner, differs from the spec, or is being deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.states import Reclaim
from taskctl.constants import (
    ANNOTATION_RECLAIM,
    API_VERSION,
    LABEL_CLUSTER,
    LABEL_CLUSTER_UID,
    LABEL_MANAGED_BY,
    Reason,
)
from taskctl.quantity import parse_quantity

# kubectl delete --cascade=orphan: what the TaskCluster has made is left to the user.
_ORPHAN: Final = "orphan"
_NO_WORKER: Final = "No worker runs until then."


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """Whether workers may be made for a claim.

    Attributes:
        reason: why not; None: they may.
        message: the same for people, with the remedy.
        patch: merge patch that makes the claim ours and notes ``reclaim``; None: it is and does.
    """

    reason: Reason | None = None
    message: str = ""
    patch: dict[str, Any] | None = None

    @property
    def usable(self) -> bool:
        """Whether workers may be made for the claim."""
        return self.reason is None


def decide_claim(
    wanted: Mapping[str, Any], existing: Mapping[str, Any], *, needed: bool
) -> ClaimVerdict:
    """Decide on the claim that has the name of the one that a TaskCluster asks for.

    Args:
        wanted: the claim as :func:`taskctl.policy.workspace.plan_workspace` returns it.
        existing: the claim as it is.
        needed: unfinished Tasks name the TaskCluster, so a claim of an earlier one is kept.
    """
    name = existing["metadata"]["name"]
    if not _is_ours(existing, wanted):
        return ClaimVerdict(
            Reason.NAME_CONFLICT,
            f"PersistentVolumeClaim {name!r} exists and was not made for this TaskCluster; delete "
            f"it, or name it in spec.workspace.claimName. {_NO_WORKER}",
        )
    if existing["metadata"].get("deletionTimestamp"):
        return ClaimVerdict(Reason.WORKSPACE_TERMINATING, terminating_message(name))
    same = cluster_uid_of(existing) == wanted["metadata"]["labels"][LABEL_CLUSTER_UID]
    if not same and recorded_reclaim(existing) is Reclaim.DELETE and not needed:
        return ClaimVerdict(
            Reason.WORKSPACE_TERMINATING,
            f"PersistentVolumeClaim {name!r} belongs to an earlier TaskCluster of this name and is "
            "deleted first.",
        )
    found = differences(wanted["spec"], existing["spec"], may_be_larger=same)
    if found:
        whose = "" if same else "is kept from an earlier TaskCluster of this name and "
        return ClaimVerdict(
            Reason.WORKSPACE_MISMATCH,
            f"PersistentVolumeClaim {name!r} {whose}is not what the TaskCluster asks for: "
            f"{'; '.join(found)}. Ask for what the claim is, or delete the claim, which loses its "
            f"files. {_NO_WORKER}",
        )
    return ClaimVerdict(patch=_patch(wanted, existing))


def terminating_message(name: str) -> str:
    """Return why no worker is made for a claim with a deletionTimestamp."""
    return (
        f"PersistentVolumeClaim {name!r} is being deleted; what workers wrote there would be "
        "lost, so they wait for another claim of that name."
    )


def recorded_reclaim(claim: Mapping[str, Any]) -> Reclaim:
    """Return what was last asked for, as the claim says.

    Claims of earlier versions say it by their owner: the garbage collector was to delete them.
    """
    noted = (claim["metadata"].get("annotations") or {}).get(ANNOTATION_RECLAIM)
    if noted in tuple(Reclaim):
        return Reclaim(noted)
    owned = any(_is_taskcluster(owner) for owner in _owners(claim))
    return Reclaim.DELETE if owned else Reclaim.RETAIN


def cluster_uid_of(claim: Mapping[str, Any]) -> str:
    """Return the UID of the TaskCluster that a claim belongs to; empty: to none."""
    labels = claim["metadata"].get("labels") or {}
    return str(labels.get(LABEL_CLUSTER_UID) or "")


def reclaim_at_end(cluster: Mapping[str, Any], reclaim: Reclaim) -> Reclaim:
    """Return what becomes of the claim of a TaskCluster that is being deleted, or is gone."""
    orphaned = _ORPHAN in (cluster["metadata"].get("finalizers") or ())
    return Reclaim.RETAIN if orphaned else reclaim


def record_patch(claim: Mapping[str, Any], reclaim: Reclaim) -> dict[str, Any] | None:
    """Return the merge patch that notes ``reclaim`` on a claim; None: it says so already."""
    annotations = claim["metadata"].get("annotations") or {}
    kept = [owner for owner in _owners(claim) if not _is_taskcluster(owner)]
    if annotations.get(ANNOTATION_RECLAIM) == reclaim and len(kept) == len(_owners(claim)):
        return None
    metadata = claim["metadata"]
    return {
        "metadata": {
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "annotations": {ANNOTATION_RECLAIM: reclaim.value},
            # Of an earlier version: with it, the garbage collector would delete the claim.
            "ownerReferences": kept or None,
        }
    }


# --- claims whose TaskCluster is gone -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class LeftClaim:
    """A claim whose TaskCluster is gone.

    Attributes:
        reclaim: as it stood when the TaskCluster was deleted.
        waiting: unfinished Tasks that name the TaskCluster.
        users: TaskClusters that name the claim in ``spec.workspace`` or ``spec.volumes``.
        successor: a TaskCluster of the same name exists.
        successor_uses: and its workspace is a claim of this name.
    """

    reclaim: Reclaim
    waiting: int = 0
    users: Sequence[str] = ()
    successor: bool = False
    successor_uses: bool = False


def why_kept(left: LeftClaim) -> str:
    """Return why a claim stays although its TaskCluster is gone; empty: it is to be deleted."""
    if left.reclaim is Reclaim.RETAIN:
        return "spec.workspace.reclaim was Retain."
    if left.users:
        names = ", ".join(sorted(left.users))
        return f"TaskCluster {names} uses it (spec.workspace.claimName, spec.volumes)."
    if left.waiting and (left.successor_uses or not left.successor):
        return (
            f"{left.waiting} unfinished Tasks wait for a TaskCluster of that name. Create it again "
            "to run them on these files; cancel or delete them to have the claim deleted."
        )
    return ""


# --- comparing --------------------------------------------------------------------------


def differences(
    wanted: Mapping[str, Any], actual: Mapping[str, Any], *, may_be_larger: bool
) -> list[str]:
    """Return each field in which a claim is not what is asked for, with both values.

    Args:
        wanted: ``spec`` of the claim to make.
        actual: ``spec`` of the claim there is.
        may_be_larger: the claim may have been expanded since.
    """
    found = []
    if set(wanted["accessModes"]) != set(actual.get("accessModes") or ()):
        found.append(_differ("accessModes", wanted["accessModes"], actual.get("accessModes")))
    found += _sizes(wanted, actual, may_be_larger=may_be_larger)
    if "storageClassName" in wanted:
        given, real = wanted["storageClassName"], actual.get("storageClassName") or ""
        if given != real:
            found.append(_differ("storageClassName", given, real))
    mode, real_mode = wanted["volumeMode"], actual.get("volumeMode") or "Filesystem"
    if mode != real_mode:
        found.append(_differ("volumeMode", mode, real_mode))
    selector, real_selector = wanted.get("selector") or {}, actual.get("selector") or {}
    if selector != real_selector:
        found.append(_differ("selector", selector, real_selector))
    return found


def _sizes(
    wanted: Mapping[str, Any], actual: Mapping[str, Any], *, may_be_larger: bool
) -> Iterable[str]:
    for part in ("requests", "limits"):
        asked = wanted["resources"].get(part) or {}
        real = (actual.get("resources") or {}).get(part) or {}
        for name in sorted(asked):
            if name not in real:
                yield _differ(f"resources.{part}.{name}", asked[name], None)
                continue
            want, have = parse_quantity(str(asked[name])), parse_quantity(str(real[name]))
            if have != want and not (may_be_larger and have > want):
                yield _differ(f"resources.{part}.{name}", asked[name], real[name])


def _differ(field: str, wanted: Any, actual: Any) -> str:
    return f"spec.workspace.pvc.{field}: wanted {_shown(wanted)}, actual {_shown(actual)}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "not set"
    return str(value) if value not in (None, "", {}) else "not set"


def _is_ours(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    labels = existing["metadata"].get("labels") or {}
    theirs = wanted["metadata"]["labels"]
    return all(labels.get(key) == theirs[key] for key in (LABEL_MANAGED_BY, LABEL_CLUSTER))


def _patch(wanted: Mapping[str, Any], existing: Mapping[str, Any]) -> dict[str, Any] | None:
    reclaim = Reclaim(wanted["metadata"]["annotations"][ANNOTATION_RECLAIM])
    patch = record_patch(existing, reclaim)
    uid = wanted["metadata"]["labels"][LABEL_CLUSTER_UID]
    if cluster_uid_of(existing) == uid:
        return patch
    metadata = existing["metadata"]
    patch = patch or {
        "metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    }
    patch["metadata"]["labels"] = {LABEL_CLUSTER_UID: uid}
    return patch


def _owners(claim: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(claim["metadata"].get("ownerReferences") or ())


def _is_taskcluster(owner: Mapping[str, Any]) -> bool:
    return bool(owner.get("kind") == "TaskCluster" and owner.get("apiVersion") == API_VERSION)
