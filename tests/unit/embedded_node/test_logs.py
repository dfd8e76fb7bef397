from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskctl.embedded.node.logs import LogOptionError, LogQuery, LogReader, parse_query
from taskctl.embedded.node.logserver import node_token
from tests.unit.embedded_node.builders import NOW, later


def line(text: str, *, at: int = 0, tag: str = "F") -> str:
    return f"2026-01-02T03:04:{at:02d}.123456789Z stdout {tag} {text}\n"


def read(directory: Path, **query: Any) -> str:
    reader = LogReader(directory, LogQuery(**query))
    out = b""
    while data := reader.read():
        out += data
    reader.close()
    return out.decode()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "log.1").write_text("".join(line(f"old{n}", at=n) for n in range(3)))
    (tmp_path / "log").write_text("".join(line(f"new{n}", at=10 + n) for n in range(3)))
    return tmp_path


def test_both_files_in_order(logs: Path) -> None:
    assert read(logs).split() == ["old0", "old1", "old2", "new0", "new1", "new2"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, ["new2"]), (3, ["new0", "new1", "new2"]), (4, ["old2", "new0", "new1", "new2"])],
)
def test_tail(logs: Path, count: int, expected: list[str]) -> None:
    assert read(logs, tail_lines=count).split() == expected


def test_tail_longer_than_the_log(logs: Path) -> None:
    assert len(read(logs, tail_lines=100).split()) == 6


def test_tail_of_a_large_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(line(f"{n:06d}" + "x" * 100) for n in range(3000)))
    found = read(tmp_path, tail_lines=1500).split()
    assert [text[:6] for text in (found[0], found[-1])] == ["001500", "002999"]


def test_parts_of_a_line_are_joined(tmp_path: Path) -> None:
    text = line("a", tag="P") + line("b", tag="P") + line("c") + line("d")
    (tmp_path / "log").write_text(text)
    assert read(tmp_path) == "abc\nd\n"
    assert read(tmp_path, timestamps=True).splitlines()[0] == "2026-01-02T03:04:00.123456789Z abc"
    assert read(tmp_path, tail_lines=2) == "abc\nd\n"


def test_since(logs: Path) -> None:
    assert read(logs, since=later(6)).split() == ["new1", "new2"]


def test_limit(logs: Path) -> None:
    assert read(logs, limit_bytes=7) == "old0\nol"


def test_empty_and_missing(tmp_path: Path) -> None:
    assert read(tmp_path) == ""
    (tmp_path / "log").touch()
    assert read(tmp_path) == ""
    assert read(tmp_path, tail_lines=5) == ""


def test_what_is_written_later_and_rotation_are_followed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("one"))
    reader = LogReader(tmp_path, LogQuery(follow=True))
    assert reader.read() == b"one\n"
    assert reader.read() == b""
    with log.open("a") as file:
        file.write(line("two") + "2026-01-02T03:04:00.1Z stdout F ha")
    assert reader.read() == b"two\n"
    with log.open("a") as file:
        file.write("lf\n" + line("last of the old"))
    log.rename(tmp_path / "log.1")
    log.write_text(line("first of the new"))
    assert reader.read() == b"half\nlast of the old\n"
    assert reader.read() == b"first of the new\n"
    assert reader.read() == b""
    reader.close()


def test_query() -> None:
    found = parse_query(
        {"follow": "true", "sinceSeconds": "5", "tailLines": "3", "timestamps": "1"}, NOW
    )
    assert found == LogQuery(follow=True, timestamps=True, since=later(-5), tail_lines=3)
    assert parse_query({"sinceTime": "2026-01-02T03:04:05Z"}, NOW).since == NOW


@pytest.mark.parametrize(
    "query",
    [
        {"follow": "yes please"},
        {"tailLines": "-1"},
        {"tailLines": "x"},
        {"limitBytes": "0"},
        {"sinceTime": "yesterday"},
        {"sinceTime": "2026-01-02T03:04:05Z", "sinceSeconds": "1"},
    ],
)
def test_bad_queries_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(LogOptionError):
        parse_query(query, NOW)


def test_node_token_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "d" / "node-token"
    token = node_token(path)
    assert len(token) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert node_token(path) == token
    assert [p.name for p in path.parent.iterdir()] == ["node-token"]
