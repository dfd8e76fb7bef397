"""The cache: versions, indexes, handlers; then all of it against a model."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from taskctl.kube.interface import EventType, KubeObject
from taskctl.kube.store import Store, keep_metadata
from taskctl.objectkey import ObjectKey
from tests.unit.kube.fakes import bookmark, task

ADDED, MODIFIED, DELETED = EventType.ADDED, EventType.MODIFIED, EventType.DELETED


def key(name: str) -> ObjectKey:
    return ObjectKey("default", name)


class Log:
    """Handler that remembers changes as ``+a5 ~a5>6 -a6``."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, old: KubeObject | None, new: KubeObject | None) -> None:
        def version(obj: KubeObject) -> str:
            return str(obj["metadata"]["resourceVersion"])

        some = new if new is not None else old
        assert some is not None
        name = some["metadata"]["name"]
        if old is None:
            self.lines.append(f"+{name}{version(some)}")
        elif new is None:
            self.lines.append(f"-{name}{version(some)}")
        else:
            self.lines.append(f"~{name}{version(old)}>{version(new)}")


def store_with_log() -> tuple[Store, Log]:
    store, log = Store("tasks"), Log()
    store.add_handler(log)
    return store, log


def test_events_are_applied_and_announced_in_order() -> None:
    store, log = store_with_log()
    store.apply(ADDED, task("a", 5))
    store.apply(MODIFIED, task("a", 6))
    store.apply(ADDED, task("b", 7))
    store.apply(DELETED, task("a", 8))
    assert log.lines == ["+a5", "~a5>6", "+b7", "-a6"]
    assert store.keys() == [key("b")]
    assert store.get(key("a")) is None
    assert store.get_by_uid("uid-b") is store.get(key("b"))
    assert store.get_by_uid("uid-a") is None
    assert key("b") in store
    assert len(store) == 1
    assert store.resource_version == 8


def test_managed_fields_are_dropped_and_the_transform_is_applied() -> None:
    store = Store("tasks", keep_metadata)
    store.apply(ADDED, task("a", 5, spec={"x": 1}, metadata={"managedFields": [1]}))
    found = store.get(key("a"))
    assert found is not None
    assert "managedFields" not in found["metadata"]
    assert "spec" not in found
    assert found["kind"] == "Task"


def test_older_and_equal_versions_are_dropped() -> None:
    store, log = store_with_log()
    store.apply(ADDED, task("a", 7))
    assert not store.apply(MODIFIED, task("a", 6))
    assert not store.apply(MODIFIED, task("a", 7))
    assert log.lines == ["+a7"]


def test_versions_are_numbers() -> None:
    store, log = store_with_log()
    store.apply(ADDED, task("a", 99))
    store.apply(MODIFIED, task("a", 100))
    assert log.lines == ["+a99", "~a99>100"]


def test_own_write_is_seen_before_its_event() -> None:
    store, log = store_with_log()
    store.apply(ADDED, task("a", 5))
    assert store.observe(task("a", 9))
    assert not store.apply(MODIFIED, task("a", 7))  # somebody else's, before ours
    assert not store.apply(MODIFIED, task("a", 9))  # ours, by the watch
    assert store.apply(MODIFIED, task("a", 11))
    assert log.lines == ["+a5", "~a5>9", "~a9>11"]


def test_own_create_is_seen_before_its_event_and_its_deletion_counts() -> None:
    store, log = store_with_log()
    store.apply(EventType.BOOKMARK, bookmark(10))
    assert store.observe(task("a", 12))
    assert not store.apply(ADDED, task("a", 12))
    assert store.apply(DELETED, task("a", 13))
    assert log.lines == ["+a12", "-a12"]


def test_late_answer_does_not_bring_a_deleted_object_back() -> None:
    store, log = store_with_log()
    store.apply(ADDED, task("a", 5))
    store.apply(DELETED, task("a", 9))
    assert not store.observe(task("a", 8))
    assert log.lines == ["+a5", "-a5"]


def test_late_answer_does_not_roll_back() -> None:
    store, _ = store_with_log()
    store.apply(ADDED, task("a", 9))
    assert not store.observe(task("a", 8))
    assert not store.observe({"kind": "Status", "metadata": {}})
    assert not store.observe({"kind": "Status"})


def test_recreated_object_is_announced_as_gone_and_new() -> None:
    store, log = store_with_log()
    store.apply(ADDED, task("a", 5, uid="one"))
    store.observe(task("a", 9, uid="two"))
    assert log.lines == ["+a5", "-a5", "+a9"]
    assert store.get_by_uid("one") is None
    assert not store.apply(DELETED, task("a", 8, uid="one"))
    assert store.get_by_uid("two") is not None


def test_deletion_of_an_earlier_incarnation_is_not_ours() -> None:
    store, log = store_with_log()
    store.apply(ADDED, task("a", 9, uid="two"))
    assert not store.apply(DELETED, task("a", 10, uid="one"))
    assert log.lines == ["+a9"]


def test_replace_announces_the_differences() -> None:
    store, log = store_with_log()
    for number, name in enumerate("abc"):
        store.apply(ADDED, task(name, number + 1))
    log.lines.clear()
    store.replace([task("a", 1), task("b", 5), task("d", 6)], "8")
    assert log.lines == ["~b2>5", "+d6", "-c3"]
    assert store.resource_version == 8


def test_replace_spares_own_writes_that_are_newer_than_the_list() -> None:
    store, log = store_with_log()
    store.replace([task("a", 5)], "6")
    store.observe(task("a", 9))
    store.observe(task("b", 10))
    log.lines.clear()
    store.replace([task("a", 7)], "8")
    assert log.lines == []
    assert len(store) == 2


def test_replace_believes_a_server_whose_history_went_back() -> None:
    store, log = store_with_log()
    store.replace([task("a", 500), task("b", 501)], "600")
    log.lines.clear()
    store.replace([task("a", 5)], "6", trust=True)
    assert log.lines == ["~a500>5", "-b501"]
    assert store.resource_version == 6
    assert store.apply(MODIFIED, task("a", 7))


def test_replace_believes_a_list_that_is_newer_than_all_we_know() -> None:
    store, log = store_with_log()
    store.replace([task("a", 50, uid="one"), task("b", 51)], "60")
    log.lines.clear()
    # Another history under the same names, which has got further than the one we knew.
    store.replace([task("a", 35, uid="two"), task("b", 51, uid="three")], "100")
    assert log.lines == ["-a50", "+a35", "-b51", "+b51"]


def test_a_faulty_handler_does_not_stop_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    store, log = store_with_log()

    def broken_handler(old: KubeObject | None, new: KubeObject | None) -> None:
        raise RuntimeError("handler")

    store.add_handler(broken_handler)
    late = Log()
    store.add_handler(late)
    store.apply(ADDED, task("a", 5))
    store.apply(DELETED, task("a", 6))
    assert log.lines == late.lines == ["+a5", "-a5"]
    assert "a handler failed on default/a" in caplog.text


def test_late_handler_hears_of_what_is_there() -> None:
    store, _ = store_with_log()
    store.apply(ADDED, task("a", 5))
    log = Log()
    store.add_handler(log)
    assert log.lines == ["+a5"]


def test_iteration_allows_changes() -> None:
    store, _ = store_with_log()
    store.replace([task("a", 1), task("b", 2)], "3")
    for obj in store:
        store.apply(DELETED, {**obj, "metadata": {**obj["metadata"], "resourceVersion": "9"}})
    assert len(store) == 0


def test_an_event_costs_the_same_in_a_large_store() -> None:
    def cost_s(size: int) -> float:
        store = Store("tasks")
        store.replace([task(f"t{n}", n + 1) for n in range(size)], str(size))
        events = [task("t0", size + 10 + n) for n in range(1000)]
        best = float("inf")
        for start in range(0, 1000, 200):
            begun = time.perf_counter()
            for obj in events[start : start + 200]:
                store.apply(MODIFIED, obj)
            best = min(best, time.perf_counter() - begun)
        return best

    # 100 times as many objects; a scan would cost 100 times as much.
    assert cost_s(20_000) < 10 * cost_s(200)


class StoreMachine(RuleBasedStateMachine):
    """A server with a history, a watch that lags behind it, and answers that come late."""

    names = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.incarnation = 0
        self.world: dict[str, dict[str, Any]] = {}
        self.feed: list[tuple[EventType, dict[str, Any]]] = []
        self.answers: list[dict[str, Any]] = []
        self.store = Store("tasks")
        self.mirror: dict[ObjectKey, KubeObject] = {}
        self.store.add_handler(self.on_change)

    def on_change(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if old is not None:
            at = ObjectKey.of(old)
            assert self.mirror.pop(at) is old, "handler was told of an object it never had"
        if new is not None:
            at = ObjectKey.of(new)
            assert at not in self.mirror
            if old is not None:
                assert old["metadata"]["uid"] == new["metadata"]["uid"]
            self.mirror[at] = new

    def copy(self, name: str) -> dict[str, Any]:
        obj = self.world[name]
        return {**obj, "metadata": dict(obj["metadata"])}

    @rule(name=names, colour=st.sampled_from(["red", "blue"]), ours=st.booleans())
    def write(self, name: str, colour: str, ours: bool) -> None:
        self.version += 1
        if name in self.world:
            uid, event = self.world[name]["metadata"]["uid"], MODIFIED
        else:
            self.incarnation += 1
            uid, event = f"uid-{self.incarnation}", ADDED
        self.world[name] = task(name, self.version, uid=uid, spec={"colour": colour})
        self.feed.append((event, self.copy(name)))
        if ours:
            self.answers.append(self.copy(name))

    @rule(name=names)
    def delete(self, name: str) -> None:
        if name in self.world:
            self.version += 1
            obj = self.copy(name)
            obj["metadata"]["resourceVersion"] = str(self.version)
            del self.world[name]
            self.feed.append((DELETED, obj))

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        for event, obj in self.feed[:count]:
            self.store.apply(event, obj)
        del self.feed[:count]

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        if self.answers:
            position = data.draw(st.integers(0, len(self.answers) - 1))
            self.store.observe(self.answers.pop(position))

    @rule()
    def relist(self) -> None:
        self.store.replace([self.copy(name) for name in self.world], str(self.version))
        self.feed.clear()

    @invariant()
    def handlers_mirror_the_store(self) -> None:
        assert self.mirror == {ObjectKey.of(obj): obj for obj in self.store}

    @invariant()
    def uids_agree(self) -> None:
        for obj in self.store:
            assert self.store.get_by_uid(obj["metadata"]["uid"]) is obj

    @invariant()
    def caught_up_means_equal(self) -> None:
        if not self.feed:
            found = {obj["metadata"]["name"]: obj for obj in self.store}
            assert found == self.world


StoreMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestStoreMachine = pytest.mark.slow(StoreMachine.TestCase)
