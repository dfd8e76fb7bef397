"""Values that tasks left: outputs and TaskObjects, those in the workspace too.

A TaskObject may hold its value, or point to a file in the workspace. Tasks write there, so a
pointer counts only if its path follows from its hash, and a file only if it has that hash.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.states import Codec
from taskctl.constants import AGENT_CONTAINER
from taskctl.errors import ApiError, Forbidden, NotFound, TaskctlError
from taskctl.outside.session import Session
from taskctl.outside.workspace import LocalWorkspace, WorkerWorkspace, find_workspace
from taskctl.policy.runcluster import cluster_of_task

OBJECT_VERB: Final = "workspace-object"
# A value is held in memory, encoded and decoded.
MAX_VALUE_BYTES: Final = 256 * 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024


class ValueUnreadable(TaskctlError):
    """A value is there but cannot be had: its file is gone or damaged, or not to be reached."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value that a TaskObject holds.

    Attributes:
        plain: JSON value.
    """

    plain: Any


class Values:
    """Reads values, and remembers the way to each workspace.

    Args:
        session: client and namespace.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._workspaces: dict[str, LocalWorkspace | WorkerWorkspace | None] = {}

    async def output_of(
        self, task: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Value | None:
        """Return the output of a raw Task; None: it has none.

        Args:
            task: the Task.
            known: raw TaskObjects by name, to save requests.

        Raises:
            ValueUnreadable: it had one, which is gone, damaged, or not to be reached.
            ApiError: the API server refuses, or is away.
        """
        status = task.get("status") or {}
        if status.get("output") is not None:
            return Value(status["output"])
        name = status.get("outputObject")
        if not name:
            return None
        from taskctl.api.resources import TASKOBJECTS

        found: Mapping[str, Any] | None = (known or {}).get(name)
        if found is None:
            try:
                found = await self._session.client.get(
                    TASKOBJECTS, name, task["metadata"].get("namespace") or self._session.namespace
                )
            except NotFound as error:
                raise ValueUnreadable(
                    f"the output of {task['metadata']['name']}, TaskObject {name}, was deleted; "
                    "run the task again"
                ) from error
        return Value(await self.content_of(found, cluster_of_task(task)))

    async def content_of(self, found: Mapping[str, Any], cluster_name: str) -> Any:
        """Return the value of a raw TaskObject as a JSON value.

        Args:
            found: the TaskObject.
            cluster_name: whose workspace holds it, if it is large.

        Raises:
            ValueUnreadable: its file is gone, damaged, or not to be reached.
            ApiError: the API server refuses, or is away.
        """
        if found.get("ref") is None:
            return found["data"] if found.get("data") is not None else found.get("value")
        name = found["metadata"]["name"]
        reference = checked_reference(found["ref"], name)
        encoded = await self._read(reference, name, cluster_name)
        # Decoding 256 MiB takes seconds, in which others want to be served.
        return await asyncio.to_thread(decoded, encoded, reference, name)

    async def _read(self, reference: dict[str, Any], name: str, cluster_name: str) -> bytes:
        if cluster_name not in self._workspaces:
            self._workspaces[cluster_name] = await find_workspace(self._session, cluster_name)
        match self._workspaces[cluster_name]:
            case LocalWorkspace(directory):
                from taskctl.outside.workspacefiles import read_object

                try:
                    return await asyncio.to_thread(read_object, directory, reference)
                except OSError as error:
                    raise ValueUnreadable(
                        f"the value of TaskObject {name} was stored in the workspace, in "
                        f"{reference['path']}, which cannot be read: {error.strerror or error}; "
                        "run the task that made it again"
                    ) from error
            case WorkerWorkspace(pod):
                return await self._read_through(pod, reference, name)
        self._workspaces.pop(cluster_name)  # a worker may come up
        raise ValueUnreadable(
            f"the value of TaskObject {name} lies in the workspace of TaskCluster {cluster_name}, "
            "and no worker runs that could read it; start one, or mount the workspace: "
            f"{reference['path']}"
        )

    async def _read_through(self, pod: str, reference: dict[str, Any], name: str) -> bytes:
        command = ["taskctl", OBJECT_VERB, reference["sha256"], str(reference["size"])]
        client, namespace = self._session.client, self._session.namespace
        content = bytearray()
        try:
            async with aclosing(
                client.stream_output(pod, namespace, AGENT_CONTAINER, command)
            ) as chunks:
                async for chunk in chunks:
                    content += chunk
                    if len(content) > reference["size"]:
                        break
        except Forbidden as error:
            raise ValueUnreadable(
                f"the value of TaskObject {name} lies in the workspace and cannot be read through "
                f"worker {pod}: {error.message}; it takes the right to create and get pods/exec"
            ) from error
        except NotFound as error:  # the worker is gone; another one will do next time
            self._workspaces.clear()
            raise ValueUnreadable(f"worker {pod} is gone; try again") from error
        except ApiError as error:
            self._workspaces.clear()
            raise ValueUnreadable(
                f"the value of TaskObject {name}, through worker {pod}: {error.message}"
            ) from error
        return bytes(content)


def checked_reference(ref: Any, name: str) -> dict[str, Any]:
    """Return the reference of a TaskObject whose path follows from its hash.

    Raises:
        ValueUnreadable: it is malformed, points elsewhere, or is too large to be read.
    """
    from taskctl.agent.refusals import Refusal
    from taskctl.agent.values import parse_ref

    try:
        reference = parse_ref(ref, "ref")
    except Refusal as error:
        raise ValueUnreadable(f"TaskObject {name}: {error}") from error
    if reference["size"] > MAX_VALUE_BYTES:
        raise ValueUnreadable(
            f"the value of TaskObject {name} has {reference['size']} bytes; at most "
            f"{MAX_VALUE_BYTES} are read; it is in the workspace, in {reference['path']}"
        )
    return reference


def decoded(encoded: bytes, reference: Mapping[str, Any], name: str) -> Any:
    """Return the JSON value of a file of the workspace, whose hash is checked.

    Raises:
        ValueUnreadable: it is not what was stored.
    """
    right = len(encoded) == reference["size"]
    if not right or hashlib.sha256(encoded).hexdigest() != reference["sha256"]:
        raise ValueUnreadable(
            f"the value of TaskObject {name}, in the workspace in {reference['path']}, was changed "
            "after it was written; run the task that made it again"
        )
    from taskctl.agent import jsoncheck

    try:
        if reference["codec"] == Codec.MSGPACK:
            from taskctl.wire import unpack_value

            value = unpack_value(encoded)
            jsoncheck.compact(value)  # msgpack has values that JSON has not
        else:
            import orjson

            value = orjson.loads(encoded)
        jsoncheck.check(value)
        return value
    except (ValueError, TypeError, TaskctlError) as error:
        raise ValueUnreadable(
            f"the value of TaskObject {name}, in the workspace in {reference['path']}, is not "
            f"valid {reference['codec']}: {error}"
        ) from error
