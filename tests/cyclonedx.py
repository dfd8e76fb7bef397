"""The schema of bills of materials that OWASP publishes.

cyclonedx.json holds that schema and the two that it refers to, without their descriptions
(CycloneDX/specification, Apache-2.0).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs

_SCHEMAS: dict[str, Any] = json.loads(Path(__file__).with_name("cyclonedx.json").read_text())


def complaints(bill: dict[str, Any]) -> list[str]:
    """Return what the schema of version 1.6 finds wrong with a bill."""
    others = [(one["$id"], one) for name, one in _SCHEMAS.items() if name != "bom-1.6"]
    registry = jsonschema_rs.Registry(others)
    check = jsonschema_rs.Draft7Validator(_SCHEMAS["bom-1.6"], registry=registry)
    return [error.message for error in check.iter_errors(bill)]
