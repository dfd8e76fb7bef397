"""x-kubernetes-validations."""

from __future__ import annotations

from typing import Any

import pytest

from taskctl.embedded.server.kinds.structural_schema import StructuralSchema

PROPERTIES: dict[str, Any] = {
    "a": {"type": "integer"},
    "b": {"type": "string"},
    "ratio": {"type": "number"},
    "when": {"type": "string", "format": "date-time"},
    "wait": {"type": "string", "format": "duration"},
    "names": {"type": "array", "items": {"type": "string"}},
    "maybe": {"type": "string", "nullable": True},
    "port": {"x-kubernetes-int-or-string": True},
    "x-y": {"type": "string"},
    "namespace": {"type": "string"},
    "free": {"x-kubernetes-preserve-unknown-fields": True},
    "table": {"type": "object", "additionalProperties": {"type": "string"}},
    "env": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "value": {"type": "string"}},
        },
    },
}


NAMED, VALUED = {"name": "a"}, {"name": "b", "value": "x"}


def schema(rule: str | dict[str, Any], **more: Any) -> StructuralSchema:
    rules = [rule if isinstance(rule, dict) else {"rule": rule, "message": "no"}]
    spec = {
        "type": "object",
        "properties": {**PROPERTIES, **more},
        "x-kubernetes-validations": rules,
    }
    return StructuralSchema({"type": "object", "properties": {"spec": spec}})


def check(rule: str | dict[str, Any], spec: Any, old: Any = None) -> list[str]:
    compiled = schema(rule)
    assert compiled.rule_errors == []
    before = None if old is None else {"spec": old}
    return [str(error) for error in compiled.validate({"spec": spec}, before)]


UNCHANGED = "has(dyn(self).free) == has(dyn(oldSelf).free)" + (
    " && (!has(dyn(self).free) || dyn(self).free == dyn(oldSelf).free)"
)


@pytest.mark.parametrize(
    ("old", "new"),
    [(1, 2), (1, True), ("1", 1), ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}), (None, 0), ([], {})],
)
def test_what_has_no_type_is_compared_as_a_whole(old: Any, new: Any) -> None:
    """Through dyn() only, as on the real server (unknownPreserved in apiserver's values.go)."""
    assert check(UNCHANGED, {"free": old, "a": 1}, {"free": old}) == []
    assert len(check(UNCHANGED, {"free": new}, {"free": old})) == 1
    assert len(check(UNCHANGED, {}, {"free": old})) == 1
    assert len(check(UNCHANGED, {"free": new}, {"a": 1})) == 1
    assert schema("self.free == oldSelf.free").rule_errors != []
    assert schema("dyn(self).fre == dyn(oldSelf).fre").rule_errors != []


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("self.a > 1", {"a": 2}, {"a": 1}),
        ("has(self.a)", {"a": 0}, {}),
        ("has(self.maybe)", {"maybe": "x"}, {"maybe": None}),
        ("self.b.startsWith('x') && self.b.endsWith('z')", {"b": "xyz"}, {"b": "xy"}),
        ("self.b.matches('^[a-z]+$')", {"b": "abc"}, {"b": "A"}),
        ("self.b.contains('q')", {"b": "aqa"}, {"b": "a"}),
        ("size(self.names) < 2", {"names": ["a"]}, {"names": ["a", "b"]}),
        ("self.names.all(n, n.size() > 1)", {"names": ["ab"]}, {"names": ["ab", "c"]}),
        ("self.names.exists(n, n == 'a')", {"names": ["a"]}, {"names": ["b"]}),
        ("self.names.exists_one(n, n == 'a')", {"names": ["a"]}, {"names": ["a", "a"]}),
        ("self.names.map(n, n + '!') == ['a!']", {"names": ["a"]}, {"names": ["b"]}),
        ("self.names.filter(n, n != 'a').size() == 0", {"names": ["a"]}, {"names": ["b"]}),
        ("'a' in self.names", {"names": ["a"]}, {"names": ["b"]}),
        ("self.b in ['x', 'y']", {"b": "x"}, {"b": "z"}),
        ("'k' in self.table", {"table": {"k": "v"}}, {"table": {}}),
        ("self.table.all(k, self.table[k] != '')", {"table": {"k": "v"}}, {"table": {"k": ""}}),
        ("self.ratio * 2.0 < 1.0", {"ratio": 0}, {"ratio": 1}),
        (
            "self.when > timestamp('2020-01-01T00:00:00Z')",
            {"when": "2021-01-01T00:00:00Z"},
            {"when": "2019-01-01T00:00:00Z"},
        ),
        ("self.wait < duration('1h')", {"wait": "10m"}, {"wait": "2h"}),
        ("type(self.port) == int || self.port == 'http'", {"port": 1}, {"port": "x"}),
        ("self.x__dash__y == 'q'", {"x-y": "q"}, {"x-y": "r"}),
        ("self.__namespace__ == 'q'", {"namespace": "q"}, {"namespace": "r"}),
        ("self.b.lowerAscii() == 'x'", {"b": "X"}, {"b": "Y"}),
        ("self.b.split(',').size() == 2", {"b": "a,b"}, {"b": "a"}),
        ("self.names.join('-') == 'a-b'", {"names": ["a", "b"]}, {"names": ["b"]}),
        ("self.names.isSorted()", {"names": ["a", "b"]}, {"names": ["b", "a"]}),
        ("self.b.find('[0-9]+') == '12'", {"b": "a12b3"}, {"b": "x"}),
        ("sets.contains(['a', 'b'], self.names)", {"names": ["a"]}, {"names": ["c"]}),
        (
            "isQuantity(self.b) && quantity(self.b).isGreaterThan(quantity('1Mi'))",
            {"b": "1Gi"},
            {"b": "1Ki"},
        ),
        ("'%s=%d'.format(['a', 1]) == self.b", {"b": "a=1"}, {"b": "a"}),
        ("self.a == 1 ? self.b == 'x' : true", {"a": 2}, {"a": 1, "b": "y"}),
        ("self.env.exists(e, e.value == 'x')", {"env": [NAMED, VALUED]}, {"env": []}),
        ("!self.env.all(e, e.value != 'x')", {"env": [NAMED, VALUED]}, {"env": []}),
        ("self.names.all(i, n, n == string(i))", {"names": ["0", "1"]}, {"names": ["1"]}),
        ("self.table.exists(k, v, k == v)", {"table": {"a": "a"}}, {"table": {"a": "b"}}),
        ("self.?b.orValue('q') == 'q'", {}, {"b": "x"}),
    ],
)
def test_evaluates(rule: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    assert check(rule, good) == []
    assert check(rule, bad) == ['spec: Invalid value: "object": no']


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("self.typo > 1", "undefined field 'typo'"),
        ("has(self.free)", "undefined field 'free'"),
        ("self.env.all(e, e.nam != '')", "undefined field 'nam'"),
        ("other == 1", "undeclared reference to 'other'"),
        ("self.a >", "compilation failed"),
        ("self.b.frobnicate()", "'frobnicate'"),
        ("lists.range(3).size() == 1", "'lists'"),
        ("math.greatest(self.a, 1) == 1", "undeclared reference to 'math'"),
        ("sets.nope([1], [1])", "'sets.nope'"),
        ("self.names.existsOne(n, n != '')", "write exists_one(x, test) or existsOne(i, x, test)"),
        ("self.names.all(n, n, n != '')", "duplicate variable name: n"),
        ("self.names.all(i, n, m, n != '')", "no such macro with 4 arguments; write all(x, test)"),
        ("self.names.transformList(n, n != '')", "write transformList(i, x, value) or"),
        ("self.names.sortBy(n, n)", "no such function or macro"),
        ("self.names.all(1, n, n != '')", "argument must be a simple name"),
        ("self.names.all(i, n, i.size() < n.nope)", "undefined field 'nope'"),
        ("self.names.all(n, true) && n == 1", "undeclared reference to 'n'"),
        ("self.table.all(k, v, v.nope == k)", "undefined field 'nope'"),
        ("self.?nope.hasValue()", "undefined field 'nope'"),
        ("self.?env.optMap(e, e[0].nope).hasValue()", "undefined field 'nope'"),
        ("", "rule is not specified"),
    ],
)
def test_refuses_a_rule_that_it_cannot_carry_out(rule: str, says: str) -> None:
    (error,) = schema(rule).rule_errors
    assert error.path == "properties[spec].x-kubernetes-validations[0].rule"
    assert says in error.message


def test_transition_rules_run_on_update_only() -> None:
    rule = "self.a == oldSelf.a"
    assert check(rule, {"a": 1}) == []
    assert check(rule, {"a": 1}, {"a": 1, "b": "x"}) == []
    assert check(rule, {"a": 2}, {"a": 1}) == ['spec: Invalid value: "object": no']


def test_a_transition_rule_runs_even_when_nothing_has_changed() -> None:
    assert check("self.a > oldSelf.a", {"a": 1}, {"a": 1}) == ['spec: Invalid value: "object": no']


def test_other_rules_forgive_what_an_update_leaves_alone() -> None:
    assert check("self.a > 5", {"a": 1}, {"a": 1}) == []
    assert check("self.a > 5", {"a": 2}, {"a": 1}) != []


def test_an_optional_old_self_lets_the_rule_run_on_create() -> None:
    rule = {
        "rule": "oldSelf.hasValue() ? self.a >= oldSelf.value().a : self.a == 0",
        "message": "no",
        "optionalOldSelf": True,
    }
    assert check(rule, {"a": 0}) == []
    assert check(rule, {"a": 1}) != []
    assert check(rule, {"a": 2}, {"a": 1}) == []
    assert check(rule, {"a": 0}, {"a": 1}) != []


def test_items_of_a_map_list_meet_their_old_selves_by_key() -> None:
    env = {
        **PROPERTIES["env"],
        "items": {
            **PROPERTIES["env"]["items"],
            "x-kubernetes-validations": [
                {"rule": "self.value == oldSelf.value", "message": "fixed"}
            ],
        },
    }
    compiled = schema("true", env=env)
    old = {"spec": {"env": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}}
    moved = {"spec": {"env": [{"name": "b", "value": "2"}, {"name": "c", "value": "3"}]}}
    assert compiled.validate(moved, old) == []
    changed = {"spec": {"env": [{"name": "b", "value": "9"}]}}
    assert [str(error) for error in compiled.validate(changed, old)] == [
        'spec.env[0]: Invalid value: "object": fixed'
    ]


def test_old_self_cannot_be_used_in_an_atomic_list() -> None:
    items = {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    compiled = schema("true", names={"type": "array", "items": items})
    (error,) = compiled.rule_errors
    assert "uncorrelatable" in error.message


def test_reason_field_path_and_computed_message() -> None:
    rule = {
        "rule": "self.a < 3",
        "messageExpression": "'a is ' + string(self.a)",
        "reason": "FieldValueForbidden",
        "fieldPath": ".a",
    }
    assert check(rule, {"a": 4}) == ["spec.a: Forbidden: a is 4"]
    required = {"rule": "has(self.b)", "message": "need b", "reason": "FieldValueRequired"}
    assert check(required, {}) == ["spec: Required value: need b"]


def test_a_rule_without_a_message_quotes_itself() -> None:
    assert check({"rule": "self.a < 3"}, {"a": 4}) == [
        'spec: Invalid value: "object": failed rule: self.a < 3'
    ]


def test_an_error_at_run_time_is_a_finding_not_a_pass() -> None:
    assert check("self.b == 'x'", {}) == [
        'spec: Invalid value: "object": no such key: b evaluating rule: no'
    ]
    (text,) = check("self.a / 0 == 1", {"a": 1})
    assert "division by zero" in text


def test_rules_do_not_run_on_an_object_of_the_wrong_shape() -> None:
    errors = schema("self.a > 1").validate({"spec": {"a": "x"}}, None)
    assert [error.path for error in errors] == ["spec.a", "<nil>"]
    assert "some validation rules were not checked" in errors[1].message


def test_the_root_sees_the_name_but_no_other_metadata() -> None:
    raw: dict[str, Any] = {"type": "object", "properties": {}}
    raw["x-kubernetes-validations"] = [{"rule": "size(self.metadata.name) < 3", "message": "long"}]
    compiled = StructuralSchema(raw)
    assert compiled.validate({"metadata": {"name": "ab"}}, None) == []
    assert len(compiled.validate({"metadata": {"name": "abc"}}, None)) == 1
    raw["x-kubernetes-validations"] = [{"rule": "has(self.metadata.labels)"}]
    assert "undefined field 'labels'" in StructuralSchema(raw).rule_errors[0].message


@pytest.mark.parametrize(
    ("text", "value"), [("1Gi", 2**30), ("100m", 0.1), ("1e3", 1000), ("-2k", -2000), ("0.5", 0.5)]
)
def test_reads_quantities(text: str, value: float) -> None:
    rule = f"quantity(self.b).asApproximateFloat() == double({value})"
    assert check(rule, {"b": text}) == []
    assert check("isQuantity(self.b)", {"b": text}) == []


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1Gib", "--1", "1\n", "1e9999"])
def test_refuses_what_is_no_quantity(text: str) -> None:
    (found,) = check("quantity(self.b).isInteger()", {"b": text})
    assert "quantities must match the regular expression" in found
    assert check("!isQuantity(self.b)", {"b": text}) == []
