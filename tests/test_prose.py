"""The words that people read: whole sentences that name who does what.

A small list instead of a linter: each entry is a habit that readers stumbled over. It holds for the
pages, for what ``kubectl explain`` and ``--help`` print, and for messages, docstrings and comments
of the code. Decision records and the changelog stay as they were written.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# libyaml reads the CRDs ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CRDS = sorted((ROOT / "crds").glob("taskctl.dev_*.yaml"))
# Packages whose code has not been edited yet. This list only ever gets shorter.
UNEDITED = ("agent", "placement")
EDITED = sorted(
    path
    for path in (ROOT / "taskctl").iterdir()
    if path.name not in UNEDITED and (path.suffix == ".py" or (path / "__init__.py").exists())
)
# What to write instead. A pattern is a regular expression, in which case does not matter.
INSTEAD = {
    r"\bnobody\b": "name who does not: the controller, users without a role, ...",
    r"\bsomebody( else)?\b": "name who it is: a user, another program, ...",
    r"\bwho(so)?ever\b": "name who it is: a user who ..., a task that ...",
    r"\banew\b": "again",
    r"\bfor ever\b": "forever",
    r"\bof late\b": "recently",
    r"\bgo(es)? on\b": "continue(s)",
    r"\bwent on\b": "continued",
    r"(?<!there )\b(is|are|was|were) no (?!longer\b|more\b|other\b)": "is not a ...",
    r"\bhe has\b": "they have",
    r"\b(lest|thereof|hitherto|wherefore)\b": "plain words",
    r"see the message\b": "say here what the message says",
}
_ANY = re.compile("|".join(INSTEAD), re.IGNORECASE)
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def problems(text: str) -> list[str]:
    """Return what is wrong with a text, each with what to write instead."""
    plain = _CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    found = []
    for pattern, instead in INSTEAD.items():
        for match in re.finditer(pattern, plain, re.IGNORECASE):
            line = plain.count("\n", 0, match.start()) + 1
            found.append(f"line {line}: {match[0]!r}: {instead}")
    return found


def descriptions(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each description below a part of a CRD."""
    if isinstance(schema, dict):
        text = schema.get("description")
        if isinstance(text, str):
            yield path, text
        for key, value in schema.items():
            yield from descriptions(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from descriptions(value, f"{path}/{number}")


def words_of_code(code: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each string (f-strings in parts) and each block of comments."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    first, last, block = 0, 0, ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        if block and line != last + 1:
            yield first, block
            block = ""
        first, last = (first if block else line), line
        block += f" {token.string.lstrip('# ')}"
    yield first, block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page: Path) -> None:
    assert problems(page.read_text()) == []


@pytest.mark.parametrize("crd", CRDS, ids=lambda crd: crd.stem)
def test_what_kubectl_explain_shows(crd: Path) -> None:
    found = dict(descriptions(yaml.load(crd.read_text(), LOADER)))
    assert len(found) > 5
    assert {path: problems(text) for path, text in found.items() if problems(text)} == {}


def test_help_of_every_verb() -> None:
    from typer.main import get_command

    from taskctl.cli.app import build_app

    def texts(command: Any, path: str) -> Iterator[tuple[str, str]]:
        yield path, f"{command.help}\n{command.epilog or ''}"
        for parameter in command.params:
            yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""
        for name, below in getattr(command, "commands", {}).items():
            yield from texts(below, f"{path} {name}")

    found = dict(texts(get_command(build_app()), "taskctl"))
    assert len(found) > 100
    assert {path: problems(text) for path, text in found.items() if problems(text)} == {}


@pytest.mark.parametrize("package", EDITED, ids=lambda package: package.name)
def test_messages_docstrings_and_comments(package: Path) -> None:
    found = {}
    for path in [package] if package.suffix else sorted(package.rglob("*.py")):
        code = path.read_text()
        if _ANY.search(code):
            found[str(path.relative_to(ROOT))] = [
                f"line {line}: {problem}"
                for line, text in words_of_code(code)
                for problem in problems(text)
            ]
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_words_of_code() -> None:
    code = 'x = 1  # no-\n# body goes\n# on\n"""It\ngoes on."""\nf"a {x} whoever"\nwhoever = 2\n'
    found = [(line, text) for line, text in words_of_code(code) if problems(text)]
    assert sorted(found) == [(1, " no- body goes on"), (4, "It\ngoes on."), (6, " whoever")]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("Nobody deletes it.", True), ("It goes on.", True), ("x is no array", True),
     ("there is no limit", False), ("it is no longer there", False), ("`nobody`", False),
     ("```\nnobody\n```", False), ("```\nx\n```\nwhoever", True)],
)  # fmt: skip
def test_the_list_itself(text: str, wrong: bool) -> None:
    assert bool(problems(text)) is wrong
