"""How functions are sent, and that what is sent runs."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from taskctl.errors import ConfigError
from taskctl.outside import shipping
from taskctl.outside.codearchive import MAX_FILES, PART_BYTES, Archive, archive_of
from taskctl.outside.shipping import Host, Uploaded, as_task, program_of
from taskctl.sdk import _byvalue, _uploads
from taskctl.sdk._places import command_of, set_uploaded
from taskctl.sdk.errors import (
    InputCorrupt,
    InputInvalid,
    InputMissing,
    NoWorkspace,
    Unsendable,
)
from tests.unit.outside.functions import count, plain
from tests.unit.sdk.fake_agent import FakeAgent

HERE = Host("py", sees_files=True)
THERE = Host("python3", sees_files=False)
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests hold wherever the repository lies, below /tmp too."""
    monkeypatch.setattr(shipping, "_PRIVATE", ("/nowhere",))


def test_a_module_goes_by_name() -> None:
    for host in (HERE, THERE):
        program = program_of(count, host)
        place = "tests.unit.outside.functions:count"
        assert program.command == (host.python, "-m", "taskctl.sdk.run", "--path", str(ROOT), place)
        assert not program.envelope


def test_many_calls() -> None:
    program = program_of(count, HERE, many=True)
    assert program.command[:4] == ("py", "-m", "taskctl.sdk.run", "--many")


def nested() -> Any:
    def inner(number: int) -> int:
        return number

    return inner


@pytest.mark.parametrize("function", [nested(), lambda number: number])
def test_what_has_no_name_goes_by_value(function: Any) -> None:
    program = program_of(as_task(function), HERE)
    assert program.command[:-1] == ("py", "-m", "taskctl.sdk.run", "--pickled")
    assert program.command[-1] == function.__qualname__
    assert _byvalue.unpack(program.envelope["function"])(5) == 5


def test_what_the_worker_does_not_see_goes_by_value(tmp_path: Path) -> None:
    hidden = Host("py", sees_files=True, hidden=(str(ROOT),))
    assert program_of(as_task(plain), hidden).envelope


def test_what_lies_where_containers_have_directories_of_their_own_goes_by_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shipping, "_PRIVATE", (str(ROOT.parent),))
    assert program_of(as_task(plain), HERE).envelope


def test_asked_for() -> None:
    assert program_of(count, THERE, by_value=True).envelope
    with pytest.raises(Unsendable, match="lambda"):
        program_of(as_task(lambda: 1), HERE, by_value=False)
    with pytest.raises(ConfigError, match="exclude each other"):
        program_of(count, HERE, uploaded=Uploaded(str(ROOT), "0" * 64), by_value=True)
    with pytest.raises(Unsendable, match="not a function"):
        as_task(3)


def test_another_python_is_refused() -> None:
    packed = _byvalue.pack(plain, "plain") | {"python": "3.1"}
    with pytest.raises(InputInvalid, match=r"from Python 3\.1, and this is"):
        _byvalue.unpack(packed)


def test_damage_is_refused() -> None:
    packed = _byvalue.pack(plain, "plain") | {"pickle": "eA=="}
    with pytest.raises(InputInvalid, match="cannot be made here"):
        _byvalue.unpack(packed)


def test_a_function_that_drags_much_along_is_refused() -> None:
    import random

    ballast = random.Random(1).randbytes(10**6)
    with pytest.raises(Unsendable, match="pass large values as arguments"):
        program_of(as_task(lambda: len(ballast)), HERE)


def test_uploaded(tmp_path: Path) -> None:
    uploaded = Uploaded(str(ROOT), "a" * 64, ("code-1",))
    program = program_of(count, THERE, uploaded=uploaded)
    place = "tests.unit.outside.functions:count"
    assert program.command == ("python3", "-m", "taskctl.sdk.run", "--code", "a" * 64, place)
    assert program.after == ("code-1",)
    with pytest.raises(Unsendable, match="is not in the folder"):
        program_of(count, THERE, uploaded=Uploaded(str(tmp_path), "a" * 64))
    above = Uploaded(str(ROOT.parent), "a" * 64)
    assert program_of(count, THERE, uploaded=above).command[4] == f"{'a' * 64}/{ROOT.name}"


def test_children_of_uploaded_code_take_it_from_the_workspace() -> None:
    set_uploaded(str(ROOT), "b" * 64)
    try:
        assert command_of(count, "py")[3:5] == ["--code", "b" * 64]
    finally:
        from taskctl.sdk import _places

        _places._uploaded.clear()
    assert command_of(count, "py")[3] == "--path"


# --- folders --------------------------------------------------------------------------


def filled(root: Path) -> Path:
    for name in ("a.py", "pkg/b.py", "pkg/data.bin", ".env", ".git/config", "venv/x.py", "c.pyc"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "pkg/run.sh").write_text("true")
    (root / "pkg/run.sh").chmod(0o755)
    (root / "link.py").symlink_to("/etc/passwd")
    return root


def test_an_archive_depends_on_the_content_alone(tmp_path: Path) -> None:
    first, second = filled(tmp_path / "a"), filled(tmp_path / "b")
    (second / "a.py").touch()
    one, two = archive_of(first), archive_of(second)
    assert (one.content, one.sha256) == (two.content, two.sha256)
    (second / "a.py").write_text("other")
    assert archive_of(second).sha256 != one.sha256


def store(archive: Archive, parts: list[bytes]) -> None:
    import base64

    for number, content in enumerate(parts):
        _uploads.store(
            {
                "sha256": archive.sha256,
                "number": number,
                "parts": len(parts),
                "content": base64.b64encode(content).decode(),
            }
        )


def test_an_archive_is_unpacked_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKCTL_WORKSPACE", str(tmp_path / "w"))
    archive = archive_of(filled(tmp_path / "a"))
    third = len(archive.content) // 3
    content = archive.content
    store(archive, [content[:third], content[third : 2 * third], content[2 * third :]])
    store(archive, [content])  # once more does no harm
    root = Path(_uploads.unpack(archive.sha256))
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert names == ["a.py", "pkg/b.py", "pkg/data.bin", "pkg/run.sh"]
    assert (root / "pkg/run.sh").stat().st_mode & 0o111
    [stored] = (tmp_path / "w/.taskctl/code").iterdir()
    stored.write_bytes(content + b" ")
    with pytest.raises(InputCorrupt, match="was changed"):
        _uploads.unpack(archive.sha256)


def test_parts_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKCTL_WORKSPACE", str(tmp_path / "w"))
    archive = archive_of(filled(tmp_path / "a"))
    with pytest.raises(InputInvalid, match="do not make up"):
        store(archive, [archive.content[:-1]])
    with pytest.raises(InputMissing, match="submit again"):
        _uploads.unpack(archive.sha256)
    with pytest.raises(InputInvalid, match="is not a SHA-256"):
        _uploads.unpack("../../etc/passwd")
    monkeypatch.delenv("TASKCTL_WORKSPACE")
    with pytest.raises(NoWorkspace, match=r"spec\.workspace"):
        _uploads.unpack(archive.sha256)


def test_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskctl.outside import codearchive

    with pytest.raises(ConfigError, match="is not a folder"):
        archive_of(tmp_path / "nowhere")
    monkeypatch.setattr(codearchive, "MAX_ARCHIVE_BYTES", 10)
    with pytest.raises(ConfigError, match="keep data in the workspace"):
        archive_of(filled(tmp_path / "a"))
    monkeypatch.setattr(codearchive, "MAX_FILES", 2)
    with pytest.raises(ConfigError, match="more than 2 files"):
        archive_of(tmp_path / "a")
    assert MAX_FILES > 2


def test_parts() -> None:
    archive = Archive("/x", b"x" * (PART_BYTES + 1), "0" * 64)
    assert [len(part) for part in archive.parts()] == [PART_BYTES, 1]
    assert Archive("/x", b"", "0" * 64).parts() == [b""]


# --- as the task runs it --------------------------------------------------------------


def execute(agent: FakeAgent, given: Any, *command: str) -> tuple[int, str]:
    agent.input = {"value": json.loads(json.dumps(given))}
    done = subprocess.run(
        [sys.executable, *command], cwd="/", capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr


def test_run_by_value(agent: FakeAgent) -> None:
    program = program_of(as_task(lambda number: number * 2), HERE)
    given = {**program.envelope, "arguments": {"number": 21}}
    code, errors = execute(agent, given, *program.command[1:])
    assert (code, errors) == (0, "")
    assert agent.asked("output")[0]["value"] == 42


NOTEBOOK = """
from taskctl.sdk import spawn, task

@task
async def grow(number: int) -> int:
    if number:
        await spawn(grow, number - 1)
        await spawn(other, number, key="other")
    return number

@task
async def other(number: int) -> int:
    if number == 2:
        await spawn(grow, 1)
    return number
"""


def sent(spec: dict[str, Any], workspace: Path) -> Any:
    """Return the input of what was spawned; a function makes it large."""
    return json.loads((workspace / spec["ref"]["path"]).read_bytes())


def test_what_was_sent_by_value_spawns_itself(agent: FakeAgent, workspace: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(NOTEBOOK, names)
    program = program_of(names["grow"], THERE)
    given: Any = {**program.envelope, "arguments": {"number": 2}}
    code, errors = execute(agent, given, *program.command[1:])
    assert (code, errors) == (0, "")
    child, other = agent.spawned()
    assert child["overrides"]["command"][1:] == ["-m", "taskctl.sdk.run", "--pickled", "grow"]
    # The same bytes, so a parent that runs again asks for the same child.
    assert sent(child, workspace) == {**given, "arguments": {"number": 1}}
    code, errors = execute(agent, sent(child, workspace), *child["overrides"]["command"][1:])
    assert (code, errors) == (0, "")
    assert agent.asked("output")[-1]["value"] == 1
    code, errors = execute(agent, sent(other, workspace), *other["overrides"]["command"][1:])
    assert code == 1
    assert "needs a key of your own" in errors


def test_run_many(agent: FakeAgent) -> None:
    program = program_of(as_task(plain), HERE, many=True)
    calls = [{"number": n} for n in range(3)]
    code, errors = execute(agent, calls, *program.command[1:])
    assert (code, errors) == (0, "")
    assert agent.asked("output")[0]["value"] == [0, 1, 2]
    assert execute(agent, {"number": 1}, *program.command[1:])[0] == 1


def test_run_uploaded(
    agent: FakeAgent, tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKCTL_WORKSPACE", str(workspace))
    source = """
        from taskctl.sdk import spawn, task

        @task
        async def run(number: int) -> str:
            await spawn(run, number - 1)
            return open("text.txt").read()
        """
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "main.py").write_text(textwrap.dedent(source))
    (folder / "text.txt").write_text("here")
    archive = archive_of(folder)
    store(archive, archive.parts())
    run = ("-m", "taskctl.sdk.run", "--code", archive.sha256)
    for place in ("main:run", "main.py:run"):
        code, errors = execute(agent, {"number": 1}, *run, place)
        assert (code, errors) == (0, "")
        assert agent.asked("output")[-1]["value"] == "here"
        command = agent.spawned()[-1]["overrides"]["command"]
        assert command[3:] == ["--code", archive.sha256, place]


@pytest.mark.parametrize("wrong", [(), ("a", "b"), ("--pickled", "a", "b"), ("--path",), ("--no",)])
def test_wrong_usage(wrong: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskctl.sdk.run", *wrong], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.startswith("usage:")) == (2, True)
