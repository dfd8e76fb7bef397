from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from taskctl.embedded.server import persistence
from taskctl.embedded.server.persistence import Database
from taskctl.errors import ConfigError
from tests.unit.embedded_server.support import OTHERS, THINGS, make_store, thing


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
from taskctl.embedded.server import persistence
from taskctl.embedded.server.persistence import Database
from tests.unit.embedded_server.support import THINGS, make_store, thing

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
