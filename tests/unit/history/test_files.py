"""The files of a history: rotation, torn lines, one writer, what hostile code may do to them."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path

import pytest

from taskctl.clock import Clock
from taskctl.history.files import HistoryFiles, HistoryLimits, read_segments
from tests.unit.clocks import SetClock

BELOW = "history"
LINE = b'{"n":1}\n'
LIMITS = HistoryLimits(max_bytes=256 * 1024, max_age_s=1600)


def open_files(
    root: Path, limits: HistoryLimits = LIMITS, clock: Clock | None = None
) -> HistoryFiles:
    return HistoryFiles(root, BELOW, limits, clock or SetClock())


def lines(root: Path) -> list[bytes]:
    return [line for _, found in read_segments(root, BELOW) for line in found]


def names(root: Path) -> list[str]:
    return sorted(name for name in os.listdir(root / BELOW) if name != "lock")


def test_what_is_appended_is_there_for_the_next_writer(tmp_path: Path) -> None:
    with open_files(tmp_path) as files:
        files.append([LINE, LINE])
    with open_files(tmp_path) as files:
        files.append([LINE])
        assert [list(found) for found in files.segments()] == [[LINE] * 3]
    assert lines(tmp_path) == [LINE] * 3
    assert (tmp_path / BELOW).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / BELOW / names(tmp_path)[0]).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("torn", [b"{", LINE[:-1], b'{"n":1', b"x" * 200_000])
def test_a_line_that_a_crash_cut_off_is_taken_away(tmp_path: Path, torn: bytes) -> None:
    with open_files(tmp_path) as files:
        files.append([LINE])
    path = tmp_path / BELOW / names(tmp_path)[0]
    with path.open("ab") as file:
        file.write(torn)
    with open_files(tmp_path) as files:
        assert path.read_bytes() == LINE
        files.append([LINE])
    assert lines(tmp_path) == [LINE, LINE]


def test_all_files_together_stay_below_the_size(tmp_path: Path) -> None:
    line = b"x" * 3999 + b"\n"
    with open_files(tmp_path, HistoryLimits(LIMITS.max_bytes, 0)) as files:
        for number in range(200):
            files.append([line])
            if number % 10 == 0:
                total = sum(path.stat().st_size for path in (tmp_path / BELOW).iterdir())
                assert total <= LIMITS.max_bytes
    kept = names(tmp_path)
    assert len(kept) > 8
    assert kept[0] > "tasks-00000001.jsonl"  # the oldest went
    assert len(lines(tmp_path)) * len(line) > LIMITS.max_bytes * 0.8


def test_what_is_too_old_is_deleted(tmp_path: Path) -> None:
    clock = SetClock()
    with open_files(tmp_path, clock=clock) as files:
        files.append([LINE])
        os.utime(tmp_path / BELOW / names(tmp_path)[0], (clock.now().timestamp(),) * 2)
        files.prune()
        assert len(lines(tmp_path)) == 1
        clock.pass_s(200)  # more than a sixteenth of the age: another file is begun
        files.prune()
        assert len(names(tmp_path)) == 2
        assert len(lines(tmp_path)) == 1
        clock.pass_s(1500)
        files.prune()
        assert lines(tmp_path) == []


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_jumps_deletes_nothing(tmp_path: Path, *, restarts: bool) -> None:
    """Before it has gone steadily for an hour, nothing is taken for old."""
    clock = SetClock()
    limits = HistoryLimits(256 * 1024, 30 * 86_400)
    with open_files(tmp_path, limits, clock) as files:
        files.append([LINE])
        written_s = clock.now().timestamp()
        os.utime(tmp_path / BELOW / names(tmp_path)[0], (written_s, written_s))
        if not restarts:
            clock.wall += timedelta(days=3650)
            for _ in range(5):
                files.prune()
                clock.pass_s(600)
            assert len(lines(tmp_path)) == 1
            clock.wall -= timedelta(days=3650)  # it was wrong
            for _ in range(20):
                files.prune()
                clock.pass_s(600)
            assert len(lines(tmp_path)) == 1
    clock.wall += timedelta(days=60)
    with open_files(tmp_path, limits, clock) as files:
        files.prune()
        assert len(lines(tmp_path)) == 1
        for _ in range(14):
            clock.pass_s(6 * 3600)
            files.prune()
        assert lines(tmp_path) == []  # it is right


def test_any_age_where_there_is_no_limit(tmp_path: Path) -> None:
    clock = SetClock()
    with open_files(tmp_path, HistoryLimits(1_000_000, 0), clock) as files:
        files.append([LINE])
        clock.pass_s(1e9)
        files.prune()
    assert lines(tmp_path) == [LINE]


def test_two_do_not_write_at_once(tmp_path: Path) -> None:
    with open_files(tmp_path), pytest.raises(BlockingIOError):
        open_files(tmp_path)
    with open_files(tmp_path):
        pass


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_files(tmp_path) as files:
        files.append([LINE])
        write = os.write

        def part(fd: int, data: memoryview) -> int:
            monkeypatch.setattr(os, "write", full)
            return write(fd, data[:3])

        def full(fd: int, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", part)
        with pytest.raises(OSError, match="No space"):
            files.append([LINE, LINE])
        monkeypatch.setattr(os, "write", write)
        assert lines(tmp_path) == [LINE]
        files.append([LINE])
    assert lines(tmp_path) == [LINE, LINE]


@pytest.mark.parametrize("change", ["cut", "longer", "removed"])
def test_a_file_that_somebody_else_has_changed_is_not_written_to(
    tmp_path: Path, change: str
) -> None:
    with open_files(tmp_path) as files:
        files.append([LINE, LINE])
        path = tmp_path / BELOW / names(tmp_path)[0]
        if change == "cut":
            os.truncate(path, 3)
        elif change == "longer":
            path.write_bytes(LINE * 9)
        else:
            path.unlink()
        with pytest.raises(OSError, match="changed by another program"):
            files.append([LINE])
    with open_files(tmp_path) as files:  # and the next writer starts from what is there
        files.append([LINE])
    assert lines(tmp_path)[-1] == LINE


@pytest.mark.parametrize("trap", ["link", "fifo", "directory"])
def test_nothing_but_regular_files(tmp_path: Path, trap: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(LINE)
    directory = tmp_path / BELOW
    directory.mkdir()
    path = directory / "tasks-00000001.jsonl"
    if trap == "link":
        path.symlink_to(secret)
    elif trap == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r".+"):
        open_files(tmp_path)
    assert secret.read_bytes() == LINE
    assert lines(tmp_path) == []


def test_a_link_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / BELOW).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r".+"):
        open_files(tmp_path)
    assert os.listdir(tmp_path / "elsewhere") == []
