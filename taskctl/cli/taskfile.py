"""Files of Tasks, one a line as JSON: what ``taskctl export`` writes and ``--from`` reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from taskctl.api.resources import TASKS
from taskctl.cli.access import Access, Session
from taskctl.cli.exits import CliError, UsageError
from taskctl.cli.output import note, without_noise
from taskctl.constants import API_VERSION, FIELD_ROOT_UID
from taskctl.errors import NotFound
from taskctl.kube.interface import ListOptions, ListPage
from taskctl.kube.resources import Resource
from taskctl.policy.view import TaskView, parse_task

if TYPE_CHECKING:
    from taskctl.kube.interface import Reader

_EVERYTHING: Final = ListOptions()
# etcd holds no object of more than 1.5 MiB; as JSON on one line it may be somewhat more.
MAX_LINE_BYTES: Final = 8 * 1024 * 1024
# What the verbs look into.
_MAPS: Final = ("times", "usage", "progress", "descendants", "tree", "defaults")
_LISTS: Final = ("conditions", "attempts")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFileOptions:
    """The option of verbs that can read a file in place of the API server."""

    file: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Read what `taskctl export` wrote, and no cluster."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class TaskSource:
    """Where Tasks are read.

    Attributes:
        client: reads them.
        namespace: where they are.
        session: with the API server; None: they are read from a file.
    """

    client: Reader
    namespace: str
    session: Session | None = None


def write_tasks(tasks: Iterable[Mapping[str, Any]]) -> str:
    """Return Tasks as lines."""
    return "".join(
        json.dumps(without_noise(task), separators=(",", ":"), ensure_ascii=True) + "\n"
        for task in tasks
    )


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """Return the Tasks in a file. Of one that is there twice the later line counts.

    A last line that was cut off, as a crash leaves it, is left out with a note.

    Raises:
        CliError: it cannot be read, or a line is not a Task; names the line.
    """
    tasks: dict[str, dict[str, Any]] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                if not line.endswith(b"\n") and not _is_json(line):
                    note(f"{path}:{number}: the last line was cut off, and is left out")
                elif line.strip():
                    task = _task(line, f"{path}:{number}")
                    tasks.pop(task["metadata"]["uid"], None)
                    tasks[task["metadata"]["uid"]] = task
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror or error}") from error
    return list(tasks.values())


def _is_json(line: bytes) -> bool:
    """Whether a line without an end is whole all the same; too long a one is judged elsewhere."""
    if len(line) > MAX_LINE_BYTES or not line.strip():
        return True
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _task(line: bytes, where: str) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise CliError(f"{where}: not a Task: the line has more than {MAX_LINE_BYTES} bytes")
    try:
        task = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CliError(
            f"{where}: not JSON ({error}); --from takes what `taskctl export` wrote, a Task a line"
        ) from None
    if not isinstance(task, dict) or task.get("kind") != "Task":
        raise CliError(f"{where}: kind: not a Task; --from takes what `taskctl export` wrote")
    if task.get("apiVersion") != API_VERSION:
        raise CliError(f"{where}: apiVersion: {task.get('apiVersion')!r} is not {API_VERSION}")
    metadata = task.get("metadata")
    for field in ("name", "namespace", "uid"):
        value = metadata.get(field) if isinstance(metadata, dict) else None
        if not isinstance(value, str) or not value:
            raise CliError(f"{where}: metadata.{field}: must be a text that is not empty")
    try:
        parse_task(task)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CliError(f"{where}: spec or status: not those of a Task ({error})") from None
    status = task.get("status") or {}
    for field in _MAPS:
        if not isinstance(status.get(field) or {}, dict):
            raise CliError(f"{where}: status.{field}: must be an object")
    for field in _LISTS:
        entries = status.get(field) or []
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise CliError(f"{where}: status.{field}: must be a list of objects")
    return task


class TaskFile:
    """A reader of Tasks that were read from a file; it knows nothing else.

    Args:
        path: of the file, for messages.
        tasks: raw Tasks.
    """

    def __init__(self, path: str, tasks: Iterable[dict[str, Any]]) -> None:
        self._path = path
        self._tasks = [(parse_task(task), task) for task in tasks]

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of the Tasks."""
        return sorted({view.namespace for view, _ in self._tasks})

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return one Task.

        Raises:
            NotFound: the file does not have it.
        """
        for view, task in self._tasks:
            if res is TASKS and (view.name, view.namespace) == (name, namespace):
                return task
        raise NotFound(f'{self._path} has no Task "{name}" of namespace {namespace}', 404)

    async def list(
        self,
        res: Resource,
        namespace: str | None = None,
        *,
        options: ListOptions = _EVERYTHING,
    ) -> ListPage:
        """Return the Tasks that match.

        Raises:
            UsageError: it is asked for labels.
        """
        if options.label_selector:
            raise UsageError("--selector and --from exclude each other")
        wanted = dict(part.split("=", 1) for part in options.field_selector.split(",") if part)
        found = [
            task
            for view, task in self._tasks
            if res is TASKS and namespace in (None, view.namespace) and _matches(view, wanted)
        ]
        return ListPage(found, "0")

    list_all = list


def _matches(view: TaskView, wanted: Mapping[str, str]) -> bool:
    # A root is not a member of its own tree, as in the API server.
    fields = {
        "status.state": view.state.value,
        "spec.clusterName": view.cluster,
        FIELD_ROOT_UID: "" if view.is_root else view.root_uid,
    }
    return all(fields[field] == value for field, value in wanted.items())


@asynccontextmanager
async def open_source(
    access: Access, file: str | None, *, all_namespaces: bool = False
) -> AsyncIterator[TaskSource]:
    """Open the file, or a client where none is named; closed at the end of the block.

    Args:
        access: where the API server is, and which namespace is meant.
        file: None: there is none.
        all_namespaces: whichever namespace is meant does not matter.

    Raises:
        CliError: the file cannot be read.
        UsageError: it has Tasks of several namespaces, and none is named.
        ConfigError: no API server is configured.
    """
    if file is None:
        async with access.connect() as session:
            yield TaskSource(session.client, session.namespace, session)
        return
    found = TaskFile(file, read_tasks(Path(file)))
    namespaces = found.namespaces
    if access.namespace is None and len(namespaces) > 1 and not all_namespaces:
        raise UsageError(
            f"{file} has Tasks of {len(namespaces)} namespaces; choose one with -n: "
            f"{', '.join(namespaces[:10])}"
        )
    yield TaskSource(found, access.namespace or (namespaces or [""])[0])
