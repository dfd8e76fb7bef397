"""Rows, and what each browser still has to be told of them. No I/O.

A feed keeps the UIDs of the rows that its browser has not seen as they are now, not the changes
themselves: however fast a row changes and however slow the browser is, the row is sent once, as
it is then. So a feed is never longer than the board; if too much piles up, it begins again with
everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

MAX_PENDING: Final = 20_000
BATCH_ROWS: Final = 500


class Keyed(Protocol):
    """Whatever has a UID."""

    @property
    def uid(self) -> str:
        """``metadata.uid``."""
        ...


class Boards(Protocol):
    """What the page shows."""

    @property
    def tasks(self) -> FeedRows:
        """Rows of Tasks."""
        ...

    @property
    def clusters(self) -> FeedRows:
        """Rows of TaskClusters."""
        ...

    @property
    def problem(self) -> str:
        """What keeps the rows from being those of this moment; empty when all is well."""
        ...


class Step(StrEnum):
    """What a browser is told; the name of a server-sent event."""

    RESET = "reset"  # forget everything
    ROWS = "rows"  # these are new, or now like this
    GONE = "gone"  # these were deleted
    SYNCED = "synced"  # that was everything there is


@dataclass(frozen=True, slots=True)
class Told:
    """One step for a browser.

    Attributes:
        step: what to do.
        rows: for ROWS.
        uids: for GONE.
    """

    step: Step
    rows: tuple[Any, ...] = ()
    uids: tuple[str, ...] = ()


class FeedRows:
    """All rows, by UID, in order of arrival."""

    def __init__(self) -> None:
        self._rows: dict[str, Keyed] = {}
        self._feeds: set[Feed] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, uid: str) -> Any | None:
        """Return a row, or None."""
        return self._rows.get(uid)

    def rows(self) -> Mapping[str, Any]:
        """Return all rows; read only."""
        return self._rows

    def put(self, row: Keyed) -> None:
        """Take in a row, new or changed."""
        if self._rows.get(row.uid) == row:
            return
        self._rows[row.uid] = row
        self._mark(row.uid)

    def remove(self, uid: str) -> None:
        """Forget a row."""
        if self._rows.pop(uid, None) is not None:
            self._mark(uid)

    def feed(self, max_pending: int = MAX_PENDING) -> Feed:
        """Return a new feed, which begins with everything. Close it."""
        feed = Feed(self, max_pending)
        self._feeds.add(feed)
        return feed

    def drop(self, feed: Feed) -> None:
        """Tell a feed nothing more."""
        self._feeds.discard(feed)

    def _mark(self, uid: str) -> None:
        for feed in self._feeds:
            feed.mark(uid)


class Feed:
    """What one browser still has to be told; made by :meth:`Board.feed`.

    Args:
        board: whose rows.
        max_pending: with more than so many, begin again with everything.
    """

    def __init__(self, board: FeedRows, max_pending: int) -> None:
        self._board = board
        self._max_pending = max_pending
        self._pending: dict[str, None] = {}
        self._reset = True
        self._syncing = True
        self._news = asyncio.Event()
        self._news.set()

    @property
    def pending(self) -> int:
        """How many rows are waiting."""
        return len(self._pending)

    def close(self) -> None:
        """Be told nothing more."""
        self._board.drop(self)

    def mark(self, uid: str) -> None:
        """Note that a row is new, changed or gone."""
        self._news.set()
        if self._reset:
            return  # everything is sent in any case
        self._pending[uid] = None
        if len(self._pending) > max(self._max_pending, len(self._board)):
            self._pending.clear()
            self._reset = True

    async def wait(self) -> None:
        """Wait until there is something to tell."""
        await self._news.wait()

    def take(self, limit: int = BATCH_ROWS) -> list[Told]:
        """Return the next steps, with ``limit`` rows at most; empty when all has been told."""
        told = []
        if self._reset:
            self._reset, self._syncing = False, True
            self._pending = dict.fromkeys(self._board.rows())
            told.append(Told(Step.RESET))
        uids = [uid for uid, _ in zip(self._pending, range(limit), strict=False)]
        for uid in uids:
            del self._pending[uid]
        found = [(uid, self._board.get(uid)) for uid in uids]
        rows = tuple(row for _, row in found if row is not None)
        gone = tuple(uid for uid, row in found if row is None)
        if rows:
            told.append(Told(Step.ROWS, rows=rows))
        if gone:
            told.append(Told(Step.GONE, uids=gone))
        if not self._pending:
            self._news.clear()
            if self._syncing:
                self._syncing = False
                told.append(Told(Step.SYNCED))
        return told


def apply_told(mirror: dict[str, Any], steps: Iterable[Told]) -> None:
    """Do to ``mirror`` what a browser does with its rows. The page's store.js does the same."""
    for told in steps:
        if told.step is Step.RESET:
            mirror.clear()
        mirror.update((row.uid, row) for row in told.rows)
        for uid in told.uids:
            mirror.pop(uid, None)
