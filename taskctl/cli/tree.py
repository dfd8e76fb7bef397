"""``taskctl tree``: how the graph grows, and what each stage of its tasks cost."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskctl.api.states import TaskState
from taskctl.cli import completing
from taskctl.cli.access import Access, Session
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.names import parse_name
from taskctl.cli.output import (
    Output,
    echo,
    note,
    object_name,
    to_json,
    to_yaml,
    wants_colour,
    wants_unicode,
)
from taskctl.cli.taskfile import TaskFileOptions, TaskSource, open_source
from taskctl.cli.verbs import verb
from taskctl.clock import SystemClock
from taskctl.constants import FIELD_ROOT_UID
from taskctl.outside.outcome import state_of

if TYPE_CHECKING:
    from taskctl.cli.render_tree import TreeStyle
    from taskctl.kube.follow import Selection

REDRAW_S = 0.25
LINES_SHOWN = 100
LINES_MIN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeOptions(TaskFileOptions):
    """The options of ``tree``."""

    root: Annotated[
        str | None,
        typer.Argument(
            metavar="[ROOT]",
            help="Default: all trees of the namespace.",
            autocompletion=completing.roots,
        ),
    ] = None
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Until the tree is complete; exit code 1 if it failed."),
    ] = False
    full: Annotated[
        bool, typer.Option("--all", help=f"More than {LINES_SHOWN} lines, if there are more.")
    ] = False
    output: Annotated[Output, typer.Option("--output", "-o", help="Format.")] = Output.TABLE


@dataclass(slots=True)
class Trees:
    """What is known of the tasks looked at.

    Attributes:
        tasks: raw Tasks by UID.
        root_uid: of the one tree asked for; empty for all.
        clusters: raw TaskClusters of the namespace by UID; only while watching.
    """

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    root_uid: str = ""
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def root(self) -> dict[str, Any] | None:
        """The root asked for."""
        return self.tasks.get(self.root_uid)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "tree")(tree)


async def tree(access: Access, options: TreeOptions) -> int:
    """Show what grew from a task. Also the latency of each stage."""
    if options.watch and options.output is not Output.TABLE:
        raise UsageError("--watch and -o exclude each other")
    if options.root is not None:
        options = replace(options, root=parse_name(options.root))
    if options.watch:
        if options.file is not None or options.history:
            chosen = "--history" if options.history else "--from"
            raise UsageError(f"--watch and {chosen} exclude each other")
        async with access.connect() as session:
            return await _watch(session, options)
    async with open_source(access, options) as source:
        with _no_garbage():
            _print(await _load(source, options.root), options)
    return ExitCode.OK


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Have Python not look for garbage in the block.

    A large tree is hundreds of thousands of dicts, all in use until the process ends; going over
    them again and again takes longer than decoding them.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _load(source: TaskSource, root: str | None) -> Trees:
    from taskctl.api.resources import TASKS
    from taskctl.kube.interface import ListOptions

    trees = Trees()
    selector = ""
    if root is not None:
        top = await source.client.get(TASKS, root, source.namespace)
        trees.root_uid = top["metadata"]["uid"]
        trees.tasks[trees.root_uid] = top
        selector = f"{FIELD_ROOT_UID}={trees.root_uid}"
    page = await source.client.list_all(
        TASKS, source.namespace, options=ListOptions(field_selector=selector)
    )
    trees.tasks.update((task["metadata"]["uid"], task) for task in page.items)
    return trees


def _print(trees: Trees, options: TreeOptions) -> None:
    if options.output in (Output.JSON, Output.YAML):
        value = describe_forest(trees)
        echo(to_json(value) if options.output is Output.JSON else to_yaml(value))
    elif options.output is Output.NAME:
        for task in trees.tasks.values():
            echo(object_name(task))
    elif not trees.tasks:
        note("No tasks.")
    else:
        for line in _draw(trees, _style(0 if options.full else LINES_SHOWN)):
            echo(line)


def describe_forest(trees: Trees) -> dict[str, Any]:
    """Return the tasks (flat, each with its parent's name), counts and latencies as JSON."""
    from collections import Counter

    from taskctl.cli.forest import all_views, build_forest, latency_stages

    views = all_views(build_forest(trees.tasks.values()))
    notifications = {
        task["metadata"]["name"]: [
            {name: value for name, value in entry.items() if name != "data"}
            for entry in ((task.get("status") or {}).get("tree") or {}).get("notifications") or ()
        ]
        for task in trees.tasks.values()
    }
    exits = {
        task["metadata"]["name"]: ((task.get("status") or {}).get("tree") or {}).get("exit")
        for task in trees.tasks.values()
    }
    return {
        "tasks": [
            {
                "name": view.name,
                "parent": view.parent_name or None,
                "depth": view.depth,
                "state": str(view.state),
                "attempt": view.attempt,
                "times": dict(view.status.get("times") or {}),
            }
            for view in reversed(views)
        ],
        "exits": {root: noted for root, noted in exits.items() if noted},
        "notifications": {root: noted for root, noted in notifications.items() if noted},
        "counts": {str(state): n for state, n in Counter(view.state for view in views).items()},
        "latency": [
            {
                "stage": stage.name,
                "p50Seconds": stage.p50_s,
                "p99Seconds": stage.p99_s,
                "sumSeconds": stage.sum_s,
                "tasks": stage.count,
            }
            for stage in latency_stages(views)
        ],
    }


def _draw(trees: Trees, style: TreeStyle) -> list[str]:
    from taskctl.cli.forest import build_forest
    from taskctl.cli.render_tree import (
        render_exit,
        render_forest,
        render_notifications,
        render_standstill,
        render_summary,
    )

    roots = build_forest(trees.tasks.values())
    below = [*render_standstill(roots, trees.clusters.values()), *render_summary(roots, style)]
    ends: list[str] = []
    if trees.root is not None:
        ends = [*render_exit(trees.root, style), *render_notifications(trees.root, style)]
    return [*render_forest(roots, style), *ends, "", *below]


def _style(max_lines: int) -> TreeStyle:
    from taskctl.cli.render_tree import LINE_CHARS, TreeStyle

    return TreeStyle(
        SystemClock().now(),
        max_lines=max_lines,
        colour=wants_colour(),
        unicode=wants_unicode(),
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else LINE_CHARS,
    )


def draw_live(trees: Trees, style: TreeStyle) -> list[str]:
    """Return the picture of a tree that grows: no line too long, no more lines than allowed.

    Args:
        trees: what is known.
        style: its ``max_lines`` are those of the terminal.
    """
    from taskctl.cli.forest import build_forest
    from taskctl.cli.render_tree import render_exit, render_forest, render_standstill
    from taskctl.cli.statusbar import render_status
    from taskctl.cli.terminal import cut, one_line

    roots = build_forest(trees.tasks.values())
    waiting = [one_line(line) for line in render_standstill(roots, trees.clusters.values())]
    waiting += [] if trees.root is None else render_exit(trees.root, style)
    below = [*waiting[: style.max_lines // 3], render_status(roots, style)]
    room = max(1, style.max_lines - len(below))
    tree = render_forest(roots, replace(style, max_lines=room, live=True))
    dots = "…" if style.unicode else "..."
    return [cut(line, style.width, dots=dots) for line in [*tree, *below]][-style.max_lines :]


# --- watching -----------------------------------------------------------------------


async def _watch(session: Session, options: TreeOptions) -> int:
    from taskctl.outside.outcome import has_succeeded

    trees = Trees()
    live = sys.stdout.isatty()
    show = _show_live if live else _show_lines
    try:
        await show(session, options, trees)
    except asyncio.CancelledError:
        if live:  # the picture was wiped away; a user who leaves wants it on the screen
            height = max(1, shutil.get_terminal_size().lines - 2)
            for line in draw_live(trees, _style(height)):
                echo(line)
        raise
    if live and not options.full and trees.tasks:
        _print_end(trees)
    else:
        echo()
        _print(trees, options)
    return ExitCode.OK if trees.root is None or has_succeeded(trees.root) else ExitCode.FAILED


def _print_end(trees: Trees) -> None:
    """Print tree and summary of what was watched, so that both are on the screen."""
    style = _style(LINES_SHOWN)
    taken = len("\n".join(_draw(trees, replace(style, max_lines=1))).splitlines())
    height = shutil.get_terminal_size().lines
    for line in _draw(trees, replace(style, max_lines=max(LINES_MIN, height - taken))):
        echo(line)


async def _show_lines(session: Session, options: TreeOptions, trees: Trees) -> None:
    """Print a line for each task that ends, and on stderr why nothing runs."""
    from taskctl.cli.forest import build_forest
    from taskctl.cli.render_tree import render_standstill
    from taskctl.cli.waiting import verdict

    ended: set[tuple[str, int]] = set()
    noted: list[str] = []
    async with aclosing(_follow_tree(session, options.root, trees)) as steps:
        async for _ in steps:
            for uid, task in trees.tasks.items():
                attempt = (task.get("status") or {}).get("attempt") or 0
                if (uid, attempt) not in ended and TaskState(state_of(task)).terminal:
                    ended.add((uid, attempt))
                    echo(verdict(task))
            sys.stdout.flush()
            waiting = render_standstill(build_forest(trees.tasks.values()), trees.clusters.values())
            if waiting and waiting != noted:
                for line in waiting:
                    note(line)
                noted = waiting


async def _show_live(session: Session, options: TreeOptions, trees: Trees) -> None:
    """Redraw the tree in place."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    fixed = _style(LINES_SHOWN)  # now: later on stdout is rich's, which looks like no terminal

    def picture() -> Text:
        size = shutil.get_terminal_size()
        style = replace(
            fixed, now=SystemClock().now(), max_lines=max(1, size.lines - 1), width=size.columns
        )
        lines = draw_live(trees, style)
        return Text.from_ansi("\n".join(lines), no_wrap=True, overflow="crop")

    async def redraw(display: Live) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begin = loop.time()
            display.update(picture(), refresh=True)
            # A large tree takes a while to draw; most of the time is for its changes.
            await asyncio.sleep(max(REDRAW_S, 3 * (loop.time() - begin)))

    with Live(console=console, auto_refresh=False, transient=True) as display:
        painter = asyncio.create_task(redraw(display), name="tree painter")
        try:
            async with aclosing(_follow_tree(session, options.root, trees)) as steps:
                async for _ in steps:
                    if painter.done():
                        painter.result()
        finally:
            painter.cancel()
            await asyncio.gather(painter, return_exceptions=True)


async def _follow_tree(
    session: Session, root: str | None, trees: Trees
) -> AsyncGenerator[None, None]:
    """Keep ``trees`` up to date, yielding after each change.

    It ends when the root is complete, and its exit task has ended; without a root it does not.
    """
    from taskctl.api.resources import TASKCLUSTERS, TASKS
    from taskctl.errors import Forbidden
    from taskctl.kube.follow import Selection
    from taskctl.policy.onexit import is_settled
    from taskctl.policy.view import parse_task

    selections = [Selection(TASKS, session.namespace)]
    if root is not None:
        top = await session.client.get(TASKS, root, session.namespace)
        trees.root_uid = top["metadata"]["uid"]
        trees.tasks[trees.root_uid] = top
        members = f"{FIELD_ROOT_UID}={trees.root_uid}"
        selections = [
            Selection(TASKS, session.namespace, field_selector=members),
            Selection(TASKS, session.namespace, field_selector=f"metadata.name={root}"),
        ]
    queue: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def follow_one(selection: Selection, known: dict[str, dict[str, Any]]) -> None:
        try:
            await feed(session, selection, known, lambda: queue.put_nowait(None))
        except Forbidden as error:
            if known is not trees.clusters:  # who may see Tasks need not see TaskClusters
                queue.put_nowait(error)
        except Exception as error:  # noqa: BLE001 - handed to the reader, who raises it
            queue.put_nowait(error)

    clusters = Selection(TASKCLUSTERS, session.namespace)
    feeds = [*((selection, trees.tasks) for selection in selections), (clusters, trees.clusters)]
    feeders = [
        asyncio.create_task(follow_one(*pair), name=f"tree feed {number}")
        for number, pair in enumerate(feeds)
    ]
    try:
        while True:
            step = await queue.get()
            if isinstance(step, Exception):
                raise step
            if root is not None and trees.root is None:
                raise CliError(f"{root} was deleted", ExitCode.NOT_FOUND)
            yield
            if trees.root is not None and is_settled(parse_task(trees.root)):
                return
    finally:
        for feeder in feeders:
            feeder.cancel()
        await asyncio.gather(*feeders, return_exceptions=True)


async def feed(
    session: Session,
    selection: Selection,
    known: dict[str, dict[str, Any]],
    changed: Callable[[], None],
) -> None:
    """Keep what a selection matches in ``known``, by UID, beside what others put there."""
    from taskctl.kube.follow import follow

    mine: set[str] = set()
    async with aclosing(follow(session.client, selection)) as changes:
        async for change in changes:
            uids = {obj["metadata"]["uid"] for obj in change.objects}
            gone = uids if change.deleted else mine - uids if change.complete else set()
            for uid in gone:
                known.pop(uid, None)
            if not change.deleted:
                mine |= uids
                known.update((obj["metadata"]["uid"], obj) for obj in change.objects)
            mine -= gone
            changed()
