"""Default spawn keys: the same on every run of a parent ("Spawn keys" in docs/protocol.md)."""

from __future__ import annotations

import os

from taskctl.sdk import _env


class Ledger:
    """Counts how often the same was spawned in this attempt, by any of its processes.

    Args:
        path: file shared by the processes of the attempt; empty: count in this process only.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: dict[bytes, int] = {}
        self._offset = 0

    def number(self, digests: list[bytes]) -> list[int]:
        """Return for each digest (8 bytes) how many equal ones came before it; adds them."""
        import fcntl

        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # not set, another user's, another PID namespace
            return [self._count(digest) for digest in digests]
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._catch_up(fd)
            numbers = [self._count(digest) for digest in digests]
            self._offset += os.pwrite(fd, b"".join(digests), self._offset)
            return numbers
        finally:
            os.close(fd)  # unlocks

    def _catch_up(self, fd: int) -> None:
        while entries := os.pread(fd, 65536, self._offset):
            for start in range(0, len(entries), 8):
                self._count(entries[start : start + 8])
            self._offset += len(entries)

    def _count(self, digest: bytes) -> int:
        count = self._seen.get(digest, 0)
        self._seen[digest] = count + 1
        return count


def default_keys(contents: list[bytes]) -> list[str]:
    """Return a key for each child, made from what is spawned (any bytes that say it all)."""
    from hashlib import sha256

    path = os.environ.get(_env.KEYS, "")
    if path not in _ledgers:
        _ledgers[path] = Ledger(path)
    digests = [sha256(content).digest()[:8] for content in contents]
    numbers = _ledgers[path].number(digests)
    return [f"auto-{digest.hex()}-{number}" for digest, number in zip(digests, numbers)]


_ledgers: dict[str, Ledger] = {}
