"""Creating what is submitted: chooses TaskCluster, image and interpreter, sends, and repeats."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.backoff import Backoff
from taskctl.clock import SystemClock, format_micro
from taskctl.constants import ANNOTATION_SUBMISSION
from taskctl.errors import AlreadyExists, ApiError, ConfigError, NotFound, Unavailable
from taskctl.kube.resources import Resource
from taskctl.kube.timing import Pauses
from taskctl.outside import session as sessions
from taskctl.outside.codearchive import Archive, archive_of
from taskctl.outside.session import Session
from taskctl.outside.shipping import Host, Uploaded, as_task, program_of
from taskctl.outside.submission import (
    FunctionCommand,
    Submission,
    SubmissionFrame,
    arguments_of,
    build,
    default_name,
    split_options,
)
from taskctl.outside.tracing import trace_annotations
from taskctl.outside.uploads import upload
from taskctl.policy.defaultcluster import DEFAULT_CLUSTER, choose_cluster
from taskctl.policy.lineage import owner_reference
from taskctl.policy.taskdefaults import defaults_of
from taskctl.sdk._functions import Call, TaskFunction, decode_result
from taskctl.sdk.errors import InputInvalid, Unsendable

Decode = Callable[[Any, str], Any]
# On the local stack no image is pulled: this machine's programs run.
LOCAL_IMAGE: Final = "this-machine"
_BACKOFF: Final = Backoff(0.2, 5.0, (1.0, 2.0))


@dataclass(frozen=True, slots=True)
class SubmitTarget:
    """What to run.

    Attributes:
        what: a function, a call, or a command.
        args: of the function.
        calls: arguments of several calls by one Task; None: one call.
    """

    what: Any
    args: tuple[Any, ...] = ()
    calls: tuple[tuple[Any, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where something is to run.

    Attributes:
        cluster: TaskCluster; empty: it has one of its own.
        image: for what says no other; may be empty where each says its own.
        host: what functions find there.
    """

    cluster: str
    image: str
    host: Host


class Submitter:
    """Creates Tasks for one client.

    Args:
        session: client and namespace.
        client_id: marks what it creates.
        defaults: of ``cluster``, ``image`` and ``code``.
        timeout_s: how long an API server that is away is asked again.
    """

    def __init__(
        self, session: Session, client_id: str, defaults: Mapping[str, Any], timeout_s: float
    ) -> None:
        self._session = session
        self._client_id = client_id
        self._defaults = defaults
        self._timeout_s = timeout_s
        self._only_cluster = ""
        self._data_dir: Path | None = None
        self._looked = False
        self._archives: dict[str, Archive] = {}
        self._uploaded: dict[tuple[str, str], Uploaded] = {}
        self._lock = asyncio.Lock()

    async def submit(
        self, target: SubmitTarget, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Decode | None]:
        """Create a Task; return it as stored, and what turns its result back.

        Raises:
            Exception: see :meth:`taskctl.outside.client.Client.submit`.
        """
        own, given = split_options(options)
        call, given = _resolve(target, given)
        preferred = given.pop("cluster", None)  # of @task(cluster=...)
        place = await self.place(own.get("cluster") or preferred, given.get("image"))
        cluster, image, host = place.cluster, place.image, place.host
        frame = SubmissionFrame(
            namespace=self._session.namespace,
            cluster=cluster,
            image=image,
            client_id=self._client_id,
            submission_id=secrets.token_hex(8),
            created=format_micro(SystemClock().now()),
            trace=trace_annotations(),
        )
        name = own.get("name") or default_name(target.what, secrets.token_hex(5))
        if call is None:
            made = build(frame, target.what, None, name, given)
            return await self.create(made), None
        code = own.get("code", None if own.get("by_value") else self._defaults.get("code"))
        uploaded = None
        if code is not None:
            if not image:
                raise ConfigError("image: is missing; say which image has Python and your packages")
            uploaded = await self._upload(code, cluster, image, host.python)
        # Packing imports nothing and reads no file that is large; pickling may take its time.
        program = await asyncio.to_thread(
            program_of,
            call.function,
            host,
            uploaded=uploaded,
            by_value=own.get("by_value"),
            many=target.calls is not None,
        )
        made = await asyncio.to_thread(_built, frame, program, (call, target.calls), name, given)
        return await self.create(made), decoder(call.function, many=target.calls is not None)

    @property
    def code(self) -> Any:
        """The folder that the client sends with functions, or None."""
        return self._defaults.get("code")

    # --- where --------------------------------------------------------------------------

    async def place(
        self, cluster: str | None, image: str | None, *, own_cluster: bool = False
    ) -> Destination:
        """Choose what is not said: TaskCluster and image.

        Args:
            cluster: TaskCluster that was named.
            image: that was named.
            own_cluster: what runs brings its own TaskCluster.

        Raises:
            ConfigError: there is not exactly one TaskCluster to choose.
            ApiError: the API server refuses, or is away.
        """
        if not own_cluster:
            cluster = cluster or self._defaults.get("cluster") or await self._cluster()
        image = image or self._defaults.get("image") or ""
        host = await self._host(bool(image))
        if host.sees_files and not image:
            image = LOCAL_IMAGE
        if not image and cluster:
            image = await self._default_image(cluster)
        return Destination(cluster or "", image, host)

    async def _cluster(self) -> str:
        if self._only_cluster:
            return self._only_cluster
        page = await self._session.client.list_all(TASKCLUSTERS, self._session.namespace)
        names = sorted(item["metadata"]["name"] for item in page.items)
        chosen = choose_cluster(names)
        if chosen is None:
            there = f"there are {', '.join(names)}" if names else "there is none"
            remedy = (
                f"say which with cluster=, or name one of them {DEFAULT_CLUSTER}"
                if names
                else f"create one named {DEFAULT_CLUSTER}, or use taskctl.local()"
            )
            raise ConfigError(
                f"cluster: is missing, and in namespace {self._session.namespace} {there}; {remedy}"
            )
        self._only_cluster = chosen
        return chosen

    async def _default_image(self, cluster: str) -> str:
        """Return ``spec.taskDefaults.image`` of a TaskCluster; empty: there is none."""
        try:
            found = await self._session.client.get(TASKCLUSTERS, cluster, self._session.namespace)
        except NotFound:
            return ""
        return str(defaults_of(found).get("image") or "")

    async def _host(self, has_image: bool) -> Host:
        if not self._looked:
            self._data_dir = await asyncio.to_thread(
                sessions.data_dir_of, self._session.kubeconfig, self._session.context
            )
            self._looked = True
        if self._data_dir is None or has_image:
            return Host("python3", sees_files=False)
        return Host(sys.executable, sees_files=True, hidden=(str(self._data_dir),))

    async def _upload(
        self, code: str | os.PathLike[str], cluster: str, image: str, python: str
    ) -> Uploaded:
        folder = await asyncio.to_thread(os.path.realpath, code)
        async with self._lock:  # of many submissions at once, the first uploads
            if folder not in self._archives:
                self._archives[folder] = await asyncio.to_thread(archive_of, Path(folder))
            archive = self._archives[folder]
            known = self._uploaded.get((cluster, archive.sha256))
            if known is None:
                tasks = await upload(
                    self._session, archive, cluster=cluster, image=image, python=python
                )
                known = Uploaded(archive.root, archive.sha256, tasks)
                self._uploaded[cluster, archive.sha256] = known
            return known

    # --- creating -----------------------------------------------------------------------

    async def create(self, made: Submission) -> dict[str, Any]:
        """Create a Task, and its input where that is an object of its own.

        Raises:
            ApiError: the API server refuses, or was not there in time.
        """
        entry = made.input_object
        if entry is None:
            return await self.put(TASKS, made.task)
        stored = await self.put(TASKOBJECTS, entry)
        task = await self.put(TASKS, made.task)
        metadata = task["metadata"]
        # From here on the input goes when the Task goes.
        owner = owner_reference(metadata["name"], metadata["uid"])
        body = {"metadata": {"uid": stored["metadata"]["uid"], "ownerReferences": [owner]}}
        await self._session.client.patch(
            TASKOBJECTS, stored["metadata"]["name"], self._session.namespace, body
        )
        return task

    async def put(self, resource: Resource, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object; after an answer that was lost, find out whether it is there.

        Raises:
            ApiError: the API server refuses, or was not there in time.
        """
        client, namespace = self._session.client, self._session.namespace
        name = body["metadata"]["name"]
        unavailable: ApiError = Unavailable(f"{resource.kind} {name} was not created in time")
        pauses = Pauses(_BACKOFF)
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        return await client.create(resource, body, namespace, strict=True)
                    except AlreadyExists as error:
                        try:
                            found = await client.get(resource, name, namespace)
                        except NotFound:
                            raise error from None
                        if _submission_of(found) != _submission_of(body):
                            raise
                        return found
                    except Unavailable as error:
                        unavailable = error
                    await asyncio.sleep(pauses.next_s())
        except TimeoutError:
            raise unavailable from None


def _resolve(
    target: SubmitTarget, given: dict[str, Any]
) -> tuple[Call[Any, Any] | None, dict[str, Any]]:
    """Return the call that a target stands for (None: a command), and all options."""
    what = target.what
    if isinstance(what, Call):
        if target.args:
            raise Unsendable("give the arguments to call(...), not beside it")
        return what, {**what.function.options, **given}
    if callable(what):
        function = as_task(what)
        return Call(function, target.args, {}), {**function.options, **given}
    if target.args or target.calls is not None:
        raise Unsendable("only a function takes arguments; put those of a command into its list")
    return None, given


def _built(
    frame: SubmissionFrame,
    program: FunctionCommand,
    calls: tuple[Call[Any, Any], tuple[tuple[Any, ...], ...] | None],
    name: str,
    given: dict[str, Any],
) -> Submission:
    call, many = calls
    arguments: Any
    if many is None:
        arguments = arguments_of(call)
    else:
        arguments = [arguments_of(Call(call.function, args, {})) for args in many]
    return build(frame, program, arguments, name, given)


def decoder(function: TaskFunction[Any, Any], *, many: bool) -> Decode:
    """Return what turns a function's result, or those of several calls, back."""

    def decode(plain: Any, where: str) -> Any:
        return decode_result(function.function, plain, where)

    def decode_many(plain: Any, where: str) -> list[Any]:
        if not isinstance(plain, list):
            raise InputInvalid(f"{where}: must be a list of results")
        return [decode(item, f"{where}[{number}]") for number, item in enumerate(plain)]

    return decode_many if many else decode


def _submission_of(obj: Mapping[str, Any]) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(ANNOTATION_SUBMISSION, ""))
