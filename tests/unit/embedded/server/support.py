"""A journal to look into, and objects to store."""

from __future__ import annotations

from itertools import count
from typing import Any

from taskctl.embedded.server.refusals.errors import Resource, StorageError
from taskctl.embedded.server.storage.eventlog import LogLimits
from taskctl.embedded.server.storage.journal import Journal
from taskctl.embedded.server.storage.records import Record
from taskctl.embedded.server.storage.store import Store
from tests.unit.clocks import SetClock

THINGS = Resource("test.dev", "things")
OTHERS = Resource("", "others")
PATHS = {"metadata.name": ("metadata", "name"), "spec.color": ("spec", "color")}


class RecordingJournal:
    """Keeps what has been committed; can be told to fail."""

    def __init__(self) -> None:
        self.committed: list[tuple[str, Record]] = []
        self.transactions = 0
        self.fail_at: str | None = None
        self.refuses = False
        self._open: list[tuple[str, Record]] | None = None

    def _step(self, name: str) -> None:
        if self.refuses:
            raise StorageError("disk full")
        if self.fail_at == name:
            raise OSError(f"{name} fails")

    def begin(self) -> None:
        self._step("begin")
        assert self._open is None, "a transaction is open already"
        self._open = []

    def put(self, record: Record) -> None:
        self._step("put")
        assert self._open is not None
        self._open.append(("put", record))

    def remove(self, record: Record) -> None:
        self._step("remove")
        assert self._open is not None
        self._open.append(("remove", record))

    def commit(self) -> None:
        self._step("commit")
        assert self._open is not None
        self.committed += self._open
        self.transactions += 1
        self._open = None

    def rollback(self) -> None:
        self._open = None


def make_store(
    *,
    clock: SetClock | None = None,
    journal: Journal | None = None,
    limits: LogLimits | None = None,
) -> Store:
    """Return a store with two collections and numbered UIDs."""
    numbers = count(1)
    store = Store(
        clock or SetClock(),
        journal=journal,
        limits=limits,
        new_uid=lambda: f"uid-{next(numbers)}",
    )
    store.open(THINGS, PATHS)
    store.open(OTHERS, {})
    return store


def thing(name: str, *, namespace: str = "ns", **fields: Any) -> dict[str, Any]:
    """Return an object; ``meta`` is merged into its metadata."""
    meta = fields.pop("meta", {})
    return {
        "apiVersion": "test.dev/v1",
        "kind": "Thing",
        "metadata": {"name": name, "namespace": namespace, **meta},
        "spec": fields,
    }
