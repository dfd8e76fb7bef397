"""A log that was long: its beginning, a mark, its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.outside.logcopy import CopyError, FrameReader, to_frame
from taskctl.outside.logpieces import LogPart, LogPieces, cut_mark

LOG = b"".join(b"%d\n" % number for number in range(2000))


def keep(root: Path, *ranges: tuple[int, int]) -> LogPieces:
    (root / "log").write_bytes(LOG[ranges[0][0] : ranges[0][1]])
    for start, end in ranges[1:]:
        (root / "log.d").mkdir(exist_ok=True)
        (root / "log.d" / str(start)).write_bytes(LOG[start:end])
    return LogPieces(root, "log")


def everything(log: LogPieces, offset: int = 0) -> list[LogPart]:
    parts = []
    while part := log.read(offset):
        parts.append(part)
        assert part.end > offset
        offset = part.end
    return parts


def test_whole_with_and_without_segments(tmp_path: Path) -> None:
    log = keep(tmp_path, (0, 1000))
    assert (log.size(), everything(log)) == (1000, [LogPart(LOG[:1000], 1000)])
    log = keep(tmp_path, (0, 1000), (1000, 1500), (1500, 1700))
    assert log.size() == 1700
    assert b"".join(part.data for part in everything(log)) == LOG[:1700]


def test_a_mark_where_it_was_cut(tmp_path: Path) -> None:
    log = keep(tmp_path, (0, 1000), (3000, 3500), (3500, 3600))
    parts = everything(log)
    assert [part.end for part in parts] == [1000, 3000, 3500, 3600]
    assert parts[1] == LogPart(cut_mark(2000), 3000, cut=True)
    assert b"2000 bytes" in parts[1].data
    assert b"logLimitBytes" in parts[1].data
    assert everything(log, 2500)[0] == LogPart(cut_mark(500), 3000, cut=True)
    assert everything(log, 3600) == []


def test_following_over_a_rotation(tmp_path: Path) -> None:
    """Each byte once, and the mark only where what was not read yet is gone."""
    log = keep(tmp_path, (0, 1000), (1000, 1500))
    assert everything(log)[-1].end == 1500
    keep(tmp_path, (0, 1000), (1000, 1500), (1500, 2000))
    assert everything(log, 1500) == [LogPart(LOG[1500:2000], 2000)]
    (tmp_path / "log.d/1000").unlink()
    (tmp_path / "log.d/1500").unlink()
    keep(tmp_path, (0, 1000), (2500, 3000))
    parts = everything(log, 2000)
    assert parts == [LogPart(cut_mark(500), 2500, cut=True), LogPart(LOG[2500:3000], 3000)]


@pytest.mark.parametrize("lines", [0, 1, 5, 60, 10_000])
def test_the_last_lines(tmp_path: Path, lines: int) -> None:
    log = keep(tmp_path, (0, 1000), (3000, 3505), (3505, 3600))
    start = log.tail_offset(lines)
    kept = LOG[3000:3600]
    want = b"".join(kept.splitlines(keepends=True)[-lines:]) if lines else b""
    assert b"".join(part.data for part in everything(log, start)) == want


def test_what_others_put_there_does_not_count(tmp_path: Path) -> None:
    log = keep(tmp_path, (0, 1000), (1000, 1500))
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (tmp_path / "log.d/1500").symlink_to(secret)
    (tmp_path / "log.d/1600").mkdir()
    os.mkfifo(tmp_path / "log.d/1700")
    for name in ("notes", "-5", "99999999999999999999", "\u0661", "5"):
        (tmp_path / "log.d" / name).write_text("x")
    assert b"".join(part.data for part in everything(log)) == LOG[:1500]


def test_segments_behind_a_link_do_not_count(tmp_path: Path) -> None:
    log = keep(tmp_path, (0, 1000))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1000").write_text("x")
    (tmp_path / "log.d").symlink_to(elsewhere)
    assert everything(log) == [LogPart(LOG[:1000], 1000)]


@given(st.lists(st.tuples(st.binary(max_size=50), st.booleans())), st.integers(1, 30))
def test_frames_arrive_in_any_pieces(contents: list[tuple[bytes, bool]], step: int) -> None:
    parts: list[LogPart] = []
    end = 0
    for data, cut in contents:
        end += len(data)
        parts.append(LogPart(data, end, cut))
    sent = b"".join(map(to_frame, parts))
    reader = FrameReader()
    found: list[LogPart] = []
    for start in range(0, len(sent), step):
        found += reader.feed(sent[start : start + step])
    assert found == parts


@pytest.mark.parametrize("sent", [b"Usage: taskctl\n", b"-1 2 0\n", b"999999999 1 0\n", b"x" * 99])
def test_what_is_no_frame(sent: bytes) -> None:
    with pytest.raises(CopyError, match="something other"):
        list(FrameReader().feed(sent))
