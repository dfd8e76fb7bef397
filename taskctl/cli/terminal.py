"""What may reach a terminal of a text that another program wrote. Pure.

Names, messages and logs come from tasks, which are not trusted: an escape sequence among them
could clear the screen, set the title, write to the clipboard, or answer for the user. A character
that a terminal acts on, or that changes the direction of the text around it, is shown as its
escape in Python's spelling, ``\\x1b``.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Final

from taskctl.safetext import UNSAFE, one_line, visible

__all__ = [
    "LogFilter",
    "bar",
    "columns",
    "cut",
    "escape_in_json",
    "is_unsafe",
    "one_line",
    "shorten",
    "with_looks",
]

# Colours and other looks; the bound keeps a hostile one short.
_SGR: Final = re.compile(r"\x1b\[[0-9;:]{0,40}m")
_SGR_RESET: Final = "\x1b[0m"
_SGR_BEGIN: Final = re.compile(r"\x1b(\[[0-9;:]{0,40})?\Z")


def shorten(text: str, max_chars: int) -> str:
    """Return ``text``, or its beginning and three dots."""
    return text if len(text) <= max_chars else f"{text[: max_chars - 3]}..."


def with_looks(text: str, keep: str = "\n\t") -> str:
    """Return ``text`` with unsafe characters escaped, but with its colours (SGR sequences)."""
    parts, position = [], 0
    for match in _SGR.finditer(text):
        parts += [visible(text[position : match.start()], keep), match[0]]
        position = match.end()
    return "".join([*parts, visible(text[position:], keep)])


def columns(text: str) -> int:
    """Return how many columns of a terminal a line takes; colours take none."""
    plain = _SGR.sub("", text)
    if plain.isascii():
        return len(plain)
    from rich.cells import cell_len

    return cell_len(plain)


def cut(text: str, max_columns: int, *, dots: str = "…") -> str:
    """Return the beginning of a line that takes no more columns than that; its colours end."""
    if columns(text) <= max_columns:
        return text
    parts: list[str] = []
    room, position = max_columns - len(dots), 0
    for match in [*_SGR.finditer(text), None]:
        plain = text[position : match.start() if match else None]
        for char in plain:
            room -= columns(char)
            if room < 0:
                reset = _SGR_RESET if "\x1b" in "".join(parts) else ""
                return "".join(parts) + reset + dots[: max(0, max_columns)]
            parts.append(char)
        if match:
            parts.append(match[0])
            position = match.end()
    return "".join(parts)


def bar(share: float, cells: int, *, unicode: bool = True) -> str:
    """Return a progress bar of ``cells`` columns, filled to ``share`` (0..1)."""
    full, empty = ("█", "░") if unicode else ("#", ".")
    filled = int(min(1.0, max(0.0, share)) * cells)
    return full * filled + empty * (cells - filled)


def escape_in_json(text: str) -> str:
    """Escape unsafe characters in a JSON text, which stays the same value."""
    return UNSAFE.sub(
        lambda match: match[0] if match[0] == "\n" else json.dumps(match[0])[1:-1], text
    )


def is_unsafe(text: str) -> bool:
    """Whether ``text`` has a character that must not reach a terminal as it is."""
    return UNSAFE.search(text) is not None


class LogFilter:
    """Makes a log safe for a terminal, chunk by chunk.

    Colours pass, and so do line ends, tabs and the carriage returns of progress bars. What is no
    UTF-8 is shown as ``\\xff``.
    """

    def __init__(self) -> None:
        self._decode: Any = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
        self._held = ""
        self._coloured = False

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be shown of the log so far; part of a sequence waits for the rest."""
        text = self._held + self._decode(chunk)
        unfinished = _SGR_BEGIN.search(text)
        self._held = text[unfinished.start() :] if unfinished else ""
        return self._safe(text[: unfinished.start()] if unfinished else text)

    def end(self) -> bytes:
        """Return what is left at the end, with the colours switched off."""
        rest = self._safe(self._held + self._decode(b"", True))
        self._held = ""
        return rest + _SGR_RESET.encode() if self._coloured else rest

    def _safe(self, text: str) -> bytes:
        safe = with_looks(text, keep="\n\t\r")
        self._coloured = self._coloured or "\x1b" in safe
        return safe.encode("utf-8", "backslashreplace")
