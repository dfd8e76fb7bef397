"""Which claim a workspace may use, and which one goes with its TaskCluster."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.states import Reclaim
from taskctl.constants import Reason
from taskctl.policy.workspace import claim_name_of, cluster_name_of, plan_workspace
from taskctl.policy.workspaceclaim import (
    ClaimVerdict,
    LeftClaim,
    decide_claim,
    differences,
    reclaim_at_end,
    record_patch,
    recorded_reclaim,
    why_kept,
)
from tests.unit.policy.build import merged, raw_cluster

Json = dict[str, Any]
OWNER = {"apiVersion": "taskctl.dev/v1alpha1", "kind": "TaskCluster", "name": "c", "uid": "old"}


def wanted(**spec: Any) -> Json:
    claim = plan_workspace(raw_cluster(workspace=spec)).claim
    assert claim is not None
    return claim


def existing(cluster_uid: str = "uid-c", *, spec: Json | None = None, **metadata: Any) -> Json:
    claim = wanted()
    claim["metadata"]["labels"]["taskctl.dev/cluster-uid"] = cluster_uid
    claim["metadata"] |= {"uid": "uid-claim", "resourceVersion": "7"} | metadata
    claim["spec"] |= {"storageClassName": "standard"} | (spec or {})
    return claim


def decide(asked: Json, there: Json, *, needed: bool = False) -> ClaimVerdict:
    return decide_claim(asked, there, needed=needed)


def test_our_own_claim_is_used() -> None:
    assert decide(wanted(), existing()) == ClaimVerdict()


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"app.kubernetes.io/managed-by": "taskctl"},
        {"taskctl.dev/cluster-uid": "uid-c", "taskctl.dev/cluster": "c"},
        {"app.kubernetes.io/managed-by": "taskctl", "taskctl.dev/cluster": "another"},
    ],
)
@pytest.mark.parametrize("owners", [[], [{"kind": "StatefulSet", "name": "db", "uid": "u"}]])
def test_a_strangers_claim_is_never_used(labels: Json, owners: list[Json]) -> None:
    verdict = decide(wanted(), existing(labels=labels, ownerReferences=owners), needed=True)
    assert verdict.reason is Reason.NAME_CONFLICT
    assert not verdict.usable
    assert "spec.workspace.claimName" in verdict.message


@pytest.mark.parametrize("uid", ["uid-c", "uid-old"])
def test_a_dying_claim_is_never_used(uid: str) -> None:
    verdict = decide(wanted(), existing(uid, deletionTimestamp="2026-01-01T00:00:00Z"), needed=True)
    assert (verdict.reason, verdict.patch) == (Reason.WORKSPACE_TERMINATING, None)


@pytest.mark.parametrize(
    ("spec", "there", "said"),
    [
        (
            {"resources": {"requests": {"storage": "2Gi"}}},
            {},
            "spec.workspace.pvc.resources.requests.storage: wanted 2Gi, actual 1Gi",
        ),
        (
            {},
            {"resources": {"requests": {"storage": "3Gi"}}},
            "spec.workspace.pvc.resources.requests.storage: wanted 1Gi, actual 3Gi",
        ),
        (
            {"accessModes": ["ReadWriteMany"]},
            {},
            "spec.workspace.pvc.accessModes: wanted ReadWriteMany, actual ReadWriteOnce",
        ),
        (
            {"storageClassName": "fast"},
            {},
            "spec.workspace.pvc.storageClassName: wanted fast, actual standard",
        ),
        (
            {"storageClassName": ""},
            {},
            "spec.workspace.pvc.storageClassName: wanted not set, actual standard",
        ),
        ({}, {"volumeMode": "Block"}, "spec.workspace.pvc.volumeMode: wanted Filesystem, actual"),
        (
            {"selector": {"matchLabels": {"a": "b"}}},
            {},
            "spec.workspace.pvc.selector: wanted {'matchLabels': {'a': 'b'}}, actual not set",
        ),
    ],
)
def test_a_kept_claim_must_be_what_is_asked_for(spec: Json, there: Json, said: str) -> None:
    kept = existing("uid-old", annotations={"taskctl.dev/reclaim": "Retain"}, spec=there)
    verdict = decide(wanted(pvc=spec), kept)
    assert (verdict.reason, verdict.patch) == (Reason.WORKSPACE_MISMATCH, None)
    assert said in verdict.message


def test_the_same_size_in_other_words_is_the_same_size() -> None:
    there = existing(
        "uid-old", annotations={}, spec={"resources": {"requests": {"storage": 2**30}}}
    )
    assert decide(wanted(), there).usable


def test_our_own_claim_may_have_been_expanded() -> None:
    larger = {"resources": {"requests": {"storage": "3Gi"}}}
    assert decide(wanted(), existing(spec=larger)).usable
    assert not decide(
        wanted(pvc={"resources": {"requests": {"storage": "4Gi"}}}), existing()
    ).usable


def test_a_kept_claim_is_taken_over() -> None:
    kept = existing("uid-old", annotations={"taskctl.dev/reclaim": "Retain"})
    verdict = decide(wanted(), kept)
    assert verdict.usable
    after = merged(kept, verdict.patch or {})
    assert after["metadata"]["labels"]["taskctl.dev/cluster-uid"] == "uid-c"
    assert recorded_reclaim(after) is Reclaim.DELETE, "what the new TaskCluster asks for"
    assert decide(wanted(), after) == ClaimVerdict()


def test_an_earlier_claim_to_be_deleted_is_waited_for_unless_tasks_need_it() -> None:
    left = existing("uid-old")
    assert decide(wanted(), left).reason is Reason.WORKSPACE_TERMINATING
    assert decide(wanted(), left, needed=True).usable


@pytest.mark.parametrize("reclaim", list(Reclaim))
def test_a_change_of_reclaim_is_noted(reclaim: Reclaim) -> None:
    there = existing(ownerReferences=[OWNER])
    after = merged(there, decide(wanted(reclaim=reclaim.value), there).patch or {})
    assert recorded_reclaim(after) is reclaim
    assert "ownerReferences" not in after["metadata"], "the garbage collector would delete it"
    assert record_patch(after, reclaim) is None


@pytest.mark.parametrize(("owners", "expected"), [([OWNER], Reclaim.DELETE), ([], Reclaim.RETAIN)])
def test_claims_of_earlier_versions_say_it_by_their_owner(
    owners: list[Json], expected: Reclaim
) -> None:
    assert recorded_reclaim(existing(annotations={}, ownerReferences=owners)) is expected


def test_orphaning_the_taskcluster_keeps_its_claim() -> None:
    gone = raw_cluster(workspace={})
    assert reclaim_at_end(gone, Reclaim.DELETE) is Reclaim.DELETE
    gone["metadata"]["finalizers"] = ["orphan"]
    assert reclaim_at_end(gone, Reclaim.DELETE) is Reclaim.RETAIN


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (LeftClaim(Reclaim.DELETE), False),
        (LeftClaim(Reclaim.RETAIN), True),
        (LeftClaim(Reclaim.DELETE, waiting=1), True),
        (LeftClaim(Reclaim.DELETE, waiting=1, successor=True, successor_uses=True), True),
        (LeftClaim(Reclaim.DELETE, waiting=1, successor=True), False),
        (LeftClaim(Reclaim.DELETE, successor=True, successor_uses=True), False),
        (LeftClaim(Reclaim.DELETE, users=("d",)), True),
    ],
)
def test_what_is_left_behind(left: LeftClaim, *, kept: bool) -> None:
    assert bool(why_kept(left)) is kept


@given(st.text("abc-", min_size=1, max_size=30))
def test_a_claims_name_tells_its_taskcluster(name: str) -> None:
    assert cluster_name_of(claim_name_of(name)) == name


SPECS = st.fixed_dictionaries(
    {
        "accessModes": st.lists(
            st.sampled_from(["ReadWriteOnce", "ReadWriteMany"]), min_size=1, unique=True
        ),
        "resources": st.fixed_dictionaries(
            {"requests": st.fixed_dictionaries({"storage": st.sampled_from(["1Gi", "2Gi"])})}
        ),
        "volumeMode": st.sampled_from(["Filesystem", "Block"]),
        "storageClassName": st.sampled_from(["", "a", "b"]),
    }
)


@given(SPECS, SPECS)
def test_every_field_that_differs_is_named(asked: Json, there: Json) -> None:
    found = differences(asked, there, may_be_larger=False)
    differing = [
        name
        for name in asked
        if (sorted(asked[name]) if name == "accessModes" else asked[name])
        != (sorted(there[name]) if name == "accessModes" else there[name])
    ]
    assert len(found) == len(differing)
    for name in differing:
        assert any(f"spec.workspace.pvc.{name}" in line for line in found)
