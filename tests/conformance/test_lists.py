"""Lists: selectors, pages, revisions."""

from __future__ import annotations

import base64
import json

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
        ("index in (1,2),parity notin (odd)", ["w2"]),
        ("index in (1,)", ["w1"]),
        ("index=", []),
    ],
)
async def test_label_selectors(api: Api, selector: str, expected: list[str]) -> None:
    await make(api, 4)
    assert names((await api.get(api.widgets(), labelSelector=selector)).ok()) == expected


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a===b", "unable to parse requirement: found '=', expected: identifier"),
        ("a (b)", "unable to parse requirement: found '(', expected: in, notin, =, ==, !=, gt, lt"),
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' "
            "operators, the value must be an integer",
        ),
        ("a=-x", 'unable to parse requirement: values[0][a]: Invalid value: "-x": a valid label'),
        ("x/y/z=1", 'unable to parse requirement: <nil>: Invalid value: "x/y/z": a qualified name'),
    ],
)
async def test_malformed_label_selectors(api: Api, selector: str, why: str) -> None:
    refusal = (await api.get(api.widgets(), labelSelector=selector)).refused(400, "BadRequest")
    assert why in refusal["message"]


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("metadata.name in (a)", "can't understand 'metadata.name in (a)'"),
        ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ("spec.size=1", "field label not supported: spec.size"),
    ],
)
async def test_malformed_field_selectors(api: Api, selector: str, why: str) -> None:
    refusal = (await api.get(api.widgets(), fieldSelector=selector)).refused(400, "BadRequest")
    assert why in refusal["message"]


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
    assert third["metadata"]["continue"] == ""  # custom resources name it even so


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


async def test_a_page_that_ends_with_the_last_match(api: Api) -> None:
    await make(api, 4)
    # The server has looked no further, so it does not know that nothing else matches.
    first = (await api.get(api.widgets(), limit="1", labelSelector="index=1")).ok()
    assert names(first) == ["w1"]
    token = first["metadata"]["continue"]
    rest = (await api.get(api.widgets(), labelSelector="index=1", **{"continue": token})).ok()
    assert names(rest) == []


async def test_no_pages_from_the_cache(api: Api) -> None:
    await make(api, 4)
    body = (await api.get(api.widgets(), limit="2", resourceVersion="0")).ok()
    assert len(body["items"]) in (0, 4)  # none, if a real server's cache is behind


def token_of(revision: int, start: str, version: str = "meta.k8s.io/v1") -> str:
    """Return a continue token, which clients are to take for opaque."""
    text = json.dumps({"v": version, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.usefixtures("forgotten")
async def test_continue_token_of_before_the_kept_history(api: Api) -> None:
    await make(api, 4)
    query = {"continue": token_of(1, "w1\0")}
    body = (await api.get(api.widgets(), **query)).refused(410, "Expired")
    assert body["message"].startswith("The provided continue parameter is too old to display")
    # With the token in the refusal the list goes on, as things are now.
    query = {"continue": body["metadata"]["continue"], "limit": "1"}
    rest = (await api.get(api.widgets(), **query)).ok()
    assert names(rest) == ["w2"]
    assert rest["metadata"]["remainingItemCount"] == 1


async def test_made_up_continue_tokens(api: Api) -> None:
    await make(api, 2)
    revision = int((await api.get(api.widgets())).ok()["metadata"]["resourceVersion"])
    for token, why in (
        ("abc", ""),
        (token_of(revision, "w0\0", "v9"), "server does not recognize this encoded version v9"),
        (token_of(0, "w0\0"), "incorrect encoded start resourceVersion"),
        (token_of(revision, ""), "encoded start key empty"),
        (token_of(revision, "../x"), "../x"),
    ):
        body = (await api.get(api.widgets(), **{"continue": token})).refused(400, "BadRequest")
        assert body["message"].startswith("invalid continue token: continue key is not valid: ")
        assert why in body["message"]
    query = {"continue": token_of(revision, "w0\0"), "resourceVersion": str(revision)}
    body = (await api.get(api.widgets(), **query)).refused(400, "BadRequest")
    assert body["message"] == "specifying resource version is not allowed when using continue"


async def test_pages_over_all_namespaces(api: Api) -> None:
    await make(api, 2)
    path = f"/apis/{GROUP}/v1/widgets"
    mine = {"labelSelector": "index in (0,1)"}
    found: list[str] = []
    query = dict(mine, limit="1")
    while True:
        page = (await api.get(path, **query)).ok()
        found += [
            item["metadata"]["name"]
            for item in page["items"]
            if item["metadata"]["namespace"] == api.namespace
        ]
        if not page["metadata"].get("continue"):
            break
        query = dict(mine, limit="1", **{"continue": page["metadata"]["continue"]})
    assert found == ["w0", "w1"]


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


async def test_reading_the_future(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    for path in (api.widgets(), api.widgets("a")):
        body = (await api.get(path, resourceVersion="999999999")).refused(504, "Timeout")
        assert "Too large resource version: 999999999, current: " in body["message"]
        assert body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
        assert body["details"]["retryAfterSeconds"] == 1


async def test_malformed_revisions(api: Api) -> None:
    (await api.create(api.widgets(), widget("a"))).ok()
    for text in ("abc", "-1"):
        (await api.get(api.widgets(), resourceVersion=text)).refused(400, "BadRequest")
        assert (await api.get(api.widgets("a"), resourceVersion=text)).status == 500
    (await api.get(api.widgets(), limit="x")).refused(400, "BadRequest")
    (await api.get(api.widgets("a"), resourceVersion="0")).ok()


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
