"""The store against a model of it, over random histories."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from taskctl.embedded.server.refusals.errors import StatusError
from taskctl.embedded.server.storage.deletion import Deletion
from taskctl.embedded.server.storage.eventlog import LogLimits
from taskctl.embedded.server.storage.records import EventType, Record
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.storage.versions import Reader
from tests.unit.clocks import SetClock
from tests.unit.embedded.server.support import (
    THINGS,
    RecordingJournal,
    make_store,
    thing,
)

NAMES = st.sampled_from(["a", "b", "c"])
NAMESPACES = st.sampled_from(["x", "y"])
COLORS = st.sampled_from(["red", "green", "blue"])
Key = tuple[str, str]
State = dict[Key, tuple[int, str]]  # revision and color


@dataclass(frozen=True)
class Model:
    """What the store should hold of one object."""

    uid: str
    revision: int
    color: str
    finalizers: tuple[str, ...] = ()
    grace_s: int | None = None  # None: not being deleted

    @property
    def deleting(self) -> bool:
        return self.grace_s is not None


@dataclass
class History:
    """Every state there was, by the revision that made it."""

    states: dict[int, State] = field(default_factory=lambda: {0: {}})


class StoreMachine(RuleBasedStateMachine):
    """Random writes; after each, everything that readers rely on must hold."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = SetClock()
        self.journal = RecordingJournal()
        self.store = self.open_store()
        self.objects: dict[Key, Model] = {}
        self.history = History()
        self.floor = 0
        self.told: list[int] = []
        self.used_uids: set[str] = set()
        self.store.listen(lambda event: self.told.append(event.revision))

    # --- helpers ------------------------------------------------------------------------

    def open_store(self) -> Store:
        """Make a store that forgets nothing by itself."""
        limits = LogLimits(max_age_s=float("inf"))
        return make_store(clock=self.clock, journal=self.journal, limits=limits)

    def note(self, record: Record, model: Model) -> None:
        """Record a change that must have made the next revision."""
        assert record.revision == self.store.head
        self.objects[(record.namespace, record.name)] = model
        self.note_state(record.revision)

    def note_gone(self, key: Key) -> None:
        """Record a removal, which must have made the newest revision."""
        del self.objects[key]
        self.note_state(self.store.head)

    def note_state(self, revision: int) -> None:
        assert revision == max(self.history.states) + 1
        self.history.states[revision] = {
            where: (one.revision, one.color) for where, one in self.objects.items()
        }

    def body(self, key: Key, color: str, finalizers: tuple[str, ...]) -> dict[str, Any]:
        meta = {"finalizers": list(finalizers)} if finalizers else {}
        return thing(key[1], namespace=key[0], color=color, meta=meta)

    # --- rules --------------------------------------------------------------------------

    @rule(namespace=NAMESPACES, name=NAMES, color=COLORS, held=st.booleans())
    def create(self, namespace: str, name: str, color: str, held: bool) -> None:
        key, finalizers = (namespace, name), ("t/hold",) if held else ()
        body = self.body(key, color, finalizers)
        if key in self.objects:
            with pytest.raises(StatusError) as caught:
                self.store.create(THINGS, body)
            assert caught.value.reason == "AlreadyExists"
            return
        record = self.store.create(THINGS, body)
        assert record.uid not in self.used_uids
        self.used_uids.add(record.uid)
        self.note(record, Model(record.uid, record.revision, color, finalizers))

    @rule(
        namespace=NAMESPACES,
        name=NAMES,
        color=COLORS,
        guard=st.sampled_from(["none", "right", "stale", "other uid"]),
        release=st.booleans(),
    )
    def update(self, namespace: str, name: str, color: str, guard: str, release: bool) -> None:
        key = (namespace, name)
        model = self.objects.get(key)
        finalizers = () if release or model is None else model.finalizers
        body = self.body(key, color, finalizers)
        if model is None:
            with pytest.raises(StatusError) as caught:
                self.store.update(THINGS, body)
            assert caught.value.code == 404
            return
        revision = {"right": model.revision, "stale": model.revision - 1}.get(guard)
        uid = "nobody" if guard == "other uid" else None
        if guard in ("stale", "other uid"):
            with pytest.raises(StatusError) as caught:
                self.store.update(THINGS, body, revision=revision, uid=uid)
            assert caught.value.reason == "Conflict"
            return
        written = self.store.update(THINGS, body, revision=revision)
        same = color == model.color and finalizers == model.finalizers
        assert written.changed is not same
        if same:
            assert written.record.revision == model.revision
            return
        goes = model.deleting and not finalizers and not model.grace_s
        assert written.removed is goes
        changed = replace(
            model, revision=written.record.revision, color=color, finalizers=finalizers
        )
        if goes:
            assert written.record.revision == model.revision
            self.note_gone(key)
        else:
            self.note(written.record, changed)

    @rule(
        namespace=NAMESPACES,
        name=NAMES,
        grace_s=st.sampled_from([0, 5, 30]),
        graceful=st.booleans(),
    )
    def delete(self, namespace: str, name: str, grace_s: int, graceful: bool) -> None:
        key = (namespace, name)
        model = self.objects.get(key)
        if model is None:
            with pytest.raises(StatusError) as caught:
                self.store.delete(THINGS, namespace, name, Deletion(grace_s=grace_s))
            assert caught.value.code == 404
            return
        deletion = Deletion(grace_s=grace_s, graceful=graceful)
        written = self.store.delete(THINGS, namespace, name, deletion)
        goes = grace_s == 0 and not model.finalizers
        assert written.removed is goes
        shortens = model.grace_s is None or grace_s < model.grace_s
        if goes:
            if graceful and shortens:  # a version that is marked comes first
                revision = self.store.head - 1
                self.objects[key] = replace(model, revision=revision, grace_s=0)
                self.note_state(revision)
            self.note_gone(key)
            return
        assert written.changed is shortens
        if shortens:
            self.note(
                written.record, replace(model, revision=written.record.revision, grace_s=grace_s)
            )

    @rule(namespace=NAMESPACES, name=NAMES)
    def delete_another(self, namespace: str, name: str) -> None:
        if (namespace, name) in self.objects:
            with pytest.raises(StatusError) as caught:
                self.store.delete(THINGS, namespace, name, Deletion(uid="nobody"))
            assert caught.value.reason == "Conflict"

    @rule(seconds=st.sampled_from([1, 60]))
    def wait(self, seconds: int) -> None:
        self.clock.pass_s(seconds)

    @precondition(lambda self: self.store.head > 0)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(0, self.store.head))
        self.store.compact(revision)
        self.floor = max(self.floor, revision)

    @rule()
    def restart(self) -> None:
        """Rebuild the store from what its journal was told."""
        kept: dict[Key, Record] = {}
        last_deletion = 0
        for what, record in self.journal.committed:
            if what == "put":
                kept[(record.namespace, record.name)] = record
            else:
                kept.pop((record.namespace, record.name), None)
                last_deletion = record.revision
        fresh = self.open_store()
        fresh.restore([(THINGS, record.raw) for record in kept.values()], {THINGS: last_deletion})
        assert fresh.head == self.store.head
        fresh._new_uid = self.store._new_uid
        self.store = fresh
        self.store.listen(lambda event: self.told.append(event.revision))
        self.floor = self.store.head

    # --- invariants ---------------------------------------------------------------------

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        found = {
            record.sort_key: Model(
                record.uid,
                record.revision,
                record.load()["spec"]["color"],
                tuple(record.load()["metadata"].get("finalizers", ())),
                record.load()["metadata"].get("deletionGracePeriodSeconds"),
            )
            for record in self.store.records(THINGS)
        }
        assert found == self.objects
        assert self.store.count(THINGS) == len(self.objects)
        assert all(self.store.by_uid(one.uid) is not None for one in self.objects.values())

    @invariant()
    def revisions_rise_by_one(self) -> None:
        assert self.told == list(range(1, self.store.head + 1))
        assert [record.revision for _, record in self.journal.committed] == self.told

    @invariant()
    def every_kept_revision_replays_to_the_head(self) -> None:
        for revision, state in self.history.states.items():
            if revision < self.floor:
                for read in (
                    lambda at=revision: self.store.events_since(THINGS, at),
                    lambda at=revision: self.store.records_at(THINGS, None, at),
                ):
                    with pytest.raises(StatusError) as caught:
                        read()
                    assert (caught.value.code, caught.value.reason) == (410, "Expired")
                continue
            listed = {
                record.sort_key: (record.revision, record.load()["spec"]["color"])
                for record in self.store.records_at(THINGS, None, revision)
            }
            assert listed == state
            assert self.replay(revision, state) == self.history.states[self.store.head]

    def replay(self, revision: int, state: State) -> State:
        """Do what an informer does: a list, then the events after it."""
        seen = dict(state)
        reader = Reader()
        for past in self.store.events_since(THINGS, revision):
            event = past.event(reader)
            before = event.previous
            if before is not None:
                color = before.load()["spec"]["color"]
                assert seen[before.sort_key] == (before.revision, color)
            assert event.revision > revision
            revision = event.revision
            key = event.record.sort_key
            assert (key in seen) is (event.type is not EventType.ADDED)
            if event.type is EventType.DELETED:
                del seen[key]
            else:
                seen[key] = (event.record.revision, event.record.load()["spec"]["color"])
        return seen


StoreMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
TestStore = StoreMachine.TestCase
