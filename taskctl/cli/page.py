"""``taskctl ui``: the page on any cluster, and the part of the local stack that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskctl.cli.access import Access, open_client
from taskctl.cli.components import LogOptions, prepare, run
from taskctl.cli.datadir import DEFAULT_DATA_DIR
from taskctl.cli.exits import ExitCode
from taskctl.cli.output import echo, note
from taskctl.cli.verbs import verb

if TYPE_CHECKING:
    from taskctl.ui.guard import Guard

PAGE_VERB: Final = "page"
_HOST: Final = "127.0.0.1"
_SYNC_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UiOptions:
    """The options of ``ui``."""

    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=0, max=65535, help="On 127.0.0.1. 0: any free one."),
    ] = 0
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Tasks of all namespaces.")
    ] = False
    write: Annotated[
        bool,
        typer.Option("--write", help="The page may cancel and retry tasks. Default: only look."),
    ] = False
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser of this machine.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions(LogOptions):
    """The options of the component."""

    data_dir: Annotated[str, typer.Option(metavar="DIR", help="Of the local stack.")] = (
        DEFAULT_DATA_DIR
    )
    listen_fd: Annotated[
        int, typer.Option(metavar="FD", min=3, help="A bound socket that it has inherited.")
    ] = 3


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "ui")(ui)
    verb(app, PAGE_VERB, hidden=True)(page)


async def ui(access: Access, options: UiOptions) -> int:
    """Show the tasks in the browser, live. Ctrl-C stops it."""
    from taskctl.embedded.listening import bind
    from taskctl.ui.guard import Guard, new_token

    with bind(_HOST, options.port, chosen=bool(options.port)) as listener:
        port = int(listener.getsockname()[1])
        guard = Guard(new_token(), port, write=options.write)
        url = page_url(port, guard.token)

        def ready() -> None:
            echo(f"The page is at {url}")
            note("It can cancel and retry tasks." if options.write else "It only looks.")
            if options.open_browser:
                import webbrowser

                webbrowser.open(url)

        everywhere = options.all_namespaces
        await serve(access, listener, guard, everywhere=everywhere, ready=ready)
    return ExitCode.OK


def page(options: PageOptions) -> int:
    """Serve the page of the local stack."""
    prepare(options)
    from taskctl.cli.pagefile import read_page_token
    from taskctl.embedded.listening import inherited
    from taskctl.ui.guard import Guard

    directory = Path(options.data_dir).resolve()
    listener = inherited(options.listen_fd)
    guard = Guard(read_page_token(directory), int(listener.getsockname()[1]))
    access = Access(kubeconfig=str(directory / "kubeconfig"))
    return run(lambda: serve(access, listener, guard, everywhere=True))


async def serve(
    access: Access,
    listener: socket.socket,
    guard: Guard,
    *,
    everywhere: bool,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        access: where the tasks are.
        listener: bound socket.
        guard: who may ask.
        everywhere: show all namespaces, not only that of ``access``.
        ready: called once the page answers.

    Raises:
        Unavailable: the tasks cannot be listed.
    """
    from taskctl.cli.pageops import PageOps
    from taskctl.ui.server import PageServer
    from taskctl.ui.watching import Watching

    async with await open_client(access) as client:
        namespace = None if everywhere else access.namespace or client.namespace
        watching = Watching(client, namespace)
        server = PageServer(
            guard, watching, PageOps(access, client), title=namespace or "all namespaces"
        )
        async with watching.running():
            await server.start(listener)
            try:
                if ready is not None:
                    await watching.wait_synced(_SYNC_TIMEOUT_S)
                    ready()
                await _until_asked()
            finally:
                await server.stop()


async def _until_asked() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        for number in numbers:
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)


def page_url(port: int, token: str) -> str:
    """Return the page's address. What follows the # never leaves the browser in a request line."""
    return f"http://{_HOST}:{port}/#{token}"
