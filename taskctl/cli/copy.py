"""``taskctl cp``: files and folders to a workspace, and from it."""

from __future__ import annotations

import os
import select
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from taskctl.cli import completing
from taskctl.cli.access import Access
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.names import kind_of_word, parse_any
from taskctl.cli.output import note
from taskctl.cli.verbs import verb
from taskctl.constants import ENV_WORKSPACE
from taskctl.outside.copyframes import CopyFrame, FrameKind, TransferError, TransferReader
from taskctl.outside.copying import (
    READ_VERB,
    WRITE_VERB,
    Omissions,
    WorkspacePath,
    copy_from,
    copy_to,
    path_in_workspace,
    workspace_source,
)
from taskctl.outside.copyread import read_frames
from taskctl.outside.copywrite import CopyTarget, Receiver
from taskctl.outside.session import Session
from taskctl.policy.defaultcluster import DEFAULT_CLUSTER

_SILENCE_S: Final = 120.0  # of the other end of an upload
_PATH: Final = "PATH here, or TASKCLUSTER:PATH in its workspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpOptions:
    """The options of ``cp``."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help=f"{_PATH}; - is standard input.",
            autocompletion=completing.places,
        ),
    ]
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO",
            help=f"{_PATH}; - is standard output.",
            autocompletion=completing.places,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathOptions:
    """The options of the verbs that run inside a worker."""

    path: Annotated[str, typer.Argument(metavar="PATH", help="Below the workspace.")]


@dataclass(frozen=True, slots=True)
class Remote:
    """A path in a workspace as it was typed.

    Attributes:
        kind: TaskCluster, or Task: the workspace of its TaskCluster.
        name: of that object.
        path: in the workspace.
    """

    kind: str
    name: str
    path: str


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "cp")(cp)
    verb(app, READ_VERB, hidden=True)(workspace_read)
    verb(app, WRITE_VERB, hidden=True)(workspace_write)


async def cp(access: Access, options: CpOptions) -> int:
    """Copy a file or a folder to the workspace of a TaskCluster, or from it.

    taskctl cp data.csv sweep:input/

    taskctl cp sweep:results ./results

    taskctl cp :results/best.json -

    Without a name before the colon it is the TaskCluster `default`; task/NAME:PATH is the workspace
    of the TaskCluster of a task. A name with a colon on this machine is written ./NAME.
    """
    source, target = parse_place(options.source), parse_place(options.target)
    report = Omissions(note)
    try:
        match source, target:
            case Remote(), str():
                async with access.connect() as session:
                    await copy_from(session, await _find(session, source), target, report)
            case str(), Remote():
                async with access.connect() as session:
                    await copy_to(session, source, await _find(session, target), report)
            case _:
                raise UsageError(
                    "one of FROM and TO is in a workspace, NAME:PATH, taskcluster/NAME:PATH "
                    "or task/NAME:PATH, and the other one is on this machine"
                )
    except TransferError as error:
        raise CliError(str(error), _code(error)) from error
    return ExitCode.FAILED if report.wrong else ExitCode.OK


def parse_place(text: str) -> str | Remote:
    """Return a path of this machine, or a path in a workspace.

    Raises:
        UsageError: it is empty, or what is before the colon can be no name.
    """
    if not text:
        raise UsageError("a path is empty; write . for the current folder")
    before, colon, path = text.partition(":")
    if not colon or text.startswith(("/", "./", "../")):
        return text
    if not before:
        return Remote("TaskCluster", DEFAULT_CLUSTER, path)
    word, slash, _ = before.rpartition("/")
    if not slash:
        before = f"taskcluster/{before}"
    elif kind_of_word(word) not in ("TaskCluster", "Task"):
        return text
    try:
        kind, name = parse_any(before)
    except UsageError as error:
        raise UsageError(f"{error}; a file with a colon in its name is written ./{text}") from error
    return Remote(kind, name, path)


async def _find(session: Session, remote: Remote) -> WorkspacePath:
    if remote.kind == "TaskCluster":
        return WorkspacePath(remote.name, remote.path)
    from taskctl.api.resources import TASKS
    from taskctl.policy.runcluster import cluster_of_task

    task = await session.client.get(TASKS, remote.name, session.namespace)
    return WorkspacePath(cluster_of_task(task), remote.path)


def _code(error: TransferError) -> ExitCode:
    return ExitCode.NOT_FOUND if error.missing else ExitCode.FAILED


# --- inside a worker --------------------------------------------------------------------


def workspace_read(options: PathOptions) -> int:
    """Send a file or a folder of the workspace. Runs inside a worker."""
    root = _workspace()
    try:
        for frame in read_frames(workspace_source(root, path_in_workspace(options.path))):
            _send(frame)
    except TransferError as error:
        _send_failed(error)
    return ExitCode.OK


def workspace_write(options: PathOptions) -> int:
    """Write what comes on standard input to the workspace. Runs inside a worker."""
    root = _workspace()
    try:
        _receive(Receiver(CopyTarget(root, path_in_workspace(options.path), gives_away=True)))
    except TransferError as error:
        _send_failed(error)
    else:
        _send(CopyFrame(FrameKind.COMPLETE))
    return ExitCode.OK


def _receive(receiver: Receiver) -> None:
    reader = TransferReader()
    try:
        while chunk := _read_input():
            for frame in reader.feed(chunk):
                receiver.feed(frame)
                if frame.kind is FrameKind.COMPLETE:
                    return
    finally:
        receiver.close()
    raise TransferError("", "the copy ended before it was complete")


def _read_input() -> bytes:
    fd = sys.stdin.fileno()
    if not select.select([fd], [], [], _SILENCE_S)[0]:
        raise TransferError("", f"nothing has come for {_SILENCE_S:.0f} s")
    return os.read(fd, 64 * 1024)


def _workspace() -> Path:
    root = os.environ.get(ENV_WORKSPACE)
    if not root:
        raise UsageError(f"${ENV_WORKSPACE} is not set: this is not a worker with a workspace")
    return Path(root)


def _send(frame: CopyFrame) -> None:
    sys.stdout.buffer.write(frame.encoded())
    if frame.kind is not FrameKind.DATA:
        sys.stdout.buffer.flush()


def _send_failed(error: TransferError) -> None:
    _send(CopyFrame(FrameKind.FAILED, error.path, text=error.why, wrong=error.missing))
