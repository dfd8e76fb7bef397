"""How the store makes its writes durable."""

from __future__ import annotations

from typing import Protocol

from taskctl.embedded.server.storage.records import Record


class Journal(Protocol):
    """Makes writes durable. ``put`` and ``remove`` come between ``begin`` and ``commit``."""

    def begin(self) -> None:
        """Start a transaction."""
        ...

    def put(self, record: Record) -> None:
        """Insert or replace an object."""
        ...

    def remove(self, record: Record) -> None:
        """Remove an object; ``record.revision`` is the deletion's."""
        ...

    def commit(self) -> None:
        """Return once the transaction survives the death of the process."""
        ...

    def rollback(self) -> None:
        """Forget the transaction."""
        ...


class MemoryJournal:
    """Keeps nothing; for tests and dry use."""

    def begin(self) -> None:
        """Do nothing."""

    def put(self, record: Record) -> None:
        """Do nothing."""

    def remove(self, record: Record) -> None:
        """Do nothing."""

    def commit(self) -> None:
        """Do nothing."""

    def rollback(self) -> None:
        """Do nothing."""
