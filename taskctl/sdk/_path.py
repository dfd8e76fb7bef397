"""Where in a value something is: ``args of f()``, ``.items``, ``[3]``; text only for errors."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

_MAX_CHARS = 200


class Path(NamedTuple):
    """A place in a value. One is made for each item, so it becomes a text only when it is needed.

    Attributes:
        parent: the place of what holds it; None for the root.
        step: how one gets there: a position, or text.
        is_key: the text is the key of a dict.
    """

    parent: Optional[Path]  # noqa: UP045  (evaluated by 3.9)
    step: Any
    is_key: bool = False

    def __str__(self) -> str:
        steps: list[str] = []
        at: Path | None = self
        while at is not None:
            steps.append(at._text())
            at = at.parent
        text = "".join(reversed(steps))
        return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}..."

    def _text(self) -> str:
        if self.parent is None:
            return str(self.step)
        if self.is_key or isinstance(self.step, int):
            return f"[{self.step!r}]"
        return f".{self.step}"
