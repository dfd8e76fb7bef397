"""Running an operation: creates its objects, and reads the results of its tasks."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskctl.api.resources import TASKCLUSTERS, TASKS
from taskctl.clock import SystemClock, format_micro
from taskctl.constants import ANNOTATION_CREATED, ANNOTATION_SUBMISSION, LABEL_CLIENT
from taskctl.errors import ApiError, ConfigError, NotFound
from taskctl.kube.interface import DeleteOptions, Propagation
from taskctl.kube.resources import PVCS
from taskctl.outside.handle import Handle
from taskctl.outside.operations.documents import Manifests, manifests_of
from taskctl.outside.operations.notices import URL_VARIABLE
from taskctl.outside.operations.shapes import Operation
from taskctl.outside.submission import with_input
from taskctl.outside.submitter import Decode, Submitter, decoder
from taskctl.outside.tracing import trace_annotations
from taskctl.policy.graph import member_name
from taskctl.policy.lineage import owner_reference

if TYPE_CHECKING:
    from taskctl.outside.client import Client


class OperationHandle(Handle[dict[str, Any]]):
    """An operation that was executed. Its result is a dict: name of the task to its result."""

    def __init__(
        self, client: Client, task: Mapping[str, Any], operation: Operation | None
    ) -> None:
        metadata = task["metadata"]
        super().__init__(client, metadata["name"], metadata["uid"], None)
        decoders: dict[str, Decode | None] = {
            template["name"]: None for template in task["spec"].get("tasks") or ()
        }
        for one in () if operation is None else operation.tasks:
            if one.call is not None:
                decoders[one.name] = decoder(one.call.function, many=False)
        self._decoders = decoders

    async def result(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as in the stdlib
    ) -> dict[str, Any]:
        """Wait until the whole tree has ended; return the results of its tasks by their names.

        Raises:
            Exception: see :meth:`Handle.result`.
        """
        async with asyncio.timeout(timeout):
            self._raise_unless_success(await self._ended())
            return {name: await self._of(name) for name in self._decoders}

    async def _of(self, name: str) -> Any:
        session = self._client.session
        member = member_name(self.name, name)
        try:
            task = await session.client.get(TASKS, member, self.namespace)
        except NotFound:
            raise self._gone_error() from None
        found = await self._client.values.output_of(task)
        plain = None if found is None else found.plain
        decode = self._decoders[name]
        return plain if decode is None else decode(plain, f"the result of {member}")


async def execute(
    client: Client, submitter: Submitter, what: Operation | Manifests
) -> OperationHandle:
    """Create the objects of an operation; see :meth:`Client.execute`."""
    operation = what if isinstance(what, Operation) else None
    made = what if isinstance(what, Manifests) else await _manifests(client, submitter, what)
    annotations = {
        ANNOTATION_SUBMISSION: secrets.token_hex(8),
        ANNOTATION_CREATED: format_micro(SystemClock().now()),
        **trace_annotations(),
    }
    labels = {LABEL_CLIENT: client.id}
    root = _marked(made.task, client.namespace, labels, annotations)
    stored = await submitter.create(with_input(root))
    if made.cluster is not None:
        own = _marked(made.cluster, client.namespace, labels, annotations)
        metadata = stored["metadata"]
        own["metadata"]["ownerReferences"] = [owner_reference(metadata["name"], metadata["uid"])]
        try:
            await submitter.put(TASKCLUSTERS, own)
        except BaseException:
            # Without workers it would wait forever.
            options = DeleteOptions(uid=metadata["uid"], propagation=Propagation.BACKGROUND)
            with suppress(ApiError):
                await client.session.client.delete(
                    TASKS, metadata["name"], client.namespace, options=options
                )
            raise
    name, uid = stored["metadata"]["name"], stored["metadata"]["uid"]
    client.tracker_of(name, own=True).expect(name, uid)
    return OperationHandle(client, stored, operation)


async def _manifests(client: Client, submitter: Submitter, operation: Operation) -> Manifests:
    claims = [
        directory.claim
        for directory in operation.directories
        if directory.claim and await _exists(client, directory.claim)
    ]
    if submitter.code is not None:
        raise ConfigError(
            "code: an operation's functions go by name or by value, not with a folder; use a "
            "client without code="
        )
    place = await submitter.place(
        operation.cluster, operation.image, own_cluster=operation.own_workers
    )
    name = operation.basename
    if name.endswith("-"):
        name += secrets.token_hex(5)
    # Pickling a function may take its time.
    return await asyncio.to_thread(
        manifests_of,
        operation,
        name=name,
        cluster=place.cluster,
        image=place.image,
        host=place.host,
        existing_claims=claims,
        notify_url=os.environ.get(URL_VARIABLE, ""),
    )


async def _exists(client: Client, claim: str) -> bool:
    try:
        await client.session.client.get(PVCS, claim, client.namespace)
    except NotFound:
        return False
    return True


def _marked(
    manifest: Mapping[str, Any],
    namespace: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> dict[str, Any]:
    """Return an object as this client creates it: under one name, so that it can be repeated."""
    metadata = dict(manifest["metadata"])
    prefix = metadata.pop("generateName", "")
    metadata.setdefault("name", prefix + secrets.token_hex(5))
    metadata["namespace"] = namespace
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
    return {**manifest, "metadata": metadata}
