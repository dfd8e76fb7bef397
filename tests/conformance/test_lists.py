"""Lists: selectors, pages, revisions."""

from __future__ import annotations

import pytest

from tests.conformance.target import GROUP, Api, Json, widget


def names(body: Json) -> list[str]:
    return [item["metadata"]["name"] for item in body["items"]]


async def make(api: Api, count: int) -> None:
    for index in range(count):
        body = widget(f"w{index}", color="green" if index % 2 else "red")
        body["metadata"]["labels"] = {"index": str(index), "parity": "odd" if index % 2 else "even"}
        (await api.create(api.widgets(), body)).ok()


async def test_list_is_in_order_of_names(api: Api) -> None:
    for name in ("c", "a", "b"):
        (await api.create(api.widgets(), widget(name))).ok()
    body = (await api.get(api.widgets())).ok()
    assert (body["kind"], body["apiVersion"]) == ("WidgetList", f"{GROUP}/v1")
    assert names(body) == ["a", "b", "c"]
    newest = max(int(item["metadata"]["resourceVersion"]) for item in body["items"])
    assert int(body["metadata"]["resourceVersion"]) >= newest


async def test_list_over_all_namespaces(api: Api) -> None:
    (await api.create(api.widgets(), widget("mine"))).ok()
    body = (await api.get(f"/apis/{GROUP}/v1/widgets")).ok()
    found = {(i["metadata"]["namespace"], i["metadata"]["name"]) for i in body["items"]}
    assert (api.namespace, "mine") in found


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("parity=odd", ["w1", "w3"]),
        ("parity==odd", ["w1", "w3"]),
        ("parity!=odd", ["w0", "w2"]),
        ("parity in (odd, even)", ["w0", "w1", "w2", "w3"]),
        ("index notin (0,1)", ["w2", "w3"]),
        ("index", ["w0", "w1", "w2", "w3"]),
        ("!index", []),
        ("parity=even,index!=0", ["w2"]),
        ("index>1", ["w2", "w3"]),
        ("index<1", ["w0"]),
        ("missing!=x", ["w0", "w1", "w2", "w3"]),
    ],
)
async def test_label_selectors(api: Api, selector: str, expected: list[str]) -> None:
    await make(api, 4)
    assert names((await api.get(api.widgets(), labelSelector=selector)).ok()) == expected


@pytest.mark.parametrize("selector", ["a in (b", "a=b!", "=b", "a=b,", "a in b", "a=-x"])
async def test_malformed_label_selectors(api: Api, selector: str) -> None:
    (await api.get(api.widgets(), labelSelector=selector)).refused(400, "BadRequest")


async def test_field_selectors(api: Api) -> None:
    await make(api, 4)
    (await api.patch(api.widgets("w2", "status"), {"status": {"host": "h"}})).ok()
    for selector, expected in (
        ("spec.color=green", ["w1", "w3"]),
        ("spec.color!=green", ["w0", "w2"]),
        ("status.host=h", ["w2"]),
        ("status.host=", ["w0", "w1", "w3"]),
        ("metadata.name=w1", ["w1"]),
        ("metadata.name=w1,spec.color=red", []),
        (f"metadata.namespace={api.namespace},metadata.name!=w0", ["w1", "w2", "w3"]),
    ):
        found = names((await api.get(api.widgets(), fieldSelector=selector)).ok())
        assert found == expected, selector


async def test_field_that_cannot_be_selected_by(api: Api) -> None:
    body = (await api.get(api.widgets(), fieldSelector="spec.size=1")).refused(400, "BadRequest")
    assert "field label not supported: spec.size" in body["message"]


async def test_pages(api: Api) -> None:
    await make(api, 7)
    first = (await api.get(api.widgets(), limit="3")).ok()
    assert names(first) == ["w0", "w1", "w2"]
    assert first["metadata"]["remainingItemCount"] == 4
    token = first["metadata"]["continue"]
    second = (await api.get(api.widgets(), limit="3", **{"continue": token})).ok()
    assert names(second) == ["w3", "w4", "w5"]
    token = second["metadata"]["continue"]
    third = (await api.get(api.widgets(), limit="3", **{"continue": token})).ok()
    assert names(third) == ["w6"]
    assert not third["metadata"].get("continue")


async def test_pages_show_the_state_of_the_first(api: Api) -> None:
    await make(api, 6)
    first = (await api.get(api.widgets(), limit="2")).ok()
    (await api.delete(api.widgets("w3"))).ok()
    (await api.patch(api.widgets("w4"), {"spec": {"size": 77}})).ok()
    (await api.create(api.widgets(), widget("w5a"))).ok()
    (await api.delete(api.widgets("w0"))).ok()
    token = first["metadata"]["continue"]
    rest = (await api.get(api.widgets(), **{"continue": token})).ok()
    assert names(rest) == ["w2", "w3", "w4", "w5"]
    assert rest["items"][2]["spec"]["size"] == 1
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_pages_of_a_selection(api: Api) -> None:
    await make(api, 6)
    first = (await api.get(api.widgets(), limit="2", labelSelector="parity=odd")).ok()
    assert names(first) == ["w1", "w3"]
    assert "remainingItemCount" not in first["metadata"]
    token = first["metadata"]["continue"]
    rest = (await api.get(api.widgets(), labelSelector="parity=odd", **{"continue": token})).ok()
    assert names(rest) == ["w5"]


async def test_made_up_continue_token(api: Api) -> None:
    (await api.get(api.widgets(), **{"continue": "abc"})).refused(400, "BadRequest")


async def test_list_at_exactly_a_revision(api: Api) -> None:
    await make(api, 2)
    revision = (await api.get(api.widgets())).ok()["metadata"]["resourceVersion"]
    (await api.delete(api.widgets("w0"))).ok()
    (await api.create(api.widgets(), widget("later"))).ok()
    query = {"resourceVersion": revision, "resourceVersionMatch": "Exact"}
    body = (await api.get(api.widgets(), **query)).ok()
    assert names(body) == ["w0", "w1"]
    assert body["metadata"]["resourceVersion"] == revision


async def test_list_not_older_than_a_revision(api: Api) -> None:
    made = (await api.create(api.widgets(), widget("a"))).ok()
    revision = made["metadata"]["resourceVersion"]
    for query in (
        {"resourceVersion": revision},
        {"resourceVersion": revision, "resourceVersionMatch": "NotOlderThan"},
        {"resourceVersion": "0"},
    ):
        body = (await api.get(api.widgets(), **query)).ok()
        if query["resourceVersion"] != "0":
            assert names(body) == ["a"]
            assert int(body["metadata"]["resourceVersion"]) >= int(revision)


async def test_list_from_the_future(api: Api) -> None:
    reply = await api.get(api.widgets(), resourceVersion="999999999")
    body = reply.refused(504, "Timeout")
    assert "Too large resource version: 999999999, current: " in body["message"]
    assert body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


@pytest.mark.parametrize(
    "query",
    [
        {"resourceVersionMatch": "Exact"},
        {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
        {"resourceVersionMatch": "Whatever", "resourceVersion": "1"},
        {"sendInitialEvents": "true"},
    ],
)
async def test_options_that_do_not_go_together(api: Api, query: dict[str, str]) -> None:
    body = (await api.get(api.widgets(), **query)).refused(422, "Invalid")
    assert body["message"].startswith('ListOptions.meta.k8s.io "" is invalid: ')
