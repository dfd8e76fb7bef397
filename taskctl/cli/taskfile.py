"""Files of Tasks, one a line as JSON: what ``taskctl export`` writes and ``--from`` reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from taskctl.api.resources import TASKS
from taskctl.cli.access import Access, Session
from taskctl.cli.exits import CliError, UsageError
from taskctl.cli.gone import (
    NO_HISTORY,
    WithHistory,
    find_history,
    has_fields,
    latest,
    selected,
    tasks_gone,
)
from taskctl.cli.output import note
from taskctl.errors import ConfigError, NotFound
from taskctl.history.files import is_cut_off
from taskctl.history.lines import MAX_LINE_BYTES, bare, decode
from taskctl.history.reading import Wanted, read_history
from taskctl.kube.interface import ListOptions, ListPage
from taskctl.kube.resources import Resource
from taskctl.policy.view import TaskView, parse_task

if TYPE_CHECKING:
    from taskctl.kube.interface import Reader

_EVERYTHING: Final = ListOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFileOptions:
    """The options of verbs that can read what was recorded, in place of the API server."""

    file: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Read what `taskctl export` wrote, and no cluster."
        ),
    ] = None
    history: Annotated[
        bool,
        typer.Option("--history", help="Tasks that are gone, from the history that was recorded."),
    ] = False


@dataclass(frozen=True, slots=True)
class TaskSource:
    """Where Tasks are read.

    Attributes:
        client: reads them.
        namespace: where they are.
        session: with the API server; None: they are read from a file.
        gone: of what was read so far, that which only the history has, by UID.
    """

    client: Reader
    namespace: str
    session: Session | None = None
    gone: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def write_tasks(tasks: Iterable[Mapping[str, Any]]) -> str:
    """Return Tasks as lines."""
    return "".join(
        json.dumps(bare(task), separators=(",", ":"), ensure_ascii=True) + "\n" for task in tasks
    )


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """Return the Tasks in a file, or in a directory of a history.

    Of a Task that is there twice the later line counts. A last line that was cut off, as a crash
    leaves it, is left out with a note.

    Raises:
        CliError: it cannot be read, or a line is not a Task; names the line.
    """
    tasks: dict[str, dict[str, Any]] = {}
    try:
        if path.is_dir():
            found = read_history(path, "")
            for problem in found.problems:
                note(f"{path}/{problem}; the line is left out")
            return found.tasks
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                if is_cut_off(line):
                    note(f"{path}:{number}: the last line was cut off, and is left out")
                elif line.strip():
                    task = _task(line, f"{path}:{number}")
                    tasks.pop(task["metadata"]["uid"], None)
                    tasks[task["metadata"]["uid"]] = task
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror or error}") from error
    return list(tasks.values())


def _task(line: bytes, where: str) -> dict[str, Any]:
    try:
        return decode(line)
    except ConfigError as error:
        raise CliError(f"{where}: {error}") from None


class TaskFile:
    """A reader of Tasks that were read from a file; it knows nothing else.

    Args:
        path: of the file, for messages.
        tasks: raw Tasks.
    """

    def __init__(self, path: str, tasks: Iterable[dict[str, Any]]) -> None:
        self._path = path
        self._tasks: list[tuple[TaskView, dict[str, Any]]] = [
            (parse_task(task), task) for task in tasks
        ]

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of the Tasks."""
        return sorted({view.namespace for view, _ in self._tasks})

    async def get(self, res: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        """Return one Task.

        Raises:
            NotFound: the file does not have it.
        """
        for view, task in self._tasks[::-1]:  # the latest of that name
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
            raise UsageError("--selector needs a cluster: it excludes --from and --history")
        wanted = selected(options)
        found = [
            task
            for view, task in self._tasks
            if res is TASKS and namespace in (None, view.namespace) and has_fields(view, wanted)
        ]
        return ListPage(found, "0")

    list_all = list


@asynccontextmanager
async def open_source(
    access: Access, options: TaskFileOptions, *, all_namespaces: bool = False
) -> AsyncIterator[TaskSource]:
    """Open what the options name: a file, the history, or else a client; closed at the end.

    The client answers from the history by itself for a Task that is not in the API any more, and
    for its tree.

    Args:
        access: where the API server is, and which namespace is meant.
        options: of the verb.
        all_namespaces: whichever namespace is meant does not matter.

    Raises:
        CliError: the file cannot be read, or there is no history.
        UsageError: it has Tasks of several namespaces, and none is named.
        ConfigError: no API server is configured.
    """
    if options.file is not None and options.history:
        raise UsageError("--from and --history exclude each other")
    if options.file is not None:
        found = TaskFile(options.file, read_tasks(Path(options.file)))
        namespace = _namespace_of(found, options.file, access, all_namespaces=all_namespaces)
        yield TaskSource(found, namespace)
        return
    async with access.connect() as session:
        if not options.history:
            reader = WithHistory(session.client, lambda: find_history(session))
            yield TaskSource(reader, session.namespace, session, reader.gone)
            return
        history = await find_history(session)
        if history is None:
            raise CliError(NO_HISTORY)
        where = "" if all_namespaces else session.namespace
        tasks = await history.read(Wanted(namespace=where, gone=True))
        note(f"{tasks_gone(len(tasks))}, from {history.name}{latest(tasks)}.")
        gone = {task["metadata"]["uid"]: task for task in tasks}
        yield TaskSource(TaskFile(history.name, tasks), session.namespace, session, gone)


def _namespace_of(found: TaskFile, file: str, access: Access, *, all_namespaces: bool) -> str:
    namespaces = found.namespaces
    if access.namespace is None and len(namespaces) > 1 and not all_namespaces:
        raise UsageError(
            f"{file} has Tasks of {len(namespaces)} namespaces; choose one with -n: "
            f"{', '.join(namespaces[:10])}"
        )
    return access.namespace or (namespaces or [""])[0]
