"""Names for the Tab key: what the shell asks for while a command is typed.

The shell waits meanwhile, so an answer has a deadline; and there is no place for a message, so
whatever goes wrong ends in fewer names. The script of zsh evaluates what is printed: only
what can be the name of an object is offered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from taskctl.api.states import TaskState
from taskctl.cli.access import Access
from taskctl.cli.names import kind_of_word
from taskctl.constants import DNS_SUBDOMAIN, FIELD_ROOT_UID, MAX_NAME

if TYPE_CHECKING:
    from taskctl.kube.resources import Resource

DEADLINE_S: Final = 1.0
_MARGIN_S: Final = 0.1  # to hand over what was found
MAX_NAMES: Final = 200
_PLAIN_PATH: Final = re.compile(r"[\w./+@-]+", re.ASCII)
_PAGE: Final = 500
_UNFINISHED: Final = ",".join(f"status.state!={state}" for state in TaskState if state.terminal)
_FAILED: Final = f"status.state={TaskState.FAILED}"
_ROOTS: Final = f"{FIELD_ROOT_UID}="  # children name their root, roots have no such field

Completer = Callable[[typer.Context, str], list[str]]


@dataclass(frozen=True, slots=True)
class Offer:
    """Which objects may be named.

    Attributes:
        kinds: first the one whose name needs no ``kind/`` before it.
        only: field selector of those that may be named; of Tasks only.
        first: field selector of those that come before the others; of Tasks only.
    """

    kinds: tuple[str, ...]
    only: str = ""
    first: str = ""

    def complete(self, ctx: typer.Context, incomplete: str) -> list[str]:
        """Return what the word may become, best first."""
        found: list[str] = []

        def work() -> None:
            try:
                asyncio.run(_look(self, ctx, incomplete, found))
            except BaseException:  # noqa: BLE001 - the shell shows names or nothing
                return

        # A thread, since a name server or a credential plugin may block past any time-out.
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(DEADLINE_S)
        typed = set(ctx.params.get("names") or ())
        return [name for name in dict.fromkeys(found[:]) if name not in typed][:MAX_NAMES]


tasks: Final[Completer] = Offer(("Task",), first=_UNFINISHED).complete
failed_tasks: Final[Completer] = Offer(("Task",), first=_FAILED).complete
roots: Final[Completer] = Offer(("Task",), only=_ROOTS, first=f"{_ROOTS},{_UNFINISHED}").complete
clusters: Final[Completer] = Offer(("TaskCluster",)).complete
results: Final[Completer] = Offer(("Task", "TaskObject")).complete
objects: Final[Completer] = Offer(("Task", "TaskCluster", "TaskObject"), first=_UNFINISHED).complete
namespaces: Final[Completer] = Offer(("Namespace",)).complete


def places(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the paths of this machine and the workspaces that begin so."""
    folder, slash, begin = incomplete.rpartition("/")
    found: list[str] = []
    with contextlib.suppress(OSError), os.scandir(folder + slash or ".") as entries:
        for entry in entries:
            path = folder + slash + entry.name
            hidden = entry.name.startswith(".") and not begin
            if path.startswith(incomplete) and not hidden and _PLAIN_PATH.fullmatch(path):
                found.append(path + ("/" if entry.is_dir() else ""))
            if len(found) == MAX_NAMES:
                break
    if slash or ":" in incomplete:
        return sorted(found)
    return [*(f"{name}:" for name in clusters(ctx, incomplete)), *sorted(found)][:MAX_NAMES]


def states(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the states of a Task that begin so, in capitals or without."""
    lower = [state.lower() for state in TaskState if incomplete]
    return [state for state in [*TaskState, *lower] if state.startswith(incomplete)]


async def _look(offer: Offer, ctx: typer.Context, incomplete: str, found: list[str]) -> None:
    """Append names to ``found`` as they come, so that a late answer leaves the early ones."""
    async with asyncio.timeout(DEADLINE_S - _MARGIN_S):
        wanted = _wanted(offer, incomplete)
        if isinstance(file := ctx.params.get("file"), str):
            if wanted:
                found += _of_file(Path(file), wanted[0][1], incomplete)
            return
        access = _access(ctx)
        async with access.connect() as session:
            namespace = access.namespace or session.namespace
            for kind, before in wanted:
                selectors = (offer.first, offer.only) if kind == "Task" else ("",)
                for selector in dict.fromkeys(selectors):
                    batch: list[Mapping[str, Any]] = []
                    try:
                        async for page in _pages(session.client, kind, namespace, selector):
                            batch += _matching(page, before, incomplete)
                    finally:
                        found += _newest_first(batch, before)


def _wanted(offer: Offer, incomplete: str) -> list[tuple[str, str]]:
    """Return kinds to list, each with what is written before the name."""
    word, slash, _ = incomplete.rpartition("/")
    if slash:
        kind = kind_of_word(word)
        return [(kind, f"{word}/")] if kind in offer.kinds else []
    further = [(kind, f"{kind.lower()}/") for kind in offer.kinds[1:]]
    return [(offer.kinds[0], "")] + [
        (kind, before) for kind, before in further if incomplete and before.startswith(incomplete)
    ]


def _access(ctx: typer.Context) -> Access:
    """Return the options before and after the verb. Callbacks do not run in a completion."""
    names = [field.name for field in fields(Access)]

    def given(params: Mapping[str, Any]) -> Access:
        return Access(**{name: params[name] for name in names if params.get(name) is not None})

    return given(ctx.params).merged_over(given(ctx.parent.params) if ctx.parent else None)


async def _pages(
    client: Any, kind: str, namespace: str, selector: str
) -> AsyncIterator[list[Mapping[str, Any]]]:
    from taskctl.kube.interface import ListOptions

    resource = _resource(kind)
    token = ""
    while True:
        options = ListOptions(
            field_selector=selector, limit=_PAGE, continue_token=token, metadata_only=True
        )
        page = await client.list(
            resource, namespace if resource.namespaced else None, options=options
        )
        yield page.items
        token = page.continue_token
        if not token:
            return


def _resource(kind: str) -> Resource:
    from taskctl.api.resources import TASKCLUSTERS, TASKOBJECTS, TASKS
    from taskctl.kube.resources import NAMESPACES

    return {
        "Task": TASKS,
        "TaskCluster": TASKCLUSTERS,
        "TaskObject": TASKOBJECTS,
        "Namespace": NAMESPACES,
    }[kind]


def _of_file(path: Path, before: str, incomplete: str) -> list[str]:
    from taskctl.cli.taskfile import read_tasks

    return _newest_first(_matching(read_tasks(path), before, incomplete), before)


def _matching(
    objects: Sequence[Mapping[str, Any]], before: str, incomplete: str
) -> list[Mapping[str, Any]]:
    return [
        obj
        for obj in objects
        if f"{before}{obj['metadata']['name']}".startswith(incomplete)
        and len(obj["metadata"]["name"]) <= MAX_NAME
        and re.fullmatch(DNS_SUBDOMAIN, obj["metadata"]["name"])
    ]


def _newest_first(objects: Sequence[Mapping[str, Any]], before: str) -> list[str]:
    ordered = sorted(
        objects,
        key=lambda obj: obj["metadata"].get("creationTimestamp") or "",
        reverse=True,
    )
    return [f"{before}{obj['metadata']['name']}" for obj in ordered]


def typed_words(environ: MutableMapping[str, str]) -> list[str]:
    """Return the words before the one to complete, and mend those of bash in ``environ``.

    bash splits at ``=``, ``:`` and ``@`` too: ``--context=admin@home`` comes as five words.
    """
    if "COMP_WORDS" in environ:
        try:
            current = int(environ.get("COMP_CWORD", ""))
        except ValueError:
            return []
        words, current = _joined(environ["COMP_WORDS"].split("\n"), current)
        environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(words), str(current)
        return words[1:current]
    text = environ.get("_TYPER_COMPLETE_ARGS", "")
    words = text.split()
    return words[1:] if text.endswith(" ") else words[1:-1]


def _joined(words: Sequence[str], current: int) -> tuple[list[str], int]:
    """Undo what bash split before word ``current``; an ``=`` of an option is left out."""
    done: list[str] = []
    glue = False
    for word in words[:current]:
        if done and word in ("@", ":"):
            done[-1] += word
            glue = True
        elif word == "=" and done and done[-1].startswith("--"):
            continue
        elif glue:
            done[-1] += word
            glue = False
        else:
            done.append(word)
    return [*done, *words[current:]], len(done)
