"""The operations: one task, some at the same time, one after another, or groups. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from taskctl.errors import ConfigError
from taskctl.outside.operations.contexts import PodExecutionContext
from taskctl.outside.operations.directories import SharedDirectory, parse_directories
from taskctl.outside.operations.notices import ExitNotice
from taskctl.outside.operations.tasks import OperationTask

if TYPE_CHECKING:
    from taskctl.outside.operations.documents import Manifests

# After success they go after 20 minutes, after failure after two hours.
DEFAULT_TTL: Final = {"secondsAfterSuccess": 20 * 60, "secondsAfterFailure": 2 * 60 * 60}
_COMPLETION: Final = "secondsAfterCompletion"
_TTL: Final = {"secondsAfterSuccess": "success", "secondsAfterFailure": "failure"}
Directories = str | SharedDirectory | Sequence[str | SharedDirectory] | None


class OperationSettings(TypedDict, total=False):
    """Settings of an operation.

    ``cluster``: TaskCluster to run on; default: the client's, or one of the operation's own where
    ``shared_directory``, ``pod_context``, ``workers`` or ``worker_resources`` ask for it.
    ``image``: of tasks that say none. ``shared_directory``: ``[CLAIM:]PATH[:MODE]``, or several of
    them. ``pod_context``: where the workers are to run. ``workers``: how many of them; default 1.
    ``worker_resources``: ``requests`` and ``limits`` of each. ``ttl_strategy``: seconds until the
    finished operation is deleted; None: it stays. ``on_exit_notify``: ``queue`` and ``payload`` of
    a message at its end, and ``url`` of the receiver; default: the environment variable
    ``TASKCTL_NOTIFY_URL``. ``on_exit``: a task that runs at its end, whatever that is.
    """

    cluster: str | None
    image: str | None
    shared_directory: Directories
    pod_context: PodExecutionContext | Sequence[PodExecutionContext] | None
    workers: int | None
    worker_resources: Mapping[str, Any] | None
    ttl_strategy: Mapping[str, int] | None
    on_exit_notify: Mapping[str, str] | None
    on_exit: OperationTask | None


class Operation:
    """Tasks that run and are deleted as one: a root with tasks (docs/graphs.md).

    Use one of the classes below. ``client.execute(operation)`` runs it.

    Args:
        basename: name of the root; one that ends in ``-`` gets something random behind it.
        groups: tasks, in groups: all of one run at the same time, and each group after the one
            before it.
        settings: see :class:`OperationSettings`.

    Raises:
        ConfigError: a setting or the tasks make no sense; the message names the field.
        TypeError: a setting that does not exist.
    """

    def __init__(
        self,
        basename: str,
        groups: Sequence[Sequence[OperationTask]],
        **settings: Unpack[OperationSettings],
    ) -> None:
        unknown = sorted(set(settings) - set(OperationSettings.__annotations__))
        if unknown:
            known = ", ".join(OperationSettings.__annotations__)
            raise TypeError(f"unknown setting {unknown[0]!r}; known are {known}")
        self.basename = basename
        self.groups = tuple(tuple(group) for group in groups)
        self.cluster = settings.get("cluster")
        self.image = settings.get("image")
        self.directories = parse_directories(settings.get("shared_directory"))
        self.contexts = _contexts(settings.get("pod_context"))
        self.workers = settings.get("workers")
        self.worker_resources = settings.get("worker_resources")
        ttl = settings.get("ttl_strategy", DEFAULT_TTL)
        self.ttl = None if ttl is None else _ttl(ttl)
        notice = settings.get("on_exit_notify")
        self.notice = None if notice is None else ExitNotice.parse(notice)
        self.on_exit = settings.get("on_exit")
        self._check()

    def manifests(
        self,
        *,
        name: str = "",
        cluster: str | None = None,
        image: str | None = None,
        notify_url: str = "",
    ) -> Manifests:
        """Return the operation as objects, as they are for a cluster, to be printed or stored.

        Args:
            name: of the root; default: its own, with ``generateName`` where that ends in ``-``.
            cluster: TaskCluster, where the operation names none and has no workers of its own.
            image: of tasks, where neither they nor the operation name one.
            notify_url: receiver of ``on_exit_notify``, where that names none.

        Raises:
            ConfigError: something is missing, or breaks a rule of the API.
            Unsendable: a function or its arguments cannot be sent.
        """
        from taskctl.outside.operations.documents import manifests_of

        return manifests_of(self, name=name, cluster=cluster, image=image, notify_url=notify_url)

    @property
    def tasks(self) -> tuple[OperationTask, ...]:
        """All tasks, in the order of their groups."""
        return tuple(task for group in self.groups for task in group)

    @property
    def own_workers(self) -> bool:
        """Whether the operation runs on a TaskCluster of its own."""
        wanted = (self.workers, self.worker_resources)
        return bool(self.directories or self.contexts or any(item is not None for item in wanted))

    def _check(self) -> None:
        if not self.tasks or not all(self.groups):
            raise ConfigError(f"{self.basename}: tasks: there is none, or an empty group")
        names = [task.name for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{self.basename}: tasks: two of them are called {twice[0]}")
        if self.own_workers and self.cluster is not None:
            raise ConfigError(
                f"{self.basename}: cluster: shared_directory, pod_context, workers and "
                "worker_resources make a TaskCluster for this operation alone; leave out cluster, "
                "or set the same on that TaskCluster"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.basename!r}, {self.groups!r})"


class SingleTaskOperation(Operation):
    """One task. Keyword arguments: see :class:`OperationSettings`."""

    def __init__(
        self, basename: str, task: OperationTask, **settings: Unpack[OperationSettings]
    ) -> None:
        super().__init__(basename, [[task]], **settings)


class ParallelOperation(Operation):
    """Tasks that run at the same time. Keyword arguments: see :class:`OperationSettings`."""

    def __init__(
        self, basename: str, tasks: Sequence[OperationTask], **settings: Unpack[OperationSettings]
    ) -> None:
        super().__init__(basename, [tasks], **settings)


class PipelineOperation(Operation):
    """Tasks that run one after another. Keyword arguments: see :class:`OperationSettings`."""

    def __init__(
        self, basename: str, tasks: Sequence[OperationTask], **settings: Unpack[OperationSettings]
    ) -> None:
        super().__init__(basename, [[task] for task in tasks], **settings)


class SimpleDagOperation(Operation):
    """Groups one after another, each of one task or several that run at the same time.

    Keyword arguments: see :class:`OperationSettings`.
    """

    def __init__(
        self,
        basename: str,
        *task_groups: OperationTask | Sequence[OperationTask],
        **settings: Unpack[OperationSettings],
    ) -> None:
        groups = [[group] if isinstance(group, OperationTask) else group for group in task_groups]
        super().__init__(basename, groups, **settings)


def _contexts(
    given: PodExecutionContext | Sequence[PodExecutionContext] | None,
) -> tuple[PodExecutionContext, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, PodExecutionContext) else tuple(given)


def _ttl(strategy: Mapping[str, int]) -> dict[str, int]:
    unknown = sorted(set(strategy) - {_COMPLETION, *_TTL})
    if unknown:
        known = ", ".join((_COMPLETION, *_TTL))
        raise ConfigError(f"ttl_strategy.{unknown[0]}: unknown field; known are {known}")
    for name, value in strategy.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ConfigError(f"ttl_strategy.{name}: must be a number of seconds, not {value!r}")
    either = strategy.get(_COMPLETION)
    found = {field: strategy.get(name, either) for name, field in _TTL.items()}
    return {field: value for field, value in found.items() if value is not None}
