"""Watches."""

from __future__ import annotations

import asyncio

from tests.conformance.target import GROUP, Api, Json, widget


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


async def test_initial_events(api: Api) -> None:
    for name in ("a", "b"):
        (await api.create(api.widgets(), widget(name))).ok()
    async with api.watch(
        api.widgets(),
        sendInitialEvents="true",
        resourceVersionMatch="NotOlderThan",
        allowWatchBookmarks="true",
    ) as stream:
        assert sorted(await stream.names(2)) == [("ADDED", "a"), ("ADDED", "b")]
        event = await stream.next()
        assert event["type"] == "BOOKMARK"
        annotations = event["object"]["metadata"]["annotations"]
        assert annotations == {"k8s.io/initial-events-end": "true"}
        (await api.create(api.widgets(), widget("c"))).ok()
        assert await stream.names(1) == [("ADDED", "c")]


async def test_initial_events_need_a_match(api: Api) -> None:
    reply = await api.get(api.widgets(), watch="true", sendInitialEvents="true")
    body = reply.refused(422, "Invalid")
    assert "sendInitialEvents requires setting resourceVersionMatch" in body["message"]


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
