"""The manifests in the documentation mean what they say, to kubectl as to taskctl."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from taskctl.cli.manifest import check_own
from taskctl.cli.yamlread import read_documents

_ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TEXTS = [
    *((path, path.read_text()) for path in sorted(_ROOT.glob("demo/**/*.yaml"))),
    *(
        (path, block)
        for path in (*sorted(_ROOT.glob("*.md")), *sorted(_ROOT.glob("docs/**/*.md")))
        for block in _BLOCK.findall(path.read_text())
    ),
]


def _keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return {key for item in value for key in _keys(item)}
    if isinstance(value, dict):
        return {*value, *(key for item in value.values() for key in _keys(item))}
    return set()


@pytest.mark.parametrize(("path", "text"), _TEXTS, ids=lambda value: str(value)[:40])
def test_manifests(path: Path, text: str) -> None:
    documents = read_documents(text, lambda note: pytest.fail(note))
    assert documents, path
    assert not _keys(documents) & {"true", "false", "null"}
    check_own([doc for doc in documents if isinstance(doc, dict) and "apiVersion" in doc])
