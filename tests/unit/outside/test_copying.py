"""Copies from and to a workspace: names, records that are made up, and the rules of ``cp``."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from taskctl.outside.copyframes import (
    CopyFrame,
    FrameKind,
    TransferError,
    TransferReader,
    stays_inside,
)
from taskctl.outside.copying import Omissions, local_source, local_target, path_in_workspace
from taskctl.outside.copyread import MAX_DEPTH, CopySource, read_frames
from taskctl.outside.copywrite import CopyTarget, Receiver, StreamReceiver

K = FrameKind
FOLDER = CopyFrame(K.DIRECTORY, mode=0o755, text="got")
FILE = CopyFrame(K.FILE, mode=0o644, text="got")
END, COMPLETE = CopyFrame(K.END), CopyFrame(K.COMPLETE)


def receive(frames: Iterable[CopyFrame], target: CopyTarget) -> list[CopyFrame]:
    """Carry records over a wire in odd pieces; return them."""
    reader, receiver, taken = TransferReader(), Receiver(target), []
    wire = b"".join(frame.encoded() for frame in frames)
    try:
        for start in range(0, len(wire), 7001):
            for frame in reader.feed(wire[start : start + 7001]):
                receiver.feed(frame)
                taken.append(frame)
    finally:
        receiver.close()
    return taken


def copy(source: CopySource, target: CopyTarget) -> list[CopyFrame]:
    return receive(read_frames(source), target)


def tree(root: Path) -> dict[str, str]:
    """Return what is there: content of files, targets of links, empty for folders."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = (
            f"-> {os.readlink(path)}"
            if path.is_symlink()
            else "/"
            if path.is_dir()
            else path.read_text()
        )
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("", ""),
        (".", ""),
        ("/workspace", ""),
        ("/workspace/", ""),
        ("./a//b/", "a/b/"),
        ("/workspace/a/b", "a/b"),
        ("a b/ü", "a b/ü"),
    ],
)
def test_paths_in_a_workspace(typed: str, path: str) -> None:
    assert path_in_workspace(typed) == path


@pytest.mark.parametrize(
    "typed", ["..", "a/../b", "/etc", "/workspaces/a", "/workspace/../etc", "a\0b", "\udcff"]
)
def test_paths_out_of_a_workspace(typed: str) -> None:
    with pytest.raises(TransferError):
        path_in_workspace(typed)


def test_another_mount_path() -> None:
    assert path_in_workspace("/data/a", "/data") == "a"
    with pytest.raises(TransferError, match="/data/…"):
        path_in_workspace("/workspace/a", "/data")


@pytest.mark.parametrize(
    ("path", "to", "inside"),
    [
        ("a", "b", True),
        ("a", ".", True),
        ("d/a", "../b", True),
        ("d/e/a", "../../b/c", True),
        ("a", "..", False),
        ("d/a", "../..", False),
        ("d/a", "../../source/b", False),
        # Where x is a link, .. after it leads elsewhere than the text says.
        ("d/a", "x/..", False),
        ("d/a", "../x/../y", False),
        ("a", "/etc/passwd", False),
        ("a", "", False),
        ("", "b", False),
    ],
)
def test_links_stay_inside(path: str, to: str, inside: bool) -> None:
    assert stays_inside(path, to) is inside


# --- records that are made up --------------------------------------------------------------

HOSTILE: dict[str, list[CopyFrame]] = {
    "up": [FOLDER, CopyFrame(K.FILE, "../out")],
    "up in the middle": [FOLDER, CopyFrame(K.DIRECTORY, "d"), CopyFrame(K.FILE, "d/../../out")],
    "absolute": [FOLDER, CopyFrame(K.FILE, "/out")],
    "dot": [FOLDER, CopyFrame(K.FILE, "./out")],
    "empty part": [FOLDER, CopyFrame(K.FILE, "d//out")],
    "nul": [FOLDER, CopyFrame(K.FILE, "a\0b")],
    "name with a slash": [CopyFrame(K.FILE, text="../out")],
    "name is up": [CopyFrame(K.DIRECTORY, text="..")],
    "name is here": [CopyFrame(K.DIRECTORY, text=".")],
    "a link out": [FOLDER, CopyFrame(K.LINK, "l", text="..")],
    "an absolute link": [FOLDER, CopyFrame(K.LINK, "l", text="/etc")],
    "a link out through another": [
        FOLDER,
        CopyFrame(K.DIRECTORY, "d"),
        CopyFrame(K.LINK, "d/l", text=".."),
        CopyFrame(K.LINK, "l", text="d/l/.."),
    ],
    "through a link": [FOLDER, CopyFrame(K.LINK, "l", text="d"), CopyFrame(K.FILE, "l/out")],
    "a folder at a link": [
        FOLDER,
        CopyFrame(K.DIRECTORY, "d"),
        CopyFrame(K.LINK, "l", text="d"),
        CopyFrame(K.DIRECTORY, "l"),
    ],
    "a file at a link": [FOLDER, CopyFrame(K.LINK, "l", text="out"), CopyFrame(K.FILE, "l")],
    "the copy is a link": [CopyFrame(K.LINK, text="out")],
    "two copies": [FILE, END, FILE],
    "below a file": [FILE, END, CopyFrame(K.FILE, "out")],
    "a file in a file": [FILE, FILE],
    "no folder above": [FOLDER, CopyFrame(K.FILE, "d/out")],
    "data alone": [CopyFrame(K.DATA, data=b"x")],
    "complete within a file": [FILE, COMPLETE],
    "complete without anything": [COMPLETE],
}


@pytest.mark.parametrize("frames", HOSTILE.values(), ids=HOSTILE)
def test_made_up_records(frames: list[CopyFrame], tmp_path: Path, target: Path) -> None:
    with pytest.raises(TransferError):
        receive(frames, CopyTarget(target, ""))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]
    left = [path for path in target.rglob("*") if path.name != "got" and not path.is_dir()]
    assert all(path.is_symlink() and path.resolve().is_relative_to(target) for path in left)


@pytest.mark.parametrize(
    "sent",
    [
        b"tar: something went wrong, and this is no copy at all",
        b"A\xff\xff\xff\xff",
        b"?\0\0\0\2{}",
        b"F\0\0\0\1[",
        b"F\0\0\0\2[]",
        b'F\0\0\0\7{"p":1}',
        b'F\0\0\0\x09{"m":"x"}',
        b"\xff\0\0\0\2{}",
    ],
)
def test_what_is_no_record(sent: bytes) -> None:
    with pytest.raises(TransferError):
        list(TransferReader().feed(sent))


def test_permissions_are_those_of_people(target: Path) -> None:
    receive([CopyFrame(K.FILE, mode=0o6755, text="got"), END, COMPLETE], CopyTarget(target, ""))
    assert (target / "got").stat().st_mode & 0o7000 == 0


# --- the rules of cp -----------------------------------------------------------------------


def test_a_folder_with_all_that_may_be_in_it(source: Path, target: Path) -> None:
    (source / "empty").touch()
    (source / "run").write_text("#!")
    (source / "run").chmod(0o755)
    (source / "d" / "none").mkdir(parents=True)
    (source / "d" / "ü\n").write_text("x" * 100_000)
    (source / "inside").symlink_to("d/none")
    (source / "d" / "up").symlink_to("../run")
    (source / "out").symlink_to("../target")
    (source / "etc").symlink_to("/etc")
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(source)  # its name may be longer than an address may be
        try:
            bound.bind("socket")
        finally:
            os.chdir(here)
    frames = copy(CopySource(source, "", "source"), CopyTarget(target, ""))
    assert tree(target / "source") == {
        "d": "/",
        "d/none": "/",
        "d/up": "-> ../run",
        "d/ü\n": "x" * 100_000,
        "empty": "",
        "inside": "-> d/none",
        "run": "#!",
    }
    assert (target / "source" / "run").stat().st_mode & stat.S_IXUSR
    skipped = {frame.path: frame for frame in frames if frame.kind is K.SKIPPED}
    assert set(skipped) == {"out", "etc", "pipe", "socket"}
    assert not any(frame.wrong for frame in skipped.values())
    assert "a named pipe" in skipped["pipe"].text
    assert "leads out of the copy, to /etc" in skipped["etc"].text


def test_names_that_are_no_text(source: Path, target: Path) -> None:
    name = os.fsencode(source) + b"/\xff\xfe"
    with open(name, "wb") as file:
        file.write(b"x")
    copy(CopySource(source, "", "s"), CopyTarget(target, ""))
    assert os.listdir(os.fsencode(target / "s")) == [b"\xff\xfe"]


@pytest.mark.parametrize(
    ("wanted", "got"),
    [("", "file"), ("new", "new"), ("d", "d/file"), ("d/", "d/file"), ("d/new", "d/new")],
)
def test_where_a_file_goes(source: Path, target: Path, wanted: str, got: str) -> None:
    (source / "file").write_text("content")
    (target / "d").mkdir()
    for content in ("content", "another"):  # overwritten the second time
        (source / "file").write_text(content)
        copy(CopySource(source, "file", "file"), CopyTarget(target, wanted))
        assert (target / got).read_text() == content
    assert len(tree(target)) == 2


@pytest.mark.parametrize(
    ("wanted", "name", "got"),
    [
        ("", "s", "s"),
        ("new", "s", "new"),
        ("new/", "s", "new"),
        ("d", "s", "d/s"),
        ("d", "", "d"),
        ("", "", ""),
        ("new", "", "new"),
    ],
)
def test_where_a_folder_goes(source: Path, target: Path, wanted: str, name: str, got: str) -> None:
    (source / "file").write_text("content")
    (target / "d").mkdir()
    (target / "d" / "there").touch()
    for _ in range(2):
        copy(CopySource(source, "", name), CopyTarget(target, wanted))
        if wanted == "new" and name:  # it is there the second time
            wanted, got = "new", "new/s"
        assert (target / ("new" if wanted.startswith("new") else got) / "file").exists()
        assert (target / "d" / "there").exists()


@pytest.mark.parametrize(
    ("path", "wanted", "words", "missing"),
    [
        ("gone", "", "gone does not exist", True),
        ("gone/file", "", "does not exist", True),
        ("file/", "", "is a file, not a folder", False),
        ("file/below", "", "leads through a file or a symbolic link", False),
        ("link", "", "is a symbolic link, which is not followed", False),
        ("folderlink/file", "", "leads through a file or a symbolic link", False),
        ("pipe", "", "is a named pipe", False),
        ("file", "no/such", "no does not exist", True),
        ("file", "new/", "new does not exist; make that folder first", True),
        ("file", "there/", "there is not a folder", False),
        ("file", "there/below", "leads through a file or a symbolic link", False),
        ("file", "link", "is a symbolic link, which is not followed", False),
        ("file", "folderlink", "is a symbolic link, which is not followed", False),
        ("file", "folderlink/new", "leads through a file or a symbolic link", False),
        ("file", "pipe", "is a device, pipe or socket", False),
        ("file", "taken", "is a folder, which is not overwritten", False),
        ("d", "there", "there is not a folder", False),
        ("d", "folderlink", "folderlink is not a folder", False),
        ("file", "../new", "cannot be used", False),
    ],
)
def test_what_is_refused(
    source: Path, target: Path, tmp_path: Path, path: str, wanted: str, words: str, missing: bool
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("secret")
    (source / "file").write_text("content")
    (source / "d").mkdir()
    (target / "there").write_text("there")
    (target / "taken" / "file").mkdir(parents=True)
    for folder in (source, target):
        (folder / "link").symlink_to(outside / "file")
        (folder / "folderlink").symlink_to(outside)
        os.mkfifo(folder / "pipe")
    before = tree_of_names(tmp_path)
    name = Path(path).name
    with pytest.raises(TransferError, match=words) as raised:
        copy(CopySource(source, path, name), CopyTarget(target, wanted or "taken"))
    assert raised.value.missing is missing
    assert tree_of_names(tmp_path) == before
    assert (outside / "file").read_text() == "secret"


def tree_of_names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_file_that_broke_off_leaves_what_was_there(target: Path) -> None:
    (target / "got").write_text("before")
    half = [FILE, CopyFrame(K.DATA, data=b"half")]
    receive(half, CopyTarget(target, ""))
    assert tree(target) == {"got": "before"}
    receive([*half, CopyFrame(K.END, text="cannot be used: I/O error")], CopyTarget(target, ""))
    assert tree(target) == {"got": "before"}


def test_folders_too_deep_are_left_out(source: Path, target: Path) -> None:
    deep = source
    for _ in range(MAX_DEPTH + 1):
        deep = deep / "d"
        deep.mkdir()
    frames = copy(CopySource(source, "", "s"), CopyTarget(target, ""))
    (skipped,) = [frame for frame in frames if frame.kind is K.SKIPPED]
    assert skipped.wrong
    assert skipped.text == "lies too deep"


def test_folders_of_the_local_stack_are_left_out(source: Path, target: Path) -> None:
    (source / "stack" / "keys").mkdir(parents=True)
    (source / "code").touch()
    status = (source / "stack").stat()
    left_out = frozenset({(status.st_dev, status.st_ino)})
    frames = copy(CopySource(source, "", "", left_out=left_out), CopyTarget(target, ""))
    assert tree(target) == {"code": ""}
    assert [frame.path for frame in frames if frame.kind is K.SKIPPED] == ["stack"]


def test_sentences_are_lines_of_their_own_and_not_too_many() -> None:
    told: list[str] = []
    report = Omissions(told.append)
    report.take(CopyFrame(K.SKIPPED, "a\nb\x1b[2J", text="is a device"), "c:x")
    assert told == ["left out: c:x: a b\\x1b[2J is a device"]
    wrong_before = report.wrong
    report.take(CopyFrame(K.END, text="cannot be used: I/O error"), "c:x")
    assert told[1:] == ["left out: c:x: cannot be used: I/O error"]
    assert (wrong_before, report.wrong) == (False, True)
    for _ in range(1000):
        report.take(CopyFrame(K.SKIPPED, "a", text="is a device"), "c:x")
    assert len(told) == 101


def test_a_file_that_grows_is_read_as_far_as_it_reached(source: Path, target: Path) -> None:
    file = source / "log"
    file.write_text("line\n" * 20_000)

    def growing() -> Iterable[CopyFrame]:
        for frame in read_frames(CopySource(source, "log", "log")):
            yield frame
            with file.open("a") as more:
                more.write("more\n")

    receive(growing(), CopyTarget(target, ""))
    assert (target / "log").read_text() == "line\n" * 20_000


def test_one_file_to_a_stream(source: Path) -> None:
    (source / "file").write_text("content")
    written: list[bytes] = []
    receiver = StreamReceiver(written.append)
    for frame in read_frames(CopySource(source, "file", "file")):
        receiver.feed(frame)
    assert b"".join(written) == b"content"
    with pytest.raises(TransferError, match="not a folder"):
        StreamReceiver(written.append).feed(FOLDER)


# --- paths of this machine -----------------------------------------------------------------


def test_links_that_the_user_names_are_followed(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    (source / "file").write_text("content")
    Path("link").symlink_to("source")
    Path("filelink").symlink_to("source/file")
    assert local_source("link") == CopySource(source, "", "link", bounded=False)
    assert local_source("./") == CopySource(source.parent, "", "", bounded=False)
    assert local_source("source/..") == CopySource(source.parent, "", "", bounded=False)
    assert local_source("filelink") == CopySource(source, "file", "filelink", bounded=False)
    assert local_target("link") == CopyTarget(source, "")
    assert local_target("filelink") == CopyTarget(source, "file")
    assert local_target("new") == CopyTarget(source.parent, "new")
    assert local_target("link/new/") == CopyTarget(source, "new/")
    for look in (local_source, local_target):
        with pytest.raises(TransferError, match="does not exist") as raised:
            look("gone/file")
        assert raised.value.missing


def test_what_a_link_of_the_user_leads_to_is_not_replaced_by_a_file(
    source: Path, target: Path
) -> None:
    (source / "file").write_text("content")
    os.mkfifo(target / "pipe")
    (source / "link").symlink_to(target / "pipe")
    with pytest.raises(TransferError, match="is a device, pipe or socket"):
        copy(CopySource(source, "file", "file"), local_target(str(source / "link")))
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)
