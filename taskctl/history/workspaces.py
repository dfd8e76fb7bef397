"""Where the files of a Task that is gone may still be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from taskctl.policy.workspace import plan_workspace

CLAIM: Final = "claimName"
HOST_PATH: Final = "hostPath"


def workspace_of(cluster: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return what a line says of the workspace of a raw TaskCluster; None: it keeps no files."""
    workspace = plan_workspace(cluster)
    if workspace.claim_name:
        return {CLAIM: workspace.claim_name}
    host_path = (workspace.volume or {}).get("hostPath") or {}
    return {HOST_PATH: str(host_path["path"])} if host_path.get("path") else None
