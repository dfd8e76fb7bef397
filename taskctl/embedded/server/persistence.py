"""Write-through to SQLite, so that a killed server loses nothing it has answered for.

WAL with ``synchronous=NORMAL``: a commit is in the operating system's hands when it returns, so
it survives the death of this process, not a power failure (Kubernetes' etcd survives both; this
is a server for one machine). Checkpoints, which do wait for the disk, run in a thread of their
own.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskctl.embedded.server.errors import Resource
from taskctl.embedded.server.records import Record
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
"""
_FORMAT: Final = 1
_LOG_LIMIT_BYTES: Final = 64 * 1024 * 1024


class Database:
    """The journal of a :class:`~taskctl.embedded.server.store.Store`, in one file."""

    def __init__(self, path: Path) -> None:
        """Open or make the file.

        Args:
            path: of the database; its directory must exist.

        Raises:
            ConfigError: the file is not such a database, or of a newer format.
        """
        self.path = path
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        try:
            self._db = self._connect()
            self._db.executescript(_SCHEMA)
            self._check_format()
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"{path} cannot be used as the server's database: {error}. Move the file away to "
                "start with an empty one"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
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
        """Start a transaction."""
        self._db.execute("BEGIN IMMEDIATE")

    def put(self, record: Record) -> None:
        """Insert or replace an object."""
        self._db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)",
            (*record.resource, record.namespace, record.name, record.raw),
        )

    def remove(self, record: Record) -> None:
        """Remove an object and note the deletion's revision."""
        self._db.execute(
            "DELETE FROM objects WHERE api_group=? AND plural=? AND namespace=? AND name=?",
            (*record.resource, record.namespace, record.name),
        )
        self._db.execute(
            "INSERT OR REPLACE INTO deletions VALUES (?,?,?)", (*record.resource, record.revision)
        )

    def commit(self) -> None:
        """Return once the transaction survives the death of the process."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Forget the transaction."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Move the write-ahead log into the main file. Blocks on the disk; call in a thread.

        Writers go on meanwhile, so under a steady load the log would never be quite done and
        never begin anew; past a size, its last part is moved while writers wait.
        """
        db = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
        try:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if self.log_bytes() > _LOG_LIMIT_BYTES:
                db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        finally:
            db.close()

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log's file."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Close the file; the last connection's closing also empties the write-ahead log."""
        self._db.close()
