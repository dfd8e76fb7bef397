"""How much of a history is kept: the options of who writes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import typer

from taskctl.cli.durations import parse_seconds
from taskctl.cli.exits import UsageError
from taskctl.history.files import DEFAULT_MAX_AGE_S, DEFAULT_MAX_MB, HistoryLimits

_DEFAULT_AGE: Final = f"{DEFAULT_MAX_AGE_S // 3600}h"
_MIN_AGE_S: Final = 60


def checked_age(text: str) -> str:
    """Return the value of ``--history-age``.

    Raises:
        UsageError: it is not a duration, or less than a minute.
    """
    _age_s(text)
    return text


def _age_s(text: str) -> float:
    age_s = parse_seconds(text, "--history-age")
    if 0 < age_s < _MIN_AGE_S:
        raise UsageError(f"--history-age {text!r} must be 0, or a minute or more")
    return age_s


# Without slots, as verbs inherit their other options, too.
@dataclass(frozen=True, kw_only=True)
class HistoryAmount:
    """How much of a history is kept."""

    history_size: Annotated[
        int,
        typer.Option(metavar="MB", min=1, max=1_000_000, help="As much of it, at most."),
    ] = DEFAULT_MAX_MB
    history_age: Annotated[
        str, typer.Option(metavar="DURATION", help="For so long, at most; 0: for any time.")
    ] = _DEFAULT_AGE

    def limits(self) -> HistoryLimits:
        """Return what the options say.

        Raises:
            UsageError: the age is not a duration, or less than a minute.
        """
        return HistoryLimits(self.history_size * 1_000_000, _age_s(self.history_age))


@dataclass(frozen=True, kw_only=True)
class HistoryOptions(HistoryAmount):
    """Whether a local stack keeps a history of its Tasks, and how much of it."""

    history: Annotated[
        bool,
        typer.Option(
            "--history/--no-history",
            help="Of a local stack: keep in DIR/history what became of Tasks that are gone.",
        ),
    ] = True

    def words(self) -> list[str]:
        """Return the same as arguments of another command.

        Raises:
            UsageError: as :meth:`limits`.
        """
        self.limits()
        if not self.history:
            return ["--no-history"]
        return [f"--history-size={self.history_size}", f"--history-age={self.history_age}"]
