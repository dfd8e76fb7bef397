"""Characters that must not reach a terminal as they are. Pure; standard library only.

kubectl prints a message as it finds it, so what taskctl writes into a status or an Event has to be
harmless already: a part of it comes from task code.
"""

from __future__ import annotations

import re
from typing import Final

# C0, DEL, C1; the marks, embeddings, overrides and isolates of bidirectional text; the separators
# that some programs take for line ends; tag characters, which are invisible.
_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"
_FORMAT: Final = r"\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f"
UNSAFE: Final = re.compile(f"[{_CONTROL}{_FORMAT}\ud800-\udfff]")


_BLANKS: Final = re.compile(r"[ \t\r\n\v\f]+")


def visible(text: str, keep: str = "\n\t") -> str:
    """Return ``text`` with unsafe characters escaped, except those in ``keep``."""

    def escape(match: re.Match[str]) -> str:
        char = match[0]
        return char if char in keep else char.encode("unicode_escape").decode()

    return UNSAFE.sub(escape, text)


def one_line(text: str) -> str:
    """Return ``text`` for a cell or a line: blanks and line ends become one space each."""
    return visible(_BLANKS.sub(" ", text).strip(), keep="")
