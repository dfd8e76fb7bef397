"""docs/coverage.md names every row, and the tests that it names exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS = re.findall(
    r"^\| ([CKOTD]X?\d+) \| (.+?) \| (.+) \|$", (ROOT / "docs" / "coverage.md").read_text(), re.M
)
WANTED = {
    "K": range(1, 29),
    "KX": range(1, 34),
    "O": range(1, 18),
    "OX": range(1, 21),
    "T": range(1, 26),
    "TX": range(1, 13),
    "D": range(1, 20),
    "C": range(1, 49),
}
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(path: Path) -> set[str]:
    """Return the names of the tests in a file."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
    }


def test_every_row_is_there_once() -> None:
    wanted = [f"{letter}{number}" for letter, numbers in WANTED.items() for number in numbers]
    assert [row for row, _, _ in ROWS] == wanted


def test_every_test_that_is_named_exists() -> None:
    named = {(path, name) for _, _, proof in ROWS for path, name in NAMED.findall(proof)}
    missing = [
        f"{path}::{name}"
        for path, name in sorted(named)
        if not (ROOT / path).is_file() or name not in names_in(ROOT / path)
    ]
    assert named
    assert missing == []


def test_a_row_without_a_test_says_why() -> None:
    bare = [row for row, _, proof in ROWS if not NAMED.search(proof) and len(proof.split()) < 4]
    assert bare == []


def test_what_looks_like_a_test_is_one() -> None:
    odd = [row for row, _, proof in ROWS if proof.count("::") != len(NAMED.findall(proof))]
    assert odd == []
