"""What the parts of one agent share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from taskctl.agent.background import Background
from taskctl.agent.journal import Journal
from taskctl.agent.meters import Meters
from taskctl.agent.retry import Retrier
from taskctl.agent.runs import Run, Runs
from taskctl.agent.settings import AgentSettings
from taskctl.agent.tokens import TokenMint
from taskctl.agent.workspace import Workspace
from taskctl.api.resources import TASKS
from taskctl.errors import NotFound
from taskctl.kube.interface import (
    DeleteOptions,
    KubeObject,
    PatchOptions,
    PatchType,
    Reader,
    StatusWriter,
    Watcher,
)
from taskctl.kube.resources import Resource
from taskctl.kube.timing import Timing
from taskctl.policy.claim import is_running_here
from taskctl.policy.status import StatusPatch, status_body, status_operations
from taskctl.policy.view import parse_task

T = TypeVar("T")
_STATUS_OPERATIONS: Final = PatchOptions(type=PatchType.JSON, subresource="status")


class AgentClient(Reader, StatusWriter, Watcher, Protocol):
    """What the agent asks of Kubernetes: look, create, write, cancel, delete old outputs."""

    async def create(
        self, res: Resource, obj: KubeObject, namespace: str | None = None
    ) -> KubeObject:
        """Create an object and return it as stored."""
        ...

    async def patch(
        self,
        res: Resource,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        options: PatchOptions = ...,
    ) -> KubeObject:
        """Patch an object and return it as stored."""
        ...

    async def delete(
        self,
        res: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions = ...,
    ) -> KubeObject:
        """Delete an object."""
        ...


@dataclass(frozen=True)
class Context:
    """Settings, services and state of one agent.

    Attributes:
        settings: as started.
        client: the API server.
        timing: clock, sleep and chance.
        retrier: repeats calls while the server is away.
        tokens: makes and checks tokens.
        journal: durable memory.
        runs: memory.
        background: owner of work that outlives connections.
        workspace: None where the TaskCluster has none.
        meters: what is counted.
    """

    settings: AgentSettings
    client: AgentClient
    timing: Timing
    retrier: Retrier
    tokens: TokenMint
    journal: Journal
    runs: Runs
    background: Background
    workspace: Workspace | None
    meters: Meters = field(default_factory=Meters)

    @property
    def namespace(self) -> str:
        """Where the pod and its tasks live."""
        return self.settings.pod.namespace

    @property
    def workspace_path(self) -> str:
        """The workspace as a task sees it; empty without one."""
        return str(self.workspace.root) if self.workspace else ""

    async def on_behalf(self, run: Run, name: str, work: Coroutine[Any, Any, T]) -> T:
        """Do something that must be done before the run's outcome is written.

        It continues when the caller is cancelled, which happens when the task's process dies.
        """
        task = self.background.spawn(f"{name} {run.told.container}", work)
        run.writes.add(task)
        task.add_done_callback(run.writes.discard)
        return await asyncio.shield(task)

    async def read_task(self, run: Run) -> dict[str, Any]:
        """Read the Task of a run; waits for the API server.

        Raises:
            NotFound: it is gone, also if another one has its name by now.
            ApiError: the server refuses.
        """
        name = run.told.task
        task = await self.retrier.call(
            f"read task {name}", lambda: self.client.get(TASKS, name, self.namespace)
        )
        if task["metadata"]["uid"] != run.told.uid:
            raise NotFound(f"task {name} was deleted and made again", status=404)
        run.keep(task)
        return task

    async def task_of(self, run: Run) -> dict[str, Any]:
        """Return the Task of a run as last seen; its spec does not change.

        Raises:
            ApiError: it had to be read, and could not be.
        """
        return run.task if run.task is not None else await self.read_task(run)

    async def swap_status(self, task: dict[str, Any], patch: StatusPatch) -> dict[str, Any]:
        """Write a status under the resourceVersion of ``task``; one try.

        Raises:
            Conflict: the Task has changed since it was read.
            ApiError: as the server says.
        """
        name = task["metadata"]["name"]
        if patch.get("output") is not None:
            operations = status_operations(task, patch)
            return await self.client.patch(
                TASKS, name, self.namespace, operations, options=_STATUS_OPERATIONS
            )
        body = status_body(task, patch)
        return await self.client.patch_status(TASKS, name, self.namespace, body)

    @staticmethod
    def is_ours(task: dict[str, Any], run: Run) -> bool:
        """Whether the Task says that exactly this run is the one that counts."""
        view = parse_task(task)
        return view.uid == run.told.uid and is_running_here(view, run.claim)
