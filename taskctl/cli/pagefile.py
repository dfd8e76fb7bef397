"""The page of a local stack: its port and its token, kept in the data directory."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, Final

from taskctl.errors import ConfigError

_FILE: Final = "page.json"
_HOST: Final = "127.0.0.1"


def bind_page(directory: Path) -> socket.socket:
    """Return a bound socket for the page, on the port of the last run if that is free.

    Port and token are written down, so that a bookmark of the page stays good.

    Raises:
        ConfigError: there is no free port.
        OSError: the file cannot be written.
    """
    from taskctl.embedded.listening import bind, is_taken
    from taskctl.ui.guard import new_token

    kept = _read(directory)
    port = kept.get("port")
    free = isinstance(port, int) and 0 < port < 65536 and not is_taken(_HOST, port)
    listener = bind(_HOST, port if free and isinstance(port, int) else 0)
    value = {
        "port": int(listener.getsockname()[1]),
        # The program that has the old port now may have been sent the token.
        "token": kept["token"] if free and kept.get("token") else new_token(),
    }
    temporary = directory / f".{_FILE}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            json.dump(value, file)
        temporary.replace(directory / _FILE)
    except OSError:
        listener.close()
        raise
    return listener


def read_page_token(directory: Path) -> str:
    """Return the token that opens the page.

    Raises:
        ConfigError: no page was ever served there.
    """
    token = _read(directory).get("token")
    if not isinstance(token, str) or not token:
        raise ConfigError(f"{directory / _FILE} holds no token; start the stack with taskctl local")
    return token


def stored_page_url(directory: Path) -> str:
    """Return the address of the page of a local stack; empty where there is none."""
    from taskctl.cli.page import page_url

    kept = _read(directory)
    if not kept.get("port") or not kept.get("token"):
        return ""
    return page_url(kept["port"], kept["token"])


def _read(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
