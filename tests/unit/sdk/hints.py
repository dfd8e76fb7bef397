"""Annotations with values: the space in which the SDK's promise is checked.

Every strategy here makes pairs of an annotation and a value. Most values fit; some do not, or
fit in a way that JSON cannot say: those the SDK must refuse.
"""

# mypy: disable-error-code="valid-type"

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import typing
import uuid
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import pydantic
from hypothesis import strategies as st

T = TypeVar("T")
Pair = tuple[Any, Any]


class Level(enum.Enum):
    LOW = 1
    HIGH = "1"
    ORIGIN = (0, 0)
    NOTHING = None
    OTHER = object()


class Perm(enum.Flag):
    R = 1
    W = 2


class Mask(enum.IntFlag):
    A = 1
    B = 4


class Number(enum.IntEnum):
    ONE = 1


class Color(str, enum.Enum):  # noqa: UP042  (as older code has it)
    RED = "red"


@dataclass
class Counter:
    start: int
    seen: int = field(default=0, init=False)


@dataclass
class Doubled:
    a: int

    def __post_init__(self) -> None:
        self.a *= 2


@dataclass
class Scaled:
    a: int
    by: InitVar[int] = 1

    def __post_init__(self, by: int) -> None:
        self.a *= by


@dataclass(frozen=True, order=True)
class Frozen:
    a: int = 1
    when: dt.datetime | None = None


@dataclass
class Hidden:
    a: int
    b: int = field(default=0, compare=False)


@dataclass
class Base:
    a: int


@dataclass
class Derived(Base):
    b: str = ""


@dataclass(slots=True, kw_only=True)
class Slotted:
    a: bytes
    b: float = 0.0


@dataclass
class Box(Generic[T]):
    item: T
    more: list[T] = field(default_factory=list)


@dataclass
class Node:
    value: Any
    next: Node | None = None


class Spot(NamedTuple):
    x: int
    y: Optional[pathlib.Path] = None  # noqa: UP045


class Row(TypedDict, total=False):
    when: typing.Required[dt.date]
    count: int


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    at: dt.datetime
    name: str = pydantic.Field(default="", alias="Name")
    size: float = 0


class Aliased(pydantic.BaseModel):
    one: int = pydantic.Field(validation_alias="in", serialization_alias="out")


class Secretive(pydantic.BaseModel):
    user: str = ""
    password: pydantic.SecretStr = pydantic.SecretStr("")
    left_out: int = pydantic.Field(default=0, exclude=True)


class Parent(pydantic.BaseModel):
    a: int = 0


class Child(Parent):
    b: int = 0


class Holder(pydantic.BaseModel):
    item: Parent = Parent()
    tags: set[int] = set()

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        return len(self.tags)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    at: dt.datetime
    pair: tuple[int, str]


class MyStr(str):
    __slots__ = ()


class MyList(list):  # type: ignore[type-arg]
    pass


UserId = NewType("UserId", int)

TEXT = st.text(max_size=4) | st.sampled_from(["1", "true", "YWJj", "2024-01-01", "\ud800", "red"])
UNICODE = TEXT.filter(lambda text: text != "\ud800")  # pydantic takes no other
INTS = st.integers(-3, 3) | st.sampled_from([2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**30])
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, 1.0, 1e18, 2.0**63, 1e20, 1e21, 1e300, 5e-324])
ZONES = st.sampled_from([None, dt.UTC, dt.timezone(dt.timedelta(hours=2), "X")]) | st.timezones()
MOMENTS = st.datetimes(timezones=ZONES)

SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, INTS),
    (float, FLOATS),
    (bool, st.booleans()),
    (str, TEXT),
    (None, st.none()),
    (bytes, st.binary(max_size=3)),
    (bytearray, st.binary(max_size=3).map(bytearray)),
    (complex, st.complex_numbers()),
    (pathlib.Path, TEXT.map(pathlib.Path)),
    (pathlib.PurePosixPath, TEXT.map(pathlib.PurePosixPath)),
    (decimal.Decimal, st.decimals() | st.just(decimal.Decimal("1.10"))),
    (uuid.UUID, st.uuids()),
    (dt.datetime, MOMENTS),
    (dt.date, st.dates() | MOMENTS),
    (dt.time, st.times(timezones=ZONES)),
    (dt.timedelta, st.timedeltas() | st.just(dt.timedelta(days=999_999_999, microseconds=1))),
    (Level, st.sampled_from(Level)),
    (Perm, st.sampled_from([Perm(0), Perm.R, Perm.R | Perm.W])),
    (Mask, st.sampled_from([Mask(0), Mask.A, Mask.A | Mask.B, Mask(8)])),
    (Number, st.sampled_from(Number)),
    (Color, st.sampled_from(Color)),
    (UserId, INTS),
    (Literal["1", 1, True, b"1", Color.RED], st.sampled_from(["1", 1, True, b"1", Color.RED, 1.0])),
]
STRANGE: list[Any] = [
    *(MyStr("x"), MyList([1]), OrderedDict(b=1, a=2), defaultdict(int, a=1), deque([1])),
    *((1, 2), [(1, 2)], {"shape": (3, 4)}, {1: 2}, {1: "a", "1": "b"}, {1, 2}, frozenset([1])),
    *(range(3), object(), len, float("nan"), memoryview(b"x"), Number.ONE, Color.RED, True, 1.0),
    *({Color.RED: 1}, {MyStr("k"): 1}, {None: 1}, {True: 1}, iter([1]), "\ud800", {"\ud800": 1}),
]


def _pair(hint: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Pair]:
    return st.tuples(st.just(hint), values)


SCALAR_PAIRS = st.one_of(*(_pair(hint, values) for hint, values in SCALARS))
KEYS = [
    (str, TEXT),
    (int, st.integers(-3, 3)),
    (bool, st.booleans()),
    (float, st.floats(allow_nan=False)),
    (Level, st.sampled_from(Level)),
    (dt.date, st.dates()),
    (Union[int, str], st.sampled_from([1, "1", "a"])),  # noqa: UP007
    (Optional[str], st.sampled_from([None, "a"])),  # noqa: UP045
    (tuple[int, int], st.just((1, 2))),
    (Any, st.sampled_from(["a", "b", 1, MyStr("a")])),
]

RECORDS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Doubled, st.builds(Doubled, INTS)),
    (Scaled, st.builds(Scaled, st.integers(0, 3), st.integers(1, 2))),
    (Frozen, st.builds(Frozen, st.integers(0, 3), st.none() | MOMENTS)),
    (Hidden, st.builds(Hidden, st.integers(0, 3), st.integers(0, 1) | TEXT)),
    (Base, st.builds(Base, INTS) | st.builds(Derived, st.integers(0, 3), TEXT)),
    (Slotted, st.builds(Slotted, a=st.binary(max_size=2), b=FLOATS)),
    (Spot, st.builds(Spot, INTS, st.none() | TEXT.map(pathlib.Path))),
    (Row, st.fixed_dictionaries({}, optional={"when": st.dates(), "count": INTS, "odd": INTS})),
    (Holder, st.builds(Holder, tags=st.sets(st.integers(0, 3), max_size=2))),
    (Holder, st.builds(Child).map(lambda child: Holder(item=child))),
    (
        Model,
        st.builds(lambda at, n, s: Model(at=at, Name=n, size=s, x=s), MOMENTS, UNICODE, FLOATS),
    ),
    (Aliased, st.integers(0, 3).map(lambda n: Aliased.model_validate({"in": n}))),
    (Secretive, st.builds(lambda n: Secretive(left_out=n), st.integers(0, 1))),
    (Secretive, UNICODE.map(lambda text: Secretive(password=pydantic.SecretStr(text)))),
    (Parent, st.builds(Parent) | st.builds(Child)),
    (Strict, st.builds(lambda at, n: Strict(at=at, pair=(n, "x")), MOMENTS, st.integers(0, 3))),
    (Box, st.builds(Box, TEXT | st.dates())),
    (Box[dt.date], st.builds(Box, st.dates(), st.lists(st.dates() | TEXT, max_size=2))),
]


@st.composite
def counters(draw: st.DrawFn) -> Pair:
    """A field that the constructor does not take, and one that is no field at all."""
    value = Counter(draw(st.integers(0, 3)))
    value.seen = draw(st.integers(0, 1))
    if draw(st.booleans()):
        value.note = "x"  # type: ignore[attr-defined]
    return Counter, value


@st.composite
def _containers(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    hint, value = draw(inner)
    other, another = draw(inner)
    kind = draw(st.integers(0, 11))
    shapes: list[Pair] = [
        (list[hint], [value, value]),
        (tuple[hint, other], (value, another)),
        (tuple[hint, ...], (value,)),
        (Optional[hint], draw(st.sampled_from([value, None]))),  # noqa: UP045
        (Union[hint, other], draw(st.sampled_from([value, another]))),  # noqa: UP007
        (Union[hint, other, str], draw(st.sampled_from([value, another]) | TEXT)),  # noqa: UP007
        (typing.Annotated[hint, "doc"], value),
        (Sequence[hint], draw(st.sampled_from([[value], (value,)]))),
        (Iterable[hint], draw(st.sampled_from([[value], (value,), iter([value])]))),
        (Box[hint], Box(value, [value])),
        (Node, Node(value, Node(another))),
        (list, [value]),
    ]
    return shapes[kind]


@st.composite
def _maps(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    key_hint, keys = draw(st.sampled_from(KEYS))
    hint, value = draw(inner)
    made = dict.fromkeys(draw(st.lists(keys, max_size=3)), value)
    return draw(st.sampled_from([dict, Mapping]))[key_hint, hint], made


@st.composite
def _sets(draw: st.DrawFn) -> Pair:
    hint, value = draw(SCALAR_PAIRS)
    try:
        kind = draw(st.sampled_from([set, frozenset]))
        return kind[hint], kind([value])  # type: ignore[index]
    except TypeError:  # a bytearray has no hash
        return hint, value


@st.composite
def _mismatches(draw: st.DrawFn, inner: st.SearchStrategy[Pair]) -> Pair:
    return draw(inner)[0], draw(inner)[1]


RECORD_PAIRS = st.one_of(*(_pair(hint, values) for hint, values in RECORDS)) | counters()
STRANGE_PAIRS = st.tuples(
    st.sampled_from([Any, object, list, dict, str, int, float, set, Sequence[int], T]),
    st.sampled_from(STRANGE),
)
LEAVES = SCALAR_PAIRS | RECORD_PAIRS | STRANGE_PAIRS | _sets()
PAIRS: st.SearchStrategy[Pair] = st.recursive(
    LEAVES,
    lambda inner: _containers(inner) | _maps(inner) | _mismatches(inner),
    max_leaves=6,
)


def exact(value: Any) -> Any:
    """Return a value spelt out with the types of all its parts, so that `==` tells all apart.

    Written without a look at the code under test.
    """
    kind = type(value).__qualname__
    if isinstance(value, enum.Enum):
        return kind, value.name, repr(value.value) if isinstance(value, enum.Flag) else ""
    if isinstance(value, (dt.datetime, dt.time)):
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, str(value.utcoffset())
    if isinstance(value, (bool, int, float, complex, str, bytes, bytearray, decimal.Decimal)):
        return kind, repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = {item.name: 0 for item in dataclasses.fields(value)} | getattr(
            value, "__dict__", {}
        )
        return kind, {name: exact(getattr(value, name)) for name in names}
    if isinstance(value, pydantic.BaseModel):
        extra = value.model_extra or {}
        return kind, {name: exact(item) for name, item in {**value.__dict__, **extra}.items()}
    if isinstance(value, dict):
        return kind, sorted((repr(exact(key)), exact(item)) for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return kind, sorted(repr(exact(item)) for item in value)
    if isinstance(value, (list, tuple, deque)):
        return kind, [exact(item) for item in value]
    return kind, repr(value)
