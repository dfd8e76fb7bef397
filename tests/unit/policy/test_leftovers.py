"""Which files in the workspace are left over."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.agent.workspace import log_file, object_path
from taskctl.policy.leftovers import (
    DEFAULT_ORPHAN_S,
    OBJECT_IDLE_S,
    CleanupRules,
    Leftover,
    LeftoverKind,
    Ruling,
    age_s,
    cleanup_rules,
    judge,
    recognize,
)
from tests.unit.policy.build import raw_cluster

HERE = "11111111-2222-3333-4444-555555555555"
GONE = "99999999-2222-3333-4444-555555555555"
HASH = "ab" * 32
RULES = CleanupRules()
KEEP, REMOVE, ASK = Ruling.KEEP, Ruling.REMOVE, Ruling.ASK
OLD = float(DEFAULT_ORPHAN_S)


def split(path: str) -> tuple[str, str]:
    directory, _, name = path.rpartition("/")
    return directory, name


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (log_file("a.b-1", HERE, 12), (LeftoverKind.LOG, HERE)),
        (log_file("x" * 253, HERE, 1), (LeftoverKind.LOG, HERE)),
        (log_file("a", HERE, 1) + ".d", (LeftoverKind.LOG_SEGMENTS, HERE)),
        (f".taskctl/exits/{HERE}-3", (LeftoverKind.EXIT, HERE)),
        (f".taskctl/exits/{HERE}-3.tmp", (LeftoverKind.EXIT, HERE)),
        (f".taskctl/tasks/{HERE}", (LeftoverKind.TASK_DIR, HERE)),
        (".taskctl/tasks/.swept-0011", (LeftoverKind.SWEPT, "")),
        (object_path(HASH), (LeftoverKind.OBJECT, "")),
        (f".taskctl/objects/ab/.{HASH}.0011aabb.tmp", (LeftoverKind.STRAY, "")),
        (f".taskctl/objects/ab/{HASH}.17-0011aabb", (LeftoverKind.STRAY, "")),
        (".taskctl/logs/moved-0011223344556677", (LeftoverKind.STRAY, "")),
        # What taskctl does not write stays, wherever it lies.
        (".taskctl/logs/notes.txt", None),
        (".taskctl/logs/mine.log", None),
        (f".taskctl/logs/{HERE}", None),
        (".taskctl/tasks/mine", None),
        (".taskctl/exits/mine-1", None),
        (f".taskctl/objects/cd/{HASH}", None),
        (f".taskctl/code/{HASH}", None),
        (f"data/{HASH}", None),
    ],
)
def test_names(path: str, found: Any) -> None:
    assert recognize(*split(path)) == found


def a_file(kind: LeftoverKind, uid: str, age: float) -> Leftover:
    return Leftover(kind, "d", "n", uid, 0, age)


LOG, EXIT, DIR = LeftoverKind.LOG, LeftoverKind.EXIT, LeftoverKind.TASK_DIR
OBJECT, STRAY = LeftoverKind.OBJECT, LeftoverKind.STRAY


@pytest.mark.parametrize(
    ("file", "rules", "ruling"),
    [
        (a_file(LOG, HERE, 1e9), RULES, KEEP),
        (a_file(DIR, HERE, 1e9), RULES, KEEP),
        (a_file(EXIT, HERE, 1e9), CleanupRules(max_age_s=60), KEEP),
        (a_file(LOG, HERE, 60), CleanupRules(max_age_s=60), ASK),
        (a_file(DIR, HERE, 60), CleanupRules(max_age_s=60), ASK),
        (a_file(LOG, HERE, 59), CleanupRules(max_age_s=60), KEEP),
        (a_file(LOG, GONE, 0), RULES, REMOVE),
        (a_file(EXIT, GONE, 0), RULES, REMOVE),
        (a_file(LOG, GONE, 9), CleanupRules(after_deletion_s=10), KEEP),
        (a_file(LOG, GONE, 10), CleanupRules(after_deletion_s=10), REMOVE),
        (a_file(LOG, GONE, 0), CleanupRules(orphan_s=None), REMOVE),
        (a_file(LOG, "never seen", OLD - 1), RULES, KEEP),
        (a_file(LOG, "never seen", OLD), RULES, REMOVE),
        (a_file(DIR, "never seen", OLD), CleanupRules(after_deletion_s=2 * OLD), KEEP),
        (a_file(LOG, "never seen", 1e9), CleanupRules(orphan_s=None), KEEP),
        (a_file(STRAY, "", OLD), RULES, REMOVE),
        (a_file(STRAY, "", OLD - 1), RULES, KEEP),
        (a_file(STRAY, "", 1e9), CleanupRules(orphan_s=None), KEEP),
        (a_file(OBJECT, "", OBJECT_IDLE_S), RULES, ASK),
        (a_file(OBJECT, "", OBJECT_IDLE_S - 1), RULES, KEEP),
        (a_file(OBJECT, "", 1e9), CleanupRules(orphan_s=None), KEEP),
    ],
)
def test_rulings(file: Leftover, rules: CleanupRules, ruling: Ruling) -> None:
    assert judge(file, rules, {HERE}, {HERE, GONE}) is ruling


@given(
    st.sampled_from(list(LeftoverKind)).filter(lambda kind: kind is not LeftoverKind.SWEPT),
    st.floats(0, 1e12),
    st.floats(0, 1e9),
    st.none() | st.floats(60, 1e9),
    st.booleans(),
)
def test_no_file_of_a_task_that_is_there_is_removed_unasked(
    kind: LeftoverKind, age: float, after: float, orphan: float | None, seen: bool
) -> None:
    rules = CleanupRules(after_deletion_s=after, orphan_s=orphan, max_age_s=60)
    ruling = judge(a_file(kind, HERE, age), rules, {HERE}, {HERE} if seen else ())
    assert ruling is not REMOVE or kind is STRAY


@pytest.mark.parametrize(
    ("workspace", "orphan_s"),
    [
        ({}, DEFAULT_ORPHAN_S),
        ({"claimName": "c"}, DEFAULT_ORPHAN_S),
        ({"emptyDir": {}}, DEFAULT_ORPHAN_S),
        ({"hostPath": {"path": "/d"}}, None),
        ({"nfs": {"server": "s", "path": "/d"}}, None),
        ({"hostPath": {"path": "/d"}, "cleanup": {"orphanSeconds": 90}}, 90),
        ({"cleanup": {"orphanSeconds": 90}}, 90),
    ],
)
def test_what_others_may_share_has_no_orphans(workspace: Any, orphan_s: float | None) -> None:
    assert cleanup_rules(raw_cluster(workspace=workspace)).orphan_s == orphan_s


def test_settings() -> None:
    given = {
        "enabled": False,
        "afterDeletionSeconds": 1,
        "orphanSeconds": 60,
        "maxAgeSeconds": 70,
        "periodSeconds": 5,
    }
    rules = cleanup_rules(raw_cluster(workspace={"cleanup": given}))
    assert rules == CleanupRules(False, 1, 60, 70, 5)
    assert cleanup_rules(raw_cluster()) == CleanupRules()


def test_a_time_in_the_future_does_not_keep_a_file() -> None:
    assert age_s(1000, 900, 950) == 100
    assert age_s(1000, 5000, 400) == 600
    assert age_s(1000, 5000, 6000) == 0  # a clock that was put back
