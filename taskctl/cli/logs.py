"""``taskctl logs``: what a task wrote, from its container or from the workspace's copy."""

from __future__ import annotations

import asyncio
import glob
import os
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from taskctl.api.states import TaskState
from taskctl.cli.access import Access, Session
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.names import parse_name
from taskctl.cli.output import note
from taskctl.cli.tables import state_of
from taskctl.cli.verbs import verb
from taskctl.constants import AGENT_CONTAINER, ENV_WORKSPACE, LABEL_CLUSTER, LOGS_DIR
from taskctl.errors import ApiError, BadRequest, Forbidden, NotFound

COPY_VERB: Final = "workspace-log"


@dataclass(frozen=True, slots=True, kw_only=True)
class TailOption:
    """How much of a log."""

    tail: Annotated[
        int | None, typer.Option(metavar="LINES", min=0, help="Only the last lines.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions(TailOption):
    """The options of the verb that runs inside a worker."""

    uid: Annotated[str, typer.Argument(metavar="UID", help="Of the Task.")]
    attempt: Annotated[int, typer.Argument(metavar="N", min=1, help="Number of the attempt.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsOptions(TailOption):
    """The options of ``logs``."""

    task: Annotated[str, typer.Argument(metavar="TASK", help="Whose output.")]
    follow: Annotated[bool, typer.Option("--follow", "-f", help="From its start to its end.")] = (
        False
    )
    attempt: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Default: the latest.")
    ] = None
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="With the time of each line.")
    ] = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attempt ran.

    Attributes:
        task: name of the Task.
        uid: its UID.
        attempt: number.
        pod: the worker, or empty.
        container: in that pod.
    """

    task: str
    uid: str
    attempt: int
    pod: str
    container: str


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "logs")(logs)
    verb(app, COPY_VERB, hidden=True)(workspace_log)


async def logs(access: Access, options: LogsOptions) -> int:
    """Print what a task wrote to stdout and stderr."""
    from taskctl.client.resources import TASKS

    async with access.connect() as session:
        task = await session.client.get(TASKS, parse_name(options.task), session.namespace)
        if options.follow and options.attempt is None:
            task = await _started(session, task)
        place = find_place(task, options.attempt)
        try:
            if not place.pod:
                raise NotFound(f"attempt {place.attempt} of {place.task} left no worker behind")
            await _stream(session, place, options)
        except (NotFound, BadRequest) as error:
            await _from_workspace(access, session, task, (place, options, error))
    return ExitCode.OK


def find_place(task: Mapping[str, Any], attempt: int | None) -> Place:
    """Return where an attempt of a raw Task ran.

    Raises:
        CliError: it has not started, or there was no such attempt.
    """
    from taskctl.policy.entry import container_name
    from taskctl.policy.view import parse_task

    view = parse_task(task)
    latest = view.attempt
    number = latest if attempt is None else attempt
    if not latest:
        reason = view.status.get("reason") or "not placed yet"
        raise CliError(
            f"{view.name} has not started ({view.state}: {reason}); wait for it with "
            f"taskctl logs -f {view.name}"
        )
    if number > latest:
        raise CliError(f"{view.name} has had {latest} attempts; there is no attempt {number}")
    pod = view.pod_name if number == latest else ""
    for past in view.status.get("attempts") or ():
        if past.get("attempt") == number and not pod:
            pod = past.get("podName") or ""
    return Place(view.name, view.uid, number, pod, container_name(view.uid, number))


async def _started(session: Session, task: dict[str, Any]) -> dict[str, Any]:
    """Wait until the Task runs or has ended; returns it as it is then."""
    from taskctl.cli.follow import Selection, follow
    from taskctl.client.resources import TASKS

    def begun(found: Mapping[str, Any]) -> bool:
        state = TaskState(state_of(found))
        return state is TaskState.RUNNING or state.terminal

    if begun(task):
        return task
    name = task["metadata"]["name"]
    selection = Selection(TASKS, session.namespace, field_selector=f"metadata.name={name}")
    async with aclosing(follow(session.client, selection)) as changes:
        async for change in changes:
            if change.deleted or (change.complete and not change.objects):
                raise CliError(f"{name} was deleted before it started", ExitCode.NOT_FOUND)
            if begun(change.objects[-1]):
                return change.objects[-1]
    raise CliError(f"the watch on {name} ended")


async def _stream(session: Session, place: Place, options: LogsOptions) -> None:
    from taskctl.client.base import LogOptions

    log_options = LogOptions(
        follow=options.follow, tail_lines=options.tail, timestamps=options.timestamps
    )
    chunks = session.client.stream_log(
        place.pod, session.namespace, place.container, options=log_options
    )
    async with aclosing(chunks):
        async for chunk in chunks:
            write(chunk)


def write(chunk: bytes) -> None:
    """Pass bytes on to stdout, as they are."""
    sys.stdout.buffer.write(chunk)
    sys.stdout.flush()


# --- the copy in the workspace ------------------------------------------------------


async def _from_workspace(
    access: Access,
    session: Session,
    task: Mapping[str, Any],
    wanted: tuple[Place, LogsOptions, Exception],
) -> None:
    place, options, error = wanted
    if options.timestamps:
        raise UsageError("the copy in the workspace has no times; leave out --timestamps")
    note(f"({error}; this is the copy in the workspace)")
    directory = await _workspace_directory(access, session, task)
    if directory is not None and await asyncio.to_thread(print_copy, directory, place, options):
        return
    if directory is None and await _through_a_worker(session, task, place, options):
        return
    raise CliError(_gone(place, task, error), ExitCode.NOT_FOUND) from error


def _gone(place: Place, task: Mapping[str, Any], error: Exception) -> str:
    where = f"the workspace of TaskCluster {task['spec']['clusterName']}"
    return (
        f"the log of attempt {place.attempt} is not to be had: {error}. If that TaskCluster has a "
        f"workspace, a copy is in {where}: {LOGS_DIR}/*.{place.uid}.{place.attempt}.log"
    )


async def _through_a_worker(
    session: Session, task: Mapping[str, Any], place: Place, options: LogsOptions
) -> bool:
    """Have a living worker print the copy; False: there is no worker, or it has no copy."""
    pod = await _any_worker(session, task["spec"]["clusterName"])
    if not pod:
        return False
    command = ["taskctl", COPY_VERB, place.uid, str(place.attempt)]
    if options.tail is not None:
        command += ["--tail", str(options.tail)]
    output = session.client.stream_output(pod, session.namespace, AGENT_CONTAINER, command)
    try:
        async with aclosing(output):
            async for chunk in output:
                write(chunk)
    except Forbidden as error:
        raise CliError(
            f"the copy of the log is in the workspace, but it can't be read through worker {pod}: "
            f"{error.message}; it takes the right to create and get pods/exec"
        ) from error
    except ApiError as error:
        note(f"worker {pod}: {error.message}")
        return False
    return True


async def _any_worker(session: Session, cluster: str) -> str:
    """Return the name of a running worker of a TaskCluster, or empty."""
    from taskctl.client.base import ListOptions
    from taskctl.client.resources import PODS
    from taskctl.policy.lineage import label_value
    from taskctl.policy.podview import parse_pod

    options = ListOptions(label_selector=f"{LABEL_CLUSTER}={label_value(cluster)}")
    pods = await session.client.list_all(PODS, session.namespace, options=options)
    views = [parse_pod(pod) for pod in pods.items]
    return next((v.name for v in views if v.agent_running and v.deletion is None), "")


def workspace_log(options: CopyOptions) -> int:
    """Print the copy of a task's log that lies in the workspace. Runs inside a worker."""
    workspace = os.environ.get(ENV_WORKSPACE)
    if not workspace:
        raise UsageError(f"${ENV_WORKSPACE} is not set: this is no worker with a workspace")
    place = Place("", options.uid, options.attempt, "", "")
    if not print_copy(Path(workspace), place, options):
        raise CliError(f"no log of attempt {place.attempt} in the workspace", ExitCode.NOT_FOUND)
    return ExitCode.OK


async def _workspace_directory(
    access: Access, session: Session, task: Mapping[str, Any]
) -> Path | None:
    """Return the directory of this machine that holds the workspace, or None."""
    from taskctl.cli.datadir import data_dir_of
    from taskctl.client.resources import TASKCLUSTERS
    from taskctl.policy.workspace import plan_workspace

    data_dir = await asyncio.to_thread(data_dir_of, access.kubeconfig, access.context)
    if data_dir is None:
        return None
    try:
        cluster = await session.client.get(
            TASKCLUSTERS, task["spec"]["clusterName"], session.namespace
        )
    except NotFound:
        return None
    workspace = plan_workspace(cluster)
    if workspace.claim_name:
        return data_dir / "volumes" / session.namespace / workspace.claim_name
    host_path = (workspace.volume or {}).get("hostPath")
    return Path(host_path["path"]) if host_path else None


def print_copy(workspace: Path, place: Place, options: TailOption) -> bool:
    """Print the log of an attempt from a workspace; False: there is none. Blocking."""
    name = f"*.{glob.escape(place.uid)}.{place.attempt}.log"
    path = next((workspace / LOGS_DIR).glob(name), None)
    if path is not None:
        _print_end(path, options.tail)
    return path is not None


def _print_end(path: Path, tail: int | None) -> None:
    with path.open("rb") as file:
        if tail is not None:
            for line in deque(file, maxlen=tail):
                write(line)
            return
        while chunk := file.read(1 << 16):
            write(chunk)
