"""``taskctl ui``: the page on any cluster, and the part of the local stack that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from taskctl.cli.access import Access, open_client
from taskctl.cli.components import LogSettings, prepare, run
from taskctl.cli.datadir import DEFAULT_DATA_DIR
from taskctl.cli.exits import ExitCode, UsageError
from taskctl.cli.output import echo, note
from taskctl.cli.verbs import verb
from taskctl.clock import SystemClock
from taskctl.errors import ConfigError

if TYPE_CHECKING:
    from taskctl.ui.guard import Guard

PAGE_VERB: Final = "page"
_HOST: Final = "127.0.0.1"
_SYNC_TIMEOUT_S: Final = 30.0
_MIN_TOKEN_CHARS: Final = 32
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class UiOptions:
    """The options of ``ui``."""

    port: Annotated[
        int,
        typer.Option(metavar="PORT", min=0, max=65535, help="0: any free one."),
    ] = 0
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where to listen; repeat. Default: 127.0.0.1. Any other needs --token-file.",
        ),
    ] = None
    token_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Holds the token. Default: a new one each time."),
    ] = None
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Where browsers reach it through a proxy: https://NAME; repeat."
        ),
    ] = None
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
class PageOptions(LogSettings):
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
    from taskctl.ui.guard import Guard, new_token, parse_origin

    addresses = options.listen or [_HOST]
    if options.token_file is None and addresses != [_HOST]:
        raise UsageError("--listen: others can reach that address; give --token-file as well")
    token = new_token() if options.token_file is None else read_token(Path(options.token_file))
    origins = tuple(parse_origin(text) for text in options.origin or ())
    with contextlib.ExitStack() as held:
        listeners: list[socket.socket] = []
        port = options.port
        for address in addresses:
            listener = held.enter_context(bind(address, port, chosen=bool(port)))
            listeners.append(listener)
            port = int(listener.getsockname()[1])
        guard = Guard(token, port, write=options.write, origins=origins)
        # A user who keeps the token in a file knows it, and other people read logs.
        url = page_url(port, token if options.token_file is None else "TOKEN")

        def ready() -> None:
            echo(f"The page is at {url}")
            note("It can cancel and retry tasks." if options.write else "It only looks.")
            if options.open_browser:
                import webbrowser

                webbrowser.open(url)

        everywhere = options.all_namespaces
        await serve(access, listeners, guard, everywhere=everywhere, ready=ready)
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
    return run(lambda: serve(access, [listener], guard, everywhere=True))


async def serve(
    access: Access,
    listeners: Sequence[socket.socket],
    guard: Guard,
    *,
    everywhere: bool,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        access: where the tasks are.
        listeners: bound sockets, of one port.
        guard: who may ask.
        everywhere: show all namespaces, not only that of ``access``.
        ready: called once the page answers.

    Raises:
        Unavailable: the tasks cannot be listed.
    """
    from taskctl.cli.gone import History, find_history
    from taskctl.cli.pageops import EarlierTasks, PageOps
    from taskctl.outside.session import Session
    from taskctl.ui.earlier import Earlier
    from taskctl.ui.server import PageServer
    from taskctl.ui.watching import Watching

    async with await open_client(access) as client:
        namespace = None if everywhere else access.namespace or client.namespace
        watching = Watching(client, namespace)
        session = Session(client, namespace or "", access.kubeconfig, access.context)

        async def found() -> History | None:
            return await find_history(session)

        server = PageServer(
            guard,
            watching,
            PageOps(access, client, find_history=found),
            title=namespace or "all namespaces",
            earlier=Earlier(EarlierTasks(found, namespace or ""), SystemClock()),
        )
        async with watching.running():
            await server.start(*listeners)
            try:
                if ready is not None:
                    await watching.wait_synced(_SYNC_TIMEOUT_S)
                    ready()
                await _until_asked()
            finally:
                await server.stop()


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        ConfigError: it cannot be read, or is too short to be safe from guessing.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {path} cannot be read: {error}") from error
    if len(token) < _MIN_TOKEN_CHARS or not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"the token in {path} must have at least {_MIN_TOKEN_CHARS} letters, digits, '-' or "
            "'_', and nothing else; make one with: openssl rand -hex 32"
        )
    return token


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
