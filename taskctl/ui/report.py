"""The page as one file that needs no server. Pure, but for reading the package's own files.

The modules are joined into one script: each is plain ES with named imports and exports only, and
their top-level names are unique (a test holds them to that), so leaving the import lines and the
word ``export`` out is all there is to it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import orjson

from taskctl.ui.model import ClusterRow, Row

_IMPORT: Final = re.compile(r'^import \{[^}]*\} from "\./(?P<name>\w+\.js)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:async )?(?:function|class|const) )", re.MULTILINE)
_MAIN: Final = "app.js"


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows.

    Attributes:
        title: for the window.
        taken: when it was made, for people.
        now_ms: the same in milliseconds since 1970.
        tasks: of one tree, or several.
        clusters: their TaskClusters.
        details: what the panel shows, by UID.
        logs: ``{"text", "note", "cut"}``, by UID.
    """

    title: str
    taken: str
    now_ms: float
    tasks: Sequence[Row]
    clusters: Sequence[ClusterRow] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    logs: Mapping[str, Any] = field(default_factory=dict)


def render_report(report: Report) -> str:
    """Return the page with all it shows as one HTML document."""
    script, style = joined_script(), _static("page.css")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>\n'
    )
    tail = (
        f'<script type="application/json" id="taskctl-data">{embedded_json(_data(report))}'
        f"</script>\n<script>{script}</script>\n"
    )
    page = _static("index.html")
    page = re.sub(r"<link [^>]*>\n", "", page)
    page = re.sub(r"<script [^>]*></script>\n", "", page)
    before, mark, after = page.partition("<title>")
    page = before + head + mark + after
    before, mark, after = page.rpartition("</body>")
    return before + tail + mark + after


def joined_script() -> str:
    """Return all modules as one script, each after those that it imports."""
    order: list[str] = []
    _visit(_MAIN, order, ())
    parts = []
    for name in order:
        text = _EXPORT.sub("", _IMPORT.sub("", _static(name)))
        parts.append(f"// --- {name}\n{text}")
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


def _visit(name: str, order: list[str], path: tuple[str, ...]) -> None:
    if name in order:
        return
    if name in path:
        raise ValueError(f"the page's modules import one another in a circle: {path}")
    for found in _IMPORT.finditer(_static(name)):
        _visit(found["name"], order, (*path, name))
    order.append(name)


def embedded_json(value: Any) -> str:
    """Return JSON that cannot end the element it stands in, whatever the texts in it say."""
    text = orjson.dumps(value).decode()
    # https://html.spec.whatwg.org/multipage/scripting.html#restrictions-for-contents-of-script-elements
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _data(report: Report) -> dict[str, Any]:
    return {
        "title": report.title,
        "taken": report.taken,
        "now": report.now_ms,
        "tasks": report.tasks,
        "clusters": report.clusters,
        "details": report.details,
        "logs": report.logs,
    }


def _static(name: str) -> str:
    return (files("taskctl.ui") / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
