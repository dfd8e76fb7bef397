"""From an operation to what Kubernetes stores, as objects and as YAML, and back. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from taskctl.api.meta import describe_errors
from taskctl.api.task import Task
from taskctl.api.taskcluster import TaskCluster
from taskctl.constants import API_VERSION
from taskctl.errors import ConfigError
from taskctl.outside.operations.contexts import affinity_of
from taskctl.outside.operations.directories import DirectoryMode, volumes_of
from taskctl.outside.operations.shapes import Operation
from taskctl.outside.operations.tasks import OperationTask
from taskctl.outside.shipping import Host, program_of
from taskctl.outside.submission import arguments_of, envelope

ELSEWHERE: Final = Host("python3", sees_files=False)


@dataclass(frozen=True, slots=True)
class Manifests:
    """An operation as objects.

    Attributes:
        task: the root with its tasks.
        cluster: the TaskCluster that the operation runs on, if it is its own.
    """

    task: Mapping[str, Any]
    cluster: Mapping[str, Any] | None = None

    def to_yaml(self) -> str:
        """Return them as YAML, for ``taskctl submit -f`` or ``kubectl create -f``."""
        import yaml

        found = (self.task,) if self.cluster is None else (self.cluster, self.task)
        text: str = yaml.safe_dump_all(found, sort_keys=False, allow_unicode=True)
        return text


def read_yaml(text: str) -> Manifests:
    """Read what :meth:`Manifests.to_yaml` wrote, or the same written by hand.

    Raises:
        ConfigError: it is something else; the message names the field.
    """
    import yaml

    try:
        found = [item for item in yaml.safe_load_all(text) if item is not None]
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}") from error
    by_kind: dict[str, dict[str, Any]] = {}
    for item in found:
        kind = str(item.get("kind")) if isinstance(item, dict) else type(item).__name__
        if kind not in ("Task", "TaskCluster") or kind in by_kind:
            raise ConfigError(
                f"kind: an operation is a Task, and a TaskCluster at most; not {kind}"
            )
        by_kind[kind] = item
    if "Task" not in by_kind:
        raise ConfigError("kind: no document is a Task; an operation has one")
    return checked(Manifests(by_kind["Task"], by_kind.get("TaskCluster")))


def manifests_of(
    operation: Operation,
    *,
    name: str = "",
    cluster: str | None = None,
    image: str | None = None,
    host: Host = ELSEWHERE,
    existing_claims: Collection[str] = (),
    notify_url: str = "",
) -> Manifests:
    """Return the objects of an operation.

    Args:
        operation: the operation.
        name: of the root; default: the operation's, with ``generateName`` where it ends in ``-``.
        cluster: TaskCluster, where the operation names none and has no workers of its own.
        image: for tasks, where neither they nor the operation name one.
        host: where Python functions run.
        existing_claims: names of the PersistentVolumeClaims that are there.
        notify_url: receiver of ``on_exit_notify``, where that names none.

    Raises:
        ConfigError: something is missing, or breaks a rule of the API; the message names it.
        Unsendable: a function or its arguments cannot be sent.
    """
    name = name or operation.basename
    own: dict[str, Any] | None = None
    where = operation.cluster or cluster
    if operation.own_workers:
        if name.endswith("-"):
            raise ConfigError(
                f"name: is missing; {name} is the beginning of one, and the TaskCluster of this "
                "operation needs a whole one"
            )
        own, where = _cluster(operation, name, existing_claims), name
    if not where:
        raise ConfigError("cluster: is missing; say which TaskCluster the operation runs on")
    spec: dict[str, Any] = {"clusterName": where}
    if operation.image or image:
        spec["image"] = operation.image or image
    if operation.ttl:
        spec["ttlSecondsAfterFinished"] = dict(operation.ttl)
    if operation.directories and operation.directories[0].mode is DirectoryMode.READ_ONLY:
        spec["readOnlyWorkspace"] = True
    if operation.notice is not None:
        spec["notify"] = [operation.notice.receiver(notify_url)]
    if operation.on_exit is not None:
        spec["onExit"] = _exit_template(operation.on_exit, host)
    inputs: dict[str, Any] = {}
    spec["tasks"] = _templates(operation, host, inputs)
    if inputs:
        spec["input"] = inputs
    naming = {"generateName": name} if name.endswith("-") else {"name": name}
    task = {"apiVersion": API_VERSION, "kind": "Task", "metadata": naming, "spec": spec}
    return checked(Manifests(task, own))


def checked(manifests: Manifests) -> Manifests:
    """Return objects that the API server will take.

    Raises:
        ConfigError: they break a rule of the API; the message names the field.
    """
    try:
        Task.from_json(dict(manifests.task))
        if manifests.cluster is not None:
            TaskCluster.from_json(dict(manifests.cluster))
    except ValidationError as error:
        raise ConfigError("; ".join(describe_errors(error))) from error
    return manifests


def _templates(operation: Operation, host: Host, inputs: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    before: list[str] = []
    for group in operation.groups:
        for task in group:
            template = _template(task, host, inputs)
            if before:
                template["runAfter"] = list(before)
            found.append(template)
        before = [task.name for task in group]
    return found


def _template(task: OperationTask, host: Host, inputs: dict[str, Any]) -> dict[str, Any]:
    if task.call is None:
        command: Sequence[str] = task.command or ()
    else:
        program = program_of(task.call.function, _host_of(task, host), part=task.name)
        command = program.command
        inputs[task.name] = envelope(program, arguments_of(task.call))
    return {"name": task.name, **_fields(task, command)}


def _exit_template(task: OperationTask, host: Host) -> dict[str, Any]:
    """Return ``onExit``. Its input is the outcome, so nothing else can travel there."""
    call, where = task.call, f"on_exit: {task.name}"
    if call is None:
        return _fields(task, task.command or ())
    if call.args or call.kwargs:
        raise ConfigError(f"{where}: args: leave them out; the function is given outcome=…")
    program = program_of(call.function, _host_of(task, host))
    if program.envelope:
        raise ConfigError(
            f"{where}: the function would have to be sent by value; put it into a module that the "
            "image has, or use a command"
        )
    return _fields(task, program.command)


def _host_of(task: OperationTask, host: Host) -> Host:
    # An image of its own has its Python elsewhere, and not the files of this machine.
    return ELSEWHERE if task.image is not None else host


def _fields(task: OperationTask, command: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {} if task.image is None else {"image": task.image}
    found["command"] = list(command)
    if task.variables:
        found["env"] = [{"name": key, "value": value} for key, value in task.variables.items()]
    return found | task.fields


def _cluster(operation: Operation, name: str, existing_claims: Collection[str]) -> dict[str, Any]:
    spec: dict[str, Any] = {"replicas": 1 if operation.workers is None else operation.workers}
    if operation.directories:
        spec |= volumes_of(operation.directories, existing_claims)
    template: dict[str, Any] = {}
    affinity = affinity_of(operation.contexts)
    if affinity:
        template["affinity"] = affinity
    if operation.worker_resources is not None:
        template["resources"] = dict(operation.worker_resources)
    if template:
        spec["template"] = template
    return {
        "apiVersion": API_VERSION,
        "kind": "TaskCluster",
        "metadata": {"name": name},
        "spec": spec,
    }
