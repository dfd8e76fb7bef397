"""The terminal of this process, connected to a command that runs in a container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from taskctl.kube.execute import STDERR

if TYPE_CHECKING:
    from taskctl.kube.execute import ExecSession

_CHUNK_BYTES: Final = 16 * 1024
# Chunks that were read from standard input and are not sent yet; then it is not read.
_READ_AHEAD: Final = 8


def has_terminal() -> bool:
    """Whether a person can type at the command."""
    return sys.stdin.isatty() and sys.stdout.isatty()


async def converse(session: ExecSession, *, is_terminal: bool) -> int:
    """Pass on input and output until the command ends; return its exit code.

    Raises:
        ApiError: the command could not be run, or the connection broke.
    """
    with _raw_terminal() if is_terminal else contextlib.nullcontext():
        sending = asyncio.create_task(_send_input(session), name="input of the command")
        resizing = asyncio.create_task(_tell_sizes(session) if is_terminal else _nothing())
        try:
            async with aclosing(session.output()) as output:
                async for channel, data in output:
                    await asyncio.to_thread(_write, 2 if channel == STDERR else 1, data)
        finally:
            for task in (sending, resizing):
                task.cancel()
            await asyncio.gather(sending, resizing, return_exceptions=True)
    return session.exit_code or 0


async def _nothing() -> None:
    pass


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Let every key reach the command, Ctrl-C too."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


async def _send_input(session: ExecSession) -> None:
    """Send standard input; a thread reads it, as a file cannot be waited for."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue(_READ_AHEAD)

    def read() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            while True:
                try:
                    data = os.read(sys.stdin.fileno(), _CHUNK_BYTES)
                except (OSError, ValueError):
                    data = b""
                asyncio.run_coroutine_threadsafe(chunks.put(data), loop).result()
                if not data:
                    return

    # Not joined: it may wait for a key forever.
    threading.Thread(target=read, name="standard input", daemon=True).start()
    with contextlib.suppress(ConnectionError):
        while data := await chunks.get():
            await session.write(data)
        await session.end_input()


async def _tell_sizes(session: ExecSession) -> None:
    """Tell the size of the terminal now and whenever it changes."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    changed.set()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        with contextlib.suppress(ConnectionError):
            while await changed.wait():
                changed.clear()
                size: Any = shutil.get_terminal_size()
                with contextlib.suppress(OSError):
                    size = os.get_terminal_size(sys.stdout.fileno())
                await session.resize(size.columns, size.lines)
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
