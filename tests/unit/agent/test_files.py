"""What the agent keeps on disk: settings, secrets, journal, workspace, runtime volume."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskctl.agent import files, runtime_dir
from taskctl.agent.journal import Journal, ToldRun
from taskctl.agent.main import Agent
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.server import listen
from taskctl.agent.settings import AgentSettings
from taskctl.agent.tokens import TokenMint
from taskctl.agent.workspace import Workspace
from taskctl.errors import ConfigError
from tests.unit.agent.conftest import World
from tests.unit.agent.fakes import FakeApi

RUN = ToldRun(container="t-1", task="job", uid="u", attempt=1, started_us=5, timeout_ms=7)


def environment(tmp_path: Path) -> dict[str, str]:
    return {
        "POD_NAME": "w-1",
        "POD_NAMESPACE": "ns",
        "POD_UID": "0b6f3c1e-aaaa-bbbb-cccc-000000000000",
        "TASKCTL_CLUSTER": "c",
        "TASKCTL_RUNTIME_DIR": str(tmp_path),
        "TASKCTL_STATE_DIR": str(tmp_path),
    }


def test_settings(tmp_path: Path) -> None:
    settings = AgentSettings.from_env(environment(tmp_path))
    assert (settings.pod.name, settings.cluster, settings.workspace) == ("w-1", "c", None)
    with_workspace = AgentSettings.from_env(
        environment(tmp_path) | {"TASKCTL_WORKSPACE": str(tmp_path)}
    )
    assert (with_workspace.workspace, with_workspace.inline_outputs) == (tmp_path, False)
    inline = AgentSettings.from_env(environment(tmp_path) | {"TASKCTL_INLINE_OUTPUTS": "1"})
    assert inline.inline_outputs


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POD_NAME", ""),
        ("POD_NAME", "Not A Name"),
        ("POD_NAMESPACE", "a/b"),
        ("POD_UID", ""),
        ("TASKCTL_CLUSTER", ""),
        ("TASKCTL_WORKSPACE", "relative"),
        ("TASKCTL_WORKSPACE", "/does/not/exist"),
        ("TASKCTL_RUNTIME_DIR", "/does/not/exist"),
        ("TASKCTL_STATE_DIR", "/dev/null"),
    ],
)
def test_settings_name_the_variable(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        AgentSettings.from_env(environment(tmp_path) | {name: value})


def test_secret_is_kept_and_private(tmp_path: Path) -> None:
    token = TokenMint.load(tmp_path).for_container("t-1")
    assert TokenMint.load(tmp_path).is_container("t-1", token)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    (tmp_path / "secret").write_text("short")
    with pytest.raises(ConfigError, match="damaged"):
        TokenMint.load(tmp_path)


def test_tokens_are_for_one_purpose(tmp_path: Path) -> None:
    mint = TokenMint(b"s" * 32)
    token = mint.for_task("t-1", "u", 1)
    assert mint.container_of(token) == "t-1"
    assert mint.is_task(token, container="t-1", task_uid="u", attempt=1)
    for other in (("t-2", "u", 1), ("t-1", "v", 1), ("t-1", "u", 2)):
        assert not mint.is_task(token, container=other[0], task_uid=other[1], attempt=other[2])
    assert not TokenMint(b"o" * 32).is_container("t-1", mint.for_container("t-1"))


def test_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    assert journal.use_nonce("t-1")
    assert not Journal(tmp_path).use_nonce("t-1")
    assert journal.use_nonce("t-2")
    journal.tell(RUN)
    assert journal.load() == [RUN]
    journal.report(RUN, 4)
    assert Journal(tmp_path).load() == [dataclasses.replace(RUN, reported=True, exit_code=4)]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"container": "x"}', b"\xff"])
def test_damaged_journal_entry_is_left_out(tmp_path: Path, content: bytes) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.tell(RUN)
    (tmp_path / "runs" / "t-9.json").write_bytes(content)
    assert journal.load() == [RUN]


def test_journal_of_a_newer_agent(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.open()
    journal.tell(RUN)
    path = tmp_path / "runs" / "t-1.json"
    path.write_text(path.read_text().replace("{", '{"new": 1, ', 1))
    assert journal.load() == [RUN]


def test_replace_leaves_no_scrap(tmp_path: Path) -> None:
    target = tmp_path / "f"
    files.replace_file(target, b"1", mode=0o640)
    files.replace_file(target, b"2", mode=0o640)
    assert target.read_bytes() == b"2"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    directory = tmp_path / "d"
    directory.mkdir()
    with pytest.raises(OSError):
        files.replace_file(directory, b"3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f"]


def test_exclusive_file_that_could_not_be_written_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a full disk would spend a nonce that nobody got a token for."""
    with monkeypatch.context() as patched:
        patched.setattr(files, "_write_all", _no_space)
        with pytest.raises(OSError, match="No space"):
            files.create_exclusive(tmp_path / "n", b"1")
    assert files.create_exclusive(tmp_path / "n", b"1")
    assert not files.create_exclusive(tmp_path / "n", b"1")


def _no_space(fd: int, content: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_workspace_directories_are_everybodys(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    workspace.prepare()
    for name in ("logs", "exits", "objects"):
        assert stat.S_IMODE((tmp_path / ".taskctl" / name).stat().st_mode) == 0o1777
    long = workspace.log_path("n" * 253, "0b6f3c1e-aaaa-bbbb-cccc-000000000000", 1000)
    assert len(Path(long).name) <= 255


def test_objects_lie_under_their_hash_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    ref = workspace.write_object(b"value")
    path = tmp_path / ref["path"]
    before = path.stat()
    assert workspace.write_object(b"value") == ref
    assert path.stat().st_ino == before.st_ino, "not written again"
    assert [item.name for item in path.parent.iterdir()] == [hashlib.sha256(b"value").hexdigest()]
    assert workspace.read_object(ref["path"], ref["sha256"]) == b"value"
    path.write_bytes(b"torn")
    assert workspace.write_object(b"value") == ref
    assert path.read_bytes() == b"value", "a torn one is replaced"


@pytest.mark.parametrize("where", [".taskctl", ".taskctl/objects", "shelf", "file"])
def test_no_symbolic_link_is_followed(tmp_path: Path, where: str) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    for directory in (outside, root):
        directory.mkdir()
    workspace = Workspace(root)
    workspace.prepare()
    ref = workspace.write_object(b"value")
    path = root / ref["path"]
    moved = {"shelf": path.parent, "file": path}.get(where, root / where)
    moved.rename(outside / "moved")
    moved.symlink_to(outside / "moved")
    with pytest.raises(Refusal) as caught:
        workspace.read_object(ref["path"], ref["sha256"])
    assert caught.value.code is ErrorCode.REJECTED
    with pytest.raises(Refusal):
        workspace.check_object(ref["path"], 5)
    before = sorted(outside.rglob("*"))
    assert workspace.write_object(b"value") == ref, "what is in the way is moved aside"
    assert sorted(outside.rglob("*")) == before
    assert workspace.read_object(ref["path"], ref["sha256"]) == b"value"


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "a file": lambda path: path.write_text("mine"),
    "a dangling link": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to a directory": lambda path: path.symlink_to("/proc"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "a locked directory": lambda path: path.mkdir(mode=0),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("what", sorted(HOSTILE))
@pytest.mark.parametrize("where", [".taskctl", ".taskctl/logs", ".taskctl/exits", "shelf"])
def test_what_stands_in_the_way_is_moved_aside(
    tmp_path_factory: pytest.TempPathFactory, where: str, what: str
) -> None:
    root = tmp_path_factory.mktemp("w")
    workspace = Workspace(root)
    if where == "shelf":
        where = f".taskctl/objects/{hashlib.sha256(b'value').hexdigest()[:2]}"
    if where != ".taskctl":
        workspace.prepare()
    path = root / where
    if path.exists():
        path.rmdir()
    HOSTILE[what](path)
    before = path.lstat()
    workspace.try_prepare()
    ref = workspace.write_object(b"value")
    assert workspace.read_object(ref["path"], ref["sha256"]) == b"value"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o1777
    assert stat.S_ISDIR(path.lstat().st_mode)
    kept = [p.lstat().st_ino for p in path.parent.iterdir()]
    assert before.st_ino in kept, "what somebody put there is not destroyed"


def test_directory_of_somebody_else_without_room_for_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".taskctl").mkdir()
    asked: list[str] = []

    def access(path: str, mode: int, **kwargs: Any) -> bool:
        asked.append(path)
        return len(asked) > 1

    monkeypatch.setattr(os, "access", access)  # root may write anywhere
    Workspace(tmp_path).prepare()
    assert len([path for path in tmp_path.iterdir() if ".moved-" in path.name]) == 1


def test_workspace_that_cannot_be_used_does_not_stop_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Workspace(tmp_path / "gone").try_prepare()
    assert "cannot be used" in caplog.text


@pytest.mark.parametrize("name", ["pipe", "socket", "directory", "device", "link", "dangling"])
def test_only_regular_files_are_read(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    path = tmp_path / ".taskctl" / "exits" / "u-1"
    (tmp_path / "secret").write_text("secret")
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(path.parent, os.O_RDONLY)
    make: dict[str, Callable[[], Any]] = {
        "pipe": lambda: os.mkfifo(path),
        "socket": lambda: listener.bind(f"/proc/self/fd/{directory}/{path.name}"),
        "directory": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
        "link": lambda: path.symlink_to(tmp_path / "secret"),
        "dangling": lambda: path.symlink_to("/nowhere"),
    }
    make[name]()
    os.close(directory)
    listener.close()
    with pytest.raises(OSError):
        workspace.read_record("u", 1)
    with pytest.raises(Refusal):
        workspace.check_object(".taskctl/exits/u-1", 6)


def test_full_disk_leaves_no_scrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()

    def full(fd: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("taskctl.agent.workspace.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        workspace.write_object(b"value")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_paths_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    for path in ("../secret", "a/../../secret", ".."):
        with pytest.raises(Refusal):
            Workspace(root).read_object(path, hashlib.sha256(b"s").hexdigest())


def test_socket_replaces_a_stale_one_at_any_depth(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    path = deep / "agent.sock"
    first = listen(path)
    first.close()
    second = listen(path)
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        assert [item.name for item in deep.iterdir()] == ["agent.sock"]
        directory = os.open(deep, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{directory}/agent.sock")
        os.close(directory)
    finally:
        second.close()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "taskctl-init"
    program.write_bytes(b"\x7fELF one")
    monkeypatch.setattr(runtime_dir, "init_binary_path", lambda: program)
    return program


def test_runtime_volume(tmp_path: Path, programs: Path) -> None:
    volume = tmp_path / "runtime"
    volume.mkdir()
    runtime_dir.fill(volume)
    copied = volume / "bin" / "taskctl-init"
    assert copied.read_bytes() == b"\x7fELF one"
    assert stat.S_IMODE(copied.stat().st_mode) == 0o755
    script = (
        "import taskctl.wire, taskctl.sdk, msgpack; print(taskctl.wire.__file__, msgpack.version)"
    )
    command = [
        sys.executable,
        "-S",
        "-E",
        "-c",
        f"import sys; sys.path.insert(0, '{volume}/python'); {script}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=True)
    assert done.stdout.startswith(f"{volume}/python/taskctl/wire.py")
    assert list((volume / "python" / "taskctl").glob("__pycache__/wire.*.pyc"))
    assert not list(volume.glob("python/**/*.so"))

    inodes = (copied.stat().st_ino, (volume / "python").resolve().stat().st_ino)
    runtime_dir.fill(volume)
    assert inodes == (copied.stat().st_ino, (volume / "python").resolve().stat().st_ino)
    programs.write_bytes(b"\x7fELF two")
    runtime_dir.fill(volume)
    assert copied.read_bytes() == b"\x7fELF two"
    assert not [path for path in volume.iterdir() if path.name.endswith(".tmp")]


def test_half_placed_sdk_is_placed_again(tmp_path: Path, programs: Path) -> None:
    volume = tmp_path / "runtime"
    volume.mkdir()
    runtime_dir.fill(volume)
    tree = (volume / "python").resolve()
    (volume / "python").unlink()
    (tree / "taskctl" / "wire.py").unlink()
    runtime_dir.fill(volume)
    assert (volume / "python" / "taskctl" / "wire.py").is_file()


def test_precompiled_sdk_is_what_python_uses(tmp_path: Path, programs: Path) -> None:
    volume = tmp_path / "runtime"
    volume.mkdir()
    runtime_dir.fill(volume)
    command = [sys.executable, "-v", "-S", "-c", "import taskctl.wire"]
    env = {"PYTHONPATH": str(volume / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=env, check=True)
    assert "taskctl/__pycache__/wire" in done.stderr
    assert "matches" in next(line for line in done.stderr.splitlines() if "pycache__/wire" in line)


async def test_unusable_volume_is_a_config_error(tmp_path: Path, no_fill: None) -> None:
    world = World(tmp_path)
    settings = dataclasses.replace(world.settings, state_dir=tmp_path / "missing")
    with pytest.raises(ConfigError, match="missing"):
        await Agent(settings, FakeApi(), world.time.timing).run()
