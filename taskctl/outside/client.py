"""The client: submit functions and commands, look Tasks up, list, watch and delete them."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, TypeVarTuple, Unpack, overload

from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
from taskctl.api.states import TaskState
from taskctl.clientsettings import CLIENT_SETTINGS
from taskctl.constants import LABEL_CLIENT
from taskctl.errors import ConfigError, NotFound
from taskctl.kube.client import KubeClient
from taskctl.kube.follow import Selection, follow
from taskctl.kube.interface import DeleteOptions, ListOptions, Propagation
from taskctl.kube.resources import Resource
from taskctl.outside.handle import Handle
from taskctl.outside.here import submit_here
from taskctl.outside.info import TaskInfo
from taskctl.outside.options import Event, EventType, Options, Page
from taskctl.outside.session import Session
from taskctl.outside.submitter import SubmitTarget, Submitter
from taskctl.outside.tracker import TaskTracker
from taskctl.outside.values import Values
from taskctl.sdk._functions import Call

if TYPE_CHECKING:
    from taskctl.outside.operations.documents import Manifests
    from taskctl.outside.operations.execution import OperationHandle
    from taskctl.outside.operations.shapes import Operation

R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DEFAULT_TIMEOUT_S: Final = 30.0
DEFAULT_CONCURRENCY: Final = 16
_QPS: Final = 100.0
_KINDS: Final = {resource.kind: resource for resource in (TASKS, TASKOBJECTS, TASKCLUSTERS)}


class Client:
    """Submits tasks and follows them, from any program. ``async with Client() as c:``.

    Finds the API server as the ``taskctl`` command does: the kubeconfig given, ``$KUBECONFIG``,
    the pod's own account, the local stack of this directory, ``~/.kube/config``. Every request
    has a deadline and is repeated where that does no harm.

    Args:
        kubeconfig: path; None: searched for.
        context: in the kubeconfig; None: its current one.
        namespace: None: the kubeconfig's.
        cluster: TaskCluster for what is submitted; None: ``default``, else the only
            one of the namespace.
        image: for what is submitted; None: on the local stack this Python runs it.
        code: folder that is uploaded with functions, see docs/python-client.md.
        timeout_s: deadline of each request, repetitions included.
    """

    def __init__(
        self,
        *,
        kubeconfig: str | os.PathLike[str] | None = None,
        context: str | None = None,
        namespace: str | None = None,
        cluster: str | None = None,
        image: str | None = None,
        code: str | os.PathLike[str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._kubeconfig = None if kubeconfig is None else os.fspath(kubeconfig)
        self._context = context
        self._namespace = namespace
        self._defaults = {"cluster": cluster, "image": image, "code": code}
        self._timeout_s = timeout_s
        self._session: Session | None = None
        self._submitter: Submitter | None = None
        self._values: Values | None = None
        self._own: TaskTracker | None = None
        self._others: dict[str, TaskTracker] = {}
        self.id = secrets.token_hex(8)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Find the API server; ``async with`` does it. No request is sent yet.

        Raises:
            ConfigError: there is none, or what describes it is wrong.
        """
        if self._session is not None:
            return
        settings = replace(
            CLIENT_SETTINGS,
            kubeconfig=self._kubeconfig,
            context=self._context,
            qps=_QPS,
            timeout_s=self._timeout_s,
        )
        client = await KubeClient.connect(settings)
        self.use(
            Session(client, self._namespace or client.namespace, self._kubeconfig, self._context)
        )

    def use(self, session: Session) -> None:
        """Work on an open session; for programs that have one already."""
        self._session = session
        self._values = Values(session)
        self._own = TaskTracker(session, f"{LABEL_CLIENT}={self.id}")
        self._submitter = Submitter(session, self.id, self._defaults, self._timeout_s)

    async def close(self) -> None:
        """Close all connections. Tasks run on; who waits for a result gets an error."""
        session = self._session
        if session is not None:
            await self.release()
            await session.client.close()

    async def release(self) -> None:
        """Stop all watches, and leave the session that :meth:`use` was given open."""
        self._session = None
        for tracker in (self._own, *self._others.values()):
            if tracker is not None:
                await tracker.close()
        self._others.clear()

    @property
    def session(self) -> Session:
        """Client and namespace.

        Raises:
            ConfigError: it was not opened, or is closed.
        """
        if self._session is None:
            raise ConfigError("the client is not open; use it in `async with Client() as c:`")
        return self._session

    @property
    def namespace(self) -> str:
        """Where the Tasks are."""
        return self.session.namespace

    @property
    def values(self) -> Values:
        """Reads results."""
        self.session  # noqa: B018 - says that it is closed
        assert self._values is not None
        return self._values

    # --- submitting ---------------------------------------------------------------------

    @overload
    async def submit(
        self,
        target: Callable[[Unpack[Ts]], Coroutine[Any, Any, R]],
        /,
        *args: *Ts,
        **options: Unpack[Options],
    ) -> Handle[R]: ...
    @overload
    async def submit(
        self,
        target: Callable[[Unpack[Ts]], R],
        /,
        *args: *Ts,
        **options: Unpack[Options],
    ) -> Handle[R]: ...
    @overload
    async def submit(
        self, target: Call[..., Coroutine[Any, Any, R]], /, **options: Unpack[Options]
    ) -> Handle[R]: ...
    @overload
    async def submit(self, target: Call[..., R], /, **options: Unpack[Options]) -> Handle[R]: ...
    @overload
    async def submit(self, target: Sequence[str], /, **options: Unpack[Options]) -> Handle[Any]: ...
    async def submit(  # type: ignore[misc]  # the overloads say what fits
        self, target: Any, /, *args: Any, **options: Any
    ) -> Handle[Any]:
        """Create a Task that runs a function or a command; it exists when this returns.

        Args:
            target: a function (``@task`` or plain), such a function's ``call(...)``, or a
                command as a list.
            args: the function's arguments; named ones go through ``call``.
            options: see :class:`Options`.

        Raises:
            Unsendable: an argument, option or function cannot be sent; says which and why.
            TypeError: an option that does not exist.
            ConfigError: the TaskCluster or the image cannot be chosen.
            AlreadyExists: ``name`` is taken.
            ApiError: the API server refuses, or was not there within ``timeout_s``.
        """
        return await self._submit(SubmitTarget(target, args), options)

    async def submit_many(
        self, target: Any, calls: Sequence[tuple[Any, ...]], **options: Unpack[Options]
    ) -> Handle[Any]:
        """Create one Task that calls a function several times; its result is a list.

        Args:
            target: a function.
            calls: the arguments of each call.
            options: see :class:`Options`.

        Raises:
            Exception: as :meth:`submit`.
        """
        if options.get("debug"):
            raise TypeError("debug: only submit() and map() can run a function in this process")
        return await self._submit(SubmitTarget(target, (), tuple(calls)), options)

    async def _submit(self, target: SubmitTarget, options: Mapping[str, Any]) -> Handle[Any]:
        self.session  # noqa: B018 - says that it is closed
        assert self._submitter is not None
        assert self._own is not None
        if options.get("debug"):
            return await submit_here(target.what, target.args, options)
        options = {name: value for name, value in options.items() if name != "debug"}
        made, decode = await self._submitter.submit(target, options)
        name, uid = made["metadata"]["name"], made["metadata"]["uid"]
        self._own.expect(name, uid)
        return Handle(self, name, uid, decode)

    async def execute(self, operation: Operation | Manifests) -> OperationHandle:
        """Run an operation: tasks put together to one graph (docs/operations.md).

        Args:
            operation: of ``taskctl.operations``, or what its ``read_yaml`` returned.

        Returns:
            The handle of its root; the result is a dict with the results of the tasks.

        Raises:
            Exception: as :meth:`submit`.
        """
        from taskctl.outside.operations.execution import execute

        self.session  # noqa: B018 - says that it is closed
        assert self._submitter is not None
        return await execute(self, self._submitter, operation)

    async def map(
        self,
        function: Callable[[T], R] | Callable[[T], Coroutine[Any, Any, R]],
        items: Iterable[T],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        **options: Unpack[Options],
    ) -> list[Handle[R]]:
        """Create a Task for each item; all exist when this returns. See :meth:`gather`.

        Args:
            function: takes one item.
            items: its arguments; read as they are needed.
            concurrency: so many are created at the same time.
            options: of each, see :class:`Options`; ``name`` cannot be.

        Raises:
            Exception: as :meth:`submit`; what was created by then runs on.
        """
        if "name" in options:
            raise TypeError("name: each Task needs its own; leave it out")
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it must be at least 1")
        handles: dict[int, Handle[Any]] = {}
        numbered = enumerate(items)

        async def work() -> None:
            for number, item in numbered:
                handles[number] = await self._submit(SubmitTarget(function, (item,)), options)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
        return [handles[number] for number in sorted(handles)]

    async def gather(
        self, handles: Iterable[Handle[R]], *, return_exceptions: bool = False
    ) -> list[R]:
        """Return the results of Tasks in their order.

        Args:
            handles: of the Tasks.
            return_exceptions: errors take the place of results, instead of ending the wait.

        Raises:
            ChildError: of the first Task that did not succeed; the others run on.
        """
        waiting = [asyncio.ensure_future(handle.result()) for handle in handles]
        try:
            return await asyncio.gather(*waiting, return_exceptions=return_exceptions)  # type: ignore[return-value]  # errors, where they are asked for
        finally:
            for future in waiting:
                future.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def create(self, manifest: Mapping[str, Any]) -> Handle[Any] | dict[str, Any]:
        """Create an object as it stands: a Task, a TaskObject or a TaskCluster.

        Args:
            manifest: as in YAML; without a namespace it goes to the client's.

        Returns:
            Of a Task its handle, otherwise the object as stored.

        Raises:
            ConfigError: it is not an object of taskctl's.
            AlreadyExists: its name is taken.
            Invalid: it breaks a rule; the error names the field.
            ApiError: the API server refuses otherwise, or is away.
        """
        resource = _resource(manifest)
        body = {**manifest, "metadata": dict(manifest.get("metadata") or {})}
        own = body["metadata"].setdefault("namespace", self.namespace)
        if own != self.namespace:
            raise ConfigError(
                f"metadata.namespace: is {own}, and this client works in {self.namespace}; open "
                "one with namespace="
            )
        made = await self.session.client.create(resource, body, own, strict=True)
        return self._handle_of(made) if resource is TASKS else made

    async def retry(self, name: str, *, failed: bool = False) -> list[TaskInfo]:
        """Run a Task again, or what failed of its tree; see :meth:`Handle.retry`.

        Raises:
            NotFound: there is no such Task.
        """
        return await (await self.get(name)).retry(failed=failed)

    # --- looking ------------------------------------------------------------------------

    async def get(self, name: str) -> Handle[Any]:
        """Return the handle of a Task that exists. Its result is a JSON value.

        Raises:
            NotFound: there is none.
            ApiError: the API server refuses otherwise, or is away.
        """
        return self._handle_of(await self.session.client.get(TASKS, name, self.namespace))

    async def list(
        self,
        *,
        state: TaskState | str | None = None,
        cluster: str | None = None,
        selector: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> Page:
        """Return Tasks of the namespace, or a part of them.

        Args:
            state: only those in that state.
            cluster: only those of that TaskCluster.
            selector: label selector.
            limit: at most so many at once; 0: all.
            continue_token: of the part before.

        Raises:
            ValueError: there is no such state.
            Gone: the token is too old; begin again.
            ApiError: the API server refuses otherwise, or is away.
        """
        fields = {
            "status.state": None if state is None else _state(state).value,
            "spec.clusterName": cluster,
        }
        options = ListOptions(
            label_selector=selector,
            field_selector=",".join(f"{key}={value}" for key, value in fields.items() if value),
            limit=limit,
            continue_token=continue_token,
        )
        client = self.session.client
        lister = client.list if limit or continue_token else client.list_all
        page = await lister(TASKS, self.namespace, options=options)
        return Page([TaskInfo(item) for item in page.items], page.continue_token)

    async def watch(
        self,
        *,
        name: str | None = None,
        selector: str = "",
    ) -> AsyncGenerator[Event, None]:
        """Yield what happens to Tasks, beginning with those that are there; does not end.

        Breaks of the connection and restarts of the server are bridged: no state is missed,
        though of several changes during one only the last may be seen.

        Args:
            name: only that Task.
            selector: label selector.

        Raises:
            ApiError: the API server refuses, or has been away for long.
        """
        selection = Selection(
            TASKS,
            self.namespace,
            label_selector=selector,
            field_selector=f"metadata.name={name}" if name else "",
        )
        known: dict[str, dict[str, Any]] = {}
        async with aclosing(follow(self.session.client, selection)) as changes:
            async for change in changes:
                there = {task["metadata"]["uid"] for task in change.objects}
                gone = there if change.deleted else known.keys() - there if change.complete else ()
                for uid in list(gone):
                    before = known.pop(uid, None)
                    last = next((t for t in change.objects if t["metadata"]["uid"] == uid), before)
                    if last is not None:
                        yield Event(EventType.DELETED, TaskInfo(last))
                if change.deleted:
                    continue
                for task in change.objects:
                    old = known.get(task["metadata"]["uid"])
                    known[task["metadata"]["uid"]] = task
                    if old is None:
                        yield Event(EventType.ADDED, TaskInfo(task))
                    elif _version(old) != _version(task):
                        yield Event(EventType.MODIFIED, TaskInfo(task))

    async def delete(self, name: str, *, uid: str = "") -> None:
        """Delete a Task with its tree and results; what runs is stopped. Harmless when it is gone.

        Args:
            name: of the Task.
            uid: only if it is this very one.

        Raises:
            Conflict: it is another one.
            ApiError: the API server refuses, or is away.
        """
        options = DeleteOptions(uid=uid, propagation=Propagation.BACKGROUND)
        try:
            await self.session.client.delete(TASKS, name, self.namespace, options=options)
        except NotFound:
            return

    # --- below --------------------------------------------------------------------------

    def tracker_of(self, name: str, *, own: bool) -> TaskTracker:
        """Return the watch that tells of a Task."""
        session = self.session
        assert self._own is not None
        if own:
            return self._own
        if name not in self._others:
            self._others[name] = TaskTracker(session, field_selector=f"metadata.name={name}")
        return self._others[name]

    def renew(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Take note that Tasks have changed, whatever the watches still tell of before."""
        for tracker in (self._own, *self._others.values()):
            if tracker is not None:
                tracker.renew(tasks)

    def _handle_of(self, task: Mapping[str, Any]) -> Handle[Any]:
        metadata = task["metadata"]
        own = (metadata.get("labels") or {}).get(LABEL_CLIENT) == self.id
        return Handle(self, metadata["name"], metadata["uid"], None, own=own)


def _resource(manifest: Mapping[str, Any]) -> Resource:
    resource = _KINDS.get(str(manifest.get("kind")))
    if resource is None or manifest.get("apiVersion") != resource.api_version:
        raise ConfigError(
            f"kind: {manifest.get('apiVersion')} {manifest.get('kind')} is not one of "
            f"{', '.join(_KINDS)} of {TASKS.api_version}; create other objects with kubectl"
        )
    return resource


def _state(state: TaskState | str) -> TaskState:
    for known in TaskState:
        if known.lower() == str(state).lower():
            return known
    raise ValueError(f"there is no state {state!r}; known are {', '.join(TaskState)}")


def _version(task: Mapping[str, Any]) -> str:
    return str(task["metadata"].get("resourceVersion", ""))
