"""Sockets of the server and the node: where they are, and who holds them.

Clients, and containers that outlive the server, know its port. So it is chosen once, written
down in the data directory, and bound again at each start.
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from taskctl.errors import ConfigError

# Below what Linux gives to outgoing connections (32768 and up): one of these would otherwise
# hold the port at the next start.
_FIRST_PORT: Final = 20_000
_LAST_PORT: Final = 32_000
_TRIES: Final = 32


def stored_port(directory: Path | None) -> int:
    """Return the port of the last run; 0 where there was none."""
    if directory is None:
        return 0
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((directory / "server.json").read_bytes())["port"])
    return 0


def bind(host: str, port: int, *, chosen: bool = False) -> socket.socket:
    """Return a bound socket, which does not listen yet.

    Args:
        host: address to listen on.
        port: 0 picks a free one.
        chosen: the user named the port, as opposed to one of an earlier run.

    Raises:
        ConfigError: the port is taken, or the address is not one of this machine.
    """
    if port:
        try:
            return _bind(host, port)
        except OSError as error:
            raise ConfigError(_refusal(host, port, error, chosen=chosen)) from error
    for _ in range(_TRIES):
        with suppress(OSError):
            return _bind(host, random.randint(_FIRST_PORT, _LAST_PORT))
    try:
        return _bind(host, 0)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}: {error.strerror or error}") from error


def is_taken(host: str, port: int) -> bool:
    """Whether another program holds a port."""
    try:
        _bind(host, port).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def inherited(descriptor: int) -> socket.socket:
    """Return a socket that the parent process holds as well, and keeps when this one ends.

    Raises:
        ConfigError: the descriptor is not a bound stream socket.
    """
    try:
        # A copy: closing it must not close what another process gave us by number.
        listener = socket.socket(fileno=os.dup(descriptor))
        if listener.type != socket.SOCK_STREAM or not listener.getsockname():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        os.set_inheritable(listener.fileno(), False)
        os.set_inheritable(descriptor, False)
    except OSError as error:
        raise ConfigError(
            f"file descriptor {descriptor} is not a socket to listen on: {error}"
        ) from error
    return listener


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # For the connections of an earlier run; two listeners on a port it does not allow.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1)  # only now a second one is refused
    except OSError:
        listener.close()
        raise
    return listener


def _refusal(host: str, port: int, error: OSError, *, chosen: bool) -> str:
    where = f"cannot listen on {host}:{port}: {error.strerror or error}."
    if error.errno != errno.EADDRINUSE:
        return f"{where} Choose another address or port"
    if chosen:
        return f"{where} Choose another port, or stop the program that uses it"
    return (
        f"{where} This port was chosen at the first start, and clients that run know it. Stop the "
        "program that uses it (`ss -ltnp` shows which), or choose another port with --port and "
        "start the clients again"
    )


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a name of a Unix socket that is short enough (108 bytes), however long the path is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def bind_unix(path: Path) -> socket.socket:
    """Return a socket that listens at ``path``, for its owner alone; replaces what was there.

    Raises:
        OSError: it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with short_path(temporary) as name:
            with suppress(FileNotFoundError):
                os.unlink(name)
            listener.bind(name)
            os.chmod(name, 0o600)
        listener.listen()
        temporary.replace(path)
    except OSError:
        listener.close()
        raise
    return listener
