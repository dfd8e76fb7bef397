"""What rules may cost, and that they are stopped before they cost it."""

from __future__ import annotations

import time
from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server import cel_patterns
from taskctl.embedded.server.cel_cost import bound_of, estimate
from taskctl.embedded.server.cel_syntax import LOOPS, SyntaxProblem, parse
from taskctl.embedded.server.schema import StructuralSchema

# Far more than any of this takes, far less than what it took.
SOON_S = 2.0
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
    start = time.monotonic()
    found = [str(error) for error in made.validate({"spec": spec}, None)]
    assert time.monotonic() - start < SOON_S
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
    start = time.monotonic()
    found = rule(text).rule_errors
    assert len(found) == 1
    assert "compilation failed" in str(found[0])
    assert time.monotonic() - start < SOON_S


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
    start = time.monotonic()
    (found,) = made.validate(many, None)
    assert time.monotonic() - start < 5 * SOON_S
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


GROUPS = st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=5)


@given(groups=GROUPS, macros=st.lists(st.sampled_from(sorted(LOOPS - {"existsOne", "transformList",
       "transformMap"})), min_size=3, max_size=3))  # fmt: skip
def test_no_loop_runs_more_often_than_was_estimated(
    groups: list[list[int]], macros: list[str]
) -> None:
    """``tick`` stands in the innermost loop and counts how often it is reached."""
    ticks = 0

    def tick(value: Any) -> bool:
        nonlocal ticks
        ticks += 1
        return True

    text = "tick(m)"
    for macro, over, name in zip(macros, ("g", "g", "self"), ("m", "h", "g"), strict=True):
        text = f"{over}.{macro}({name}, {text})"
        if macro in ("map", "filter"):
            text = f"{text}.size() >= 0"
    cel.compile(text).execute(cel.Context({"self": groups}, {"tick": tick}))
    assert ticks <= estimate(parse(text), {"self": bound_of(groups)})


@given(st.text(alphabet="ab.,()[]{}?:!-+&|<>='\" 019r`in", max_size=40))
def test_whatever_is_parsed_ends(text: str) -> None:
    try:
        parse(text)
    except SyntaxProblem:
        return


def test_names_of_functions_in_texts_stay() -> None:
    changed = cel_patterns.with_patterns("self.text.matches('matches(') // matches(x)")
    assert changed == f"self.text.{cel_patterns.MATCHES}('matches(') // matches(x)"
