"""The bill of materials, against the schema that OWASP publishes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from scripts.gen_sbom import RUN_EXTRAS, SbomError, build, closure, licence_of, pinned
from tests.cyclonedx import complaints

Json = dict[str, Any]


@pytest.fixture(scope="module")
def bill() -> Json:
    return build(RUN_EXTRAS)


def test_it_is_what_the_schema_asks_for(bill: Json) -> None:
    assert complaints(bill) == []
    assert complaints({**bill, "specVersion": 1.6}), "the schema is looked at"
    wrong = [{"type": "library", "name": "x", "licenses": [{"license": {"id": "none"}}]}]
    assert complaints({**bill, "components": wrong}), "and so is the one of licences"


def test_every_package_is_there_once_and_has_all_that_it_needs(bill: Json) -> None:
    refs = [one["bom-ref"] for one in bill["components"]]
    own = bill["metadata"]["component"]["bom-ref"]
    assert len(refs) == len(set(refs))
    edges = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    assert edges.keys() == {own, *refs}
    reached, todo = set(), [own]
    while todo:
        ref = todo.pop()
        if ref not in reached:
            reached.add(ref)
            todo += edges[ref]
    assert reached == {own, *refs}, "each is there because something needs it"
    names = {one["name"] for one in bill["components"]}
    assert {"typer", "aiohttp", "multidict", "cryptography", "opentelemetry-sdk", "musl"} <= names
    assert names.isdisjoint({"pytest", "mypy", "hatchling"}), "what only developers need"


def test_the_same_input_gives_the_same_bill(bill: Json, tmp_path: Path) -> None:
    assert build(RUN_EXTRAS) == bill
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(b"wheel")
    other = build((), wheel)
    digest = hashlib.sha256(b"wheel").hexdigest()
    assert other["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    assert other["serialNumber"] != bill["serialNumber"]
    assert len(other["components"]) < len(bill["components"])


def test_what_is_not_known_is_an_error() -> None:
    with pytest.raises(SbomError, match="not-there is not installed"):
        closure(["not-there"], frozenset(), {})
    with pytest.raises(SbomError, match=r"typer .* is installed, .* has 0\.0\.1"):
        closure(["typer"], frozenset(), {"typer": "0.0.1"})
    with pytest.raises(SbomError, match="names no single version"):
        pinned("typer>=1")
    with pytest.raises(SbomError, match="--extra nothing"):
        build(("nothing",))


def test_licences_in_the_most_exact_words() -> None:
    from email.message import Message

    described = Message()
    assert licence_of(described) == {}
    described["License"] = "a\nwhole text"
    assert licence_of(described) == {}
    described["Classifier"] = "License :: OSI Approved :: MIT License"
    assert licence_of(described) == {"license": {"name": "MIT License"}}
    described["License-Expression"] = "MIT"
    assert licence_of(described) == {"expression": "MIT"}
