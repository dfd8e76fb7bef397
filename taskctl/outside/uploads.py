"""Bringing a folder of code into a workspace: by tasks, so that it takes no other rights.

The parts of the archive are TaskObjects, and small tasks write them to the workspace. Their names
derive from the hash and the TaskCluster, so all clients together upload the same code once, and
the tasks that need it wait for them by ``runAfter``. This works wherever tasks run: on a
cluster without the right to exec, and while no worker is up yet.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any, Final

from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.api.states import TaskState
from taskctl.constants import API_VERSION
from taskctl.errors import AlreadyExists, Conflict, NotFound
from taskctl.kube.interface import DeleteOptions
from taskctl.outside.codearchive import Archive
from taskctl.outside.outcome import state_of
from taskctl.outside.session import Session
from taskctl.policy.lineage import owner_reference

_AT_ONCE: Final = 4
_PRIORITY: Final = 1_000_000  # others wait for it
_TIMEOUT_S: Final = 300
_RETRIES: Final = 3


async def upload(
    session: Session, archive: Archive, *, cluster: str, image: str, python: str
) -> tuple[str, ...]:
    """Create what brings an archive into a TaskCluster's workspace; what is there is left alone.

    Returns:
        Names of the Tasks after which it is there.

    Raises:
        ApiError: the API server refuses, or is away.
    """
    parts = archive.parts()
    names = [_name(archive.sha256, cluster, number) for number in range(len(parts))]
    gate = asyncio.Semaphore(_AT_ONCE)

    async def create(number: int) -> None:
        async with gate:
            body = {
                "sha256": archive.sha256,
                "number": number,
                "parts": len(parts),
                "content": base64.b64encode(parts[number]).decode(),
            }
            spec: dict[str, Any] = {
                "clusterName": cluster,
                "image": image,
                "command": [python, "-m", "taskctl.sdk.upload"],
                "priority": _PRIORITY,
                "timeoutSeconds": _TIMEOUT_S,
                "retry": {"limit": _RETRIES},
            }
            if number == len(parts) - 1 and number:
                spec["runAfter"] = {"tasks": names[:-1]}
            await _create_part(session, names[number], body, spec)

    await asyncio.gather(*(create(number) for number in range(len(parts))))
    return (names[-1],)


def _name(sha256: str, cluster: str, number: int) -> str:
    where = hashlib.sha256(cluster.encode()).hexdigest()[:6]
    return f"code-{sha256[:10]}-{where}-{number}"


async def _create_part(
    session: Session, name: str, body: dict[str, Any], spec: dict[str, Any]
) -> None:
    client, namespace = session.client, session.namespace
    try:
        found = await client.get(TASKS, name, namespace)
        state = TaskState(state_of(found))
        if not state.terminal or state is TaskState.SUCCEEDED:
            return
        # It failed when it was last tried: the workspace was full, perhaps.
        options = DeleteOptions(uid=found["metadata"]["uid"])
        await client.delete(TASKS, name, namespace, options=options)
    except (NotFound, Conflict):
        pass
    metadata = {"name": name, "namespace": namespace}
    task = {"apiVersion": API_VERSION, "kind": "Task", "metadata": metadata}
    task |= {"spec": {**spec, "inputObject": f"{name}-input"}}
    for _ in range(_RETRIES):
        try:
            made = await client.create(TASKS, task, namespace)
            break
        except AlreadyExists:
            try:
                made = await client.get(TASKS, name, namespace)
                break
            except NotFound:
                continue  # it was going
    else:
        raise Conflict(f"Task {name} comes and goes; try again", status=409)
    owner = owner_reference(name, made["metadata"]["uid"])
    entry = {
        "apiVersion": API_VERSION,
        "kind": "TaskObject",
        "metadata": {**metadata, "name": f"{name}-input", "ownerReferences": [owner]},
        "value": body,
    }
    for _ in range(_RETRIES):
        try:
            await client.create(TASKOBJECTS, entry, namespace)
            return
        except AlreadyExists:
            found = await client.get(TASKOBJECTS, f"{name}-input", namespace)
            owners = found["metadata"].get("ownerReferences") or ()
            if any(item["uid"] == owner["uid"] for item in owners):
                return
            options = DeleteOptions(uid=found["metadata"]["uid"])
            try:  # of a Task that was deleted; the collector has not come by yet
                await client.delete(TASKOBJECTS, f"{name}-input", namespace, options=options)
            except (NotFound, Conflict):
                continue
    raise Conflict(f"TaskObject {name}-input comes and goes; try again", status=409)
