"""Values there and back, led by annotations."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import sys
import typing
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, NewType, Optional, TypedDict, Union

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.sdk import _decode, _stored, _values
from taskctl.sdk.errors import InputInvalid, Unsendable


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Name(str, enum.Enum):  # noqa: UP042  (as older code has it)
    A = "a"


@dataclass
class Leaf:
    at: dt.datetime
    data: bytes = b""


@dataclass
class Tree:
    leaf: Leaf
    children: list[Tree] = field(default_factory=list)
    by_level: dict[Level, Optional[Leaf]] = field(default_factory=dict)  # noqa: UP045
    hidden: int = field(default=0, init=False)


class Pair(NamedTuple):
    left: int
    right: Path


class Row(TypedDict, total=False):
    when: dt.date
    count: int


class Model(pydantic.BaseModel):
    at: dt.datetime
    level: Level


UserId = NewType("UserId", int)
NOON = dt.datetime(2024, 5, 1, 12, 0, tzinfo=dt.UTC)
LEAF = Leaf(NOON, b"\x00\xff")

ROUND_TRIPS: list[tuple[Any, Any, Any]] = [
    # annotation, value, JSON
    (int, 5, 5),
    (float, 5, 5),
    (float, 1.5, 1.5),
    (bool, True, True),
    (str, "ü", "ü"),
    (None, None, None),
    (Any, {"a": [1, None, "x", 1.5, True]}, {"a": [1, None, "x", 1.5, True]}),
    (object, [1], [1]),
    (list, [1, "a"], [1, "a"]),
    (dict, {"a": 1}, {"a": 1}),
    (list[int], [1, 2], [1, 2]),
    (Sequence[int], [1, 2], [1, 2]),
    (typing.List[int], [1], [1]),  # noqa: UP006
    (set[str], {"a"}, ["a"]),
    (frozenset[int], frozenset([1]), [1]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (tuple[int, ...], (1, 2, 3), [1, 2, 3]),
    (tuple[()], (), []),
    (dict[str, Path], {"a": Path("/x")}, {"a": "/x"}),
    (Mapping[int, bool], {1: True}, {"1": True}),
    (dict[Level, int], {Level.HIGH: 3}, {"2": 3}),
    (dict[Name, int], {Name.A: 3}, {"a": 3}),
    (dict[uuid.UUID, int], {uuid.UUID(int=5): 1}, {str(uuid.UUID(int=5)): 1}),
    (bytes, b"\x00\xff", "AP8="),
    (Path, Path("/a/b"), "/a/b"),
    (PurePosixPath, PurePosixPath("a"), "a"),
    (decimal.Decimal, decimal.Decimal("1.10"), "1.10"),
    (uuid.UUID, uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (dt.datetime, NOON, "2024-05-01T12:00:00+00:00"),
    (dt.date, dt.date(2024, 5, 1), "2024-05-01"),
    (dt.time, dt.time(12, 30), "12:30:00"),
    (dt.timedelta, dt.timedelta(seconds=90), 90.0),
    (Level, Level.HIGH, 2),
    (Name, Name.A, "a"),
    (Literal["x", 3], "x", "x"),
    (Optional[int], None, None),  # noqa: UP045
    (Optional[Path], Path("/x"), "/x"),  # noqa: UP045
    (int | None, 3, 3),
    (Union[int, str], "5", "5"),  # noqa: UP007
    (Union[int, bool], True, True),  # noqa: UP007
    (Leaf | Pair, Pair(1, Path("/")), {"left": 1, "right": "/"}),
    (UserId, UserId(3), 3),
    (typing.Annotated[Path, "doc"], Path("/x"), "/x"),
    (Pair, Pair(1, Path("/x")), {"left": 1, "right": "/x"}),
    (Row, {"when": dt.date(2024, 5, 1)}, {"when": "2024-05-01"}),
    (Leaf, LEAF, {"at": "2024-05-01T12:00:00+00:00", "data": "AP8="}),
    (
        Tree,
        Tree(LEAF, [Tree(LEAF)], {Level.LOW: None, Level.HIGH: LEAF}),
        {
            "leaf": {"at": "2024-05-01T12:00:00+00:00", "data": "AP8="},
            "children": [
                {
                    "leaf": {"at": "2024-05-01T12:00:00+00:00", "data": "AP8="},
                    "children": [],
                    "by_level": {},
                }
            ],
            "by_level": {"1": None, "2": {"at": "2024-05-01T12:00:00+00:00", "data": "AP8="}},
        },
    ),
    (Model, Model(at=NOON, level=Level.LOW), {"at": "2024-05-01T12:00:00Z", "level": 1}),
    (list[Optional[Model]], [None], [None]),  # noqa: UP045
]


@pytest.mark.parametrize(("hint", "value", "plain"), ROUND_TRIPS, ids=lambda item: str(item)[:40])
def test_there_and_back(hint: Any, value: Any, plain: Any) -> None:
    encoded = _values.encode(value, hint, "it")
    assert encoded == plain
    assert type(encoded) is type(plain)
    back = _decode.decode(json.loads(json.dumps(encoded)), hint, "it")
    assert back == value
    assert type(back) is type(value) or hint is float


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int, "5", "it: is str, but its annotation is int"),
        (int, True, "is bool"),
        (int, None, "is None"),
        (str, 5, "is int"),
        (None, 5, "is int"),
        (list[int], ["a"], r"it\[0\]: is str"),
        (list[int], "abc", "is str"),
        (list[int], (1,), "is tuple"),
        (tuple[int, str], (1,), "has 1 items, its annotation 2"),
        (dict[str, int], {"a": "b"}, r"it\['a'\]: is str"),
        (Leaf, Leaf("noon"), "it.at: is str, but its annotation is datetime"),  # type: ignore[arg-type]
        (Any, Path("/x"), "has no annotation"),
        (Any, {"a": {1, 2}}, r"it\['a'\]: is set"),
        (Any, {1: 2}, "a key is int"),
        (Any, float("inf"), "no JSON form"),
        (Any, 2**63, "over 64 bits"),
        (Literal["x"], "y", "not one of"),
        (int | str, 1.5, "annotation is int | str"),
        (list, [Path("/x")], "annotate it"),
        (object, b"x", "annotate it"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_sender(hint: Any, value: Any, message: str) -> None:
    with pytest.raises((Unsendable, InputInvalid), match=message.replace("|", r"\|")):
        _values.encode(value, hint, "it")


@pytest.mark.parametrize(
    ("hint", "plain", "value"),
    [
        (int, "42", 42),  # `data` of a TaskObject is text throughout
        (float, "1.5", 1.5),
        (bool, "true", True),
        (int, 3.0, 3),  # an API server may write 3 as 3.0
        (float, 3, 3.0),
        (Level, "2", Level.HIGH),
        (dt.datetime, "2024-05-01T12:00:00Z", NOON),
    ],
)
def test_lenient_where_it_is_safe(hint: Any, plain: Any, value: Any) -> None:
    back = _decode.decode(plain, hint, "it")
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("hint", "plain", "message"),
    [
        (int, "x", "it: must be int, not 'x'"),
        (int, 1.5, "must be int"),
        (int, None, "must be int"),
        (int, True, "must be int"),
        (bool, "yes", "must be bool"),
        (bool, 1, "must be bool"),
        (str, 5, "must be str"),
        (list[int], {"a": 1}, "must be an array"),
        (list[int], [1, "x"], r"it\[1\]: must be int"),
        (tuple[int, int], [1], "has 1 items"),
        (dict[str, int], [1], "must be an object"),
        (dict[int, int], {"x": 1}, "a key of it: must be int"),
        (bytes, "not base64!", "is not a valid bytes"),
        (bytes, 5, "is not a valid bytes"),
        (Path, 5, "must be text"),
        (decimal.Decimal, "x", "is not a valid Decimal"),
        (dt.datetime, "yesterday", "is not a valid datetime"),
        (dt.datetime, 5, "is not a valid datetime"),
        (dt.timedelta, "x", "is not a valid timedelta"),
        (Level, 3, "it has 1, 2"),
        (Literal["x"], "y", "must be one of"),
        (None, 5, "must be null"),
        (Leaf, {}, "is not a valid Leaf"),
        (Leaf, {"at": "2024-05-01", "extra": 1}, "Leaf has no field 'extra'"),
        (Leaf, {"at": "never"}, "it.at"),
        (Model, {"at": "never"}, "is not a valid Model"),
        (Union[int, Level], "x", "none of int"),  # noqa: UP007
        (type, 5, "not one the SDK knows"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_receiver(hint: Any, plain: Any, message: str) -> None:
    with pytest.raises(InputInvalid, match=message):
        _decode.decode(plain, hint, "it")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, 2), [1, 2]),
        ({"a": Path("/x")}, {"a": "/x"}),
        ([Level.LOW, LEAF], [1, {"at": "2024-05-01T12:00:00+00:00", "data": "AP8="}]),
        (Pair(1, Path("/x")), {"left": 1, "right": "/x"}),
        (Model(at=NOON, level=Level.LOW), {"at": "2024-05-01T12:00:00Z", "level": 1}),
        (type("Text", (str,), {})("x"), "x"),
        ({NOON.date()}, ["2024-05-01"]),
    ],
)
def test_output_goes_by_its_own_type(value: Any, plain: Any) -> None:
    assert _stored.to_plain(value, "it") == plain


def test_depth_is_limited() -> None:
    value: Any = []
    for _ in range(300):
        value = [value]
    with pytest.raises(Unsendable, match="nested more than 200"):
        _stored.to_plain(value, "it")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_is_plain_and_stays_as_it_is(value: Any) -> None:
    assert _stored.is_plain(value, "it")
    assert _stored.to_plain(value, "it") is value
    assert _decode.decode(value, Any, "it") is value


def test_plain_values_load_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys; from taskctl.sdk._stored import to_plain; to_plain({'a': [1]}, 'it');"
        "print([m for m in ('typing', 'dataclasses', 'json', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(_values.__file__).parents[2],
    )
    assert done.stdout == "[]\n", done.stderr
