from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from taskctl.embedded.server.refusals.errors import StorageError
from taskctl.embedded.server.storage import persistence, upkeep
from taskctl.embedded.server.storage.persistence import Database
from taskctl.embedded.server.storage.store import Store
from taskctl.errors import ConfigError
from tests.diskspace import fill, small_file_system
from tests.unit.embedded.server.support import OTHERS, THINGS, make_store, thing


def reopen(path: Path) -> dict[str, str]:
    """Return name → color of what a fresh process would find."""
    database = Database(path)
    try:
        store = make_store()
        store.restore(list(database.objects()), database.last_deletions())
        return {one.name: one.load()["spec"]["color"] for one in store.records(THINGS)}
    finally:
        database.close()


def test_what_is_written_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    database = Database(path)
    store = make_store(journal=database)
    store.create(THINGS, thing("a", color="red"))
    store.create(THINGS, thing("b", color="red"))
    store.update(THINGS, thing("a", color="green"))
    store.delete(THINGS, "ns", "b")
    with store.batch():
        store.create(THINGS, thing("c", color="blue"))
        store.create(OTHERS, thing("o", color="x"))
    assert database.last_deletions() == {THINGS: 4}
    assert len(database.objects_of(THINGS)) == 2
    database.checkpoint()
    database.close()
    assert reopen(path) == {"a": "green", "c": "blue"}


def test_revisions_go_on_where_they_were(tmp_path: Path) -> None:
    database = Database(tmp_path / "db.sqlite")
    store = make_store(journal=database)
    store.create(THINGS, thing("a"))
    store.delete(THINGS, "ns", "a")
    fresh = make_store(journal=database)
    fresh.restore(list(database.objects()), database.last_deletions())
    assert fresh.head == 2
    assert fresh.create(THINGS, thing("b")).revision == 3
    database.close()


def test_an_open_transaction_is_not_found_again(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    database = Database(path)
    record = make_store().create(THINGS, thing("a", color="red"))
    database.begin()
    database.put(record)
    database.rollback()
    database.rollback()
    database.begin()
    database.put(record)
    database.close()
    assert reopen(path) == {}


def test_the_file_is_private(tmp_path: Path) -> None:
    database = Database(tmp_path / "db.sqlite")
    database.begin()
    database.put(make_store().create(THINGS, thing("a")))
    database.commit()
    for name in os.listdir(tmp_path):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name
    database.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    path.write_text("this is something else, long enough to be looked at " * 50)
    with pytest.raises(ConfigError, match="Move the file away"):
        Database(path)


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    database = Database(path)
    database._db.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(ConfigError, match="has format 99"):
        Database(path)


_WRITER = """
import sys
from pathlib import Path
from taskctl.embedded.server.storage import persistence, upkeep
from taskctl.embedded.server.refusals.errors import StorageError
from taskctl.embedded.server.storage.persistence import Database
from tests.unit.embedded.server.support import THINGS, make_store, thing

store = make_store(journal=Database(Path(sys.argv[1])))
for number in range(100_000):
    store.create(THINGS, thing(f"t{number:06}", color="x" * 500))
    print(number, flush=True)  # the answer: from here on it must never be lost
"""


def test_a_killed_process_loses_nothing_it_has_answered_for(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    answered = -1
    for line in process.stdout:
        answered = int(line)
        if answered >= 300:
            process.send_signal(signal.SIGKILL)
            break
    rest = [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    answered = max([answered, *rest])
    found = reopen(path)
    assert set(found) >= {f"t{number:06}" for number in range(answered + 1)}
    assert len(found) <= answered + 2, "at most the one write that was under way"


def test_the_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "_LOG_LIMIT_BYTES", 100_000)
    database = Database(tmp_path / "db.sqlite")
    store = make_store(journal=database)
    store.create(THINGS, thing("a", text="x"))
    sizes = []
    for turn in range(20):
        for number in range(10):
            store.update(THINGS, thing("a", text=f"{turn}-{number}" + "x" * 10_000))
        database.checkpoint()
        sizes.append(database.log_bytes())
    assert max(sizes) < 400_000
    database.close()


# --- a full disk ------------------------------------------------------------------------


def allocated(path: Path) -> int:
    return sum(one.stat().st_blocks * 512 for one in path.parent.glob(f"{path.name}*"))


def write_many(store: Store, names: range) -> None:
    for number in names:
        store.create(THINGS, thing(f"n{number}", text="x" * 2000))


def test_the_reserve_is_used_before_new_space_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    database = Database(path)
    store = make_store(journal=database)
    store.create(THINGS, thing("a", color="red"))
    assert database.top_up()
    database.checkpoint()
    assert not database.top_up()
    before = allocated(path)
    assert before >= 2 * persistence.RESERVE_BYTES
    for number in range(4):
        write_many(store, range(100 * number, 100 * (number + 1)))
        database.checkpoint()
    assert allocated(path) == before
    database.close()
    assert len(database_names(path)) == 401


def test_a_reserve_that_was_used_up_is_filled_again(tmp_path: Path) -> None:
    database = Database(tmp_path / "db.sqlite")
    store = make_store(journal=database)
    database.top_up()
    write_many(store, range(2500))
    assert database.top_up()
    database.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB of its own."""
    with small_file_system(tmp_path / "disk", size_mib=40) as place:
        yield place


def test_a_full_disk(small_disk: Path) -> None:
    """Writes go on in the reserve; then they are refused, until there is room."""
    path = small_disk / "db.sqlite"
    database = Database(path)
    pressed: list[None] = []
    database.on_pressure = lambda: pressed.append(None)
    store = make_store(journal=database)
    told: list[str] = []
    store.listen(lambda event: told.append(event.record.name))
    database.top_up()
    database.checkpoint()
    filler = fill(small_disk)
    for number in range(10):
        write_many(store, range(30 * number, 30 * (number + 1)))
        database.checkpoint()
    assert len(told) == 300
    with pytest.raises(StorageError, match="Make room on the disk"):
        write_many(store, range(300, 20_000))
    assert pressed
    assert len(told) == store.count(THINGS) > 300
    with pytest.raises(StorageError), store.batch():
        write_many(store, range(30_000, 32_000))
    database.checkpoint()
    filler.unlink()
    store.create(THINGS, thing("last", color="x"))
    assert told[-1] == "last"
    assert len(told) == store.count(THINGS)
    assert database.top_up()
    database.close()
    assert len(database_names(path)) == len(told)


def database_names(path: Path) -> set[str]:
    database = Database(path)
    try:
        return {orjson.loads(raw)["metadata"]["name"] for _, raw in database.objects()}
    finally:
        database.close()


def test_a_server_starts_on_a_full_disk(small_disk: Path) -> None:
    path = small_disk / "db.sqlite"
    database = Database(path)
    store = make_store(journal=database)
    store.create(THINGS, thing("a", color="red"))
    database.top_up()
    # As after kill -9: the files stay as they are.
    filler = fill(small_disk)
    again = Database(path)
    fresh = make_store(journal=again)
    fresh.restore(list(again.objects()), again.last_deletions())
    fresh.create(THINGS, thing("b", color="blue"))
    again.checkpoint()
    again.close()
    database.close()
    filler.unlink()
    assert reopen(path) == {"a": "red", "b": "blue"}


async def test_failed_checkpoints_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "_FIRST_S", 0.0)
    monkeypatch.setattr(upkeep, "_RETRY_FIRST_S", 0.01)
    database = Database(tmp_path / "db.sqlite")
    caplog.set_level(logging.INFO)
    failures = iter([sqlite3.OperationalError("unable to open database file"), OSError(24, "x")])
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def checkpoint() -> None:
        for error in failures:
            raise error
        loop.call_soon_threadsafe(done.set)

    monkeypatch.setattr(database, "checkpoint", checkpoint)
    task = asyncio.create_task(upkeep.Upkeep(database).run())
    await asyncio.wait_for(done.wait(), 10)
    while "no longer" not in caplog.text:
        await asyncio.sleep(0.01)
    assert caplog.text.count("a checkpoint failed") == 2, "once as it began, once as it ended"
    task.cancel()
    await asyncio.wait([task])
    database.close()
