"""One row for each kind of value: what comes back, and what is refused with which words.

Plain Python 3.9 without any package, so that every interpreter that an image may bring can run
it: ``python table.py`` prints what is wrong, and exits 1.
"""

# ruff: noqa: UP007, UP045  (as older code has it)

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import json
import pathlib
import sys
import typing
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import (
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

from taskctl.sdk import _decode, _values
from taskctl.sdk.errors import Unsendable

T = TypeVar("T")
UserId = NewType("UserId", int)


class Perm(enum.Flag):
    R = 1
    W = 2


class Mask(enum.IntFlag):
    A = 1
    B = 4


class Point(enum.Enum):
    ORIGIN = (0, 0)
    ONE = (1, 1)


class Code(enum.Enum):
    NUMBER = 1
    TEXT = "1"


class Thing(enum.Enum):
    SOMETHING = object()


class Clash(enum.Enum):
    NAME = object()
    OTHER = "NAME"


class Number(enum.IntEnum):
    ONE = 1


class Color(str, enum.Enum):
    RED = "red"


@dataclass
class Counter:
    start: int
    seen: int = field(init=False, default=0)


@dataclass
class Doubled:
    a: int

    def __post_init__(self) -> None:
        self.a *= 2


@dataclass
class Scaled:
    a: int
    by: InitVar[int]

    def __post_init__(self, by: int) -> None:
        self.a *= by


@dataclass(frozen=True)
class Frozen:
    a: int = 1


@dataclass
class Uncompared:
    a: int = field(default=0, init=False, compare=False)


@dataclass
class Derived(Counter):
    more: str = ""


@dataclass
class Box(Generic[T]):
    item: T


@dataclass
class Node:
    value: int
    next: Optional[Node] = None


@dataclass
class Left:
    n: int = 0


@dataclass
class Right:
    n: int = 0


class Slotted:
    __slots__ = ("a",)


class Spot(NamedTuple):
    x: int
    y: str = ""


class Row(TypedDict, total=False):
    when: dt.date


class MyInt(int):
    pass


class MyStr(str):
    pass


class Moment(dt.datetime):
    pass


def seen(n: int) -> Counter:
    value = Counter(1)
    value.seen = n
    return value


def noted() -> Frozen:
    value = Frozen()
    object.__setattr__(value, "note", "x")
    return value


def ring() -> Node:
    node = Node(1)
    node.next = node
    return node


def uncompared() -> Uncompared:
    value = Uncompared()
    value.a = 5
    return value


def chain(length: int) -> Node:
    node = Node(0)
    for _ in range(length):
        node = Node(1, node)
    return node


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def loop() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))
NOON = dt.datetime(2024, 5, 1, 12, 0, 0, 1)
LONG = dt.timedelta(days=999_999_999, microseconds=1)
NEGATIVE = -dt.timedelta(days=999_999_998, microseconds=1)


class Zone(dt.tzinfo):
    def utcoffset(self, moment: Optional[dt.datetime]) -> dt.timedelta:
        return dt.timedelta(hours=1)

    def dst(self, moment: Optional[dt.datetime]) -> dt.timedelta:
        return dt.timedelta(0)

    def tzname(self, moment: Optional[dt.datetime]) -> str:
        return "summer"


# (annotation, value)
COMES_BACK: list[tuple[Any, Any]] = [
    *((int, 2**63 - 1), (int, -(2**63)), (bool, False), (str, "\x00\n😀"), (None, None)),
    *((float, 0.1), (float, 1.0), (float, -0.0), (float, 1e19), (float, 1e300), (float, 5e-324)),
    *((Any, {"a": [1, None, "x", 0.5, True]}), (object, []), (T, "x"), (Any, 1e300)),
    *((list, [1, "1"]), (dict, {"1": 1}), (list[float], [1.0, 2.5]), (set[int], {1, 2})),
    *((tuple, ()), (tuple[int, int], (1, 2)), (tuple[int, ...], (1, 2, 3)), (tuple[()], ())),
    *((list[tuple[int, int]], [(1, 2)]), (frozenset[str], frozenset("ab"))),
    *((Sequence[int], [1]), (Iterable[int], [1]), (Mapping[str, int], {"a": 1})),
    *((dict[int, str], {1: "a"}), (dict[bool, int], {True: 1}), (dict[float, int], {0.5: 1})),
    *((dict[Color, int], {Color.RED: 1}), (dict[dt.date, int], {dt.date(2024, 1, 1): 1})),
    *((bytes, b"\x00\xff"), (bytearray, bytearray(b"x")), (pathlib.Path, pathlib.Path("/x"))),
    *((decimal.Decimal, decimal.Decimal("1.10")), (decimal.Decimal, decimal.Decimal("-0"))),
    *((decimal.Decimal, decimal.Decimal("NaN")), (uuid.UUID, uuid.UUID(int=1))),
    *((dt.datetime, NOON), (dt.datetime, NOON.replace(tzinfo=EAST)), (dt.date, NOON.date())),
    *((dt.datetime, NOON.replace(tzinfo=dt.timezone.utc)), (dt.time, NOON.time())),
    *((dt.timedelta, dt.timedelta(microseconds=1)), (dt.timedelta, LONG), (dt.timedelta, NEGATIVE)),
    *((Perm, Perm.R), (Perm, Perm.R | Perm.W), (Perm, Perm(0)), (Mask, Mask.A | Mask.B)),
    *((Point, Point.ONE), (Code, Code.TEXT), (Code, Code.NUMBER), (Color, Color.RED)),
    *((Number, Number.ONE), (Thing, Thing.SOMETHING), (Clash, Clash.NAME)),
    *((Counter, Counter(1)), (Frozen, Frozen(3)), (Node, chain(50)), (Spot, Spot(1, "y"))),
    *(
        (Box[dt.date], Box(NOON.date())),
        (Box[list[int]], Box([1])),
        (Row, {}),
        (Uncompared, Uncompared()),
    ),
    *((Row, {"when": NOON.date()}), (UserId, 3), (typing.Annotated[float, "m"], 2.0)),
    *((Literal["a", 1], 1), (Literal[Color.RED, b"x"], b"x"), (Literal[True, 1], True)),
    *((Optional[float], 1.0), (Optional[list[int]], None), (Union[int, float], 2.0)),
    *(
        (Union[float, int], 2),
        (Union[int, str], "5"),
        (Union[int, str], 5),
        (Union[int, bool], True),
    ),
    *(
        (Union[pathlib.Path, str], "/x"),
        (Union[Left, Spot], Spot(1)),
        (Union[str, None, int], None),
    ),
    *((Union[list[int], dict[str, int]], {"a": 1}), (dict[str, Union[int, list[int]]], {"a": [1]})),
]

# (annotation, value, what the error says)
REFUSED: list[tuple[Any, Any, str]] = [
    # text that another member would take
    (Union[bytes, str], b"abc", "would come back as str"),
    (Union[dt.datetime, str], NOON, "would come back as str"),
    (Union[pathlib.Path, str], pathlib.Path("/x"), "would come back as str"),
    (Union[float, decimal.Decimal], decimal.Decimal("1.10"), "would come back as float"),
    (Union[list[int], set[int]], {1}, "would come back as list"),
    (Union[Left, Right], Right(1), "would come back as Left"),
    (dict[str, Union[bytes, str]], {"a": b"x"}, "it['a']: bytes b'x' would come back as str"),
    # numbers
    (int, 2**63, "over 64 bits"),
    (int, True, "is bool, but its annotation is int, which is what it would come back as"),
    (int, 1.0, "is float"),
    (bool, 1, "is int"),
    (int, MyInt(1), "is MyInt"),
    (int, Number.ONE, "is Number"),
    (float, 2**53 + 1, "has no equal float"),
    (float, 10**400, "has no equal float"),
    (float, float("nan"), "has no JSON form"),
    (list[float], [float("inf")], "it[0]: inf has no JSON form"),
    (Any, 1.0, "would come back as an int: annotate it with float"),
    (Any, {"rate": -0.0}, "it['rate']: -0.0 is a float without a fraction"),
    (complex, 1j, "not one that the SDK turns back"),
    # text and bytes
    (str, MyStr("x"), "is MyStr"),
    (str, "\ud800", "lone surrogate"),
    (pathlib.Path, pathlib.Path("/\udcff"), "lone surrogate"),
    (Any, {"\ud800": 1}, "lone surrogate"),
    (Any, b"x", "annotate it"),
    (bytes, memoryview(b"x"), "is memoryview"),
    # arrays
    (Any, (1, 2), "is tuple and has no annotation"),
    (Any, {"shape": (3, 4)}, "it['shape']: is tuple"),
    (list, [(1, 2)], "it[0]: is tuple"),
    (dict, {"shape": (3, 4)}, "it['shape']: is tuple"),
    (Sequence[int], (1, 2), "is tuple"),
    (list[int], collections.deque([1]), "is deque"),
    (tuple[int, int], (1, 2, 3), "has 3 items, its annotation 2"),
    (tuple[int, int], [1, 2], "is list"),
    (Iterable[int], (n for n in range(3)), "make it a list"),
    (Any, iter([1]), "annotate it"),
    (set[int], frozenset([1]), "is frozenset"),
    # keys
    (dict[Union[int, str], str], {1: "a", "1": "b"}, "two keys are '1' as JSON text"),
    (dict[Union[int, str], str], {1: "a"}, "would come back"),
    (dict[tuple[int, int], str], {(1, 2): "a"}, "a key is tuple"),
    (dict[Optional[str], str], {None: "a"}, "a key is None"),
    (Any, {1: "a"}, "a key is int"),
    (dict[str, int], {MyStr("x"): 1}, "is MyStr"),
    (dict[str, int], collections.OrderedDict(a=1), "is OrderedDict"),
    (dict[str, int], collections.defaultdict(int, a=1), "is defaultdict"),
    (typing.OrderedDict[str, int], collections.OrderedDict(a=1), "not one that the SDK turns back"),
    # times
    (dt.date, NOON, "is datetime, but its annotation is date"),
    (dt.datetime, Moment(2024, 1, 1), "is Moment"),
    (dt.datetime, NOON.replace(tzinfo=Zone()), "would come back as"),
    (dt.datetime, NOON.replace(fold=1), "fold=1"),
    (dt.datetime, NOON.date(), "is date"),
    # enums
    (Clash, Clash.OTHER, "would come back as Clash"),
    (str, Color.RED, "is Color"),
    (Literal[1], True, "not one of"),
    (Literal["a"], MyStr("a"), "not one of"),
    # records
    (Counter, seen(5), "it.seen: int 5 would come back as int 0"),
    (Uncompared, uncompared(), "it.a: int 5 would come back as int 0"),
    (Doubled, Doubled(2), "it.a: int 4 would come back as int 8"),
    (Scaled, Scaled(2, 3), "Scaled"),
    (Frozen, noted(), "it.note: str 'x' would come back as _Absent nothing"),
    (Counter, Derived(1), "is Derived, but its annotation is Counter"),
    (list[Counter], [seen(0), seen(1)], "it[1].seen"),
    (Box, Box(NOON), "it.item: is datetime and has no annotation"),
    (Box[int], Box("x"), "it.item: is str, but its annotation is int"),
    (tuple[int, str], Spot(1), "is Spot"),
    (Spot, (1, "x"), "is tuple"),
    (Row, {"when": NOON.date(), "odd": 1}, "has a key 'odd', which its annotation lacks"),
    (Slotted, Slotted(), "not one that the SDK turns back"),
    (type, int, "not one that the SDK turns back"),
    # depth
    (Node, ring(), "contains itself"),
    (Node, chain(400), "contains itself"),
    (Any, loop(), "contains itself"),
    (Any, nested(300), "nested more than 200 levels"),
]


def wrongs() -> Iterable[str]:
    """Yield a sentence for each row that is not as it says."""
    for hint, value in COMES_BACK:
        for form in _forms(hint, value):
            if isinstance(form, str):
                yield f"{hint}, {value!r}: {form}"
                continue
            back = _decode.decode(form[0], hint, "it")
            if type(back) is not type(value) or repr(back) != repr(value):
                yield f"{hint}, {value!r}: came back as {back!r}"
    for hint, value, words in REFUSED:
        refusal = next(iter(_forms(hint, value)))
        if not isinstance(refusal, str):
            yield f"{hint}, {type(value)}: was taken as {refusal[0]!r}"
        elif words not in refusal:
            yield f"{hint}, {type(value)}: says {refusal!r}, not {words!r}"


def _forms(hint: Any, value: Any) -> Iterable[Union[str, tuple[Any]]]:
    try:
        plain = _values.encode(value, hint, "it")
    except Unsendable as error:
        return [str(error)]
    text = json.dumps(plain, sort_keys=True)
    # The second is how an API server written in Go says a float without a fraction.
    return [(json.loads(text),), (json.loads(text, parse_float=_as_go),)]


def _as_go(text: str) -> Any:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


if __name__ == "__main__":
    found = list(wrongs())
    print(*found, sep="\n")
    sys.exit(1 if found else 0)
