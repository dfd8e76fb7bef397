"""Which fields Kubernetes' messages have in protobuf, from ``data/protobuf_tables.json``.

The file is made by ``scripts/gen_protobuf_tables.py``. A message's table is parsed when it is
first asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import orjson

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
MAGIC: Final = b"k8s\x00"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Registered in every group and version (k8s.io/apimachinery metav1.AddToGroupVersion).
DELETE_OPTIONS: Final = "DeleteOptions"
LIST_META: Final = "meta.v1.ListMeta"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        number: on the wire.
        name: in JSON.
        type: ``string``, ``bytes``, ``int``, ``bool``, ``double``, or the name of a message.
        many: repeated.
        map: a map from strings to ``type``.
        pointer: a zero differs from an absent value.
        inline: its message's fields stand beside it in JSON.
        always: JSON has it also where it is zero.
    """

    number: int
    name: str
    type: str
    many: bool = False
    map: bool = False
    pointer: bool = False
    inline: bool = False
    always: bool = False


@cache
def _data() -> dict[str, Any]:
    path = resources.files("taskctl.embedded.server.protobuf").joinpath("data/protobuf_tables.json")
    loaded: dict[str, Any] = orjson.loads(path.read_bytes())
    return loaded


def message_of(api_version: str, kind: str) -> str | None:
    """Return the name of the message that a kind is written as, or None if there is none."""
    name = f"/{kind}" if kind == DELETE_OPTIONS else f"{api_version}/{kind}"
    found: str | None = _data()["kinds"].get(name)
    return found


@cache
def fields_of(message: str) -> dict[int, Field]:
    """Return a message's fields by number; a message without any has an empty table."""
    return {field.number: field for field in map(_parse, _data()["messages"][message])}


def _parse(line: str) -> Field:
    """Read a line such as ``4 name string``, ``5 limits {resource.Quantity}``, ``6 x int ?``."""
    number, name, kind, *flags = line.split()
    return Field(
        int(number),
        name,
        kind.strip("{}"),
        many="*" in flags,
        map=kind.startswith("{"),
        pointer="?" in flags,
        inline="^" in flags,
        always="!" in flags,
    )
