"""The end of a failed task's log, in its status message: first of all the line that says why."""

from __future__ import annotations

from typing import Final

from taskctl.constants import LOG_TAIL_BYTES, MESSAGE_LIMIT_CHARS

# So much of the last line stands in the first sentence, which is what lists and Events show.
CAUSE_CHARS: Final = 200


def with_cause(sentence: str, tail: bytes) -> str:
    """Return a sentence with the last line of a log.

    The last line of a traceback is the exception, and that of most programs is their complaint:
    who sees no more than the first line of a message sees the cause.
    """
    lines = _text(tail).splitlines()
    line = lines[-1].strip() if lines else ""
    if not line:
        return sentence
    cause = line if len(line) <= CAUSE_CHARS else line[: CAUSE_CHARS - 2] + " …"
    return f"{sentence.removesuffix('.')}: {cause}"


def with_tail(message: str, tail: bytes) -> str:
    """Return a message with the end of a log below it; of a long one, its end is what is kept."""
    text = _text(tail)
    room = MESSAGE_LIMIT_CHARS - len(message) - 1
    if not text or room <= 0 or message.endswith(text):
        return message
    return f"{message}\n{text[-room:]}"


def _text(tail: bytes) -> str:
    return tail[-LOG_TAIL_BYTES:].decode("utf-8", "replace").replace("\x00", "").strip()
