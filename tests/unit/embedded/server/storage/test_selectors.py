from __future__ import annotations

import pytest

from taskctl.embedded.server.refusals.errors import StatusError
from taskctl.embedded.server.storage import selectors
from taskctl.embedded.server.storage.records import make_record
from tests.unit.embedded.server.support import PATHS, THINGS, thing


def matches(text: str, **labels: str) -> bool:
    return all(one.matches(labels) for one in selectors.parse_labels(text))


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a = b , c!=d", {"a": "b"}, True),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("! a", {}, True),
        ("a in (b,c)", {"a": "c"}, True),
        ("a in (b,c)", {}, False),
        ("a notin (b, c)", {}, True),
        ("a notin (b,c)", {"a": "b"}, False),
        ("a in (,b)", {"a": ""}, True),
        ("a=", {"a": ""}, True),
        ("a=,b", {"a": "", "b": "x"}, True),
        ("a>3", {"a": "4"}, True),
        ("a>3", {"a": "x"}, False),
        ("a<3", {"a": "2"}, True),
        ("a<3", {}, False),
        ("x.y/z-1=v_2", {"x.y/z-1": "v_2"}, True),
        ("in in (in)", {"in": "in"}, True),
    ],
)
def test_labels(text: str, labels: dict[str, str], expected: bool) -> None:
    assert matches(text, **labels) is expected


@pytest.mark.parametrize(
    "text",
    ["=a", "a=b,", ",", "a in b", "a in (b", "a in b)", "a b", "a>x", "-a", "a=b!", "a/b/c=d",
     "/a", "a=" + "x" * 64, "a" * 64, "A_/b", "!", "a in", "a==="],
)  # fmt: skip
def test_malformed_labels(text: str) -> None:
    with pytest.raises(StatusError) as caught:
        selectors.parse_labels(text)
    assert caught.value.code == 400
    assert caught.value.message.startswith(("unable to parse requirement: ", "found '"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a===", "unable to parse requirement: found '=', expected: identifier"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' "
            "operators, the value must be an integer",
        ),
        (
            "a=" + "x" * 64,
            f'unable to parse requirement: values[0][a]: Invalid value: "{"x" * 64}": must be no '
            "more than 63 characters",
        ),
    ],
)
def test_what_is_said_of_malformed_labels(text: str, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        selectors.parse_labels(text)
    assert caught.value.message == message


def test_fields() -> None:
    record = make_record(THINGS, thing("a", color="r,d=", meta={"uid": "u"}), PATHS, 1)
    for text, expected in (
        ("metadata.name=a", True),
        ("metadata.name==a,", True),
        ("metadata.name!=a", False),
        (r"spec.color=r\,d\=", True),
        ("spec.color=", False),
        (r"metadata.name=a,spec.color!=r\,d\=", False),
    ):
        assert selectors.parse("", text, PATHS).matches(record) is expected, text


def test_absent_fields_are_empty() -> None:
    record = make_record(THINGS, thing("a", meta={"uid": "u"}), PATHS, 1)
    assert selectors.parse("", "spec.color=", PATHS).matches(record)
    assert not selectors.parse("", "spec.color!=", PATHS).matches(record)


@pytest.mark.parametrize("labels", ["", "n=1", "n!=1", "n in (1,2)"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "spec.color=red",
        "spec.color=",
        "spec.color!=red",
        "spec.color=red,metadata.name!=t1",
        "metadata.name=t1,spec.color=red",
        "spec.color=red,spec.color=blue",
    ],
)
def test_many_objects_are_chosen_as_one_is(text: str, labels: str) -> None:
    colours = ("red", "blue", None)
    records = [
        make_record(
            THINGS,
            thing(f"t{n}", color=colours[n % 3], meta={"uid": f"u{n}", "labels": {"n": str(n)}}),
            PATHS,
            n,
        )
        for n in range(9)
    ]
    selector = selectors.parse(labels, text, PATHS)
    expected = [record for record in records if selector.matches(record)]
    assert list(selector.matching(records)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spec.size=1", "field label not supported: spec.size"),
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("spec.color=a=b", "invalid field selector: unescaped character in value: 61"),
    ],
)
def test_malformed_fields(text: str, message: str) -> None:
    with pytest.raises(StatusError) as caught:
        selectors.parse_fields(text, PATHS)
    assert (caught.value.code, caught.value.message) == (400, message)


def test_what_a_watch_can_be_indexed_by() -> None:
    def pin(text: str) -> tuple[str, str] | None:
        return selectors.parse("", text, PATHS).pinned_field()

    assert pin("metadata.name=a") == ("metadata.name", "a")
    assert pin("spec.color!=b,metadata.name=a") == ("metadata.name", "a")
    assert pin("spec.color!=b") is None
    assert pin("") is None
