"""Children in another TaskCluster: which ones a task may name, and whose files it can read.

A child runs in its parent's TaskCluster, or in one that this TaskCluster lists in ``spec.peers``.
It is always the list of the TaskCluster that the creating task runs in: what a peer lists itself
counts for tasks there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from taskctl.agent.context import Context
from taskctl.agent.fields import bad
from taskctl.agent.objects import read_object
from taskctl.agent.refusals import Refusal
from taskctl.api.resources import TASKCLUSTERS
from taskctl.constants import ANNOTATION_WORKSPACE_OF, INLINE_LIMIT_BYTES
from taskctl.kube.interface import KubeObject
from taskctl.policy.workspace import plan_workspace


class Peers:
    """Reads TaskClusters, where a task has to do with another than its own.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def listed(self) -> frozenset[str]:
        """Return the names in ``spec.peers`` of this TaskCluster, as it is now.

        Raises:
            ApiError: the API server refused, or was away for 20 s.
        """
        own = await self._read(self._context.settings.cluster)
        return frozenset() if own is None else frozenset(own["spec"].get("peers") or ())

    async def check_sent(self, size: int, cluster: str, where: str) -> None:
        """Make sure that tasks of a TaskCluster can read what this one's workspace holds.

        Args:
            size: of the value, in bytes.
            cluster: name of the other TaskCluster.
            where: the value's path in the request.

        Raises:
            Refusal: ``bad_request``: they have another workspace.
            ApiError: the API server refused, or was away for 20 s.
        """
        own = self._context.settings.cluster
        if cluster == own:
            return
        mine, theirs = await asyncio.gather(self._read(own), self._read(cluster))
        if not _share_files(mine, theirs):
            raise bad(
                where,
                f"has {size} bytes; over {INLINE_LIMIT_BYTES} it lies in the workspace of "
                f"TaskCluster {own!r}, and tasks of {cluster!r} have another one: pass less, or "
                "pass it in a volume that both TaskClusters mount",
            )

    async def _read(self, name: str) -> KubeObject | None:
        return await read_object(self._context, TASKCLUSTERS, name)


def asks_for_another(specs: Iterable[Any], cluster: str) -> bool:
    """Whether one of these spawn specs, unchecked, names another TaskCluster."""
    return any(name != cluster for spec in specs for name in _named(spec))


def _named(spec: Any) -> list[Any]:
    if not isinstance(spec, dict):
        return []
    overrides, pairs = spec.get("overrides"), spec.get("set")
    found = []
    if isinstance(overrides, dict) and "clusterName" in overrides:
        found.append(overrides["clusterName"])
    for pair in pairs if isinstance(pairs, list) else ():
        is_it = isinstance(pair, list) and pair[:1] == ["clusterName"]
        found += pair[-1:] if is_it else []
    return found


def _share_files(one: KubeObject | None, other: KubeObject | None) -> bool:
    """Whether two TaskClusters have the same directory as their workspace."""
    if one is None or other is None:
        return False
    first, second = plan_workspace(one).volume, plan_workspace(other).volume
    return first is not None and first == second and "emptyDir" not in first


async def out_of_reach(context: Context, found: KubeObject) -> str:
    """Return why the content of a TaskObject cannot be read here; empty: it can, or it is here.

    Args:
        context: of the agent.
        found: the TaskObject. Large content lies in the workspace of the TaskCluster whose agent
            has written it.
    """
    ref = found.get("ref")
    holder = (found["metadata"].get("annotations") or {}).get(ANNOTATION_WORKSPACE_OF)
    own = context.settings.cluster
    if ref is None or not holder or holder == own:
        return ""
    if context.workspace is not None:
        try:
            await asyncio.to_thread(context.workspace.check_object, ref["path"], ref["size"])
        except Refusal:
            pass
        else:
            return ""  # both have the same files
    return (
        f"its {ref['size']} bytes lie in the workspace of TaskCluster {holder!r}, and this task "
        f"runs in {own!r}: pass at most {INLINE_LIMIT_BYTES} bytes from one to the other, or pass "
        "them in a volume that both mount"
    )
