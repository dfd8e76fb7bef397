"""The translation itself; what comes out of it is checked in tests/test_crds.py."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, WithJsonSchema

from taskctl.api.meta import Quantity, RawValue, SpecModel
from taskctl.api.schema import KindInfo, PrinterColumn, build_crd, structural_schema
from taskctl.errors import TerminalError

RawObject = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]


class Part(SpecModel):
    """A part."""

    size: Annotated[float, Field(gt=0, description="In metres.")]


class Thing(SpecModel):
    """A thing with ``code`` in
    two lines."""

    metadata: dict[str, Any]
    maybe: Annotated[Part | None, Field(description="Perhaps a part.")] = None
    many: Annotated[list[Part], Field(max_length=3)] = []  # noqa: RUF012 - pydantic copies it
    kindly: Literal["only"] = "only"
    quantity: Quantity | None = None
    raw: RawObject | None = None
    value: RawValue = None
    labels: dict[str, str] | None = None


def info(model: type[Any], **more: Any) -> KindInfo:
    return KindInfo(model=model, plural="things", short_names=("th",), columns=(), **more)


def test_translation_golden() -> None:
    schema = structural_schema(info(Thing))
    properties = schema["properties"]
    assert schema["description"] == "A thing with `code` in two lines."
    assert list(properties)[:3] == ["apiVersion", "kind", "metadata"]
    assert properties["metadata"] == {"type": "object"}
    part = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {
                "description": "In metres.",
                "type": "number",
                "minimum": 0,
                "exclusiveMinimum": True,
            }
        },
    }
    assert properties["maybe"] == {"description": "Perhaps a part.", **part}
    assert properties["many"] == {
        "type": "array",
        "default": [],
        "maxItems": 3,
        "items": {"description": "A part.", **part},
    }
    assert properties["kindly"] == {"type": "string", "enum": ["only"], "default": "only"}
    assert properties["quantity"]["x-kubernetes-int-or-string"] is True
    assert properties["raw"] == {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    assert properties["value"] == {"nullable": True, "x-kubernetes-preserve-unknown-fields": True}
    assert properties["labels"] == {"type": "object", "additionalProperties": {"type": "string"}}


def test_what_has_no_translation_is_refused() -> None:
    class Odd(SpecModel):
        metadata: dict[str, Any]
        either: int | str

    with pytest.raises(TerminalError, match=r"Odd\.either: the keyword 'anyOf'"):
        structural_schema(info(Odd))


def test_crd_without_extras() -> None:
    crd = build_crd(info(Thing))
    version = crd["spec"]["versions"][0]
    assert "subresources" not in version
    assert "selectableFields" not in version
    assert crd["metadata"]["name"] == "things.taskctl.dev"
    assert build_crd(info(Thing, status_default={}))["spec"]["versions"][0]["subresources"] == {
        "status": {}
    }
    assert PrinterColumn("A", "string", ".a", wide=True).to_json()["priority"] == 1
