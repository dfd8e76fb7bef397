"""Write-through to SQLite, so that a killed server loses nothing it has answered for.

WAL with ``synchronous=NORMAL``: a commit is in the operating system's hands when it returns, so
it survives the death of this process, not a power failure (Kubernetes' etcd survives both; this
is a server for one machine). Checkpoints, which do wait for the disk, run in a thread of their
own.

Task code may fill the disk. So that the server can still record what comes of it, both files hold
a reserve: free pages in the database, and a write-ahead log that has reached its size before it is
needed. Its bytes are the server's already, and a full disk does not take them. (A file system that
copies on write, such as btrfs, gives no such promise.) When the reserve is used up, writes are
refused with a :class:`~taskctl.embedded.server.refusals.errors.StorageError` until there is room.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.refusals.errors import Resource
from taskctl.embedded.server.storage.records import Record
from taskctl.errors import ConfigError

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
    api_group TEXT NOT NULL,
    plural TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    raw BLOB NOT NULL,
    PRIMARY KEY (api_group, plural, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deletions (
    api_group TEXT NOT NULL,
    plural TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (api_group, plural)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reserve (filler BLOB NOT NULL);
"""
_FORMAT: Final = 1
_LOG_LIMIT_BYTES: Final = 64 * 1024 * 1024
RESERVE_BYTES: Final = 8 * 1024 * 1024
_RESERVE_PIECE_BYTES: Final = 512 * 1024
# A checkpoint makes the log's space usable again; so often that the reserve would last.
_COMMITS_PER_CHECKPOINT: Final = 256


class Database:
    """The journal of a :class:`~taskctl.embedded.server.storage.store.Store`, in one file."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Args:
            path: of the database; its directory must exist.

        Raises:
            ConfigError: the file is not such a database, or of a newer format.
        """
        self.path = path
        self.on_pressure: Callable[[], None] = lambda: None
        self._commits = 0
        # A connection must not be closed while a thread uses it.
        self._upkeep_lock = threading.Lock()
        self._closed = False
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            self._db = self._connect()
            self._db.executescript(_SCHEMA)
            self._check_format()
            # Open for as long as the first: when it is needed, file descriptors may be short.
            self._upkeep = self._connect(any_thread=True)
        except sqlite3.OperationalError as error:  # a full disk, no rights, in use
            raise ConfigError(
                f"the database {path} cannot be opened at present: {error}"
            ) from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"{path} cannot be used as the server's database: {error}. Move the file away to "
                "start with an empty one"
            ) from error

    def _connect(self, *, any_thread: bool = False) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path, isolation_level=None, timeout=5.0, check_same_thread=not any_thread
        )
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA wal_autocheckpoint=0")
        return db

    def _check_format(self) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found == 0:
            self._db.execute(f"PRAGMA user_version={_FORMAT}")
        elif found != _FORMAT:
            raise ConfigError(
                f"{self.path} has format {found}, this version reads format {_FORMAT}. Use the "
                "version of the program that wrote it, or move the file away"
            )

    def objects(self) -> Iterator[tuple[Resource, bytes]]:
        """Yield every object as (resource, JSON)."""
        rows = self._db.execute("SELECT api_group, plural, raw FROM objects")
        for group, plural, raw in rows:
            yield Resource(group, plural), raw

    def objects_of(self, resource: Resource) -> list[bytes]:
        """Return the objects of one collection."""
        rows = self._db.execute(
            "SELECT raw FROM objects WHERE api_group=? AND plural=?", tuple(resource)
        )
        return [raw for (raw,) in rows]

    def last_deletions(self) -> dict[Resource, int]:
        """Return, per collection, the revision of the last deletion in it."""
        rows = self._db.execute("SELECT api_group, plural, revision FROM deletions")
        return {Resource(group, plural): revision for group, plural, revision in rows}

    def begin(self) -> None:
        """Start a transaction.

        Raises:
            errors.StorageError: the database cannot be written; so the methods below.
        """
        self._write("BEGIN IMMEDIATE")

    def put(self, record: Record) -> None:
        """Insert or replace an object."""
        self._write(
            "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)",
            (*record.resource, record.namespace, record.name, record.raw),
        )

    def remove(self, record: Record) -> None:
        """Remove an object and note the deletion's revision."""
        self._write(
            "DELETE FROM objects WHERE api_group=? AND plural=? AND namespace=? AND name=?",
            (*record.resource, record.namespace, record.name),
        )
        self._write(
            "INSERT OR REPLACE INTO deletions VALUES (?,?,?)", (*record.resource, record.revision)
        )

    def commit(self) -> None:
        """Return once the transaction survives the death of the process."""
        self._write("COMMIT")
        self._commits += 1
        if self._commits == _COMMITS_PER_CHECKPOINT:
            self.on_pressure()

    def rollback(self) -> None:
        """Forget the transaction."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _write(self, statement: str, values: tuple[object, ...] = ()) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.OperationalError as error:  # full, unreadable, busy
            self.on_pressure()
            raise errors.StorageError(str(error)) from error

    def checkpoint(self) -> None:
        """Move the write-ahead log into the main file. Blocks on the disk; call in a thread.

        Writers continue meanwhile, so under a steady load the log would never be quite done and
        never begin again; past a size, its last part is moved while writers wait.

        Raises:
            sqlite3.Error: it cannot be done at present.
        """
        self._commits = 0
        self._keep_up("PRAGMA wal_checkpoint(PASSIVE)")
        if self.log_bytes() > _LOG_LIMIT_BYTES:
            self._keep_up("PRAGMA wal_checkpoint(RESTART)")

    def top_up(self) -> bool:
        """Fill the reserve if much of it is gone; in a thread, before a checkpoint.

        Returns whether anything was done.

        Raises:
            sqlite3.Error: there is no room for it at present.
        """
        free = self._keep_up("PRAGMA freelist_count")
        page_bytes = self._keep_up("PRAGMA page_size")
        if free * page_bytes >= RESERVE_BYTES // 2 and self.log_bytes() >= RESERVE_BYTES:
            return False
        try:
            # In pieces: writers wait while one is written.
            for _ in range(RESERVE_BYTES // _RESERVE_PIECE_BYTES):
                self._keep_up(f"INSERT INTO reserve VALUES (zeroblob({_RESERVE_PIECE_BYTES}))")
            self._keep_up("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            self._keep_up("DELETE FROM reserve")
        return True

    def _keep_up(self, statement: str) -> int:
        """Execute a statement in a thread; returns the first number of its answer, if any."""
        with self._upkeep_lock:
            if self._closed:
                raise sqlite3.ProgrammingError("the database is closed")
            row = self._upkeep.execute(statement).fetchone()
            return int(row[0]) if row else 0

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log's file."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Close the file; the last connection's closing also empties the write-ahead log."""
        with self._upkeep_lock:
            self._closed = True
            self._upkeep.close()
        self._db.close()
