"""``taskctl top``: TaskClusters and workers, what they do and what waits for them."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from taskctl.cli.access import Access, Session
from taskctl.cli.exits import ExitCode
from taskctl.cli.output import counted, echo, note, wants_colour
from taskctl.cli.verbs import verb
from taskctl.clock import SystemClock
from taskctl.constants import LABEL_CLUSTER

if TYPE_CHECKING:
    from taskctl.kube.follow import Selection

_REDRAW_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOptions:
    """The options of ``top``."""

    once: Annotated[
        bool, typer.Option("--once", help="Print it once, as it also does to a file or a pipe.")
    ] = False


@dataclass(slots=True)
class Fleet:
    """What is known: raw objects by UID."""

    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods_hidden: bool = False


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "top")(top)


async def top(access: Access, options: TopOptions) -> int:
    """Show clusters and workers: slots, queue, rates. Live; Ctrl-C ends it."""
    async with access.connect() as session:
        if options.once or not sys.stdout.isatty():
            fleet = await _load(session)
            for line in draw(fleet, width=0, lines=0, colour=wants_colour()):
                echo(line)
            if not fleet.clusters:
                note(f"No TaskClusters in namespace {session.namespace}.")
            return ExitCode.OK
        await _show_live(session)
    return ExitCode.OK


async def _load(session: Session) -> Fleet:
    from taskctl.api.resources import TASKCLUSTERS, TASKS
    from taskctl.errors import Forbidden
    from taskctl.kube.interface import ListOptions
    from taskctl.kube.resources import PODS

    fleet = Fleet()
    workers = ListOptions(label_selector=LABEL_CLUSTER)
    for known, resource in ((fleet.clusters, TASKCLUSTERS), (fleet.tasks, TASKS)):
        page = await session.client.list_all(resource, session.namespace)
        known.update(_by_uid(page.items))
    try:
        page = await session.client.list_all(PODS, session.namespace, options=workers)
        fleet.pods.update(_by_uid(page.items))
    except Forbidden:  # who may see Tasks need not see pods
        fleet.pods_hidden = True
    return fleet


def _by_uid(objects: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {obj["metadata"]["uid"]: obj for obj in objects}


def draw(fleet: Fleet, *, width: int, lines: int, colour: bool) -> list[str]:
    """Return the picture: no more lines, and none wider, than is said; 0 sets no limit."""
    from taskctl.cli.render_top import TopStyle, render_top
    from taskctl.cli.terminal import cut

    style = TopStyle(SystemClock().now(), colour=colour)
    drawn = render_top(
        list(fleet.clusters.values()), list(fleet.pods.values()), list(fleet.tasks.values()), style
    )
    if fleet.pods_hidden:
        drawn.append("(no right to see pods, so no workers)")
    if lines and len(drawn) > lines:
        drawn = [*drawn[: max(0, lines - 1)], f"... {counted(len(drawn) - lines + 1, 'more line')}"]
    return [cut(line, width) if width else line for line in drawn]


async def _show_live(session: Session) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from taskctl.api.resources import TASKCLUSTERS, TASKS
    from taskctl.kube.follow import Selection
    from taskctl.kube.resources import PODS

    fleet, colour = Fleet(), wants_colour()
    feeds: list[tuple[Selection, dict[str, dict[str, Any]]]] = [
        (Selection(TASKCLUSTERS, session.namespace), fleet.clusters),
        (Selection(TASKS, session.namespace), fleet.tasks),
        (Selection(PODS, session.namespace, label_selector=LABEL_CLUSTER), fleet.pods),
    ]
    feeders = [
        asyncio.create_task(_feed(session, selection, known, fleet), name=f"top feed {number}")
        for number, (selection, known) in enumerate(feeds)
    ]
    try:
        with Live(console=Console(highlight=False), auto_refresh=False) as display:
            while True:
                size = shutil.get_terminal_size()
                lines = draw(fleet, width=size.columns, lines=size.lines - 1, colour=colour)
                text = Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop")
                display.update(text, refresh=True)
                for feeder in feeders:
                    if feeder.done():
                        feeder.result()
                await asyncio.sleep(_REDRAW_S)
    finally:
        for feeder in feeders:
            feeder.cancel()
        await asyncio.gather(*feeders, return_exceptions=True)


async def _feed(
    session: Session,
    selection: Selection,
    known: dict[str, dict[str, Any]],
    fleet: Fleet,
) -> None:
    from taskctl.cli.tree import feed
    from taskctl.errors import Forbidden

    try:
        await feed(session, selection, known, lambda: None)
    except Forbidden:
        if known is not fleet.pods:
            raise
        fleet.pods_hidden = True
