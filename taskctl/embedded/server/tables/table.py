"""Objects as ``meta.k8s.io/v1`` Table, the form in which kubectl asks for lists.

Cells of kinds from CRDs come from JSONPath (k8s.io/apiextensions-apiserver
``pkg/registry/customresource/tableconvertor``), those of built-in kinds from
:mod:`taskctl.embedded.server.tables.builtin`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import orjson

from taskctl.embedded.server.kinds.model import Column, Kind
from taskctl.embedded.server.tables.builtin import CELLS, POD_CONDITIONS
from taskctl.embedded.server.tables.humanize import since
from taskctl.embedded.server.tables.jsonpath import PathError, compile_path

JSON = dict[str, Any]
Cell = str | int | float | bool | None

_NAME: Final = Column(
    "Name",
    format="name",
    description="Name must be unique within a namespace. Is required when creating resources, "
    "although some resources may allow a client to request the generation of an appropriate "
    "name automatically. Name is primarily intended for creation idempotence and configuration "
    "definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
)


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """Return all columns, the name included."""
    if any(column.format == "name" for column in kind.columns):
        return kind.columns
    return (_NAME, *kind.columns)


def to_table(
    kind: Kind,
    objects: list[JSON],
    *,
    now: datetime,
    include_object: str = "Metadata",
    list_metadata: JSON | None = None,
    version: str = "v1",
) -> JSON:
    """Return a Table of objects.

    Args:
        kind: their kind.
        objects: as stored.
        now: for ages.
        include_object: ``Metadata``, ``Object`` or ``None``: what each row carries.
        list_metadata: resourceVersion, continue, remainingItemCount.
        version: of the table, ``v1`` or ``v1beta1``.
    """
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": list_metadata or {},
        "columnDefinitions": _definitions(kind),
        "rows": [_row(kind, obj, now, include_object, version) for obj in objects],
    }


def table_event(
    kind: Kind,
    obj: JSON,
    *,
    now: datetime,
    include_object: str = "Metadata",
    with_columns: bool = True,
    version: str = "v1",
) -> JSON:
    """Return the Table that a watch event carries: one row.

    Args:
        kind: of the object.
        obj: as stored.
        now: for ages.
        include_object: as for :func:`to_table`.
        with_columns: give the column definitions; clients need them once per watch.
        version: of the table, ``v1`` or ``v1beta1``.
    """
    revision = (obj.get("metadata") or {}).get("resourceVersion", "")
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": _definitions(kind) if with_columns else None,
        "rows": [_row(kind, obj, now, include_object, version)],
    }


def _definitions(kind: Kind) -> list[JSON]:
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description or _path_description(column),
            "priority": column.priority,
        }
        for column in columns_of(kind)
    ]


def _path_description(column: Column) -> str:
    if not column.json_path:
        return ""
    return f"Custom resource definition column (in JSONPath format): {column.json_path}"


def _row(kind: Kind, obj: JSON, now: datetime, include_object: str, version: str) -> JSON:
    row: JSON = {"cells": _cells(kind, obj, now)}
    if kind.builtin and kind.kind == "Pod":
        conditions = POD_CONDITIONS.get((obj.get("status") or {}).get("phase", ""))
        if conditions:
            row["conditions"] = conditions
    if include_object == "Object":
        row["object"] = obj
    elif include_object != "None":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"meta.k8s.io/{version}",
            "metadata": obj.get("metadata") or {},
        }
    return row


def _cells(kind: Kind, obj: JSON, now: datetime) -> list[Cell]:
    if kind.builtin and kind.kind in CELLS:
        return CELLS[kind.kind](obj, now)
    name = (obj.get("metadata") or {}).get("name", "")
    return [name, *(_custom_cell(column, obj, now) for column in kind.columns)]


def _custom_cell(column: Column, obj: JSON, now: datetime) -> Cell:
    found = _reader(column.json_path)(obj)
    value = found[0] if found else None
    if value is None:
        return None
    match column.type:
        case "string":
            return _text(value)
        case "date":
            return since(value, now) if isinstance(value, str) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer" if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _reader(path: str) -> Callable[[Any], list[Any]]:
    try:
        return compile_path(path)
    except PathError:  # check_crd refuses such a path; the column stays empty all the same
        return lambda obj: []


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return orjson.dumps(value).decode()
