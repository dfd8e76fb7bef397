"""What rules may cost, and that they are stopped before they cost it."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.cel.check import PER_RULE_LIMIT
from taskctl.embedded.server.cel.program import Program
from taskctl.embedded.server.cel.syntax import SyntaxProblem, parse
from taskctl.embedded.server.cel.types import Budget, BudgetError
from taskctl.embedded.server.kinds.structural_schema import StructuralSchema

# Far more than any of this takes, far less than what it took.
SOON_S = 2.0
MOST_PER_UNIT_S = 1e-6
TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
PROPERTIES: dict[str, Any] = {
    "numbers": NUMBERS,
    "texts": TEXTS,
    "text": {"type": "string"},
    "pattern": {"type": "string"},
    "groups": {
        "type": "array",
        "items": {"type": "object", "properties": {"name": {"type": "string"}, "members": NUMBERS}},
    },
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
}
NO_MORE = "no further validation rules will be run due to call cost exceeds limit for rule"


def rule(text: str) -> StructuralSchema:
    spec = {
        "type": "object",
        "properties": PROPERTIES,
        "x-kubernetes-validations": [{"rule": text, "message": "no"}],
    }
    return StructuralSchema({"type": "object", "properties": {"spec": spec}})


def check(source: str, **spec: Any) -> list[str]:
    made = rule(source)
    assert made.rule_errors == []
    start = time.process_time()
    found = [str(error) for error in made.validate({"spec": spec}, None)]
    assert time.process_time() - start < SOON_S
    return found


def nested(depth: int, body: str, over: str = "self.numbers", macro: str = "all") -> str:
    for level in range(depth):
        body = f"{over}.{macro}(x{level}, {body})"
    return body


LISTS = "self.numbers.map(a, self.numbers)"


@pytest.mark.parametrize(
    "text",
    [
        nested(4, "x0 + x1 + x2 + x3 >= 0"),
        nested(12, "x0 >= 0"),
        nested(4, "x0 < 0", macro="exists"),
        nested(3, "x0 == 0", macro="exists_one"),
        nested(3, "x0", macro="map") + ".size() > 0",
        f"{LISTS}.map(b, {LISTS}).size() > 0",
        "[self.text]" + "".join(".map(a, a + a)" for _ in range(40)) + ".size() > 0",
        "[self.texts]" + "".join(".map(a, a + a)" for _ in range(40)) + ".size() > 0",
        "self.texts.all(a, self.texts.all(b, self.texts.all(c, a.contains(b + c) || true)))",
        "self.texts.all(a, self.texts.all(b, a.matches(b)))",
        "self.texts.all(a, sets.contains(self.texts, self.texts))",
        "self.numbers.all(n, 'a'.matches('(?:[^a]|' + string(n) + '){900}') || true)",
        "self.numbers.all(n, 'a'.matches(string(n) + '(') || true)",
        "self.texts.all(a, '%s'.format([self.texts]) != a)",
        "self.text.replace('', self.text).replace('', self.text).replace('', self.text) != ''",
    ],
)
def test_what_costs_too_much_is_not_evaluated(text: str) -> None:
    spec = {"numbers": list(range(1000)), "texts": ["a" * 50] * 1000, "text": "a" * 10_000}
    found = check(text, **spec)
    assert len(found) == 1
    assert NO_MORE in found[0]


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("self.text.matches('(a*)*b')", False),
        ("self.text.find('(a|aa)+$b') == ''", True),
        ("self.text.findAll('(x+x+)+y').size() == 0", True),
        ("matches(self.text, '^(([a-z])+.)+[A-Z]([a-z])+$')", False),
    ],
)
def test_patterns_take_linear_time(text: str, fine: bool) -> None:
    assert (check(text, text="a" * 5000) == []) is fine


@pytest.mark.parametrize(
    "pattern", ["((a{1000}){1000}){1000}", "(" * 2000, "a" * 20_000, r"(\pL{500}){500}", "(?=a)"]
)
def test_patterns_are_small(pattern: str) -> None:
    assert len(check("self.text.matches(self.pattern)", text="a", pattern=pattern)) == 1
    assert len(check("self.text.find(self.pattern) == ''", text="a", pattern=pattern)) == 1
    found = rule(f"self.text.matches('{pattern}')").rule_errors
    assert len(found) == 1
    assert "compilation failed" in str(found[0])


@pytest.mark.parametrize("verb", ["%.999999999f", "%.101e", f"%.{'9' * 5000}f"])
def test_numbers_do_not_become_long_texts(verb: str) -> None:
    (found,) = check(f"'{verb}'.format([1.5]) != ''")
    assert "precision must be at most 100" in found


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + "true" + ")" * 5000,
        "1" + " + 1" * 5000 + " == 1",
        "[" * 1000 + "]" * 1000 + " == []",
        "true ? " * 500 + "true" + " : true" * 500,
        "true || " * 20_000 + "true",
        "(" + " " * 100_000 + "true)",
        "size(" * 200 + "[]" + ")" * 200 + " == 0",
    ],
)
def test_expressions_are_small(text: str) -> None:
    start = time.process_time()
    found = rule(text).rule_errors
    assert len(found) == 1
    assert "compilation failed" in str(found[0])
    assert time.process_time() - start < SOON_S


def test_all_rules_of_an_object_share_a_budget() -> None:
    item = {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "x-kubernetes-validations": [
            {"rule": "self.text.lowerAscii() == self.text", "message": "no"}
        ],
    }
    made = StructuralSchema(
        {"type": "object", "properties": {"items": {"type": "array", "items": item}}}
    )
    few = {"items": [{"text": "a" * 10}] * 1000}
    assert made.validate(few, None) == []
    many = {"items": [{"text": "a" * 10}] * 100_000}
    start = time.process_time()
    (found,) = made.validate(many, None)
    assert time.process_time() - start < 5 * SOON_S
    assert "running out of cost budget" in str(found)


def test_an_expensive_message_is_replaced_by_the_plain_one() -> None:
    spec = {
        "type": "object",
        "properties": PROPERTIES,
        "x-kubernetes-validations": [
            {
                "rule": "false",
                "message": "plain",
                "messageExpression": f"{nested(4, 'true')} ? 'a' : 'b'",
            }
        ],
    }
    made = StructuralSchema({"type": "object", "properties": {"spec": spec}})
    (found,) = made.validate({"spec": {"numbers": list(range(1000))}}, None)
    assert str(found).endswith("plain")


@pytest.mark.parametrize(
    "text",
    [
        "self.numbers.all(x, x >= 0)",
        "self.numbers.all(x, self.numbers.exists_one(y, x == y))",
        "self.groups.all(g, self.groups.exists_one(h, g.name == h.name))",
        "self.groups.all(g, g.members.all(m, g.members.exists_one(n, m == n)))",
        "self.texts.map(t, t + 'x').all(t, t.matches('^[a-z0-9-]+$'))",
        "self.texts.filter(t, t.startsWith('t')).size() == self.texts.size()",
        "self.map.all(k, self.map[k].size() < 100)",
        "'%s'.format([self.texts]).size() > 0",
        "self.texts.join(',').split(',').size() == self.texts.size()",
        "sets.equivalent(self.texts, self.texts)",
    ],
)
def test_what_people_write_is_evaluated(text: str) -> None:
    groups = [{"name": f"g{number}", "members": list(range(20))} for number in range(50)]
    spec = {
        "numbers": list(range(100)),
        "texts": [f"t{number}" for number in range(100)],
        "groups": groups,
        "map": {f"k{number}": "x" * 20 for number in range(200)},
    }
    assert check(text, **spec) == []


LOOP_FORMS = {
    "all": "{over}.all({name}, {body})",
    "exists": "{over}.exists({name}, !({body}))",
    "exists_one": "{over}.exists_one({name}, {body})",
    "filter": "{over}.filter({name}, {body}).size() >= 0",
    "map": "{over}.map({name}, {body}).size() >= 0",
    "transformList": "{over}.transformList(i{name}, {name}, {body}, {body}).size() >= 0",
    "transformMap": "{over}.transformMap(i{name}, {name}, {body}).size() >= 0",
    "transformMapEntry": "{over}.transformMapEntry(i{name}, {name}, {{i{name}: {body}}}) != {{}}",
    "two": "{over}.all(i{name}, {name}, {body})",
}


@given(
    groups=st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=5),
    forms=st.lists(st.sampled_from(sorted(LOOP_FORMS)), min_size=2, max_size=2),
)
def test_every_item_of_every_loop_is_counted(groups: list[list[int]], forms: list[str]) -> None:
    body = "m >= 0"
    for form, over, name in zip(forms, ("g", "self"), ("m", "g"), strict=True):
        body = LOOP_FORMS[form].format(over=over, name=name, body=body)
    budget = Budget(PER_RULE_LIMIT)
    Program(parse(body), ("self",)).run({"self": groups}, budget)
    # One unit each for the loop's item and the three nodes of ``m >= 0``.
    assert budget.spent >= 4 * sum(map(len, groups))


@pytest.mark.parametrize(
    "text",
    [
        "self.all(a, self.all(b, a != b || a == b))",
        "self.all(a, self.exists(b, 1 / (b - b) == 1 || a == b))",
        "self.map(a, self.map(b, [a, b])).size() >= 0",
        "self.transformMap(i, a, self.transformMap(j, b, {i: j})).size() >= 0",
        "self.map(a, self) == self.map(a, self)",
        "self.all(a, self.map(b, string(b)).join(',').split(',').size() >= 0)",
        "self.all(a, '%s %.100f'.format([self, 1e300]).size() > 0)",
        "self.all(a, self.isSorted() || self.sum() > 0)",
        "self.all(a, sets.contains(self, [a]))",
        "self.all(a, string(a).matches('(a|b)*' + string(a)) || true)",
        "self.all(a, 'a'.matches('x{900}' + string(a)) || true)",
        "self.all(a, quantity(string(a)).add(quantity('1Gi')).isGreaterThan(quantity('1')))",
        "self.all(a, timestamp(a).getHours('Europe/Berlin') >= 0)",
        "self.all(a, a in self && self.indexOf(a) >= 0)",
        "self.map(a, optional.of(a)).map(o, o.optMap(v, [?o]).orValue([])).size() >= 0",
    ],
)
def test_a_unit_takes_little_time(text: str) -> None:
    """Whatever is done, it is counted about as much as it takes: the budget is one of time."""
    program = Program(parse(text), ("self",))
    per_unit_s = []
    for _ in range(3):  # the best of three: the first one may meet a collection of garbage
        budget = Budget(PER_RULE_LIMIT)
        start = time.process_time()
        with contextlib.suppress(BudgetError):
            program.run({"self": list(range(3000))}, budget)
        took_s = time.process_time() - start
        per_unit_s.append(took_s / max(budget.spent, 10_000))
        if per_unit_s[-1] < MOST_PER_UNIT_S:
            break
    assert min(per_unit_s) < MOST_PER_UNIT_S


@pytest.mark.parametrize("by", ["[a, a]", "{'a': a, 'b': a}", "a + a"])
@pytest.mark.parametrize(
    "looks_at",
    ["{0} == {0}", "'%s'.format([{0}]) == ''", "sets.contains({0}, {0})", "{0}.indexOf({0}) >= 0"],
)
def test_what_shares_its_parts_is_not_walked_for_ever(looks_at: str, by: str) -> None:
    """A list of a list twice, of that twice, and so on: small in memory, endless to walk."""
    value = "[['a']]" + f".map(a, {by})" * 40
    start = time.process_time()
    with pytest.raises(BudgetError):
        Program(parse(looks_at.format(value)), ()).run({}, Budget(PER_RULE_LIMIT))
    assert time.process_time() - start < SOON_S


@given(st.text(alphabet="ab.,()[]{}?:!-+&|<>='\" 019r`in", max_size=40))
def test_whatever_is_parsed_ends(text: str) -> None:
    try:
        parse(text)
    except SyntaxProblem:
        return
