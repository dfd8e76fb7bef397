"""What tasks load parses in the oldest Python that images may bring, also where there is none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.unit.sdk.bundle import PYTHONS, ROOT

OLDEST = (3, 9)
LOADED = [
    *(ROOT / "taskctl" / name for name in ("__init__.py", "errors.py", "wire.py")),
    *sorted((ROOT / "taskctl" / "sdk").glob("*.py")),
]


@pytest.mark.parametrize("path", LOADED, ids=lambda path: path.name)
def test_syntax(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=OLDEST)


def test_the_oldest_is_the_first_that_programs_are_run_with() -> None:
    assert PYTHONS[0] == f"python{OLDEST[0]}.{OLDEST[1]}"
