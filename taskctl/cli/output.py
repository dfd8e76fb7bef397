"""Printing: objects as JSON or YAML, tables, colour where a person looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import typer

from taskctl.cli.terminal import columns, escape_in_json, one_line, with_looks
from taskctl.cli.yamlwrite import write_yaml
from taskctl.safetext import visible

COLUMN_GAP = 3


class Output(StrEnum):
    """``-o``."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Style(StrEnum):
    """Colours of the terminal, as SGR codes; empty is the terminal's own."""

    PLAIN = ""
    GOOD = "32"
    BAD = "31"
    ACTIVE = "36"
    WAITING = "33"
    DIM = "2"
    BOLD = "1"


def echo(text: str = "") -> None:
    """Print lines on stdout: colours pass, what else a terminal would act on is escaped."""
    typer.echo(with_looks(text))


def note(text: str) -> None:
    """Print a line on stderr: for people, not part of the output."""
    typer.echo(visible(text), err=True)


def counted(number: int, noun: str) -> str:
    """Return a number and what is counted, for example ``1 task`` or ``0 logs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def wants_colour(stream: Any = None) -> bool:
    """Whether to colour what goes to ``stream`` (stdout): https://no-color.org is respected."""
    stream = stream or sys.stdout
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def wants_unicode(stream: Any = None) -> bool:
    """Whether ``stream`` (stdout) can show more than ASCII."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    return "utf" in encoding.lower()


def paint(text: str, style: Style, *, colour: bool) -> str:
    """Wrap ``text`` in the codes of ``style``."""
    return f"\x1b[{style}m{text}\x1b[0m" if colour and style else text


def to_json(value: Any) -> str:
    """Return indented JSON; control characters and the like are written as escapes."""
    import json

    return escape_in_json(json.dumps(value, indent=2, ensure_ascii=False))


def to_yaml(value: Any) -> str:
    """Return YAML that kubectl and others read as the same values, keys in their order."""
    return write_yaml(value)


def without_noise(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object without ``managedFields``, as kubectl prints it."""
    metadata = {k: v for k, v in obj.get("metadata", {}).items() if k != "managedFields"}
    return {**obj, "metadata": metadata}


def print_objects(objects: Sequence[Mapping[str, Any]], output: Output, *, single: bool) -> None:
    """Print raw objects as JSON, YAML or names.

    Args:
        objects: as the API server delivers them.
        output: JSON, YAML or NAME.
        single: one object was asked for by name: no list around it.
    """
    if output is Output.NAME:
        for obj in objects:
            echo(object_name(obj))
        return
    shown = [without_noise(obj) for obj in objects]
    value: Any = shown[0] if single else {"apiVersion": "v1", "kind": "List", "items": shown}
    echo(to_json(value) if output is Output.JSON else to_yaml(value))


def object_name(obj: Mapping[str, Any]) -> str:
    """Return ``kind.group/name`` as ``kubectl -o name`` prints it."""
    group, _, version = str(obj.get("apiVersion", "")).rpartition("/")
    kind = str(obj.get("kind", "")).lower()
    suffix = f".{group}" if group and version else ""
    return f"{kind}{suffix}/{obj['metadata']['name']}"


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[Sequence[Style]] = (),
    colour: bool = False,
) -> str:
    """Lay out a table as kubectl does: capitals, three spaces between columns, no lines.

    Args:
        headings: one per column.
        rows: cells, as many as headings; made safe for a terminal, and one line each.
        styles: per row and column; may be left out.
        colour: whether to apply them.
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [
        max([len(heading), *(columns(row[column]) for row in rows)])
        for column, heading in enumerate(headings)
    ]
    lines = [_line([heading.upper() for heading in headings], widths, (), colour=False)]
    for number, row in enumerate(rows):
        row_styles = styles[number] if number < len(styles) else ()
        lines.append(_line(row, widths, row_styles, colour=colour))
    return "\n".join(lines)


def _line(
    cells: Sequence[str], widths: Sequence[int], styles: Sequence[Style], *, colour: bool
) -> str:
    parts = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        padding = " " * (width - columns(cell)) if column + 1 < len(cells) else ""
        style = styles[column] if column < len(styles) else Style.PLAIN
        parts.append(paint(cell, style, colour=colour) + padding)
    return (" " * COLUMN_GAP).join(parts).rstrip()
