"""Installing the CRDs, and waiting until the API server serves them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from taskctl.api.conditions import condition_is
from taskctl.api.crds import load_all
from taskctl.api.states import ConditionStatus
from taskctl.cli.exits import CliError, ExitCode
from taskctl.errors import AlreadyExists, Conflict

if TYPE_CHECKING:
    from taskctl.kube.client import KubeClient

ESTABLISHED_TIMEOUT_S = 20.0
_POLL_S = 0.1
_CONFLICT_TRIES = 5


async def apply_crds(client: KubeClient) -> list[str]:
    """Create the CRDs or bring them up to date; returns a line for each.

    Raises:
        CliError: the server does not begin to serve one of them.
        ApiError: it refuses one.
    """
    from taskctl.kube.resources import CRDS

    lines = []
    for crd in load_all():
        name = crd["metadata"]["name"]
        try:
            await client.create(CRDS, crd)
            what = "created"
        except AlreadyExists:
            what = await _update(client, crd)
        lines.append(f"customresourcedefinition.apiextensions.k8s.io/{name} {what}")
    try:
        async with asyncio.timeout(ESTABLISHED_TIMEOUT_S):
            for crd in load_all():
                await _established(client, crd["metadata"]["name"])
    except TimeoutError:
        raise CliError(
            f"the API server does not serve the CRDs after {ESTABLISHED_TIMEOUT_S:.0f} s; see "
            "kubectl describe crd tasks.taskctl.dev",
            ExitCode.TIMED_OUT,
        ) from None
    return lines


async def _update(client: KubeClient, crd: dict[str, Any]) -> str:
    """Replace the spec of a CRD that exists; a merge would leave removed rules behind."""
    from taskctl.kube.resources import CRDS

    for _ in range(_CONFLICT_TRIES):
        found = await client.get(CRDS, crd["metadata"]["name"])
        # The server adds defaults of its own (spec.conversion), which are kept.
        wanted = {**found, "spec": {**found["spec"], **crd["spec"]}}
        if wanted == found:
            return "unchanged"
        try:
            replaced = await client.replace(CRDS, wanted)
        except Conflict:
            continue
        unchanged = replaced["metadata"].get("generation") == found["metadata"].get("generation")
        return "unchanged" if unchanged else "configured"
    raise CliError(f"another program keeps changing {crd['metadata']['name']}; try again")


async def _established(client: KubeClient, name: str) -> None:
    from taskctl.kube.resources import CRDS

    while True:
        found = await client.get(CRDS, name)
        conditions = (found.get("status") or {}).get("conditions")
        if condition_is(conditions, "Established", ConditionStatus.TRUE):
            return
        await asyncio.sleep(_POLL_S)
