"""The examples of docs/testing.md run."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from tests.conformance.target import plain_definition

PAGE = Path(__file__).resolve().parents[3] / "docs" / "testing.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)


def run(name: str, known: dict[str, Any]) -> None:
    exec(compile(EXAMPLES[0], str(PAGE), "exec"), known)  # has the imports of all
    [example] = [code for code in EXAMPLES if f"def {name}(" in code]
    exec(compile(example, str(PAGE), "exec"), known)
    asyncio.run(known[name]())


def test_the_controller() -> None:
    run("test_label", {})


def test_a_kind_of_ones_own() -> None:
    definition = plain_definition("example.org", "Report", {})
    run("test_a_kind_of_your_own", {"DEFINITION": definition})
