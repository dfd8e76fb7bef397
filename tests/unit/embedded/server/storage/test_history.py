"""What the kept history costs, and that it says what was."""

from __future__ import annotations

import gc
import itertools
import os
import resource
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskctl.embedded.server.refusals.errors import Resource
from taskctl.embedded.server.storage import selectors
from taskctl.embedded.server.storage.eventlog import LogLimits, Past
from taskctl.embedded.server.storage.hub import Hub, Watcher
from taskctl.embedded.server.storage.store import Store
from taskctl.embedded.server.storage.versions import MAX_STEPS, Chain, Reader, difference, patched
from tests.unit.clocks import SetClock
from tests.unit.embedded.server.support import OTHERS, PATHS, THINGS, make_store, thing

MIB = 1024 * 1024
PODS = Resource("", "pods")
TEXTS = st.one_of(
    st.binary(max_size=200),
    # Repetition makes texts that are alike, which random bytes never are.
    st.lists(st.sampled_from([b"abc", b"{}", b'"name":', b"x" * 50, b"0123456789" * 300])).map(
        b"".join
    ),
)


@given(old=TEXTS, new=TEXTS)
def test_a_step_leads_from_one_text_to_the_other(old: bytes, new: bytes) -> None:
    assert patched(old, difference(old, new)) == new


@given(texts=st.lists(TEXTS, min_size=1, max_size=MAX_STEPS), data=st.data())
@settings(max_examples=50)
def test_a_chain_has_every_version(texts: list[bytes], data: st.DataObject) -> None:
    chain = Chain(texts[0])
    for before, after in itertools.pairwise(texts):
        chain.add(before, after)
    reader = Reader()
    for index in data.draw(st.permutations(range(len(texts)))):
        assert chain.text(index) == reader.text(chain, index) == texts[index]


def test_a_small_change_of_a_large_text_is_a_small_step() -> None:
    def text(number: int, end: bytes) -> bytes:
        items = b",".join(b'{"name":"task-%d","image":"python"}' % one for one in range(500))
        return b'{"metadata":{"resourceVersion":"%d"},"spec":[%s],"status":[%s]}' % (
            number, items, end,
        )  # fmt: skip

    before, after = text(99, b"1"), text(100, b'1,{"name":"task-1","state":"running"}')
    assert len(difference(before, after)) < 200


# --- limits -------------------------------------------------------------------------


def living(store: Store) -> list[Past]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, Past)]


def test_no_more_events_live_than_the_limit_says() -> None:
    store = make_store(limits=LogLimits(max_events=100))
    store.create(THINGS, thing("a"))
    for number in range(350):
        store.update(THINGS, thing("a", number=number))
        if number % 50 == 49:
            assert len(living(store)) <= 100
    assert len(store.events_since(THINGS, store.head - 100)) == 100


def test_the_limit_of_bytes_holds_whatever_the_events_are_like() -> None:
    limit = 100_000
    store = make_store(limits=LogLimits(max_bytes=limit))
    collection = store.open(THINGS, PATHS)
    for number in range(300):
        noise = os.urandom(number * 10).hex()
        store.create(THINGS, thing(f"t{number}", text=noise, meta={"labels": {"n": str(number)}}))
        store.update(THINGS, thing(f"t{number}", text=noise[::-1]))
        if number % 3 == 0:
            store.delete(THINGS, "ns", f"t{number}")
        assert collection.log.size_bytes <= limit or len(collection.log) == 1
    assert len(collection.log) > 1


def test_what_is_counted_is_returned() -> None:
    clock = SetClock()
    store = make_store(clock=clock, limits=LogLimits(max_age_s=10))
    for name in "abc":
        store.create(THINGS, thing(name))
        store.update(THINGS, thing(name, text="x" * 5000))
        store.create(OTHERS, thing(name))
    store.delete(THINGS, "ns", "a")
    before = store.history_bytes
    clock.pass_s(11)
    store.expire_history()
    assert store.history_bytes < before / 2, "a quiet collection keeps its newest event only"
    store.compact()
    assert store.history_bytes == 0
    assert living(store) == []


def test_all_collections_together_have_a_limit() -> None:
    store = make_store(limits=LogLimits(max_total_bytes=200_000))
    kinds = [Resource("test.dev", f"kind{number}") for number in range(20)]
    for kind in kinds:
        store.open(kind, PATHS)
        for number in range(10):
            store.create(kind, thing(f"t{number}", text=os.urandom(2000).hex()))
            assert store.history_bytes <= 200_000
    store.drop(OTHERS)
    newest = store.events_since(kinds[-1], store.head - 1)
    assert len(newest) == 1


def test_an_object_rewritten_in_place_does_not_spoil_what_follows() -> None:
    store = make_store()
    store.create(THINGS, thing("a", color="red"))
    store.update(THINGS, thing("a", color="green"))
    store.rewrite(THINGS, lambda obj: obj["spec"].update(color="blue"))
    store.update(THINGS, thing("a", color="white"))
    reader = Reader()
    colors = [
        past.event(reader).record.load()["spec"]["color"] for past in store.events_since(THINGS, 0)
    ]
    assert colors == ["red", "green", "white"]
    before = store.events_since(THINGS, 2)[0].before(reader)
    assert before is not None
    assert before.load()["spec"]["color"] == "blue"


# --- an hour of worker pods ----------------------------------------------------------


def container(task: str) -> dict[str, Any]:
    return {
        "name": task,
        "image": "python:3.12",
        "command": ["/taskctl/init", "run"],
        "env": [{"name": "TASKCTL_TASK", "value": task}, {"name": "TASKCTL_UID", "value": task}],
        "resources": {},
        "volumeMounts": [{"name": "workspace", "mountPath": "/workspace"}],
    }


def worker(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "labels": {"app": "worker"}},
        "spec": {"ephemeralContainers": []},
        "status": {"ephemeralContainerStatuses": []},
    }


def work(store: Store, tasks: int, watchers: list[Watcher], *, per_worker: int = 100) -> None:
    """Run tasks one after the other in worker pods: three versions of the pod for each."""
    pod: dict[str, Any] = {}
    for number in range(tasks):
        if number % per_worker == 0:
            if pod:
                store.delete(PODS, "ns", pod["metadata"]["name"])
            pod = worker(f"worker-{store.head}")
            store.create(PODS, pod)
        task = f"task-{number:08d}-{os.urandom(4).hex()}"
        pod["spec"]["ephemeralContainers"].append(container(task))
        store.update(PODS, pod)
        status: dict[str, Any] = {"name": task, "state": {"running": {"startedAt": str(number)}}}
        pod["status"]["ephemeralContainerStatuses"].append(status)
        store.update(PODS, pod)
        status["state"] = {"terminated": {"exitCode": 0, "containerID": os.urandom(32).hex()}}
        store.update(PODS, pod)
        for watcher in watchers:
            watcher.take()


def rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.timeout(120)
async def test_an_hour_of_worker_pods_stays_within_the_limits() -> None:
    """36,000 tasks would be an hour at ten a second; the history is full after five minutes."""
    store, hub = make_store(), Hub()
    store.open(PODS, {"metadata.name": ("metadata", "name")})
    store.listen(hub.publish)
    watcher = Watcher(PODS, None, selectors.EVERYTHING)
    hub.add(watcher)
    work(store, 2_000, [watcher])
    early = rss_bytes()
    work(store, 6_000, [watcher])
    log = store.open(PODS, {"metadata.name": ("metadata", "name")}).log
    assert len(log) == 20_000
    assert log.size_bytes < 40 * MIB, "20,000 versions of pods of 40 KB"
    assert rss_bytes() - early < 60 * MIB


def test_no_less_is_counted_than_is_held() -> None:
    store = make_store()
    store.open(PODS, {"metadata.name": ("metadata", "name")})
    work(store, 20, [])
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        counted = store.history_bytes
        work(store, 300, [])
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    counted = store.history_bytes - counted
    assert held < counted * 1.2
    assert counted < held * 3, "nor much more"
