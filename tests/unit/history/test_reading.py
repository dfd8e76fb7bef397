"""Readers of a history: the newest first, and no more of it than is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.history import files, reading
from taskctl.history.files import HistoryFiles, HistoryLimits
from taskctl.history.lines import Transition, encode
from taskctl.history.reading import Wanted, read_history, read_newest
from taskctl.testing.builders import task
from tests.unit.clocks import SetClock

BELOW = "history"
GONE = Wanted(gone=True)


def record(root: Path, *names: str, namespace: str = "default") -> None:
    """Append two lines for each Task: that it was there, and that it is gone."""
    clock = SetClock()
    with HistoryFiles(root, BELOW, HistoryLimits(256 * 1024, 0), clock) as written:
        for name in names:
            one = task(name).namespace(namespace).build()
            for deleted in (False, True):
                entry = Transition(task=one, at=clock.now(), deleted=deleted)
                written.append([encode(entry, sequence=1)])


def name_of(found: dict[str, Any]) -> str:
    return str(found["metadata"]["name"])


@pytest.mark.parametrize("count", [1, 40, 200])
def test_the_newest_come_first_over_many_files(tmp_path: Path, count: int) -> None:
    names = [f"t-{number}" for number in range(count)]
    record(tmp_path, *names)
    everything = read_newest(tmp_path, BELOW, GONE, 1000, name_of)
    assert everything.found == names[::-1]
    assert not everything.more
    some = read_newest(tmp_path, BELOW, GONE, 7, name_of)
    assert some.found == names[::-1][:7]
    assert some.more == (count > 7)


def test_files_that_are_not_needed_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, *(f"t-{number}" for number in range(200)))
    opened: list[str] = []
    real = files.read_segments

    def watched(*args: Any, **options: Any) -> Iterator[tuple[str, Iterator[bytes]]]:
        for name, lines in real(*args, **options):
            opened.append(name)
            yield name, lines

    monkeypatch.setattr(reading, "read_segments", watched)
    read_newest(tmp_path, BELOW, GONE, 5, name_of)
    # The one before is asked for its name, to know that there is more.
    assert len(opened) <= 2
    assert len(list((tmp_path / BELOW).glob("tasks-*"))) > 5


def test_only_so_many_bytes_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, "a", "b", "c")
    monkeypatch.setattr(reading, "_HELD_BYTES", 1)
    found = read_newest(tmp_path, BELOW, GONE, 100, name_of)
    assert (found.found, found.more) == (["c"], True)


def test_one_of_a_namespace_or_of_a_uid(tmp_path: Path) -> None:
    record(tmp_path, "a", "b")
    record(tmp_path, "a", namespace="other")
    other = Wanted(namespace="other", gone=True)
    assert read_newest(tmp_path, BELOW, other, 10, name_of).found == ["a"]
    one = Wanted(uid="uid-b", gone=True)
    assert read_newest(tmp_path, BELOW, one, 10, name_of).found == ["b"]
    assert [name_of(found) for found in read_history(tmp_path, BELOW, one).tasks] == ["b"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    record(tmp_path, "a")
    with (tmp_path / BELOW / "tasks-00000001.jsonl").open("ab") as file:
        file.write(b'{"kind":"Pod","history":{"deleted":true}}\n')
    found = read_newest(tmp_path, BELOW, GONE, 10, name_of)
    assert found.found == ["a"]
    assert found.problems == [
        "tasks-00000001.jsonl:3: kind: not a Task; --from takes what `taskctl export` wrote"
    ]


def test_only_a_deletion_is_known_to_be_the_last_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone"):
        read_newest(tmp_path, BELOW, Wanted(), 10, name_of)
