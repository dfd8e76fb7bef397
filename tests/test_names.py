"""One class, one name, and the nouns of the glossary are names in the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ROOT = REPOSITORY / "taskctl"
CRDS = sorted((REPOSITORY / "crds").glob("*.yaml"))

# Names that stand for several classes still. This list only ever gets shorter.
SHARED = frozenset(
    {
        "Change",
        "Child",
        "Client",
        "Connection",
        "Context",
        "DeleteOptions",
        "Event",
        "EventType",
        "Journal",
        "Limits",
        "ListOptions",
        "LocalStack",
        "Options",
        "Outcome",
        "Propagation",
        "Reader",
        "Resource",
        "Session",
        "Store",
        "Watcher",
        "Workspace",
        "Writer",
    }
)


NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@lru_cache
def names() -> dict[str, list[tuple[type, str]]]:
    """Return what is defined under each name: the type of its node, and its file."""
    found: dict[str, list[tuple[type, str]]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, NAMED):
                found[node.name].append((type(node), str(path.relative_to(ROOT))))
    return found


def classes() -> dict[str, list[str]]:
    """Return the files that define a class of each name."""
    return {
        name: where
        for name, nodes in names().items()
        if (where := [path for kind, path in nodes if kind is ast.ClassDef])
    }


def nouns() -> dict[str, list[str]]:
    """Return the names in the code that the glossary gives for each noun."""
    found = {}
    for line in (REPOSITORY / "docs/glossary.md").read_text().splitlines():
        if line.startswith("| **"):
            noun, _, code = (cell.strip() for cell in line.strip("|").split("|"))
            found[noun] = re.findall(r"`([\w.]+)`", code)
    return found


def test_each_noun_of_the_glossary_is_in_the_code() -> None:
    fields = re.findall(r"(\w+):", "".join(path.read_text() for path in CRDS))
    known = {*names(), *fields, *(".".join(path.with_suffix("").parts) for path in modules())}
    assert len(nouns()) >= 30
    assert {noun: code for noun, code in nouns().items() if not code} == {}, "name it in the code"
    assert {noun: code for noun, code in nouns().items() if not known >= set(code)} == {}


def modules() -> list[Path]:
    files = [path.relative_to(REPOSITORY) for path in ROOT.rglob("*.py")]
    return [path.parent if path.name == "__init__.py" else path for path in files]


def test_no_class_name_twice() -> None:
    found = classes()
    twice = {name: where for name, where in found.items() if len(where) > 1}
    new = {name: where for name, where in twice.items() if name not in SHARED}
    assert new == {}, "give each its own name"
    assert SHARED - set(twice) == set(), "take these out of SHARED: they are unique by now"


def test_each_logger_is_called_log() -> None:
    found = {
        str(path.relative_to(ROOT)): target.id
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("logging.getLogger(")
        for target in node.targets
        if isinstance(target, ast.Name) and target.id != "log"
    }
    assert {path for path in found if not path.startswith("agent/")} == set()  # agent/: not yet
