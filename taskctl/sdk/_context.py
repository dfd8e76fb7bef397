"""Who this task is."""

from __future__ import annotations

from taskctl.sdk import _cancel, _env
from taskctl.sdk.errors import NoWorkspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path
    from typing import Any

    from taskctl.wire import Message


class Context:
    """This task.

    Attributes:
        name: of the Task.
        namespace: of the Task.
        uid: of the Task.
        attempt: number of this attempt, from 1.
        root: name of the tree's root task; its own for a root.
        parent: name of the task that spawned this one; empty for a root.
        depth: of this task in the tree; 0 for a root.
        cluster: name of the TaskCluster.
    """

    def __init__(self, attached: Message) -> None:
        self.name: str = attached["task"]
        self.namespace: str = attached["namespace"]
        self.uid: str = attached["uid"]
        self.attempt: int = attached["attempt"]
        self.root: str = attached["root"]
        self.parent: str = attached["parent"]
        self.depth: int = attached["depth"]
        self.cluster: str = attached["cluster"]
        self._workspace: str = attached["workspace"]
        self._input: list[Any] = []

    def __repr__(self) -> str:
        return f"<task {self.namespace}/{self.name}, attempt {self.attempt}>"

    @property
    def workspace(self) -> Path | None:
        """The directory that all tasks of the TaskCluster share; None without one."""
        from pathlib import Path

        return Path(self._workspace) if self._workspace else None

    @property
    def task_dir(self) -> Path:
        """A directory of this task's own in the workspace, kept across its attempts.

        For checkpoints: what an attempt leaves there, the next one finds. The
        clean-up of the workspace removes it (``spec.workspace.cleanup``).

        Raises:
            NoWorkspace: the TaskCluster has none.
            OSError: it cannot be made.
        """
        from pathlib import Path

        if not self._workspace:
            raise NoWorkspace(
                "task_dir: this TaskCluster has no workspace; set spec.workspace, "
                "or keep checkpoints elsewhere"
            )
        from taskctl.sdk._stored import make_shared_directory

        parent = f"{self._workspace}/{_env.TASKS_DIR}"
        make_shared_directory(parent)
        path = Path(parent) / self.uid
        path.mkdir(exist_ok=True)
        return path

    @property
    def input(self) -> Any:
        """The task's input as JSON values; None without one. The first read asks the agent.

        Raises:
            InputMissing: it was stored in the workspace, and is gone.
            InputCorrupt: it was stored in the workspace, and is not what it was.
            AgentAway: the agent did not answer.
        """
        if not self._input:
            self._input.append(self.streamed_input(()))
        return self._input[0]

    def streamed_input(self, places: Container[str]) -> Any:
        """Read the input, but for the results at some places (JSON pointers); see `input`."""
        from taskctl.sdk._blocking import perform
        from taskctl.sdk._specs import input_operation

        return perform(input_operation(places))


def current() -> Context:
    """Return this task. The first call asks the agent, and takes SIGTERM over.

    Raises:
        NotInTask: this process was not started by taskctl.
        AgentAway: the agent did not answer.
    """
    if not _current:
        from taskctl.sdk._blocking import call
        from taskctl.sdk._exchange import ATTACH

        _env.endpoint()
        _cancel.install()
        _current.append(Context(call(ATTACH)))
    return _current[0]


_current: list[Context] = []
