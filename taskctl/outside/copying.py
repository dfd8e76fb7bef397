"""Copies between this machine and the workspace of a TaskCluster, both ways.

Where the workspace is a directory here, it is read and written in place. Elsewhere a worker that
mounts it does so: a further process in its agent's container, over pods/exec.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, TypeVar

from taskctl.constants import AGENT_CONTAINER, DEFAULT_WORKSPACE_PATH
from taskctl.errors import ApiError, Forbidden, NotFound, Unavailable
from taskctl.outside import session as sessions
from taskctl.outside.copyframes import CopyFrame, FrameKind, TransferError, TransferReader
from taskctl.outside.copyread import CopySource, Frames, read_frames, stream_frames
from taskctl.outside.copywrite import CopyTarget, Receiver, StreamReceiver
from taskctl.outside.session import Session
from taskctl.outside.workspace import LocalWorkspace, WorkerWorkspace, find_workspace
from taskctl.safetext import one_line
from taskctl.sdk._stored import is_unicode

if TYPE_CHECKING:
    from taskctl.kube.execute import ExecSession

T = TypeVar("T")
READ_VERB: Final = "workspace-read"
WRITE_VERB: Final = "workspace-write"
STREAM: Final = "-"
# Without a byte taken, or without an answer after the last one.
_SILENCE_S: Final = 60.0
_MAX_SENTENCES: Final = 100
_COMPLAINT_BYTES: Final = 4096


@dataclass(slots=True)
class Omissions:
    """What was left out.

    Attributes:
        tell: takes a sentence about each.
        wrong: something was left out that should not have been.
    """

    tell: Callable[[str], None]
    wrong: bool = field(default=False, init=False)
    _count: int = field(default=0, init=False)

    def take(self, frame: CopyFrame, where: str) -> None:
        """Take notice of a record about something that was left out."""
        is_cut = frame.kind is FrameKind.END and frame.text
        if frame.kind is not FrameKind.SKIPPED and not is_cut:
            return
        self.wrong |= frame.wrong or bool(is_cut)
        self._count += 1
        if self._count <= _MAX_SENTENCES:
            self.tell(one_line(f"left out: {where}: {frame.path} {frame.text}"))
        elif self._count == _MAX_SENTENCES + 1:
            self.tell("more was left out")


@dataclass(frozen=True, slots=True)
class WorkspacePath:
    """A path in a workspace.

    Attributes:
        cluster: name of the TaskCluster.
        path: as typed: below the workspace, or from its mount path on.
    """

    cluster: str
    path: str

    def words(self, path: str) -> str:
        """Return how a path in this workspace is shown."""
        return f"{self.cluster}:{path or '.'}"


def path_in_workspace(path: str, mount_path: str = DEFAULT_WORKSPACE_PATH) -> str:
    """Return a typed path below the workspace; a slash at its end stays.

    Args:
        path: as typed.
        mount_path: where tasks have the workspace; an absolute path must begin with it.

    Raises:
        TransferError: it leads out of the workspace, or is not a path.
    """
    pure = PurePosixPath(path)
    if "\0" in path or ".." in pure.parts or not is_unicode(path):
        raise TransferError(path, "has '..' or characters that no path in a workspace may have")
    if pure.is_absolute():
        if not pure.is_relative_to(mount_path):
            raise TransferError(
                path,
                f"is not in the workspace; name it from the workspace on, or as {mount_path}/…",
            )
        pure = pure.relative_to(mount_path)
    end = "/" if path.endswith("/") and pure.parts else ""
    return "/".join(pure.parts) + end


async def copy_from(session: Session, place: WorkspacePath, local: str, report: Omissions) -> None:
    """Copy a file or folder of a workspace to this machine.

    Args:
        session: where.
        place: what.
        local: path here, or ``-`` for standard output.
        report: takes what was left out.

    Raises:
        TransferError: a path is not there or cannot be used, on the side that it names.
        ApiError: the API server refuses, or is away.
    """
    path, way = await _way(session, place)
    target = None if local == STREAM else await asyncio.to_thread(local_target, local)
    match way:
        case LocalWorkspace(directory):
            source = workspace_source(directory, path)
            if target is not None:
                await asyncio.to_thread(_check_apart, source.root / source.path, target)
            frames = _in_thread(read_frames(source))
        case WorkerWorkspace(pod):
            frames = _through_worker(session, pod, path)
    root = None if target is None else target.root
    receiver = StreamReceiver(_to_stdout) if target is None else Receiver(target)
    try:
        async with aclosing(_named(frames, place.words)) as named:
            async for frame in named:
                report.take(frame, place.words(path))
                try:
                    await _step(receiver.feed, frame)
                except TransferError as error:
                    raise _local_error(error, root) from error
    finally:
        receiver.close()


async def copy_to(session: Session, local: str, place: WorkspacePath, report: Omissions) -> None:
    """Copy a file or folder of this machine to a workspace.

    Args:
        session: where.
        local: path here, or ``-`` for standard input.
        place: where to.
        report: takes what was left out.

    Raises:
        TransferError: a path is not there or cannot be used, on the side that it names.
        ApiError: the API server refuses, or is away.
    """
    source = None if local == STREAM else await asyncio.to_thread(local_source, local)
    path, way = await _way(session, place)
    if source is not None and isinstance(way, LocalWorkspace):
        source = await asyncio.to_thread(_without_stack, session, source, way.directory, path)
    root = None if source is None else source.root
    frames = _named_local(
        _in_thread(stream_frames(sys.stdin.fileno()) if source is None else read_frames(source)),
        root,
    )
    async with aclosing(_noted(frames, local, report)) as noted:
        try:
            match way:
                case LocalWorkspace(directory):
                    receiver = Receiver(CopyTarget(directory, path, gives_away=True))
                    try:
                        async for frame in noted:
                            try:
                                await _step(receiver.feed, frame)
                            except TransferError as error:
                                raise _in_workspace(error, place.words) from error
                    finally:
                        receiver.close()
                case WorkerWorkspace(pod):
                    await _to_worker(session, pod, path, noted, place)
        except Forbidden as error:
            raise _no_right(error) from error


def workspace_source(directory: Path, path: str) -> CopySource:
    """Return a path in a workspace as what is copied."""
    return CopySource(directory, path, PurePosixPath(path).name)


def local_source(path: str) -> CopySource:
    """Return a path of this machine as what is copied. Blocking.

    Raises:
        TransferError: it is not there.
    """
    real = Path(os.path.realpath(path))
    if not os.path.lexists(real):
        raise TransferError(path, "does not exist", missing=True)
    last = path.rstrip("/").rpartition("/")[2]
    name = "" if last in ("", ".", "..") else last
    if real.is_dir():
        return CopySource(real, "", name, bounded=False)
    end = "/" if path.endswith("/") else ""
    return CopySource(real.parent, real.name + end, name, bounded=False)


def local_target(path: str) -> CopyTarget:
    """Return a path of this machine as the place of a copy. Blocking.

    Raises:
        TransferError: its folder is not there.
    """
    if os.path.exists(path):
        real = Path(os.path.realpath(path))
        if real.is_dir():
            return CopyTarget(real, "")
        return CopyTarget(real.parent, real.name + ("/" if path.endswith("/") else ""))
    parent, _, name = path.rstrip("/").rpartition("/")
    parent = parent or ("/" if path.startswith("/") else ".")
    if not os.path.isdir(parent):
        problem = "does not exist, or is not a folder; make it first"
        raise TransferError(parent, problem, missing=True)
    if name in (".", ".."):
        raise TransferError(path, "does not exist", missing=True)
    return CopyTarget(Path(os.path.realpath(parent)), name + ("/" if path.endswith("/") else ""))


def _without_stack(session: Session, source: CopySource, workspace: Path, path: str) -> CopySource:
    """Leave the local stack out of what is copied: its keys, and the workspace itself. Blocking.

    Raises:
        TransferError: a folder of the workspace would be copied into itself.
    """
    if source.root.is_relative_to(os.path.realpath(workspace)):
        _check_apart(source.root / source.path, CopyTarget(workspace, path))
        return source
    stack = sessions.data_dir_of(session.kubeconfig, session.context)
    left_out = [os.stat(one) for one in (workspace, stack) if one is not None and one.exists()]
    return replace(source, left_out=frozenset((one.st_dev, one.st_ino) for one in left_out))


def _check_apart(source: Path, target: CopyTarget) -> None:
    """Refuse to copy a folder of this machine into itself."""
    here = Path(os.path.realpath(source))
    there = Path(os.path.realpath(target.root / target.path))
    if here.is_dir() and there.is_relative_to(here):
        raise TransferError(str(there), f"lies in {here}, which cannot be copied into itself")


async def _way(
    session: Session, place: WorkspacePath
) -> tuple[str, LocalWorkspace | WorkerWorkspace]:
    """Return a place's path below the workspace, and the way there."""
    from taskctl.api.resources import TASKCLUSTERS
    from taskctl.policy.workspace import plan_workspace

    mount_path = DEFAULT_WORKSPACE_PATH
    try:
        cluster = await session.client.get(TASKCLUSTERS, place.cluster, session.namespace)
    except Forbidden:
        pass  # a user who may use the workers need not be allowed to read it
    else:
        workspace = plan_workspace(cluster)
        if workspace.volume is None:
            raise TransferError(
                f"TaskCluster {place.cluster}", "has no workspace; give it one: spec.workspace"
            )
        mount_path = workspace.mount_path
    try:
        path = path_in_workspace(place.path, mount_path)
    except TransferError as error:
        raise TransferError(place.words(error.path), error.why) from error
    way = await find_workspace(session, place.cluster)
    if way is None:
        raise TransferError(
            f"TaskCluster {place.cluster}",
            "has no running worker, and taskctl reaches the workspace through one; raise "
            "spec.replicas (spec.minReplicas if it scales) or submit a task to it, and try again; "
            "taskctl top shows the workers",
        )
    return path, way


# --- through a worker -------------------------------------------------------------------


async def _through_worker(session: Session, pod: str, path: str) -> AsyncGenerator[CopyFrame, None]:
    """Have a worker read."""
    command = ["taskctl", READ_VERB, "--", path or "."]
    output = session.client.stream_output(pod, session.namespace, AGENT_CONTAINER, command)
    reader = TransferReader()
    complete = False
    try:
        async with aclosing(output):
            async for chunk in output:
                for frame in reader.feed(chunk):
                    complete |= frame.kind is FrameKind.COMPLETE
                    yield frame
    except ApiError as error:
        raise _worker_error(pod, error) from error
    if not complete:
        raise TransferError("", f"worker {pod} ended before the copy was complete")


async def _to_worker(
    session: Session,
    pod: str,
    path: str,
    frames: AsyncGenerator[CopyFrame, None],
    place: WorkspacePath,
) -> None:
    """Have a worker write."""
    command = ["taskctl", WRITE_VERB, "--", path or "."]
    try:
        async with session.client.open_exec(
            pod, session.namespace, AGENT_CONTAINER, command, stdin=True
        ) as running:
            answering = asyncio.create_task(_answer(running, pod, place), name="answer of the copy")
            sending = asyncio.create_task(_send(running, frames, pod), name="sending the copy")
            try:
                await asyncio.wait({answering, sending}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    sending.result()
                async with asyncio.timeout(_SILENCE_S):
                    await answering
            except TimeoutError as error:
                raise Unavailable(f"worker {pod} has not said that the copy is written") from error
            finally:
                answering.cancel()
                sending.cancel()
                await asyncio.gather(answering, sending, return_exceptions=True)
    except ApiError as error:
        raise _worker_error(pod, error) from error


async def _send(running: ExecSession, frames: AsyncGenerator[CopyFrame, None], pod: str) -> None:
    try:
        async for frame in frames:
            async with asyncio.timeout(_SILENCE_S):
                await running.write(frame.encoded())
        async with asyncio.timeout(_SILENCE_S):
            await running.end_input()
    except ConnectionError:
        pass  # the answer says why
    except TimeoutError as error:
        raise Unavailable(f"worker {pod} has stopped reading what is sent to it") from error


async def _answer(running: ExecSession, pod: str, place: WorkspacePath) -> None:
    """Wait until a worker says that everything is written."""
    from taskctl.kube.execute import STDERR

    reader = TransferReader()
    complaint = bytearray()
    complete = False
    async with aclosing(running.output()) as output:
        async for channel, data in output:
            if channel == STDERR:
                complaint += data[: _COMPLAINT_BYTES - len(complaint)]
                continue
            for frame in reader.feed(data):
                if frame.kind is FrameKind.FAILED:
                    raise _in_workspace(_failed(frame), place.words)
                complete |= frame.kind is FrameKind.COMPLETE
    if running.exit_code or not complete:
        words = complaint.decode(errors="replace").strip() or "ended before the copy was complete"
        raise TransferError("", f"worker {pod}: {words}")


def _worker_error(pod: str, error: ApiError) -> ApiError | TransferError:
    if isinstance(error, Forbidden):
        return _no_right(error)
    if isinstance(error, NotFound):
        return TransferError("", f"worker {pod} is gone; try again")
    if isinstance(error, Unavailable):
        return error
    return TransferError("", f"worker {pod}: {error.message}")


def _no_right(error: Forbidden) -> TransferError:
    return TransferError("", f"{error.message}; it takes the right to create and get pods/exec")


# --- frames, and errors that name their side ---------------------------------------------


async def _in_thread(frames: Frames) -> AsyncGenerator[CopyFrame, None]:
    """Yield what a blocking iterator yields."""
    with closing(frames):
        while (frame := await _step(next, frames, None)) is not None:
            yield frame


async def _step(function: Callable[..., T], *arguments: Any) -> T:
    """Run a short blocking function to its end, also when we are cancelled meanwhile."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def _named(
    frames: AsyncGenerator[CopyFrame, None], words: Callable[[str], str]
) -> AsyncGenerator[CopyFrame, None]:
    """Yield records of a workspace; errors name it."""
    async with aclosing(frames):
        try:
            async for frame in frames:
                if frame.kind is FrameKind.FAILED:
                    raise _failed(frame)
                yield frame
        except TransferError as error:
            raise _in_workspace(error, words) from error


async def _named_local(
    frames: AsyncGenerator[CopyFrame, None], root: Path | None
) -> AsyncGenerator[CopyFrame, None]:
    """Yield records of this machine; errors name the path here."""
    async with aclosing(frames):
        try:
            async for frame in frames:
                yield frame
        except TransferError as error:
            raise _local_error(error, root) from error


async def _noted(
    frames: AsyncGenerator[CopyFrame, None], local: str, report: Omissions
) -> AsyncGenerator[CopyFrame, None]:
    async with aclosing(frames):
        async for frame in frames:
            report.take(frame, local)
            yield frame


def _failed(frame: CopyFrame) -> TransferError:
    return TransferError(frame.path, frame.text, missing=frame.wrong)


def _in_workspace(error: TransferError, words: Callable[[str], str]) -> TransferError:
    if not error.path:
        return error
    return TransferError(words(error.path), error.why, missing=error.missing)


def _local_error(error: TransferError, root: Path | None) -> TransferError:
    if root is None or not error.path:
        return error
    return TransferError(str(root / error.path), error.why, missing=error.missing)


def _to_stdout(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
