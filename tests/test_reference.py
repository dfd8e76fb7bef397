"""The pages of the reference, which scripts/gen_reference.py writes from models and commands."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from taskctl.api.crds import load_all

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "gen_reference.py"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its module by name
    spec.loader.exec_module(module)
    return module


def test_every_field_has_its_place(generator: ModuleType) -> None:
    pages = generator.render()
    for crd in load_all():
        names = crd["spec"]["names"]
        page = pages[f"{names['singular']}.md"]
        schema = crd["spec"]["versions"][-1]["schema"]["openAPIV3Schema"]
        parts = {name: part for name, part in schema["properties"].items() if name != "metadata"}
        for name in parts.keys() - {"apiVersion", "kind"}:
            assert f"\n## {name}\n" in page
            for field in parts[name].get("properties", ()):
                assert f"\n### `{name}.{field}`\n" in page
    assert "**`spec.env[].name`** (string; required" in pages["task.md"]
    assert "\n- command must not be empty" in pages["task.md"]


def test_every_verb_is_shown_with_its_help(generator: ModuleType) -> None:
    page = generator.render()["commands.md"]
    for words in ("taskctl", "taskctl submit", "taskctl image add"):
        assert f"\n## {words}\n" in page
        assert f"Usage: {words} [OPTIONS]" in page


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "map of string"),
        ({"x-kubernetes-int-or-string": True}, "integer or string"),
        ({"type": "integer", "minimum": 0, "default": 3}, "integer; default `3`; at least 0"),
        ({"type": "string", "enum": ["a", "b"]}, "string; one of `a`, `b`"),
    ],
)
def test_facts_of_a_field(generator: ModuleType, schema: dict[str, object], said: str) -> None:
    assert generator.facts(generator.Field("x", schema, required=False)) == said


def test_a_description_is_shown_as_it_is(generator: ModuleType) -> None:
    assert generator.escaped("a <b> [c] *d*") == r"a \<b\> \[c\] \*d\*"
