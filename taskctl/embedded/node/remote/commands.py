"""A further command in a running container, its streams carried by a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import orjson

from taskctl.embedded.node.remote.channels import Channel, ChannelSocket

_CHUNK_BYTES: Final = 32 * 1024
# Something that the command left behind may keep its output open; it is not waited for.
_DRAIN_S: Final = 2.0
_START_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Streams:
    """Which streams a client asks for.

    Attributes:
        stdin: it sends input.
        stdout: it wants the output.
        stderr: it wants the errors; not with a terminal, which has one stream for both.
        tty: the command gets a terminal.
    """

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class _Sink(Protocol):
    """Where input goes."""

    async def write(self, data: bytes) -> None: ...

    def end(self) -> None: ...


class _PipeInput:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()


class _Terminal:
    """Our end of a pseudo-terminal: the input's sink and the output's source.

    asyncio's pipe transports are not for terminals: uvloop's takes output for a sign that the
    reader has gone.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)

    async def read(self, limit: int) -> bytes:
        """Return what the command writes; empty when its last process has closed the terminal."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return os.read(self.fd, limit)
            except BlockingIOError:
                await _ready(loop.add_reader, loop.remove_reader, self.fd)
            except OSError:  # EIO
                return b""

    async def write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BlockingIOError:
                await _ready(loop.add_writer, loop.remove_writer, self.fd)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self.fd, b"\x04")  # as the key that ends input

    def resize(self, data: bytes) -> None:
        """Take another size; what is malformed is passed over."""
        with contextlib.suppress(ValueError, TypeError, KeyError, OSError, struct.error):
            size = orjson.loads(data)
            window = struct.pack("HHHH", int(size["Height"]), int(size["Width"]), 0, 0)
            fcntl.ioctl(self.fd, termios.TIOCSWINSZ, window)


async def _ready(add: Callable[..., None], remove: Callable[[int], object], fd: int) -> None:
    """Wait until a descriptor can be read from or written to."""
    ready = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    add(fd, wake)
    try:
        await ready
    finally:
        remove(fd)


async def run_command(
    socket: ChannelSocket, shim: Path, directory: Path, command: Sequence[str], streams: Streams
) -> None:
    """Run a command until it ends, or until the client goes, which kills it.

    Args:
        socket: to the client.
        shim: the shim's binary.
        directory: of the container's run.
        command: at least the program.
        streams: what to connect.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        kind = "tty" if streams.tty else "pipes"
        argv = [str(shim), "--enter", str(directory), str(writing), kind, *command]
        start = _in_terminal if streams.tty else _with_pipes
        started = await start(argv, writing, streams)
    except OSError as error:
        os.close(reading)
        await socket.fail(f"error executing command in container: {error}")
        return
    finally:
        os.close(writing)
    try:
        refusal = await _refusal(reading)
        if refusal:
            await socket.fail(f"error executing command in container: {refusal}")
        else:
            await _converse(socket, started)
    finally:
        await started.close()


class _Source(Protocol):
    """Where output comes from."""

    async def read(self, limit: int, /) -> bytes: ...


@dataclass(slots=True)
class _Started:
    """The process that entered the container, and our ends of its streams."""

    process: asyncio.subprocess.Process
    sink: _Sink | None
    outputs: Mapping[Channel, _Source]
    terminal: _Terminal | None = None

    async def close(self) -> None:
        """Kill what still runs, and close our ends."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()  # the command in the container dies with it
        await self.process.wait()
        if self.terminal is not None:
            os.close(self.terminal.fd)


async def _with_pipes(argv: list[str], report: int, streams: Streams) -> _Started:
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=pipe if streams.stdin else null,
        stdout=pipe if streams.stdout else null,
        stderr=pipe if streams.stderr else null,
        pass_fds=(report,),
        env={},
        start_new_session=True,
    )
    outputs: dict[Channel, _Source] = {}
    if process.stdout is not None:
        outputs[Channel.STDOUT] = process.stdout
    if process.stderr is not None:
        outputs[Channel.STDERR] = process.stderr
    sink = None if process.stdin is None else _PipeInput(process.stdin)
    return _Started(process, sink, outputs)


async def _in_terminal(argv: list[str], report: int, streams: Streams) -> _Started:
    ours, theirs = os.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            pass_fds=(report,),
            env={},
            start_new_session=True,
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    terminal = _Terminal(ours)
    outputs = {Channel.STDOUT: terminal} if streams.stdout else {}
    return _Started(process, terminal if streams.stdin else None, outputs, terminal)


async def _refusal(fd: int) -> str:
    """Return why the command could not be started; empty when it has been."""

    def read() -> bytes:
        with os.fdopen(fd, "rb", 0) as file:
            return file.read(4096) or b""

    async with asyncio.timeout(_START_TIMEOUT_S):
        text = await asyncio.to_thread(read)
    return text.decode(errors="replace").strip().partition(" ")[2]


async def _converse(socket: ChannelSocket, started: _Started) -> None:
    """Carry the streams until the command has ended, then tell its exit code."""
    pumps = {
        asyncio.create_task(_pump(socket, channel, reader), name=f"exec {channel.name}")
        for channel, reader in started.outputs.items()
    }
    hearing = asyncio.create_task(_hear(socket, started), name="exec input")
    ending = asyncio.create_task(started.process.wait(), name="exec wait")
    try:
        running = {hearing, ending, *pumps}
        while not ending.done():
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if hearing in done or any(task.exception() is not None for task in done):
                return  # the client has gone, or does not read
        if pumps:
            await asyncio.wait(pumps, timeout=_DRAIN_S)
        await socket.exited(_exit_code(ending.result()))
    except ConnectionError:
        pass
    finally:
        for task in (hearing, ending, *pumps):
            task.cancel()
        await asyncio.gather(hearing, ending, *pumps, return_exceptions=True)


def _exit_code(status: int) -> int:
    """Return the exit code as a shell has it: 128 + n where signal n ended the process."""
    return status if status >= 0 else 128 - status


async def _pump(socket: ChannelSocket, channel: Channel, source: _Source) -> None:
    while data := await source.read(_CHUNK_BYTES):
        await socket.send(channel, data)


async def _hear(socket: ChannelSocket, started: _Started) -> None:
    """Pass on input; returns when the client has gone."""
    while (message := await socket.receive()) is not None:
        if message.channel == Channel.RESIZE and started.terminal is not None:
            started.terminal.resize(message.data)
        elif message.channel == Channel.STDIN and started.sink is not None:
            if message.ended:
                started.sink.end()
            else:
                with contextlib.suppress(OSError):  # the command takes no more
                    await started.sink.write(message.data)
