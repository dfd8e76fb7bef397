"""``taskctl run``: one function of a file as a task, from the code to the result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskctl.api.states import TaskState
from taskctl.cli import completing
from taskctl.cli.access import Access, Session
from taskctl.cli.datadir import DEFAULT_DATA_DIR, DataDir
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.hints import hint_for
from taskctl.cli.livelog import stderr_logs
from taskctl.cli.output import note
from taskctl.cli.results import Form, print_value
from taskctl.cli.verbs import verb
from taskctl.cli.waiting import verdict

if TYPE_CHECKING:
    from taskctl.cli.loggroup import LogGroup
    from taskctl.outside.client import Client
    from taskctl.outside.handle import Handle
    from taskctl.outside.info import TaskInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of ``run``."""

    place: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="Or MODULE:FUNCTION.")]
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg",
            "-a",
            metavar="NAME=VALUE",
            help="An argument, as text or JSON, whatever its annotation takes; repeat.",
        ),
    ] = None
    local: Annotated[
        bool,
        typer.Option(
            "--local",
            help="On the local stack of this directory, or one for this run.",
        ),
    ] = False
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="TaskCluster. Default: `default`, else the only one; without any, it is made.",
            autocompletion=completing.clusters,
        ),
    ] = None
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="With Python and the packages it needs.")
    ] = None
    code: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder to upload, which holds the file.")
    ] = None
    output: Annotated[Form, typer.Option("--output", "-o", help="Format of the result.")] = (
        Form.JSON
    )


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "run")(run)


async def run(access: Access, options: RunOptions) -> int:
    """Run a function as a task: its log on stderr, its result on stdout, its exit code.

    taskctl run work.py:count --arg limit=10 --local
    """
    from taskctl.outside.client import Client

    function, arguments = await asyncio.to_thread(_load, options)
    async with _connect(access, local=options.local) as session:
        cluster = await _cluster(session, options.cluster)
        client = Client(cluster=cluster, image=options.image)
        client.use(session)
        given: dict[str, Any] = {} if options.code is None else {"code": options.code}
        if options.cluster:  # before that of @task(cluster=...)
            given["cluster"] = cluster
        handle = await client.submit(function.call(**arguments), **given)
        note(f"{handle.name} submitted to TaskCluster {cluster}")
        try:
            return await _follow(client, handle, options)
        except asyncio.CancelledError:
            await handle.cancel()
            note(f"{handle.name} is cancelled")
            raise
        finally:
            await client.release()


def _load(options: RunOptions) -> tuple[Any, dict[str, Any]]:
    from taskctl.outside.shipping import as_task
    from taskctl.sdk import _places
    from taskctl.sdk.errors import InputInvalid

    file, _, name = options.place.rpartition(":")
    if not file or not name:
        raise UsageError(f"{options.place!r} must be FILE.py:FUNCTION or MODULE:FUNCTION")
    if file.endswith(".py") and not os.path.isfile(file):
        raise UsageError(f"there is no file {file}")
    try:
        function = as_task(_places.load_task(options.place))
        return function, parse_arguments(function.function, options.arg or ())
    except InputInvalid as error:
        raise UsageError(str(error)) from error
    except ImportError as error:
        raise UsageError(f"{file} cannot be imported: {error}") from error


def parse_arguments(function: Callable[..., Any], texts: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that ``NAME=VALUE`` texts stand for, led by the annotations.

    Raises:
        UsageError: one is malformed, given twice, or not what the function takes.
    """
    from taskctl.sdk._functions import decode_argument
    from taskctl.sdk.errors import InputInvalid

    given: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"--arg {text!r} must be NAME=VALUE")
        if name in given:
            raise UsageError(f"--arg {name} is given twice")
        try:
            given[name] = decode_argument(function, name, _forms(value))
        except InputInvalid as error:
            raise UsageError(f"--arg {error}") from error
    return given


def _forms(text: str) -> tuple[Any, ...]:
    """Return what a text may mean: itself, and its value if it is JSON."""
    try:
        return text, json.loads(text)
    except ValueError:
        return (text,)


@asynccontextmanager
async def _connect(access: Access, *, local: bool) -> AsyncIterator[Session]:
    """Open a client, of a stack that is started for it if need be."""
    if not local:
        async with access.connect() as session:
            yield session
        return
    if access.kubeconfig is not None or access.context is not None:
        raise UsageError("--local excludes --kubeconfig and --context")
    directory = DataDir(Path.cwd() / DEFAULT_DATA_DIR)
    async with contextlib.AsyncExitStack() as cleanup:
        kubeconfig = directory.kubeconfig
        if directory.running_pid() is None:
            from taskctl.outside.stack import LocalStack

            note("starting a local stack for this run")
            stack = await cleanup.enter_async_context(LocalStack(cluster=None))
            kubeconfig = stack.kubeconfig
        there = replace(access, kubeconfig=str(kubeconfig))
        yield await cleanup.enter_async_context(there.connect())


async def _cluster(session: Session, named: str | None) -> str:
    from taskctl.api.resources import TASKCLUSTERS
    from taskctl.cli.names import parse_name
    from taskctl.errors import AlreadyExists
    from taskctl.policy.defaultcluster import DEFAULT_CLUSTER, choose_cluster, default_cluster

    if named is not None:
        return parse_name(named, "TaskCluster", "--cluster")
    page = await session.client.list_all(TASKCLUSTERS, session.namespace)
    names = sorted(item["metadata"]["name"] for item in page.items)
    chosen = choose_cluster(names)
    if chosen is not None:
        return chosen
    if names:
        raise UsageError(f"say which TaskCluster with --cluster: {', '.join(names)}")
    with contextlib.suppress(AlreadyExists):
        body = default_cluster(os.cpu_count() or 1, session.namespace)
        await session.client.create(TASKCLUSTERS, body, session.namespace)
        slots = body["spec"]["slotsPerWorker"]
        note(f"TaskCluster {DEFAULT_CLUSTER} created: one worker, {slots} slots, a workspace")
    return DEFAULT_CLUSTER


async def _follow(client: Client, handle: Handle[Any], options: RunOptions) -> int:
    """Tell how the task and its tree get on; print the result; return the exit code."""
    async with stderr_logs(client.session, several=False) as logs:
        last = await _watch(client, handle, logs)
        await logs.drained()
    if last.state is TaskState.SUCCEEDED:
        found = await client.values.output_of(last.raw)
        print_value(None if found is None else found.plain, options.output)
    note(verdict(last.raw))
    if hint := hint_for(last.raw):
        note(hint)
    if last.succeeded:
        return ExitCode.OK
    return last.exit_code or ExitCode.FAILED


async def _watch(client: Client, handle: Handle[Any], logs: LogGroup) -> TaskInfo:
    """Print a line for each step; return the Task when its whole tree has ended."""
    told = ""
    async with aclosing(client.watch(name=handle.name)) as events:
        async for event in events:
            task = event.task
            if event.type == "DELETED" or task.uid != handle.uid:
                break
            logs.see(dict(task.raw))
            line = describe(task)
            if line != told:
                note(line)
                told = line
            if task.complete:
                return task
    raise CliError(f"{handle.name} was deleted", ExitCode.NOT_FOUND)


def describe(task: TaskInfo) -> str:
    """Say in a line how far a Task and its tree are."""
    parts = [f"{task.name}: {task.state}"]
    if task.state is TaskState.PENDING and task.reason:
        parts.append(f"({task.reason})")
    done, total, message = task.progress
    if done or total:
        parts.append(f"{done}/{total}" if total else str(done))
    if message:
        parts.append(message)
    counts = (task.raw.get("status") or {}).get("descendants") or {}
    if counts.get("total"):
        open_ = counts.get("pending", 0) + counts.get("running", 0)
        parts.append(f"- {counts['total'] - open_} of {counts['total']} descendants ended")
    return " ".join(parts)
