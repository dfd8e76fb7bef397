"""What a definition says of the ``scale`` subresource."""

from __future__ import annotations

from typing import Any, Final

from taskctl.embedded.server.kinds.model import ScalePaths
from taskctl.embedded.server.refusals import fields
from taskctl.embedded.server.refusals.fields import FieldError

SUBRESOURCE: Final = "scale"


def check_paths(declared: Any, where: str) -> list[FieldError]:
    """Return what is wrong with ``subresources.scale`` of a definition.

    After ``pkg/apis/apiextensions/validation/validation.go``
    (ValidateCustomResourceDefinitionSubresources).
    """
    if declared is None:
        return []
    found = []
    for name, roots, shown in (
        ("specReplicasPath", (".spec.",), ".spec"),
        ("statusReplicasPath", (".status.",), ".status"),
        ("labelSelectorPath", (".spec.", ".status."), "either .spec or .status"),
    ):
        path, text = f"{where}.{name}", declared.get(name) or ""
        if not text:
            if name != "labelSelectorPath":
                found.append(fields.required(path))
        elif not text.startswith("."):
            found.append(fields.invalid(path, text, "must be a simple json path starting with ."))
        elif not text.startswith(roots):
            found.append(fields.invalid(path, text, f"should be a json path under {shown}"))
    return found


def paths_of(version: dict[str, Any]) -> ScalePaths | None:
    """Return where a version of a definition has its replicas; None if it has none."""
    declared = (version.get("subresources") or {}).get(SUBRESOURCE)
    if not declared:
        return None
    return ScalePaths(
        declared["specReplicasPath"],
        declared["statusReplicasPath"],
        declared.get("labelSelectorPath") or "",
    )
