"""The issue forms are what GitHub takes, and ask for what exists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / ".github" / "ISSUE_TEMPLATE"
FORMS = sorted(path.name for path in FOLDER.glob("*.yml") if path.name != "config.yml")
# https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests
TYPES = {"textarea", "input", "dropdown", "checkboxes", "markdown"}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_well_formed(name: str) -> None:
    form: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    assert form.keys() <= {"name", "description", "title", "labels", "body"}
    assert all(form[key] for key in ("name", "description", "body"))
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    for part in form["body"]:
        assert part["type"] in TYPES
        assert part["attributes"]["label"]
        assert (part["type"] == "dropdown") == bool(part["attributes"].get("options"))


def test_vulnerabilities_are_not_reported_in_public() -> None:
    config = yaml.safe_load((FOLDER / "config.yml").read_text())
    (link,) = config["contact_links"]
    assert "SECURITY.md" in link["about"]
