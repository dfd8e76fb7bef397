"""Sphinx: how the site is made from the pages in this folder. Run scripts/docs to build it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from taskctl import __version__

project = "taskctl"
release = __version__
copyright = "The taskctl authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"taskctl {__version__}"
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = False

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# A link to what is beside docs/: on the site these are files of the source, shown by their path.
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?!.*\bdocs/)[^)#\s]+)(?:#[^)\s]*)?\)")


def show_paths(app: Any, docname: str, source: list[str]) -> None:
    """Turn links that lead out of docs/ into the path of the file."""

    def path(found: re.Match[str]) -> str:
        target = (DOCS / f"{docname}.md").parent
        inside = (target / found[0].rpartition("(")[2].partition("#")[0].rstrip(")")).resolve()
        if inside.is_relative_to(DOCS):
            return found[0]
        if not inside.exists():
            raise ValueError(f"docs/{docname}.md links to {found[2]}, which does not exist")
        return f"{found[1]} (`{inside.relative_to(ROOT)}`)"

    source[0] = OUTSIDE.sub(path, source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", show_paths)
