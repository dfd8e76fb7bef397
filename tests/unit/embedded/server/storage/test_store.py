from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.server.refusals.errors import StatusError
from taskctl.embedded.server.storage.deletion import Deletion, Propagation
from taskctl.embedded.server.storage.eventlog import LogLimits
from taskctl.embedded.server.storage.records import Event, EventType
from taskctl.embedded.server.storage.store import OBJECT_LIMIT_BYTES
from tests.unit.clocks import SetClock
from tests.unit.embedded.server.support import (
    OTHERS,
    THINGS,
    RecordingJournal,
    make_store,
    thing,
)


def test_create_stamps_what_the_server_owns() -> None:
    store = make_store()
    record = store.create(THINGS, thing("a", color="red", meta={"deletionTimestamp": "x"}))
    meta = record.load()["metadata"]
    assert meta["uid"] == "uid-1"
    assert meta["resourceVersion"] == "1"
    assert meta["creationTimestamp"] == "2030-01-01T00:00:00Z"
    assert "deletionTimestamp" not in meta
    assert record.fields == {"metadata.name": "a", "spec.color": "red"}
    assert store.by_uid("uid-1") is record


def test_one_counter_for_all_collections() -> None:
    store = make_store()
    first = store.create(THINGS, thing("a"))
    second = store.create(OTHERS, thing("a"))
    assert (first.revision, second.revision, store.head) == (1, 2, 2)


def test_a_loaded_object_is_the_callers_own() -> None:
    store = make_store()
    record = store.create(THINGS, thing("a", color="red"))
    record.load()["spec"]["color"] = "changed"
    assert store.require(THINGS, "ns", "a").load()["spec"]["color"] == "red"


def test_update_keeps_what_the_server_owns() -> None:
    store = make_store()
    old = store.create(THINGS, thing("a", color="red"))
    changed = thing("a", color="green", meta={"uid": "forged", "creationTimestamp": "forged"})
    record = store.update(THINGS, changed).record
    meta = record.load()["metadata"]
    assert (meta["uid"], meta["creationTimestamp"]) == (old.uid, "2030-01-01T00:00:00Z")
    assert record.revision == 2


def test_update_guards() -> None:
    store = make_store()
    record = store.create(THINGS, thing("a"))
    with pytest.raises(StatusError, match="has been modified") as caught:
        store.update(THINGS, thing("a", color="x"), revision=99)
    assert caught.value.code == 409
    with pytest.raises(StatusError, match="UID in precondition: other") as caught:
        store.update(THINGS, thing("a", color="x"), uid="other")
    assert caught.value.code == 409
    with pytest.raises(StatusError, match=r'things\.test\.dev "b" not found'):
        store.update(THINGS, thing("b"))
    assert store.update(
        THINGS, thing("a", color="x"), revision=record.revision, uid=record.uid
    ).changed


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({"a": 1}, {"a": True}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 12}, {"a": 21}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, True),
    ],
)
def test_what_counts_as_a_change(
    before: dict[str, Any], after: dict[str, Any], changes: bool
) -> None:
    store = make_store()
    events: list[Event] = []
    store.listen(events.append)
    store.create(THINGS, thing("t", **before))
    written = store.update(THINGS, thing("t", **after))
    assert written.changed is changes
    assert store.head == 1 + changes
    assert len(events) == 1 + changes


def test_objects_over_the_limit_are_refused() -> None:
    store = make_store()
    with pytest.raises(StatusError) as caught:
        store.create(THINGS, thing("a", text="x" * OBJECT_LIMIT_BYTES))
    assert (caught.value.code, caught.value.reason) == (413, "RequestEntityTooLarge")
    assert store.head == 0
    store.create(THINGS, thing("a", text="x"))
    with pytest.raises(StatusError):
        store.update(THINGS, thing("a", text="x" * OBJECT_LIMIT_BYTES))
    assert store.require(THINGS, "ns", "a").revision == 1


def test_dry_runs_store_nothing() -> None:
    journal = RecordingJournal()
    store = make_store(journal=journal)
    assert store.create(THINGS, thing("a"), dry_run=True).name == "a"
    assert store.get(THINGS, "ns", "a") is None
    store.create(THINGS, thing("a"))
    with pytest.raises(StatusError, match="already exists"):
        store.create(THINGS, thing("a"), dry_run=True)
    assert store.update(THINGS, thing("a", color="x"), dry_run=True).changed
    assert store.delete(THINGS, "ns", "a", dry_run=True).removed
    assert store.delete(THINGS, "ns", "a", Deletion(grace_s=5), dry_run=True).changed
    assert store.require(THINGS, "ns", "a").revision == store.head == 1
    assert len(journal.committed) == 1


# --- deletion ---------------------------------------------------------------------------


def test_delete_removes_and_tells() -> None:
    store = make_store()
    events: list[Event] = []
    store.listen(events.append)
    store.create(THINGS, thing("a"))
    written = store.delete(THINGS, "ns", "a")
    assert written.removed
    assert store.get(THINGS, "ns", "a") is None
    assert store.by_uid("uid-1") is None
    assert events[-1].type is EventType.DELETED
    assert events[-1].record.load()["metadata"]["resourceVersion"] == "2"
    with pytest.raises(StatusError, match="not found"):
        store.delete(THINGS, "ns", "a")


def test_delete_guards() -> None:
    store = make_store()
    store.create(THINGS, thing("a"))
    with pytest.raises(StatusError, match="the UID in the precondition"):
        store.delete(THINGS, "ns", "a", Deletion(uid="other"))
    with pytest.raises(StatusError, match="the ResourceVersion in the precondition"):
        store.delete(THINGS, "ns", "a", Deletion(revision="7"))
    assert store.delete(THINGS, "ns", "a", Deletion(uid="uid-1", revision="1")).removed


def test_finalizers_hold_back_until_the_last_is_gone() -> None:
    store = make_store()
    store.create(THINGS, thing("a", meta={"finalizers": ["x/1", "x/2"], "generation": 1}))
    held = store.delete(THINGS, "ns", "a")
    assert (held.removed, held.record.deleting) == (False, True)
    assert held.record.load()["metadata"]["generation"] == 2
    assert not store.delete(THINGS, "ns", "a").changed
    assert not store.update(THINGS, thing("a", meta={"finalizers": ["x/2"]})).removed
    last = store.update(THINGS, thing("a", color="last", meta={"finalizers": []}))
    assert last.removed
    assert last.record.load()["spec"]["color"] == "last"


def test_grace_can_only_be_shortened() -> None:
    clock = SetClock()
    store = make_store(clock=clock)
    store.create(THINGS, thing("a"))

    def deadline() -> tuple[str, int]:
        meta = store.require(THINGS, "ns", "a").load()["metadata"]
        return meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"]

    store.delete(THINGS, "ns", "a", Deletion(grace_s=30))
    assert deadline() == ("2030-01-01T00:00:30Z", 30)
    clock.pass_s(5)
    assert not store.delete(THINGS, "ns", "a", Deletion(grace_s=60)).changed
    store.delete(THINGS, "ns", "a", Deletion(grace_s=10))
    assert deadline() == ("2030-01-01T00:00:10Z", 10)
    clock.pass_s(5)
    store.delete(THINGS, "ns", "a", Deletion(grace_s=2))
    assert deadline() == ("2030-01-01T00:00:10Z", 2), "a deadline is never in the past"
    assert store.delete(THINGS, "ns", "a", Deletion(grace_s=0)).removed


def test_an_update_does_not_end_the_grace_period() -> None:
    store = make_store()
    store.create(THINGS, thing("a"))
    store.delete(THINGS, "ns", "a", Deletion(grace_s=30))
    assert not store.update(THINGS, thing("a", color="x")).removed
    assert store.require(THINGS, "ns", "a").deleting


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [
        (Propagation.ORPHAN, ["x/1", "orphan"]),
        (Propagation.FOREGROUND, ["x/1", "foregroundDeletion"]),
        (Propagation.BACKGROUND, ["x/1"]),
        (None, ["x/1"]),
    ],
)
def test_propagation_becomes_a_finalizer(policy: Propagation | None, finalizers: list[str]) -> None:
    store = make_store()
    store.create(THINGS, thing("a", meta={"finalizers": ["x/1"]}))
    record = store.delete(THINGS, "ns", "a", Deletion(propagation=policy)).record
    assert record.load()["metadata"]["finalizers"] == finalizers


def test_background_deletion_takes_a_foreground_one_back() -> None:
    store = make_store()
    store.create(THINGS, thing("a"))
    assert not store.delete(THINGS, "ns", "a", Deletion(propagation=Propagation.FOREGROUND)).removed
    assert store.delete(THINGS, "ns", "a", Deletion(propagation=Propagation.BACKGROUND)).removed


# --- owners -----------------------------------------------------------------------------


def test_dependents_are_found_by_owner() -> None:
    store = make_store()
    owner = store.create(THINGS, thing("owner"))
    reference = {"apiVersion": "test.dev/v1", "kind": "Thing", "name": "owner", "uid": owner.uid}
    store.create(THINGS, thing("child", meta={"ownerReferences": [reference]}))
    store.create(THINGS, thing("stranger"))
    assert [one.name for one in store.dependents(owner.uid)] == ["child"]
    store.update(THINGS, thing("child", color="x", meta={"ownerReferences": [reference]}))
    assert [one.revision for one in store.dependents(owner.uid)] == [4]
    store.update(THINGS, thing("child"))
    assert store.dependents(owner.uid) == []
    assert not store.has_dependents(owner.uid)


# --- history ----------------------------------------------------------------------------


def test_lists_are_in_order() -> None:
    store = make_store()
    for namespace, name in (("b", "x"), ("a", "z"), ("a", "y")):
        store.create(THINGS, thing(name, namespace=namespace))
    listed = [(one.namespace, one.name) for one in store.records(THINGS)]
    assert listed == [("a", "y"), ("a", "z"), ("b", "x")]
    store.create(THINGS, thing("yy", namespace="a"))
    store.delete(THINGS, "a", "z")
    assert [one.name for one in store.records(THINGS, "a")] == ["y", "yy"]
    assert store.records(THINGS, "nowhere") == []
    assert (store.count(THINGS), store.count(THINGS, "a")) == (3, 2)


def test_lists_at_an_old_revision() -> None:
    store = make_store()
    store.create(THINGS, thing("a", color="1"))  # 1
    store.create(THINGS, thing("b"))  # 2
    store.update(THINGS, thing("a", color="2"))  # 3
    store.delete(THINGS, "ns", "b")  # 4
    store.create(OTHERS, thing("o"))  # 5
    at = {
        revision: [
            (r.name, r.load()["spec"].get("color"))
            for r in store.records_at(THINGS, None, revision)
        ]
        for revision in range(6)
    }
    assert at[0] == []
    assert at[1] == [("a", "1")]
    assert at[2] == [("a", "1"), ("b", None)]
    assert at[3] == [("a", "2"), ("b", None)]
    assert at[4] == at[5] == [("a", "2")]


def test_the_future_is_refused() -> None:
    store = make_store()
    for call in (lambda: store.records_at(THINGS, None, 9), lambda: store.events_since(THINGS, 9)):
        with pytest.raises(
            StatusError, match="Too large resource version: 9, current: 0"
        ) as caught:
            call()
        assert caught.value.code == 504


def test_compaction_forgets() -> None:
    store = make_store()
    for name in "abc":
        store.create(THINGS, thing(name))
    store.compact(2)
    assert [event.revision for event in store.events_since(THINGS, 2)] == [3]
    with pytest.raises(StatusError, match="too old resource version: 1") as caught:
        store.events_since(THINGS, 1)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    with pytest.raises(StatusError) as caught:
        store.records_at(THINGS, None, 1)
    assert (caught.value.code, caught.value.reason) == (410, "Expired")
    store.compact()
    assert store.events_since(THINGS, 3) == []


def test_history_is_bounded_by_number_bytes_and_age() -> None:
    clock = SetClock()
    store = make_store(clock=clock, limits=LogLimits(max_age_s=100, max_events=3, max_bytes=10**6))
    for name in "abcde":
        store.create(THINGS, thing(name))
    assert len(store.events_since(THINGS, 2)) == 3
    with pytest.raises(StatusError):
        store.events_since(THINGS, 1)
    clock.pass_s(101)
    store.create(THINGS, thing("late"))
    assert [event.record.name for event in store.events_since(THINGS, 5)] == ["late"]
    with pytest.raises(StatusError):
        store.events_since(THINGS, 4)
    small = make_store(limits=LogLimits(max_bytes=1000))
    for name in "abc":
        small.create(THINGS, thing(name, text="x" * 600))
    assert len(small.events_since(THINGS, 2)) == 1


# --- journal ----------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["begin", "put", "commit"])
def test_what_cannot_be_stored_has_not_happened(step: str) -> None:
    journal = RecordingJournal()
    store = make_store(journal=journal)
    events: list[Event] = []
    store.listen(events.append)
    store.create(THINGS, thing("a"))
    journal.fail_at = step
    with pytest.raises(OSError, match="fails"):
        store.create(THINGS, thing("b"))
    with pytest.raises(OSError, match="fails"):
        store.update(THINGS, thing("a", color="x"))
    assert store.get(THINGS, "ns", "b") is None
    assert store.require(THINGS, "ns", "a").revision == store.head == 1
    assert len(events) == 1
    journal.fail_at = None
    assert store.create(THINGS, thing("b")).revision == 2


def test_listeners_hear_only_of_what_is_stored() -> None:
    journal = RecordingJournal()
    store = make_store(journal=journal)
    stored_when_told: list[int] = []
    store.listen(lambda event: stored_when_told.append(len(journal.committed)))
    store.create(THINGS, thing("a"))
    with store.batch():
        store.create(THINGS, thing("b"))
        store.create(THINGS, thing("c"))
        assert len(stored_when_told) == 1
    assert stored_when_told == [1, 3, 3]
    assert journal.transactions == 2


def test_a_batch_keeps_what_came_before_an_error() -> None:
    journal = RecordingJournal()
    store = make_store(journal=journal)

    def write() -> None:
        with store.batch():
            store.create(THINGS, thing("a"))
            store.create(THINGS, thing("a"))

    with pytest.raises(StatusError, match="already exists"):
        write()
    assert [record.name for _, record in journal.committed] == ["a"]
    assert store.get(THINGS, "ns", "a") is not None


@pytest.mark.parametrize("step", ["begin", "put", "commit"])
def test_a_batch_that_could_not_be_stored_is_stored_before_the_next_write(step: str) -> None:
    journal = RecordingJournal()
    store = make_store(journal=journal)
    told: list[Event] = []
    store.listen(told.append)

    def write() -> None:
        with store.batch():
            store.create(THINGS, thing("a"))
            store.create(THINGS, thing("doomed"))
            store.delete(THINGS, "ns", "doomed")
            journal.fail_at = "commit"

    with pytest.raises(OSError, match="fails"):
        write()
    assert told == []
    journal.fail_at = step
    for _ in range(2):
        with pytest.raises(OSError, match="fails"):
            store.create(THINGS, thing("b"))
        with pytest.raises(OSError, match="fails"), store.batch():
            pytest.fail("nothing may be written before")
    assert (told, journal.committed) == ([], [])
    journal.fail_at = None
    store.create(THINGS, thing("b"))
    wanted = [("put", "a"), ("put", "doomed"), ("remove", "doomed"), ("put", "b")]
    assert [(how, record.name) for how, record in journal.committed] == wanted
    assert [event.record.name for event in told] == ["a", "doomed", "doomed", "b"]
    assert [event.revision for event in told] == [1, 2, 3, 4]


def test_rewriting_makes_no_versions() -> None:
    journal = RecordingJournal()
    store = make_store(journal=journal)
    store.create(THINGS, thing("a"))
    store.rewrite(THINGS, lambda obj: obj["spec"].update(color="default"))
    record = store.require(THINGS, "ns", "a")
    assert (record.revision, store.head) == (1, 1)
    assert record.fields["spec.color"] == "default"
    assert journal.committed[-1][1].load()["spec"] == {"color": "default"}


def test_a_rewriting_that_cannot_be_stored_is_stored_later() -> None:
    journal = RecordingJournal()
    store = make_store(journal=journal)
    told: list[Event] = []
    store.create(THINGS, thing("a"))
    store.listen(told.append)
    journal.refuses = True
    store.rewrite(THINGS, lambda obj: obj["spec"].update(color="default"))
    assert store.require(THINGS, "ns", "a").fields["spec.color"] == "default"
    journal.refuses = False
    store.create(THINGS, thing("b"))
    assert [record.name for _, record in journal.committed] == ["a", "a", "b"]
    assert journal.committed[1][1].load()["spec"] == {"color": "default"}
    assert [event.record.name for event in told] == ["b"]


def test_new_selectable_fields_are_read_from_stored_objects() -> None:
    store = make_store()
    store.create(THINGS, thing("a", shape="round"))
    store.open(THINGS, {"spec.shape": ("spec", "shape")})
    assert store.require(THINGS, "ns", "a").fields == {"spec.shape": "round"}


def test_only_empty_collections_can_be_dropped() -> None:
    store = make_store()
    store.create(THINGS, thing("a"))
    with pytest.raises(ValueError, match="still holds 1 objects"):
        store.drop(THINGS)
    store.delete(THINGS, "ns", "a")
    store.drop(THINGS)
    assert THINGS not in store.resources()


def test_restoring() -> None:
    store = make_store()
    first = store.create(THINGS, thing("a"))  # 1
    second = store.create(OTHERS, thing("o"))  # 2
    store.create(THINGS, thing("b"))  # 3
    store.delete(THINGS, "ns", "b")  # 4
    fresh = make_store()
    fresh.restore([(THINGS, first.raw), (OTHERS, second.raw)], {THINGS: 4})
    assert fresh.head == 4
    assert fresh.require(THINGS, "ns", "a") == first
    assert fresh.by_uid(second.uid) == second
    # Nothing happened to the others after 2, nor to the things after 4.
    assert fresh.events_since(OTHERS, 2) == []
    assert fresh.events_since(THINGS, 4) == []
    with pytest.raises(StatusError):
        fresh.events_since(THINGS, 3)
    assert fresh.create(THINGS, thing("c")).revision == 5
