"""Logs as text for the page: no colours, no control characters. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from taskctl.safetext import visible
from taskctl.ui.ops import LogText

# ECMA-48: control sequences, and operating system commands with their end.
_SEQUENCES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\r(?=\n)"
)
_OVERWRITTEN: Final = re.compile(r"[^\n]*\r(?=[^\n])")


def shown_log(log: LogText) -> dict[str, Any]:
    """Return a log as the browser gets it."""
    text = _SEQUENCES.sub("", log.text.decode(errors="replace"))
    # Of a line that was written over and over, as progress bars are, the last state.
    text = _OVERWRITTEN.sub("", text)
    return {"text": visible(text), "note": visible(log.note), "cut": log.cut}
