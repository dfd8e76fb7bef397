"""Server-side apply."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.apply.field_sets import (
    FieldsError,
    field_set,
    format_path,
    from_fields_v1,
    to_fields_v1,
)
from taskctl.embedded.server.apply.ownership import (
    LAST_APPLIED,
    ApplyConflict,
    check_typed,
    server_side_apply,
    track_update,
)
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.kinds.registry import Registry
from taskctl.embedded.server.kinds.structural_schema import StructuralSchema
from taskctl.embedded.server.patch.formats import PatchError

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def builtin(plural: str) -> Kind:
    kind = Registry().by_plural("", "v1", plural)
    assert kind is not None
    return kind


CONFIG_MAPS, PODS = builtin("configmaps"), builtin("pods")


def config(data: dict[str, str] | None, **metadata: Any) -> dict[str, Any]:
    obj: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", **metadata},
    }
    return obj if data is None else {**obj, "data": data}


def apply(
    live: dict[str, Any] | None, wanted: dict[str, Any], manager: str, **more: Any
) -> dict[str, Any]:
    arguments = {"force": False, "kind": CONFIG_MAPS, "now": NOW, **more}
    return server_side_apply(live, wanted, manager=manager, **arguments)


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    return {one["manager"]: one["fieldsV1"] for one in obj["metadata"].get("managedFields", [])}


def test_records_what_the_manager_set() -> None:
    made = apply(None, config({"k": "v"}, labels={"a": "b"}), "one")
    assert made["metadata"]["managedFields"] == [
        {
            "manager": "one",
            "operation": "Apply",
            "apiVersion": "v1",
            "time": "2024-05-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": {"f:k": {}},
                "f:metadata": {"f:labels": {"f:a": {}}},
            },
        }
    ]


def test_applying_the_same_again_changes_nothing() -> None:
    wanted = config({"k": "v"}, labels={"a": "b"})
    made = apply(None, wanted, "one")
    assert apply(made, wanted, "one", now=NOW + timedelta(hours=1)) == made


def test_a_change_of_another_managers_field_is_a_conflict() -> None:
    made = apply(None, config({"k": "v"}), "one")
    with pytest.raises(ApplyConflict) as caught:
        apply(made, config({"k": "other"}), "two")
    assert str(caught.value) == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    (cause,) = caught.value.causes
    assert (cause.path, cause.reason, cause.message) == (
        ".data.k", "FieldManagerConflict", 'conflict with "one"'
    )  # fmt: skip


def test_force_takes_the_field_over() -> None:
    made = apply(None, config({"k": "v", "l": "w"}), "one")
    new = apply(made, config({"k": "other"}), "two", force=True)
    assert new["data"] == {"k": "other", "l": "w"}
    assert owners(new) == {"one": {"f:data": {"f:l": {}}}, "two": {"f:data": {"f:k": {}}}}


def test_a_shared_field_stays_until_the_last_owner_gives_it_up() -> None:
    one = apply(None, config({"k": "v", "l": "w"}), "one")
    both = apply(one, config({"k": "v"}), "two")
    less = apply(both, config({"l": "w"}), "one")
    assert less["data"] == {"k": "v", "l": "w"}
    gone = apply(less, config(None), "two")
    assert gone["data"] == {"l": "w"}
    empty = apply(gone, config(None), "one")
    assert "data" not in empty
    assert "managedFields" not in empty["metadata"]
    assert empty["metadata"]["name"] == "c"


def test_a_plain_update_takes_over_and_then_conflicts() -> None:
    made = apply(None, config({"k": "v"}), "one")
    new = copy.deepcopy(made)
    new["data"]["k"] = "edited"
    track_update(made, new, kind=CONFIG_MAPS, manager="kubectl-edit", now=NOW)
    assert owners(new) == {"kubectl-edit": {"f:data": {"f:k": {}}}}
    with pytest.raises(ApplyConflict, match='conflict with "kubectl-edit" using v1'):
        apply(new, config({"k": "v"}), "one")


def test_an_update_that_changes_nothing_keeps_the_record() -> None:
    made = apply(None, config({"k": "v"}), "one")
    new = copy.deepcopy(made)
    del new["metadata"]["managedFields"]  # a client that sends none
    track_update(made, new, kind=CONFIG_MAPS, manager="x", now=NOW + timedelta(hours=1))
    assert new == made


def test_removing_a_field_by_update_removes_its_owner() -> None:
    made = apply(None, config({"k": "v", "l": "w"}), "one")
    new = copy.deepcopy(made)
    del new["data"]["k"]
    track_update(made, new, kind=CONFIG_MAPS, manager="x", now=NOW)
    assert owners(new) == {"one": {"f:data": {"f:l": {}}}}


def test_objects_that_were_never_applied_carry_no_record() -> None:
    old, new = config({"k": "v"}), config({"k": "w"}, managedFields=[{"manager": "liar"}])
    track_update(old, new, kind=CONFIG_MAPS, manager="x", now=NOW)
    assert new == config({"k": "w"})
    track_update(None, new, kind=CONFIG_MAPS, manager="x", now=NOW)
    assert new == config({"k": "w"})


def test_the_first_apply_finds_a_manager_for_what_is_there() -> None:
    live = config({"k": "v", "l": "w"}, uid="u", resourceVersion="1")
    new = apply(live, config({"k": "v"}), "one")
    assert new["metadata"]["uid"] == "u"
    assert owners(new) == {
        "before-first-apply": {"f:data": {".": {}, "f:k": {}, "f:l": {}}},
        "one": {"f:data": {"f:k": {}}},
    }
    with pytest.raises(ApplyConflict, match="before-first-apply"):
        apply(live, config({"k": "x"}), "one")


def test_kubectl_takes_over_from_its_client_side_apply() -> None:
    last = json.dumps(config({"k": "v"}))
    live = config({"k": "v", "other": "w"}, annotations={LAST_APPLIED: last})
    new = apply(live, config({"k": "x"}), "kubectl")
    assert new["data"] == {"k": "x", "other": "w"}
    assert json.loads(new["metadata"]["annotations"][LAST_APPLIED])["data"] == {"k": "x"}
    assert set(owners(new)) == {"before-first-apply", "kubectl", "kubectl-client-side-apply"}
    assert "f:other" not in owners(new)["kubectl-client-side-apply"].get("f:data", {})
    with pytest.raises(ApplyConflict):
        apply(live, config({"k": "x"}), "someone-else")


def test_editing_managed_fields_is_honoured() -> None:
    made = apply(None, config({"k": "v"}), "one")
    new = copy.deepcopy(made)
    new["metadata"]["managedFields"][0]["manager"] = "two"
    track_update(made, new, kind=CONFIG_MAPS, manager="x", now=NOW)
    assert set(owners(new)) == {"two"}
    reset = copy.deepcopy(made)
    reset["metadata"]["managedFields"] = [{}]
    track_update(made, reset, kind=CONFIG_MAPS, manager="x", now=NOW)
    assert "managedFields" not in reset["metadata"]


def test_update_managers_do_not_pile_up() -> None:
    obj = apply(None, config({"k": "v"}), "one")
    for number in range(15):
        new = copy.deepcopy(obj)
        new["data"][f"k{number}"] = "x"
        moment = NOW + timedelta(seconds=number)
        track_update(obj, new, kind=CONFIG_MAPS, manager=f"m{number}", now=moment)
        obj = new
    updates = [one for one in obj["metadata"]["managedFields"] if one["operation"] == "Update"]
    assert len(updates) <= 11
    assert "ancient-changes" in owners(obj)


# --- lists ------------------------------------------------------------------------------


def pod(*containers: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"containers": list(containers)},
    }


def test_items_of_map_lists_belong_to_their_managers() -> None:
    a, b = {"name": "a", "image": "i"}, {"name": "b", "image": "j"}
    one = apply(None, pod(a), "one", kind=PODS)
    two = apply(one, pod(b), "two", kind=PODS)
    assert [c["name"] for c in two["spec"]["containers"]] == ["a", "b"]
    assert owners(two)["two"] == {
        "f:spec": {
            "f:containers": {'k:{"name":"b"}': {".": {}, "f:image": {}, "f:name": {}}},
        }
    }
    gone = apply(two, pod(), "one", kind=PODS)
    assert gone["spec"]["containers"] == [b]


def test_the_applied_order_counts_for_shared_items() -> None:
    a, b, c = ({"name": name, "image": "i"} for name in "abc")
    live = apply(None, pod(a, b, c), "one", kind=PODS)
    new = apply(live, pod(c, a), "two", kind=PODS)
    order = [one["name"] for one in new["spec"]["containers"]]
    assert order.index("c") < order.index("a")
    assert sorted(order) == ["a", "b", "c"]


def test_a_key_default_completes_the_key() -> None:
    ports = [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]
    made = apply(None, pod({"name": "a", "ports": ports}), "one", kind=PODS)
    below = owners(made)["one"]["f:spec"]["f:containers"]['k:{"name":"a"}']["f:ports"]
    assert set(below) == {
        'k:{"containerPort":80,"protocol":"TCP"}', 'k:{"containerPort":80,"protocol":"UDP"}'
    }  # fmt: skip


def custom_kind() -> Kind:
    part = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    }
    spec = {
        "type": "object",
        "properties": {
            "flag": {"type": "boolean"},
            "any": {"x-kubernetes-preserve-unknown-fields": True, "type": "object"},
            "port": {"x-kubernetes-int-or-string": True},
            "parts": {
                "type": "array",
                "items": part,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        },
    }
    schema = StructuralSchema({"type": "object", "properties": {"spec": spec}})
    return Kind("test.dev", "v1", "Thing", "ThingList", "things", "thing", custom_schema=schema)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"foo": 1}, ".spec.foo: field not declared in schema"),
        ({"parts": [{"name": "a", "bar": 1}]}, '.spec.parts[name="a"].bar: field not declared'),
        ({"parts": [{"name": "a"}, {"name": "a"}]}, 'duplicate entries for key [name="a"]'),
        ({"parts": [{"count": 1}]}, ".spec.parts: element 0: associative list with keys has an"),
        ({"parts": {}}, ".spec.parts: expected list, got &value.valueUnstructured{Value:map[]}"),
        ({"flag": "x"}, ".spec.flag: expected boolean, got &value.valueUnstructured{Value:x}"),
        ({"parts": [{"name": "a", "count": "x"}]}, ".count: expected numeric (int or float), got "),
    ],
)
def test_refuses_what_the_schema_does_not_declare(spec: dict[str, Any], says: str) -> None:
    wanted = {**config(None), "apiVersion": "test.dev/v1", "kind": "Thing", "spec": spec}
    with pytest.raises(PatchError) as caught:
        check_typed(wanted, custom_kind())
    assert caught.value.status == 500
    text = str(caught.value)
    assert text.startswith(
        "failed to create typed patch object (/c; test.dev/v1, Kind=Thing): .spec"
    )
    assert says in text


def test_takes_what_has_no_type() -> None:
    spec = {"any": {"x": [1]}, "port": "http", "flag": None}
    wanted = {**config(None), "apiVersion": "test.dev/v1", "kind": "Thing", "spec": spec}
    check_typed(wanted, custom_kind())
    assert apply(None, wanted, "one", kind=custom_kind())["spec"]["port"] == "http"


def test_an_item_without_its_name_is_left_to_validation_in_built_in_kinds() -> None:
    made = apply(pod({"name": "a"}), pod({"image": "x"}), "one", kind=PODS)
    assert made["spec"]["containers"] == [{"name": "a"}, {"image": "x"}]


def test_conflicts_are_told_by_level() -> None:
    made = apply(None, config({"k": "v"}, labels={"l": "1"}), "one")
    made["immutable"] = True
    made["metadata"]["managedFields"][0]["fieldsV1"]["f:immutable"] = {}
    with pytest.raises(ApplyConflict) as caught:
        apply(made, {**config({"k": "w"}, labels={"l": "2"}), "immutable": False}, "two")
    paths = [one.path for one in caught.value.causes]
    assert paths == [".immutable", ".data.k", ".metadata.labels.l"]


def test_status_is_owned_through_its_subresource_only() -> None:
    wanted = {**pod({"name": "a"}), "status": {"phase": "Running"}}
    made = apply(None, wanted, "one", kind=PODS)
    assert "f:status" not in owners(made)["one"]
    status = {**config(None), "kind": "Pod", "metadata": {"name": "p"}, "status": {"phase": "X"}}
    new = apply(made, status, "kubelet", kind=PODS, subresource="status")
    assert owners(new)["kubelet"] == {"f:status": {"f:phase": {}}}
    (entry,) = [one for one in new["metadata"]["managedFields"] if one["manager"] == "kubelet"]
    assert entry["subresource"] == "status"


def test_a_changed_schema_counts_at_once() -> None:
    def widgets(list_type: str) -> Kind:
        items = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        field = {"type": "array", "items": items, "x-kubernetes-list-type": list_type}
        if list_type == "map":
            field["x-kubernetes-list-map-keys"] = ["name"]
        raw = {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": {"l": field}}},
        }
        return Kind("x.dev", "v1", "X", "XList", "xs", "x", custom_schema=StructuralSchema(raw))

    wanted = {**config(None), "apiVersion": "x.dev/v1", "kind": "X", "spec": {"l": [{"name": "a"}]}}
    atomic = apply(None, wanted, "one", kind=widgets("atomic"))
    assert owners(atomic)["one"] == {"f:spec": {"f:l": {}}}
    keyed = apply(None, wanted, "one", kind=widgets("map"))
    assert owners(keyed)["one"] == {"f:spec": {"f:l": {'k:{"name":"a"}': {".": {}, "f:name": {}}}}}


# --- field sets -------------------------------------------------------------------------


def test_paths_read_as_conflicts_name_them() -> None:
    path = ("f:spec", "f:containers", 'k:{"name":"a"}', "f:args", 'v:"x"')
    assert format_path(path) == '.spec.containers[name="a"].args[="x"]'


def test_fields_v1_of_other_writers_are_read_alike() -> None:
    spaced: dict[str, Any] = {"f:spec": {'k:{"b": 1, "a": "x"}': {".": {}, "f:z": {}}}}
    assert from_fields_v1(spaced) == {
        ("f:spec", 'k:{"a":"x","b":1}'), ("f:spec", 'k:{"a":"x","b":1}', "f:z")
    }  # fmt: skip
    with pytest.raises(FieldsError):
        from_fields_v1({"spec": {}})


DATA = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xy"), max_size=4)
LABELS = st.dictionaries(st.sampled_from("pq"), st.sampled_from("xy"), max_size=2)


@given(DATA, LABELS)
def test_field_sets_survive_the_round_trip(data: dict[str, str], labels: dict[str, str]) -> None:
    schema = CONFIG_MAPS.schema
    assert schema is not None
    fields = field_set(config(data, labels=labels), schema.root)
    assert from_fields_v1(to_fields_v1(fields)) == fields


@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), DATA, LABELS), max_size=6))
def test_two_managers_get_what_they_last_asked_for(
    steps: list[tuple[str, dict[str, str], dict[str, str]]],
) -> None:
    live: dict[str, Any] | None = None
    last: dict[str, dict[str, str]] = {}
    for manager, data, labels in steps:
        wanted = config(data, labels=labels)
        live = apply(live, wanted, manager, force=True)
        last[manager] = data
        assert apply(live, wanted, manager, force=True) == live
        have = live.get("data", {})
        assert data.items() <= have.items()
        assert have.keys() <= set().union(*last.values())
        assert live["metadata"]["name"] == "c"
