from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.server.storage import hub as hubs
from taskctl.embedded.server.storage import selectors
from taskctl.embedded.server.storage.hub import Hub, Sight, WatchEnd, Watcher
from taskctl.embedded.server.storage.records import Event
from taskctl.embedded.server.storage.store import Store
from tests.unit.embedded.server.support import OTHERS, PATHS, THINGS, make_store, thing


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def store(hub: Hub) -> Store:
    store = make_store()
    store.listen(hub.publish)
    return store


def watch(
    hub: Hub, labels: str = "", fields: str = "", *, namespace: str | None = None, **options: Any
) -> Watcher:
    watcher = Watcher(THINGS, namespace, selectors.parse(labels, fields, PATHS), **options)
    hub.add(watcher)
    return watcher


def seen(watcher: Watcher) -> list[tuple[Sight, str]]:
    return [(sight, event.record.name) for sight, event in watcher.take()]


async def test_everything(hub: Hub, store: Store) -> None:
    watcher = watch(hub)
    store.create(THINGS, thing("a"))
    store.update(THINGS, thing("a", color="x"))
    store.create(OTHERS, thing("o"))
    store.delete(THINGS, "ns", "a")
    assert watcher.wake.is_set()
    assert seen(watcher) == [(Sight.ADDED, "a"), (Sight.MODIFIED, "a"), (Sight.DELETED, "a")]
    assert seen(watcher) == []


async def test_one_namespace(hub: Hub, store: Store) -> None:
    watcher = watch(hub, namespace="one")
    store.create(THINGS, thing("a", namespace="two"))
    store.create(THINGS, thing("b", namespace="one"))
    assert seen(watcher) == [(Sight.ADDED, "b")]


async def test_coming_and_going(hub: Hub, store: Store) -> None:
    watcher = watch(hub, "on=yes")

    def write(on: str, color: str) -> None:
        store.update(THINGS, thing("a", color=color, meta={"labels": {"on": on}}))

    store.create(THINGS, thing("a"))
    for on, color in (("yes", "1"), ("yes", "2"), ("no", "3"), ("no", "4"), ("yes", "5")):
        write(on, color)
    store.delete(THINGS, "ns", "a")
    assert [sight for sight, _ in seen(watcher)] == [
        Sight.ADDED,
        Sight.MODIFIED,
        Sight.LEFT,
        Sight.ADDED,
        Sight.DELETED,
    ]


async def test_an_unseen_object_is_not_reported_as_deleted(hub: Hub, store: Store) -> None:
    watcher = watch(hub, "on=yes")
    store.create(THINGS, thing("a"))
    store.delete(THINGS, "ns", "a")
    assert seen(watcher) == []


class CountingWatcher(Watcher):
    """Counts the events it is offered."""

    __slots__ = ("offers",)

    def offer(self, event: Event) -> None:
        self.offers: int = getattr(self, "offers", 0) + 1
        super().offer(event)


async def test_pinned_watchers_cost_only_their_own_events(hub: Hub, store: Store) -> None:
    red, green = (
        CountingWatcher(THINGS, None, selectors.parse("", f"spec.color={color}", PATHS))
        for color in ("red", "green")
    )
    hub.add(red)
    hub.add(green)
    for color in ("red", "green", "blue", "black", "white"):
        if color == "red":
            store.create(THINGS, thing("a", color=color))
        else:
            store.update(THINGS, thing("a", color=color))
    assert (red.offers, green.offers) == (2, 2)
    assert [sight for sight, _ in seen(red)] == [Sight.ADDED, Sight.LEFT]
    assert [sight for sight, _ in seen(green)] == [Sight.ADDED, Sight.LEFT]


async def test_discarded_watchers_hear_nothing(hub: Hub, store: Store) -> None:
    general, pinned = watch(hub), watch(hub, fields="metadata.name=a")
    assert hub.count() == 2
    hub.discard(general)
    hub.discard(pinned)
    hub.discard(pinned)
    assert hub.count() == 0
    store.create(THINGS, thing("a"))
    assert seen(general) == seen(pinned) == []


async def test_a_watcher_that_does_not_read_is_cut_off(
    hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "QUEUE_LIMIT_EVENTS", 3)
    cut: list[str] = []
    slow = watch(hub, on_slow=lambda: cut.append("slow"))
    quick = watch(hub)
    for index in range(5):
        store.create(THINGS, thing(f"t{index}"))
        assert len(seen(quick)) == 1
    assert slow.ended is WatchEnd.SLOW
    assert cut == ["slow"]
    assert seen(slow) == []


async def test_a_backlog_of_many_bytes_is_one_too(
    hub: Hub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "QUEUE_LIMIT_BYTES", 1000)
    slow = watch(hub)
    store.create(THINGS, thing("a", text="x" * 600))
    assert slow.ended is None
    store.create(THINGS, thing("b", text="x" * 600))
    assert slow.ended is WatchEnd.SLOW


async def test_ending(hub: Hub, store: Store) -> None:
    watcher = watch(hub)
    store.create(THINGS, thing("a"))
    ends: list[WatchEnd | None] = []
    for resource in (OTHERS, THINGS):
        hub.end(resource)
        ends.append(watcher.ended)
    assert ends == [None, WatchEnd.STOPPED]
    assert seen(watcher) == [(Sight.ADDED, "a")], "what was queued is still sent"
