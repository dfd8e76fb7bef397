"""Watches."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.samples import FINALIZER
from tests.conformance.target import GROUP, Api, Json, embedded_only, widget


async def revision_of(api: Api) -> str:
    body = (await api.get(api.widgets())).ok()
    revision: str = body["metadata"]["resourceVersion"]
    return revision


async def test_watch_from_a_list(api: Api) -> None:
    (await api.create(api.widgets(), widget("old"))).ok()
    async with api.watch(api.widgets(), resourceVersion=await revision_of(api)) as stream:
        made = (await api.create(api.widgets(), widget("a"))).ok()
        changed = (await api.patch(api.widgets("a"), {"spec": {"size": 2}})).ok()
        (await api.delete(api.widgets("a"))).ok()
        events = [await stream.next() for _ in range(3)]
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[0]["object"] == made
    assert events[1]["object"] == changed
    gone = events[2]["object"]
    assert gone["spec"]["size"] == 2
    assert int(gone["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])


async def test_watch_replays_what_happened_since_its_revision(api: Api) -> None:
    revision = await revision_of(api)
    (await api.create(api.widgets(), widget("a"))).ok()
    (await api.patch(api.widgets("a"), {"spec": {"size": 2}})).ok()
    (await api.create(api.widgets(), widget("b"))).ok()
    (await api.delete(api.widgets("a"))).ok()
    async with api.watch(api.widgets(), resourceVersion=revision) as stream:
        assert await stream.names(4) == [
            ("ADDED", "a"),
            ("MODIFIED", "a"),
            ("ADDED", "b"),
            ("DELETED", "a"),
        ]


async def test_resuming_misses_and_repeats_nothing(api: Api) -> None:
    revision = await revision_of(api)
    for name in ("a", "b"):
        (await api.create(api.widgets(), widget(name))).ok()
    async with api.watch(api.widgets(), resourceVersion=revision) as stream:
        event = await stream.next()
    revision = event["object"]["metadata"]["resourceVersion"]
    (await api.create(api.widgets(), widget("c"))).ok()
    async with api.watch(api.widgets(), resourceVersion=revision) as stream:
        assert await stream.names(2) == [("ADDED", "b"), ("ADDED", "c")]


async def test_watch_without_a_revision_begins_with_what_exists(api: Api) -> None:
    for name in ("a", "b"):
        (await api.create(api.widgets(), widget(name))).ok()
    async with api.watch(api.widgets()) as stream:
        assert sorted(await stream.names(2)) == [("ADDED", "a"), ("ADDED", "b")]
    async with api.watch(api.widgets(), resourceVersion="0") as stream:
        assert sorted(await stream.names(2)) == [("ADDED", "a"), ("ADDED", "b")]
        (await api.create(api.widgets(), widget("c"))).ok()
        assert await stream.names(1) == [("ADDED", "c")]


async def test_watch_sees_its_own_namespace_only(api: Api) -> None:
    async with api.watch(api.widgets(), resourceVersion=await revision_of(api)) as stream:
        body = {**widget("elsewhere"), "metadata": {"name": "elsewhere"}}
        reply = await api.create(f"/apis/{GROUP}/v1/namespaces/default/widgets", body)
        reply.ok()
        (await api.create(api.widgets(), widget("here"))).ok()
        seen = await stream.names(1)
        await api.delete(f"/apis/{GROUP}/v1/namespaces/default/widgets/elsewhere")
    assert seen == [("ADDED", "here")]


async def test_object_that_leaves_the_selection_is_deleted(api: Api) -> None:
    async with api.watch(
        api.widgets(), resourceVersion=await revision_of(api), labelSelector="on=yes"
    ) as stream:
        (await api.create(api.widgets(), widget("a"))).ok()
        (await api.patch(api.widgets("a"), {"metadata": {"labels": {"on": "yes"}}})).ok()
        (await api.patch(api.widgets("a"), {"spec": {"size": 2}})).ok()
        last = (await api.patch(api.widgets("a"), {"metadata": {"labels": {"on": "no"}}})).ok()
        (await api.patch(api.widgets("a"), {"spec": {"size": 3}})).ok()
        (await api.patch(api.widgets("a"), {"metadata": {"labels": {"on": "yes"}}})).ok()
        (await api.delete(api.widgets("a"))).ok()
        events = [await stream.next() for _ in range(5)]
    assert [event["type"] for event in events] == [
        "ADDED",
        "MODIFIED",
        "DELETED",
        "ADDED",
        "DELETED",
    ]
    left = events[2]["object"]
    # The last state that matched, at the revision of the change.
    assert left["metadata"]["labels"] == {"on": "yes"}
    assert left["metadata"]["resourceVersion"] == last["metadata"]["resourceVersion"]


async def test_field_selected_watch(api: Api) -> None:
    async with api.watch(
        api.widgets(), resourceVersion=await revision_of(api), fieldSelector="status.host=mine"
    ) as stream:
        for name in ("a", "b"):
            (await api.create(api.widgets(), widget(name))).ok()
        status = api.widgets("a", "status")
        (await api.patch(api.widgets("b", "status"), {"status": {"host": "other"}})).ok()
        (await api.patch(status, {"status": {"host": "mine"}})).ok()
        (await api.patch(status, {"status": {"count": 1}})).ok()
        (await api.patch(status, {"status": {"host": "other"}})).ok()
        assert await stream.names(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_field_selected_watch_replays_by_the_same_rules(api: Api) -> None:
    revision = await revision_of(api)
    (await api.create(api.widgets(), widget("a"))).ok()
    status = api.widgets("a", "status")
    (await api.patch(status, {"status": {"host": "mine"}})).ok()
    (await api.patch(status, {"status": {"host": "other"}})).ok()
    async with api.watch(
        api.widgets(), resourceVersion=revision, fieldSelector="status.host=mine"
    ) as stream:
        assert await stream.names(2) == [("ADDED", "a"), ("DELETED", "a")]


async def test_one_object_by_name(api: Api) -> None:
    async with api.watch(
        api.widgets(), resourceVersion=await revision_of(api), fieldSelector="metadata.name=b"
    ) as stream:
        for name in ("a", "b"):
            (await api.create(api.widgets(), widget(name))).ok()
        assert await stream.names(1) == [("ADDED", "b")]


def expired(event: Json) -> bool:
    status = event["object"]
    return bool(
        event["type"] == "ERROR"
        and status["kind"] == "Status"
        and status["code"] == 410
        and status["reason"] in ("Expired", "Gone")
    )


async def test_watch_from_before_the_kept_history(api: Api) -> None:
    async with api.watch(api.widgets(), resourceVersion="1") as stream:
        event = await stream.next()
        assert expired(event), event
        assert event["object"]["message"].startswith("too old resource version: 1 (")
        assert await stream.next_or_end() is None


async def test_a_watch_that_breaks_off_can_be_begun_anew(api: Api) -> None:
    """What a client does after 410: list again and watch from there."""
    (await api.create(api.widgets(), widget("a"))).ok()
    async with api.watch(api.widgets(), resourceVersion="1") as stream:
        assert expired(await stream.next())
    async with api.watch(api.widgets(), resourceVersion=await revision_of(api)) as stream:
        (await api.create(api.widgets(), widget("b"))).ok()
        assert await stream.names(1) == [("ADDED", "b")]


@pytest.mark.usefixtures("forgotten")
async def test_lists_of_before_the_kept_history(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    for query in (
        {"resourceVersion": "1", "resourceVersionMatch": "Exact"},
        {"resourceVersion": "1", "limit": "1"},
    ):
        (await api.get(api.widgets(), **query)).refused(410, "Expired")
    # No older than 1 is everything.
    (await api.get(api.widgets(), resourceVersion="1")).ok()


async def test_the_last_state_of_a_deleted_object(api: Api) -> None:
    """What watchers see last is what was stored last, the finalizer that was removed included."""
    body = widget("a")
    body["metadata"]["finalizers"] = [FINALIZER]
    revision = await revision_of(api)
    async with api.watch(api.widgets(), resourceVersion=revision) as live:
        (await api.create(api.widgets(), body)).ok()
        held = (await api.delete(api.widgets("a"))).ok()
        freed = (await api.patch(api.widgets("a"), {"metadata": {"finalizers": None}})).ok()
        assert "finalizers" not in freed["metadata"]
        assert freed["metadata"]["resourceVersion"] == held["metadata"]["resourceVersion"]
        seen = [await live.next() for _ in range(3)]
    async with api.watch(api.widgets(), resourceVersion=revision) as replay:
        again = [await replay.next() for _ in range(3)]
    assert seen == again
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    gone = seen[2]["object"]["metadata"]
    assert gone["finalizers"] == [FINALIZER]
    assert gone["deletionTimestamp"] == held["metadata"]["deletionTimestamp"]
    assert int(gone["resourceVersion"]) > int(held["metadata"]["resourceVersion"])


async def test_watch_ends_at_its_deadline(api: Api) -> None:
    async with api.watch(
        api.widgets(), resourceVersion=await revision_of(api), timeoutSeconds="1"
    ) as stream:
        assert await stream.next_or_end(10.0) is None


async def test_bookmarks(api: Api) -> None:
    revision = await revision_of(api)
    async with api.watch(
        api.widgets(), resourceVersion=revision, timeoutSeconds="4", allowWatchBookmarks="true"
    ) as stream:
        made = (await api.create(api.widgets(), widget("a"))).ok()
        assert await stream.names(1) == [("ADDED", "a")]
        event = await stream.next()
    assert event["type"] == "BOOKMARK"
    assert (event["object"]["kind"], event["object"]["apiVersion"]) == ("Widget", f"{GROUP}/v1")
    marked = event["object"]["metadata"]["resourceVersion"]
    assert int(marked) >= int(made["metadata"]["resourceVersion"])
    async with api.watch(api.widgets(), resourceVersion=marked) as stream:
        (await api.create(api.widgets(), widget("b"))).ok()
        assert await stream.names(1) == [("ADDED", "b")]


INITIAL = {
    "sendInitialEvents": "true",
    "resourceVersionMatch": "NotOlderThan",
    "allowWatchBookmarks": "true",
}


async def test_initial_events(api: Api) -> None:
    for name in ("a", "b"):
        (await api.create(api.widgets(), widget(name))).ok()
    async with api.watch(api.widgets(), **INITIAL) as stream:
        assert sorted(await stream.names(2)) == [("ADDED", "a"), ("ADDED", "b")]
        event = await stream.next()
        assert event["type"] == "BOOKMARK"
        annotations = event["object"]["metadata"]["annotations"]
        assert annotations == {"k8s.io/initial-events-end": "true"}
        (await api.create(api.widgets(), widget("c"))).ok()
        assert await stream.names(1) == [("ADDED", "c")]


async def test_initial_events_of_a_selection(api: Api) -> None:
    for name in ("a", "b"):
        (await api.create(api.widgets(), widget(name))).ok()
    revision = await revision_of(api)
    for query in (
        {"fieldSelector": "metadata.name=b"},
        {"fieldSelector": "metadata.name=b", "resourceVersion": revision},
        {"fieldSelector": "metadata.name=b", "resourceVersion": "0"},
    ):
        async with api.watch(api.widgets(), **INITIAL, **query) as stream:
            assert await stream.names(1) == [("ADDED", "b")]
            mark = await stream.next()
        assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "Widget")
        assert int(mark["object"]["metadata"]["resourceVersion"]) >= int(revision)
        assert set(mark["object"]) == {"kind", "apiVersion", "metadata"}
        assert set(mark["object"]["metadata"]) == {"resourceVersion", "annotations"}


async def test_initial_events_without_bookmarks(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    query = {**INITIAL, "allowWatchBookmarks": "false", "timeoutSeconds": "1"}
    async with api.watch(api.widgets(), **query) as stream:
        assert await stream.names(1) == [("ADDED", "a")]
        assert await stream.next_or_end() is None


async def test_a_watch_that_wants_no_initial_events(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    query = {**INITIAL, "sendInitialEvents": "false", "allowWatchBookmarks": "false"}
    async with api.watch(api.widgets(), **query) as stream:
        (await api.create(api.widgets(), widget("b"))).ok()
        assert await stream.names(1) == [("ADDED", "b")]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"sendInitialEvents": "true"}, "sendInitialEvents requires setting resourceVersionMatch"),
        (
            {"sendInitialEvents": "true", "resourceVersionMatch": "Exact"},
            'resourceVersionMatch: Unsupported value: "Exact": supported values: "NotOlderThan"',
        ),
        (
            {"resourceVersionMatch": "NotOlderThan", "resourceVersion": "1"},
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        ({"continue": "abc"}, "resourceVersionMatch is forbidden when continue is provided"),
    ],
)
async def test_options_of_a_watch_that_do_not_go_together(api: Api, query: Json, why: str) -> None:
    body = (await api.get(api.widgets(), watch="true", **query)).refused(422, "Invalid")
    assert why in body["message"]


async def test_malformed_options_of_a_watch(api: Api) -> None:
    for query, code in (
        ({"resourceVersion": "abc"}, 500),
        ({"timeoutSeconds": "x"}, 400),
        ({"labelSelector": "a in"}, 400),
        ({"fieldSelector": "spec.size=1"}, 400),
    ):
        assert (await api.get(api.widgets(), watch="true", **query)).status == code, query


async def test_flags_that_say_neither_yes_nor_no_mean_yes(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    async with api.watch(api.widgets(), watch="perhaps") as stream:
        assert await stream.names(1) == [("ADDED", "a")]
    assert "items" in (await api.get(api.widgets(), watch="FALSE")).ok()


@embedded_only("a real server waits silently for the revision to be reached")
async def test_watch_from_the_future(api: Api) -> None:
    reply = await api.get(api.widgets(), watch="true", resourceVersion="999999999")
    reply.refused(504, "Timeout")


async def test_many_watchers_see_the_same(api: Api) -> None:
    revision = await revision_of(api)

    async def follow() -> list[tuple[str, str]]:
        async with api.watch(api.widgets(), resourceVersion=revision) as stream:
            return await stream.names(10)

    async with asyncio.TaskGroup() as group:
        watchers = [group.create_task(follow()) for _ in range(10)]
        for index in range(10):
            (await api.create(api.widgets(), widget(f"w{index}"))).ok()
    expected = [("ADDED", f"w{index}") for index in range(10)]
    assert all(watcher.result() == expected for watcher in watchers)
