"""JSON Patch, JSON Merge Patch, strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.patch.formats import (
    PatchError,
    json_patch,
    merge_patch,
    strategic_merge,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON)


# RFC 7386, appendix A, the cases whose target and patch are objects.
@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(target: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy(target)
    assert merge_patch(target, patch) == result
    assert target == before


@given(OBJECTS, OBJECTS)
def test_merge_patch_is_idempotent(obj: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch(obj, patch)
    assert merge_patch(once, patch) == once


def test_merge_patch_must_be_an_object() -> None:
    with pytest.raises(PatchError) as caught:
        merge_patch({}, [1])
    assert caught.value.status == 400


def test_json_patch_applies_and_leaves_the_original_alone() -> None:
    obj = {"spec": {"list": [1, 2]}}
    ops = [
        {"op": "test", "path": "/spec/list/0", "value": 1},
        {"op": "add", "path": "/spec/list/-", "value": 3},
        {"op": "remove", "path": "/spec/list/0"},
        {"op": "replace", "path": "/spec/list/0", "value": 9},
    ]
    assert json_patch(obj, ops) == {"spec": {"list": [9, 3]}}
    assert obj == {"spec": {"list": [1, 2]}}


@pytest.mark.parametrize(
    ("ops", "status"),
    [
        ({}, 400),
        ([{"op": "nope", "path": "/a"}], 422),
        ([{"path": "/a"}], 422),
        ([{"op": "remove", "path": "/missing"}], 422),
        ([{"op": "replace", "path": "/list/9", "value": 1}], 422),
        ([{"op": "test", "path": "/missing", "value": 1}], 422),
        ([{"op": "move", "from": "/missing", "path": "/b"}], 422),
        ([{"op": "remove", "path": ""}], 422),
        ([5], 400),
        ([{"op": "add", "path": 5}], 400),
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "add", "path": "/a/b/c", "value": 2}], 422),
        ([{"op": "replace", "path": "", "value": [1]}], 422),
        ([{"op": "test", "path": "/a", "value": 1}] * 10_001, 413),
    ],
)
def test_json_patch_says_what_is_wrong(ops: Any, status: int) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch({"a": 1, "list": [1]}, ops)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("op", "result"),
    [
        ({"op": "replace", "path": "/new", "value": 1}, {"list": [1, 2, 3], "new": 1}),
        ({"op": "add", "path": "/new"}, {"list": [1, 2, 3], "new": None}),
        ({"op": "test", "path": "/missing", "value": None}, {"list": [1, 2, 3]}),
        ({"op": "test", "path": "/missing"}, {"list": [1, 2, 3]}),
        ({"op": "copy", "from": "/missing", "path": "/new"}, {"list": [1, 2, 3], "new": None}),
        ({"op": "replace", "path": "/list/-1", "value": 9}, {"list": [1, 2, 9]}),
        ({"op": "remove", "path": "/list/-3"}, {"list": [2, 3]}),
        ({"op": "add", "path": "/list/-1", "value": 9}, {"list": [1, 2, 3, 9]}),
        ({"op": "add", "path": "/list/+1", "value": 9}, {"list": [1, 9, 2, 3]}),
        ({"op": "replace", "path": "/list/01", "value": 9}, {"list": [1, 9, 3]}),
    ],
)
def test_json_patch_is_as_lenient_as_upstream(op: Any, result: Any) -> None:
    assert json_patch({"list": [1, 2, 3]}, [op]) == result


# --- strategic merge --------------------------------------------------------------------


def pod(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def names(obj: dict[str, Any], field: str) -> list[str]:
    return [one["name"] for one in obj["spec"][field]]


def test_new_ephemeral_containers_go_to_the_front() -> None:
    old = pod(containers=[{"name": "a"}], ephemeralContainers=[{"name": "e1"}])
    patch = {"spec": {"ephemeralContainers": [{"name": "e2"}, {"name": "e3"}]}}
    new = strategic_merge(old, patch)
    assert names(new, "ephemeralContainers") == ["e2", "e3", "e1"]
    assert strategic_merge(new, patch) == new


def test_merges_items_by_their_key_at_every_depth() -> None:
    old = pod(containers=[{"name": "a", "image": "i", "env": [{"name": "X", "value": "1"}]}])
    env = [{"name": "Y", "value": "2"}]
    new = strategic_merge(old, {"spec": {"containers": [{"name": "a", "env": env}]}})
    assert new["spec"]["containers"] == [
        {
            "name": "a",
            "image": "i",
            "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}],
        }
    ]


def test_replaces_lists_without_a_merge_key() -> None:
    old = pod(containers=[{"name": "a", "command": ["x", "y"]}], tolerations=[{"key": "a"}])
    patch = {"spec": {"containers": [{"name": "a", "command": ["z"]}], "tolerations": []}}
    new = strategic_merge(old, patch)
    assert new["spec"] == {"containers": [{"name": "a", "command": ["z"]}], "tolerations": []}


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ([{"$patch": "delete", "name": "a"}], ["b", "c"]),
        ([{"$patch": "replace"}, {"name": "z"}], ["z"]),
        ([{"name": "c"}, {"$patch": "delete", "name": "b"}], ["a", "c"]),
    ],
)
def test_list_directives(patch: list[Any], result: list[str]) -> None:
    old = pod(containers=[{"name": "a"}, {"name": "b"}, {"name": "c"}])
    assert names(strategic_merge(old, {"spec": {"containers": patch}}), "containers") == result


def test_map_directives() -> None:
    old = pod(securityContext={"runAsUser": 1, "fsGroup": 2})
    replaced = {"spec": {"securityContext": {"$patch": "replace", "runAsGroup": 3}}}
    assert strategic_merge(old, replaced)["spec"]["securityContext"] == {"runAsGroup": 3}
    deleted = {"spec": {"securityContext": {"$patch": "delete"}}}
    assert strategic_merge(old, deleted)["spec"]["securityContext"] == {}


def test_retain_keys_drops_the_old_kind_of_volume() -> None:
    old = pod(volumes=[{"name": "v", "emptyDir": {}}])
    volume = {"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}
    new = strategic_merge(old, {"spec": {"volumes": [volume]}})
    assert new["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]
    with pytest.raises(PatchError, match="retainKeys"):
        strategic_merge(
            old, {"spec": {"volumes": [{"$retainKeys": ["name"], "name": "v", "nfs": {}}]}}
        )


def test_primitive_lists_merge_and_lose_what_is_named() -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "finalizers": ["a", "b"]},
    }
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_merge(obj, patch)["metadata"]["finalizers"] == ["c", "b"]


def test_element_order_is_set_by_the_patch() -> None:
    # "server" stays before "b", as the server had it; the rest comes in the patch's order.
    old = pod(containers=[{"name": "a"}, {"name": "server"}, {"name": "b"}])
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "new"}, {"name": "a"}],
            "containers": [{"name": "new"}],
        }
    }
    assert names(strategic_merge(old, patch), "containers") == ["server", "b", "new", "a"]
    patch["spec"]["$setElementOrder/containers"] = [{"name": "b"}]
    with pytest.raises(PatchError, match=r"\$setElementOrder"):
        strategic_merge(old, patch)


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        ([], 400),
        ({"spec": {"containers": [{"image": "x"}]}}, 500),
        ({"spec": {"$patch": "nonsense"}}, 500),
        ({"spec": {"containers": [{"name": "a", "$patch": "merge"}]}}, 400),
        ({"spec": {"containers": ["a"]}}, 422),
        ({"spec": {"$setElementOrder/containers": {}}}, 400),
    ],
)
def test_strategic_merge_says_what_is_wrong(patch: Any, status: int) -> None:
    with pytest.raises(PatchError) as caught:
        strategic_merge(pod(containers=[{"name": "a"}]), patch)
    assert caught.value.status == status


def test_custom_resources_have_no_strategic_merge() -> None:
    with pytest.raises(PatchError) as caught:
        strategic_merge({"apiVersion": "x.dev/v1", "kind": "X"}, {})
    assert caught.value.status == 415


def item_name(item: dict[str, Any]) -> str:
    name: str = item["name"]
    return name


@st.composite
def containers(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {"name": draw(st.sampled_from("abcd"))}
    if draw(st.booleans()):
        made["image"] = draw(st.sampled_from(["x", "y"]))
    if draw(st.booleans()):
        variables = draw(st.lists(st.sampled_from("XY"), unique=True))
        made["env"] = [{"name": name, "value": "1"} for name in variables]
    return made


CONTAINERS = st.lists(containers(), max_size=4, unique_by=item_name)


@given(CONTAINERS, CONTAINERS)
def test_strategic_merge_is_idempotent_and_loses_nothing(
    have: list[dict[str, Any]], want: list[dict[str, Any]]
) -> None:
    old, patch = pod(containers=have), {"spec": {"containers": want}}
    before = copy.deepcopy((old, patch))
    new = strategic_merge(old, patch)
    assert (old, patch) == before
    assert strategic_merge(new, patch) == new
    assert {*names(old, "containers")} | {one["name"] for one in want} == {
        *names(new, "containers")
    }
    merged = {one["name"]: one for one in new["spec"]["containers"]}
    for one in want:
        assert all(merged[one["name"]][key] == value for key, value in one.items() if key != "env")


@pytest.mark.parametrize(
    "ops",
    [
        [{"op": "copy", "from": "/l", "path": "/l/-"}] * 40,
        [{"op": "copy", "from": "", "path": "/a"}] * 40,
        [{"op": "copy", "from": "/s", "path": f"/s{n}"} for n in range(400)],
    ],
)
def test_copies_of_a_json_patch_have_a_budget(ops: list[dict[str, Any]]) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch({"l": [1], "s": "x" * 10_000}, ops)
    assert caught.value.status == 422


def test_a_json_patch_does_not_dig() -> None:
    ops = [{"op": "add", "path": "/a" * depth, "value": {}} for depth in range(1, 140)]
    with pytest.raises(PatchError) as caught:
        json_patch({}, ops)
    assert caught.value.status == 422
    assert json_patch({}, ops[:100])


def test_a_copy_is_one() -> None:
    ops = [
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/b/x", "value": {"y": 1}},
        {"op": "copy", "from": "/b/x", "path": "/l/0"},
        {"op": "add", "path": "/l/0/z", "value": 2},
    ]
    found = json_patch({"a": {}, "l": [0]}, ops)
    assert found == {"a": {}, "b": {"x": {"y": 1}}, "l": [{"y": 1, "z": 2}, 0]}
