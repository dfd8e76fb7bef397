"""The way to the workspace of a TaskCluster: a directory here, or a worker that mounts it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskctl.constants import LABEL_CLUSTER
from taskctl.errors import Forbidden, NotFound
from taskctl.outside import session as sessions
from taskctl.outside.session import Session

if TYPE_CHECKING:
    from taskctl.policy.workspace import WorkspaceVolume


@dataclass(frozen=True, slots=True)
class LocalWorkspace:
    """The workspace is a directory here."""

    directory: Path


@dataclass(frozen=True, slots=True)
class WorkerWorkspace:
    """A living worker mounts the workspace."""

    pod: str


async def find_workspace(
    session: Session, cluster_name: str
) -> LocalWorkspace | WorkerWorkspace | None:
    """Return the way to the workspace of a TaskCluster, or None if there is none.

    Raises:
        ApiError: the API server refuses to tell, or is away.
    """
    from taskctl.api.resources import TASKCLUSTERS
    from taskctl.policy.workspace import plan_workspace

    try:
        cluster = await session.client.get(TASKCLUSTERS, cluster_name, session.namespace)
    except Forbidden:
        cluster = None
    except NotFound:
        return None
    if cluster is not None:
        workspace = plan_workspace(cluster)
        if not workspace.claim_name and not workspace.volume:
            return None
        directory = await _directory(session, workspace)
        if directory is not None:
            return LocalWorkspace(directory)
    pod = await any_worker(session, cluster_name)
    return WorkerWorkspace(pod) if pod else None


async def _directory(session: Session, workspace: WorkspaceVolume) -> Path | None:
    """Return the directory of this machine that holds the workspace, or None."""
    host_path = (workspace.volume or {}).get("hostPath") or {}
    return await _place(session, workspace.claim_name, host_path.get("path"))


async def _place(session: Session, claim: str, host_path: str | None) -> Path | None:
    data_dir = await asyncio.to_thread(sessions.data_dir_of, session.kubeconfig, session.context)
    if data_dir is None:
        return None
    if claim:
        return data_dir / "volumes" / session.namespace / claim
    return Path(host_path) if host_path else None


async def recorded_workspace(session: Session, task: Mapping[str, Any]) -> LocalWorkspace | None:
    """Return the workspace that a history noted for a Task whose TaskCluster is gone, or None.

    Only on this machine: elsewhere no worker is left that mounts it.
    """
    from taskctl.history.lines import noted_of
    from taskctl.history.workspaces import CLAIM, HOST_PATH

    noted = noted_of(task).workspace or {}
    directory = await _place(session, str(noted.get(CLAIM) or ""), noted.get(HOST_PATH))
    if directory is None or not await asyncio.to_thread(directory.is_dir):
        return None
    return LocalWorkspace(directory)


async def any_worker(session: Session, cluster_name: str) -> str:
    """Return the name of a running worker of a TaskCluster, or empty."""
    from taskctl.kube.interface import ListOptions
    from taskctl.kube.resources import PODS
    from taskctl.policy.lineage import label_value
    from taskctl.policy.podview import parse_pod

    options = ListOptions(label_selector=f"{LABEL_CLUSTER}={label_value(cluster_name)}")
    try:
        pods = await session.client.list_all(PODS, session.namespace, options=options)
    except Forbidden:
        return ""
    views = [parse_pod(pod) for pod in pods.items]
    return next((v.name for v in views if v.agent_running and v.deletion is None), "")
