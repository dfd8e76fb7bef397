"""TaskObjects, with large values spilled to the workspace."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from taskctl.agent.context import Context
from taskctl.agent.fields import bad
from taskctl.agent.largejson import LargeJson
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.values import Content, encode_json, no_workspace
from taskctl.api.resources import TASKOBJECTS
from taskctl.api.states import Codec
from taskctl.constants import ANNOTATION_WORKSPACE_OF, API_VERSION
from taskctl.errors import AlreadyExists, Conflict, NotFound
from taskctl.kube.interface import DeleteOptions
from taskctl.kube.resources import Resource

# A task that waits for its child or its output is told `unavailable` after that time. It asks
# again; its own deadline (docs/protocol.md) is longer.
GIVE_UP_AFTER_S: Final = 20.0


async def read_object(context: Context, resource: Resource, name: str) -> dict[str, Any] | None:
    """Return an object of the agent's namespace, or None if there is none of that name.

    Raises:
        ApiError: the API server refused, or did not answer in time.
    """
    try:
        return await context.retrier.call(
            f"read {resource.kind} {name}",
            lambda: context.client.get(resource, name, context.namespace),
            give_up_after_s=GIVE_UP_AFTER_S,
        )
    except NotFound:
        return None


class ObjectStore:
    """Writes objects so that a repetition does no harm.

    Args:
        context: of the agent.

    Attributes:
        large: checks large JSON texts.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.large = LargeJson()

    async def settle(self, content: Content, field: str) -> Content:
        """Return the content as it goes into a TaskObject, spilled where it is large.

        Args:
            content: checked value.
            field: its path in the request, for messages.

        Raises:
            Refusal: ``no_workspace``; ``bad_request`` for a ``ref`` to nothing;
                ``rejected`` where the workspace cannot be written.
        """
        workspace = self._context.workspace
        if content.field == "ref":
            if workspace is None:
                raise bad(field, "there is no workspace that it could lie in")
            await asyncio.to_thread(
                workspace.check_object, content.body["path"], content.body["size"]
            )
            return content
        if not content.is_large:
            return content
        if workspace is None:
            raise no_workspace(field, len(content.encoded))
        try:
            ref = await asyncio.to_thread(workspace.write_object, content.encoded)
        except OSError as error:
            raise Refusal(
                ErrorCode.REJECTED, f"{field}: cannot be written to the workspace: {error.strerror}"
            ) from error
        return Content("ref", ref | {"codec": Codec.JSON.value})

    async def read(self, ref: dict[str, Any], what: str) -> bytes:
        """Return what lies in the workspace.

        Args:
            ref: where; as it stands in a TaskObject.
            what: it is, for messages: ``the input``.

        Raises:
            Refusal: ``no_workspace``, ``rejected``: it is gone or was changed.
        """
        workspace = self._context.workspace
        if workspace is None:
            raise Refusal(
                ErrorCode.NO_WORKSPACE,
                f"{what} lies in a workspace, at {ref['path']}, and this TaskCluster has none",
            )
        return await asyncio.to_thread(workspace.read_object, ref["path"], ref["sha256"])

    async def as_json(self, content: Content, what: str) -> str:
        """Return a value as JSON text, read from the workspace where it lies there.

        Raises:
            Refusal: ``no_workspace``, ``rejected``, ``bad_request`` or ``too_large``.
        """
        if content.field != "ref":
            return encode_json(content.body, what).decode()
        ref = content.body
        stored = await self.read(ref, what)
        try:
            if ref["codec"] == Codec.MSGPACK:
                stored = await self.large.as_json(stored, Codec.MSGPACK, "it")
            return stored.decode()
        except (ValueError, Refusal) as error:
            raise Refusal(
                ErrorCode.REJECTED, f"{what} is stored, but of no use: {error}"
            ) from error

    async def create_object(
        self, metadata: dict[str, Any], content: Content
    ) -> tuple[dict[str, Any], bool]:
        """Create a TaskObject, or return the one of that name, and whether it was created."""
        if content.field == "ref":
            whose = {ANNOTATION_WORKSPACE_OF: self._context.settings.cluster}
            metadata = metadata | {"annotations": metadata.get("annotations", {}) | whose}
        body = {
            "apiVersion": API_VERSION,
            "kind": "TaskObject",
            "metadata": metadata,
            content.field: content.body,
        }
        return await self.create(TASKOBJECTS, body)

    async def delete(self, found: dict[str, Any]) -> None:
        """Delete a TaskObject as it was read; one that is gone, or another by now, is fine.

        Raises:
            ApiError: the server refuses, or has been away for 20 s.
        """
        metadata = found["metadata"]
        options = DeleteOptions(uid=metadata["uid"])
        with contextlib.suppress(NotFound, Conflict):
            await self._context.retrier.call(
                f"delete task object {metadata['name']}",
                lambda: self._context.client.delete(
                    TASKOBJECTS, metadata["name"], self._context.namespace, options=options
                ),
                give_up_after_s=GIVE_UP_AFTER_S,
            )

    async def create(self, resource: Resource, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Create an object, or return the one of that name, and whether it was created.

        After an answer that was lost, the object is found to exist: the caller must be able
        to tell its own from a stranger's.

        Raises:
            ApiError: the server refuses, or has been away for 20 s.
        """
        name = body["metadata"]["name"]

        async def attempt() -> tuple[dict[str, Any], bool]:
            client, namespace = self._context.client, self._context.namespace
            for _ in range(3):
                try:
                    return await client.create(resource, body, namespace), True
                except AlreadyExists:
                    try:
                        return await client.get(resource, name, namespace), False
                    except NotFound:
                        continue  # deleted in between
            raise NotFound(f"{resource.kind} {name} comes and goes", status=404)

        return await self._context.retrier.call(
            f"create {resource.kind} {name}", attempt, give_up_after_s=GIVE_UP_AFTER_S
        )
