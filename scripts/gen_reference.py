"""Write docs/reference/: the objects from the models, the commands from their help.

The pages are built, not kept: `scripts/docs` calls this before it builds the site.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from taskctl.api.crds import load_all
from taskctl.cli.app import build_app

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "docs" / "reference"
NOTE = "<!-- Written by scripts/gen_reference.py. -->\n"
HELP_COLUMNS = 80
OF_EVERY_OBJECT = ("apiVersion", "kind", "metadata")
FIRST_HEADING, LAST_HEADING = 2, 3

Schema = dict[str, Any]

# What the schema says as keywords, and how the page says it.
LIMITS = (
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
    ("minLength", "characters: at least {}"),
    ("maxLength", "characters: at most {}"),
    ("minItems", "items: at least {}"),
    ("maxItems", "items: at most {}"),
    ("maxProperties", "keys: at most {}"),
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object.

    Attributes:
        path: as error messages name it, e.g. ``spec.env[].name``.
        schema: its part of the CRD.
        required: whether it must be there where its parent is.
    """

    path: str
    schema: Schema
    required: bool


def fields_of(schema: Schema, path: str = "") -> Iterator[Field]:
    """Yield the fields of a schema, parents first."""
    required = schema.get("required", ())
    for name, inner in schema.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        yield Field(below, inner, name in required)
        yield from inside(inner, below)


def inside(schema: Schema, path: str) -> Iterator[Field]:
    """Yield the fields below one, through lists and maps."""
    yield from fields_of(schema, path)
    for keyword, mark in (("items", "[]"), ("additionalProperties", ".*")):
        inner = schema.get(keyword)
        if isinstance(inner, dict):
            yield from inside(inner, path + mark)


def type_of(schema: Schema) -> str:
    """Return the type as a reader would say it."""
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    inner = schema.get("additionalProperties")
    if kind == "object" and isinstance(inner, dict):
        return f"map of {type_of(inner)}"
    return str(kind)


def facts(field: Field) -> str:
    """Return type, limits and default of a field in one line."""
    schema = field.schema
    said = [type_of(schema)]
    if field.required:
        said.append("required")
    if "default" in schema:
        said.append(f"default `{schema['default']}`")
    if "enum" in schema:
        said.append("one of " + ", ".join(f"`{value}`" for value in schema["enum"]))
    said += [text.format(schema[key]) for key, text in LIMITS if key in schema]
    if "pattern" in schema:
        said.append(f"pattern `{schema['pattern']}`")
    return "; ".join(said)


def object_page(crd: Schema) -> str:
    """Return the page of one kind."""
    version = crd["spec"]["versions"][-1]
    schema = version["schema"]["openAPIV3Schema"]
    names, group = crd["spec"]["names"], crd["spec"]["group"]
    lines = [
        NOTE,
        f"# {names['kind']}",
        "",
        schema["description"],
        "",
        f"`apiVersion: {group}/{version['name']}`, `kind: {names['kind']}`; with kubectl: "
        + ", ".join(f"`{name}`" for name in (names["plural"], *names.get("shortNames", ())))
        + ".",
    ]
    for field in fields_of(schema):
        if field.path.partition(".")[0] not in OF_EVERY_OBJECT:
            lines += field_lines(field)
    return "\n".join(lines) + "\n"


def field_lines(field: Field) -> list[str]:
    """Return one field: a heading for those on the first two levels, so that they have links."""
    level = field.path.count(".") + 2
    if level == FIRST_HEADING:
        title = f"## {field.path}"
    elif level <= LAST_HEADING:
        title = f"{'#' * level} `{field.path}`"
    else:
        title = f"**`{field.path}`** ({facts(field)})"
    lines = ["", title, ""]
    if FIRST_HEADING < level <= LAST_HEADING:
        lines += [facts(field)[:1].upper() + facts(field)[1:] + ".", ""]
    lines.append(escaped(field.schema.get("description", "")))
    rules = field.schema.get("x-kubernetes-validations", ())
    messages = dict.fromkeys(rule["message"] for rule in rules if "message" in rule)
    if messages:
        lines += ["", "The API server refuses what breaks a rule:", ""]
        lines += [f"- {escaped(message)}" for message in messages]
    return lines


def escaped(text: str) -> str:
    """Return a description so that Markdown shows each of its characters."""
    return "".join(f"\\{one}" if one in "*_<>[]$" else one for one in text)


def commands_page() -> str:
    """Return the page of all verbs."""
    root = typer.main.get_command(build_app())
    lines = [NOTE, "# Commands", "", "What each verb says with `--help`."]
    for words, command in commands(root, ("taskctl",)):
        context = command.context_class(
            command, info_name=" ".join(words), terminal_width=HELP_COLUMNS
        )
        lines += ["", f"## {' '.join(words)}", "", "```text", command.get_help(context), "```"]
    return "\n".join(lines) + "\n"


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a command and all below it, but for hidden ones; both are commands of click."""
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from commands(inner, (*words, name))


def render() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    pages = {f"{crd['spec']['names']['singular']}.md": object_page(crd) for crd in load_all()}
    return {**pages, "commands.md": commands_page()}


def main() -> int:
    """Write the pages."""
    OUTPUT.mkdir(exist_ok=True)
    for name, text in render().items():
        (OUTPUT / name).write_text(text, encoding="utf-8")
        print(f"written: docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
