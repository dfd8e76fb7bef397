"""The language of rules: macros with one and two names, optional values, what errors do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.conftest import install
from tests.conformance.target import Api, Json, plain_definition

GROUP = "language.taskctl.test"
NUMBER: Json = {"type": "integer"}
TEXT: Json = {"type": "string", "maxLength": 20}
SHAPE: dict[str, Json] = {
    "a": NUMBER,
    "gone": NUMBER,
    "t": TEXT,
    "l": {"type": "array", "maxItems": 5, "items": NUMBER},
    "e": {"type": "array", "maxItems": 5, "items": NUMBER},
    "m": {"type": "object", "maxProperties": 5, "additionalProperties": NUMBER},
    "n": {"type": "object", "properties": {"x": TEXT, "y": TEXT}},
    "o": {
        "type": "array",
        "maxItems": 5,
        "items": {"type": "object", "properties": {"k": TEXT, "v": TEXT}},
    },
    "when": {"type": "string", "format": "date-time"},
    "wait": {"type": "string", "format": "duration"},
    "ratio": {"type": "number"},
}
VALUE: Json = {
    "a": 3,
    "t": "text",
    "l": [0, 1, 2],
    "e": [],
    "m": {"x": 1, "y": 2},
    "n": {"x": "q"},
    "o": [{"k": "a"}, {"k": "b", "v": "w"}],
    "when": "2024-02-29T12:34:56.789Z",
    "wait": "90m",
    "ratio": 1.5,
}
ZERO, ABSENT = "division by zero", "no such key: "
# Rule, and True, False or what is said of it when it has no value.
RULES: list[tuple[str, bool | str]] = [
    # An item that fails does not matter if another one decides.
    ("self.l.exists(v, 1 / v == 1)", True),
    ("self.l.exists(v, 1 / v == 5)", ZERO),
    ("self.l.all(v, 1 / v == 5)", False),
    ("self.l.all(v, 1 / v >= 0)", ZERO),
    ("self.o.exists(e, e.v == 'w')", True),
    ("self.o.exists(e, e.v == 'x')", ABSENT + "v"),
    ("self.o.all(e, e.v == 'x')", False),
    ("self.o.all(e, e.v == 'w')", ABSENT + "v"),
    ("self.m.exists(k, self.m[k] / (self.m[k] - 1) == 2)", True),
    ("self.l.exists_one(v, 1 / v == 1)", ZERO),
    ("self.l.map(v, 1 / v).size() == 3", ZERO),
    ("self.l.filter(v, 1 / v == 1).size() == 1", ZERO),
    ("self.gone == 1 || self.a == 3", True),
    ("self.a == 3 || self.gone == 1", True),
    ("self.gone == 1 || self.a == 4", ABSENT + "gone"),
    ("self.gone == 1 && self.a == 4", False),
    ("self.a == 3 && self.gone == 1", ABSENT + "gone"),
    ("self.a == 3 ? true : self.gone == 1", True),
    ("self.l.all(v, self.l.exists(w, 1 / w == 1 || v == w))", True),
    # Two names.
    ("self.l.all(i, v, i == v)", True),
    ("self.l.all(i, v, v < 2)", False),
    ("self.l.all(i, v, 1 / i == 7)", False),
    ("self.l.all(i, v, 1 / i >= 0)", ZERO),
    ("self.l.exists(i, v, 1 / i == v)", True),
    ("self.l.exists(i, v, i != v)", False),
    ("self.l.existsOne(i, v, i + v == 2)", True),
    ("self.l.exists_one(i, v, i + v >= 2)", False),
    ("self.l.existsOne(i, v, 1 / i == 1)", ZERO),
    ("self.m.all(k, v, k != '' && v > 0)", True),
    ("self.m.exists(k, v, k == 'y' && v == 1)", False),
    ("self.m.existsOne(k, v, v == 1)", True),
    ("self.e.all(i, v, false) && !self.e.exists(i, v, true)", True),
    ("self.l.transformList(i, v, i + v) == [0, 2, 4]", True),
    ("self.l.transformList(i, v, v > 0, i * 10) == [10, 20]", True),
    ("self.m.transformList(k, v, v).sum() == 3", True),
    ("self.m.transformList(k, v, k == 'x', v) == [1]", True),
    ("self.l.transformMap(i, v, v + 1) == {0: 1, 1: 2, 2: 3}", True),
    ("self.m.transformMap(k, v, v > 1, v * 2) == {'y': 4}", True),
    ("self.m.transformMap(k, v, [k]).all(k, v, v == [k])", True),
    ("self.l.transformMapEntry(i, v, {string(v): i}) == {'0': 0, '1': 1, '2': 2}", True),
    ("self.m.transformMapEntry(k, v, v > 1, {v: k}) == {2: 'y'}", True),
    ("self.l.transformMapEntry(i, v, {'same': v}).size() == 1", "already exists"),
    ("self.l.transformMapEntry(i, v, {'a': v, 'b': v}).size() == 1", "already exists"),
    ("self.l.transformMapEntry(i, v, v == 1, {'a': v, 'b': v}).size() == 2", True),
    ("self.l.all(i, v, self.l.all(j, w, (i == j) == (v == w)))", True),
    ("self.l.all(self, self >= 0)", True),
    ("self.l.map(v, v > 0, v * 2) == [2, 4]", True),
    ("[1u, 2u].transformList(i, v, v + 1u) == [2u, 3u]", True),
    ("self.l.transformMap(i, v, uint(v))[1] == 1u", True),
    # Optional values.
    ("self.?a.hasValue() && !self.?gone.hasValue()", True),
    ("self.?gone.orValue(7) == 7 && self.?a.orValue(7) == 3", True),
    ("self.?n.?x.orValue('') == 'q'", True),
    ("self.?n.y.orValue('none') == 'none'", True),
    ("self.?n.x == optional.of('q')", True),
    ("has(self.?n.x) && !has(self.?n.y)", True),
    ("self.?gone.value() == 1", "optional.none() dereference"),
    ("self.m[?'x'].orValue(9) == 1 && self.m[?'z'].orValue(9) == 9", True),
    ("self.l[?1].hasValue() && !self.l[?3].hasValue()", True),
    ("[?self.?a, ?self.?gone, 9] == [3, 9]", True),
    ("{'k': 1, ?'a': self.?a, ?'g': self.?gone} == {'k': 1, 'a': 3}", True),
    ("self.?a.optMap(v, v + 1).orValue(0) == 4", True),
    ("self.?gone.optMap(v, v + 1).orValue(0) == 0", True),
    ("self.?a.optFlatMap(v, self.l[?v]).hasValue()", False),
    ("self.?a.optFlatMap(v, self.l[?(v - 1)]).value() == 2", True),
    ("self.?gone.or(self.?a).value() == 3", True),
    ("self.?a.or(optional.of(self.gone)).value() == 3", True),
    ("self.?a.orValue(self.gone) == 3", True),
    ("self.?gone.orValue(self.gone) == 3", ABSENT + "gone"),
    ("optional.ofNonZeroValue('').hasValue() || optional.ofNonZeroValue(0).hasValue()", False),
    ("optional.ofNonZeroValue(self.l).hasValue() && optional.ofNonZeroValue(1).hasValue()", True),
    ("self.?gone == self.?gone && self.?a != self.?gone", True),
    ("self.l.first().value() == 0 && self.l.last().value() == 2", True),
    ("self.e.first().hasValue() || self.e.last().hasValue()", False),
    ("[optional.of(1), optional.none()].unwrapOpt() == [1]", True),
    ("optional.unwrap([optional.none(), optional.of(2)]) == [2]", True),
    # The language itself.
    ("self.a / 2 == 1 && -self.a / 2 == -1 && -self.a % 2 == -1", True),
    ("9223372036854775807 + self.a > 0", "integer overflow"),
    ("-9223372036854775808 < 0 && 0x10 == 16 && 1e3 == 1000.0", True),
    ("5u - 3u == 2u && 7u / 2u == 3u && 7u % 2u == 1u", True),
    ("3u - 5u == 0u", "unsigned integer overflow"),
    ("self.a % 0 == 0", "modulus by zero"),
    ("1.0 / 0.0 > 1e300 && 1 < 1.5 && 2u > 1", True),
    ("string(self.ratio) == '1.5' && string(100000.0) == '100000'", True),
    ("string(1000000.0) == '1e+06' && string(0.00001) == '1e-05'", True),
    ("string(1e30) == '1e+30' && string(2.0) == '2'", True),
    ("string(true) == 'true' && bool('false') == false && string(7u) == '7'", True),
    ("int('12') == 12 && int(1.9) == 1 && int(-1.9) == -1 && double('1.5') == 1.5", True),
    ("int(self.t) == 1", "type conversion error"),
    ("string(self.when) == '2024-02-29T12:34:56.789Z'", True),
    ("string(self.wait) == '5400s' && string(duration('1500ms')) == '1.5s'", True),
    ("int(self.when) == 1709210096", True),
    ("self.when.getFullYear() == 2024 && self.when.getMonth() == 1", True),
    ("self.when.getDate() == 29 && self.when.getDayOfMonth() == 28", True),
    ("self.when.getDayOfWeek() == 4 && self.when.getDayOfYear() == 59", True),
    ("self.when.getHours() == 12 && self.when.getHours('+02:00') == 14", True),
    ("self.when.getHours('Europe/Berlin') == 13 && self.when.getMinutes() == 34", True),
    ("self.when.getSeconds() == 56 && self.when.getMilliseconds() == 789", True),
    ("self.wait.getHours() == 1 && self.wait.getMinutes() == 90", True),
    ("self.when + self.wait > self.when && self.when - self.when == duration('0s')", True),
    ("type(self.a) == int && type(self.ratio) == double && type(1u) == uint", True),
    ("type(self.l) == list && type(self.m) == map && type(null) == null_type", True),
    ("type(self.when) == google.protobuf.Timestamp && type(int) == type", True),
    ("type(self.wait) == google.protobuf.Duration && type(b'x') == bytes", True),
    ("dyn(self.a) == 3.0 && dyn(1) != dyn(true) && dyn('1') != dyn(1)", True),
    ("{dyn(true): 1, dyn(1): 2}.size() == 2", True),
    ("dyn(1.0) in [dyn(1), dyn('x')] && !(dyn(true) in [dyn(1)])", True),
    ("b'abc'.size() == 3 && 'äö'.size() == 2 && size({'a': 1}) == 1", True),
    ("'a\\u00e4\\x41' == 'aäA' && r'\\n'.size() == 2 && '''a'b''' == \"a'b\"", True),
    ("self.l[5] == 1", "index out of bounds: 5"),
    ("self.m['z'] == 1", ABSENT + "z"),
    ("!(!true) && --3 == 3", True),
    ("[1, 2] + [3] == [1, 2, 3] && 'a' + 'b' == 'ab' && b'a' + b'b' == b'ab'", True),
    ("'a' < 'b' && false < true && b'a' < b'b' && !('b' <= 'a')", True),
    ("'%s %d %.2f %s'.format(['x', 3, 1.5, [1, 2]]) == 'x 3 1.50 [1, 2]'", True),
    ("self.l.sum() == 3 && self.l.max() == 2 && self.l.indexOf(1) == 1", True),
    # Versions.
    ("semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2", True),
    ("semver('1.2.3').patch() == 3 && isSemver('1.2.3-rc.1+b') && !isSemver('v1.2.3')", True),
    ("isSemver('v1.0', true) && semver('v01.01', true) == semver('1.1.0')", True),
    ("semver('1.2.3').isLessThan(semver('1.2.10'))", True),
    ("semver('1.2.3-rc.1').isGreaterThan(semver('1.2.3'))", False),
    ("semver('1.2.3').compareTo(semver('1.2.3')) == 0", True),
    ("semver(self.t).major() == 1", "No Major.Minor.Patch elements found"),
]
# Rule, and what is said of it when it is written.
REFUSED = [
    ("self.l.existsOne(v, v == 1)", "undeclared reference to 'existsOne'"),
    ("self.l.all(i, i, i == 1)", "<input>:1:15: duplicate variable name: i"),
    ("self.l.transformMap(k, k, k)", "<input>:1:24: duplicate variable name: k"),
    ("self.l.all(i, v, w, true)", "<input>:1:11: undeclared reference to 'all'"),
    ("self.l.frob(1, 2)", "<input>:1:12: undeclared reference to 'frob'"),
    ("frob(self.a)", "<input>:1:5: undeclared reference to 'frob'"),
    ("self.l.all(1, v, true)", "<input>:1:12: argument must be a simple name"),
    ("self.l.all(self.a, true)", "<input>:1:16: argument must be a simple name"),
    ("self.l.all(v)", "undeclared reference to 'all'"),
    ("self.l.all(__result__, true)", "iteration variable overwrites accumulator variable"),
    ("self.l.all(v, true) && v == 1", "<input>:1:24: undeclared reference to 'v'"),
    ("self.l.map(i, v, true, i)", "undeclared reference to 'map'"),
    ("other == 1", "<input>:1:1: undeclared reference to 'other' (in container '')"),
    ("self.typo == 1", "<input>:1:5: undefined field 'typo'"),
    ("self.?typo.hasValue()", "undefined field 'typo'"),
    ("self.o.all(i, e, e.typo == '')", "undefined field 'typo'"),
    ("self.o[?0].optMap(e, e.typo).hasValue()", "undefined field 'typo'"),
    ("self.l.all(i, v, i.typo == 1)", "typo"),
    ("has(self)", "<input>:1:5: invalid argument to has() macro"),
    ("self.a ==", "<input>:1:10: Syntax error: mismatched input '<EOF>' expecting"),
    ("self.a == 1 )", "<input>:1:13: Syntax error"),
    ("if == 1", "<input>:1:1"),
    ("self.l.sortBy(v, v) == []", "undeclared reference to 'sortBy'"),
    ("cel.bind(x, 1, x == 1)", "undeclared reference to 'cel'"),
    ("self.t.matches('(')", "<input>:1:16: invalid matches argument"),
    ("self.`t` == ''", "<input>:1:6: unsupported syntax: '`'"),
]


def definition(rules: dict[str, str]) -> Json:
    """Return a definition with a field of the same shape for each rule."""
    properties = {
        name: {
            "type": "object",
            "properties": SHAPE,
            "x-kubernetes-validations": [{"rule": rule}],
        }
        for name, rule in rules.items()
    }
    return plain_definition(GROUP, "Language", properties)


async def findings(api: Api, rules: dict[str, str]) -> dict[str, str]:
    """Return what is said of an object, by field."""
    await install(api, definition(rules), f"/apis/{GROUP}/v1/languages")
    body: dict[str, Any] = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Language",
        "metadata": {"name": "r"},
        "spec": dict.fromkeys(rules, VALUE),
    }
    path = api.path(f"/apis/{GROUP}/v1", "languages")
    for _ in range(50):  # a real server goes on with the old schema for a moment
        reply = await api.create(path, body, dryRun="All", fieldValidation="Strict")
        if reply.status != 400:
            break
    causes = reply.refused(422, "Invalid")["details"]["causes"]
    return {one["field"].removeprefix("spec."): one["message"] for one in causes}


async def test_rules_have_the_same_value(api: Api) -> None:
    rules = {f"f{index}": rule for index, (rule, _) in enumerate(RULES)}
    found = await findings(api, rules)
    wrong = []
    for index, (rule, wanted) in enumerate(RULES):
        said = found.get(f"f{index}", "")
        match wanted:
            case True:
                fine = not said
            case False:
                fine = "failed rule" in said
            case _:
                fine = str(wanted) in said and "failed rule" not in said
        if not fine:
            wrong.append((rule, wanted, said))
    assert wrong == []


@pytest.mark.parametrize(("rule", "says"), REFUSED)
async def test_rules_are_refused_in_the_same_words(api: Api, rule: str, says: str) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    reply = await api.create(path, definition({"f": rule}), dryRun="All")
    message = reply.refused(422, "Invalid")["message"]
    assert "compilation failed" in message
    assert says in message
