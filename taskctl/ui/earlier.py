"""The board of Tasks that are gone: read when a user looks, not followed.

The rows of what exists come from an informer and are pushed. These do not change any more, and
there may be tens of thousands: so only the newest are read, in a thread, and once for all browsers
that ask within some seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from taskctl.clock import Clock
from taskctl.history.reading import Newest
from taskctl.ui.model import Row

# As many as a browser draws without effort; 2 MB of rows.
MAX_EARLIER: Final = 5000
_KEEP_S: Final = 10.0


class EarlierReader(Protocol):
    """Reads a history."""

    async def newest(self, limit: int) -> tuple[str, Newest[Row]]:
        """Return what the history is, in words, and the Tasks that went last.

        Raises:
            TaskctlError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class EarlierRows:
    """What the board shows.

    Attributes:
        rows: of whole trees, the newest first.
        more: whether older ones are left out.
        source: what the history is, in words.
        problems: what could not be read.
    """

    rows: Sequence[Row] = ()
    more: bool = False
    source: str = ""
    problems: Sequence[str] = ()
    by_uid: Mapping[str, Row] = field(default_factory=dict)


class Earlier:
    """The rows of a history, kept for some seconds.

    Args:
        reader: of the history.
        clock: source of time.
    """

    def __init__(self, reader: EarlierReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._kept = EarlierRows()
        self._read_s = float("-inf")
        self._reading: asyncio.Task[EarlierRows] | None = None

    async def rows(self) -> EarlierRows:
        """Return the rows as they are now, or were some seconds ago.

        Raises:
            TaskctlError: the history cannot be read.
        """
        if self._clock.monotonic_s() - self._read_s < _KEEP_S:
            return self._kept
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="page history")
        # A browser that goes away must not take the answer from the others.
        return await asyncio.shield(self._reading)

    def get(self, uid: str) -> Row | None:
        """Return a row that was shown, or None."""
        return self._kept.by_uid.get(uid)

    async def _read(self) -> EarlierRows:
        source, newest = await self._reader.newest(MAX_EARLIER)
        rows = whole_trees(newest.found, more=newest.more)
        self._kept = EarlierRows(
            rows, newest.more, source, newest.problems, {row.uid: row for row in rows}
        )
        self._read_s = self._clock.monotonic_s()
        return self._kept


def whole_trees(rows: Sequence[Row], *, more: bool) -> list[Row]:
    """Return rows without those of the oldest tree, if that may have been cut.

    Args:
        rows: the newest first.
        more: older ones were left out.
    """
    if not more or not rows:
        return list(rows)
    whole = [row for row in rows if row.root != rows[-1].root]
    # A tree larger than all that is shown is shown in part.
    return whole or list(rows)
