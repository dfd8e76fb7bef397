"""Events of both groups: one set of objects, seen in two forms."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.target import APPLY, Api, Json

EVENTS = "/apis/events.k8s.io/v1"


def new_event(api: Api, name: str = "e", **fields: Any) -> Json:
    """Return an event of events.k8s.io/v1."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name},
        "eventTime": "2026-01-01T00:00:00.123456Z",
        "reportingController": "test.taskctl.test/controller",
        "reportingInstance": "instance-1",
        "action": "Testing",
        "reason": "Tested",
        "type": "Normal",
        "note": "hello",
        "regarding": {"kind": "Pod", "name": "p", "namespace": api.namespace},
        **fields,
    }


def old_event(api: Api, name: str = "e", **fields: Any) -> Json:
    """Return an event of the core group."""
    return {
        "metadata": {"name": name},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": api.namespace},
        "reason": "Tested",
        "message": "hello",
        "source": {"component": "test"},
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:01Z",
        "count": 2,
        "type": "Warning",
        **fields,
    }


def path(api: Api, name: str = "") -> str:
    return api.path(EVENTS, "events", name)


def plain(body: Json) -> Json:
    return {key: value for key, value in body.items() if key != "metadata"}


async def test_a_new_event_in_the_old_form(api: Api) -> None:
    made = (await api.create(path(api), new_event(api))).ok()
    about = {"kind": "Pod", "name": "p", "namespace": api.namespace}
    assert plain(made) == {
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "eventTime": "2026-01-01T00:00:00.123456Z",
        "reportingController": "test.taskctl.test/controller",
        "reportingInstance": "instance-1",
        "action": "Testing",
        "reason": "Tested",
        "type": "Normal",
        "note": "hello",
        "regarding": about,
        "deprecatedSource": {},
        "deprecatedFirstTimestamp": None,
        "deprecatedLastTimestamp": None,
    }
    seen = (await api.get(api.core("events", "e"))).ok()
    assert plain(seen) == {
        "kind": "Event",
        "apiVersion": "v1",
        "eventTime": "2026-01-01T00:00:00.123456Z",
        "reportingComponent": "test.taskctl.test/controller",
        "reportingInstance": "instance-1",
        "action": "Testing",
        "reason": "Tested",
        "type": "Normal",
        "message": "hello",
        "involvedObject": about,
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
    }
    assert seen["metadata"]["uid"] == made["metadata"]["uid"]


async def test_an_old_event_in_the_new_form(api: Api) -> None:
    (await api.create(api.core("events"), old_event(api))).ok()
    seen = (await api.get(path(api, "e"))).ok()
    assert plain(seen) == {
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "eventTime": None,
        "regarding": {"kind": "Pod", "name": "p", "namespace": api.namespace},
        "reason": "Tested",
        "note": "hello",
        "type": "Warning",
        "deprecatedSource": {"component": "test"},
        "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z",
        "deprecatedLastTimestamp": "2026-01-01T00:00:01Z",
        "deprecatedCount": 2,
    }


async def test_lists_and_selectors_of_both(api: Api) -> None:
    (await api.create(path(api), new_event(api, "new"))).ok()
    (await api.create(api.core("events"), old_event(api, "old", reason="Other"))).ok()
    for one in (path(api), api.core("events")):
        names = [item["metadata"]["name"] for item in (await api.get(one)).ok()["items"]]
        assert names == ["new", "old"]
    for selector, found in (
        ("reason=Other", ["old"]),
        ("regarding.name=p", ["new", "old"]),
        ("regarding.kind=Node", []),
        ("reportingController=test.taskctl.test/controller", ["new"]),
        ("type!=Normal", ["old"]),
        ("metadata.name=new", ["new"]),
    ):
        listed = (await api.get(path(api), fieldSelector=selector)).ok()
        assert [item["metadata"]["name"] for item in listed["items"]] == found, selector
    (await api.get(path(api), fieldSelector="involvedObject.name=p")).refused(400, "BadRequest")
    (await api.get(api.core("events"), fieldSelector="regarding.name=p")).refused(400, "BadRequest")


async def test_watches_of_both(api: Api) -> None:
    async with api.watch(path(api)) as new, api.watch(api.core("events")) as old:
        (await api.create(path(api), new_event(api))).ok()
        assert (await new.next())["object"]["note"] == "hello"
        assert (await old.next())["object"]["message"] == "hello"
        (await api.delete(path(api, "e"))).ok()
        event = await new.next()
        assert (event["type"], event["object"]["apiVersion"]) == ("DELETED", "events.k8s.io/v1")
        assert (await old.next())["object"]["apiVersion"] == "v1"


async def test_a_series_goes_on(api: Api) -> None:
    """What client-go's recorder does when the same thing happens again."""
    (await api.create(path(api), new_event(api))).ok()
    series = {"count": 2, "lastObservedTime": "2026-01-01T00:00:05.000000Z"}
    for kind in ("application/strategic-merge-patch+json", "application/merge-patch+json"):
        changed = (await api.patch(path(api, "e"), {"series": series}, kind)).ok()
        assert changed["series"] == series
    assert (await api.get(api.core("events", "e"))).ok()["series"] == series
    refused = (await api.patch(path(api, "e"), {"note": "other"})).refused(422, "Invalid")
    assert "field is immutable" in refused["message"]
    few = {"series": {"count": 1, "lastObservedTime": None}}
    (await api.patch(path(api, "e"), few)).refused(422, "Invalid")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"eventTime": None}, "eventTime: Required value"),
        ({"reportingController": ""}, "reportingController: Required value"),
        ({"reportingController": "a b"}, "reportingController: Invalid value"),
        ({"reportingInstance": ""}, "reportingInstance: Required value"),
        ({"reportingInstance": "x" * 129}, "reportingInstance: Invalid value"),
        ({"action": ""}, "action: Required value"),
        ({"action": "x" * 129}, "action: Invalid value"),
        ({"reason": ""}, "reason: Required value"),
        ({"note": "x" * 1025}, "message: Invalid value"),
        ({"type": "Strange"}, 'type: Invalid value: "": has invalid value: Strange'),
        ({"deprecatedCount": 1}, "count: Invalid value"),
        ({"deprecatedSource": {"component": "x"}}, "source: Invalid value"),
        ({"deprecatedFirstTimestamp": "2026-01-01T00:00:00Z"}, "firstTimestamp: Invalid value"),
        ({"regarding": {"kind": "Node", "name": "n"}}, "involvedObject.namespace: Invalid value"),
    ],
)
async def test_new_events_that_are_refused(api: Api, fields: Json, said: str) -> None:
    refused = (await api.create(path(api), new_event(api, **fields))).refused(422, "Invalid")
    assert said in refused["message"]


async def test_apply_and_a_table(api: Api) -> None:
    body = new_event(api)
    (await api.patch(path(api, "e"), body, APPLY, fieldManager="test")).ok()
    (await api.patch(path(api, "e"), body, APPLY, fieldManager="test")).ok()
    table = "application/json;as=Table;g=meta.k8s.io;v=v1"
    for one in (path(api), api.core("events")):
        rows = (await api.send("GET", one, accept=table)).ok()["rows"]
        assert "hello" in rows[0]["cells"]
        assert "pod/p" in rows[0]["cells"]
