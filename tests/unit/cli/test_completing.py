"""What the Tab key offers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from taskctl.api.states import TaskState
from taskctl.cli import access, completing
from taskctl.cli.app import build_app
from taskctl.constants import API_VERSION
from taskctl.errors import Unavailable
from tests.unit.cli.fake import FakeClient


def made(name: str, state: str = "Running", *, at: int = 0, kind: str = "Task") -> dict[str, Any]:
    created = f"2026-01-01T00:{at // 60:02}:{at % 60:02}Z"
    metadata = {"name": name, "creationTimestamp": created}
    return {"kind": kind, "metadata": metadata, "spec": {}, "status": {"state": state}}


def child(name: str) -> dict[str, Any]:
    return made(name) | {"spec": {"lineage": {"rootUID": "uid-of-a-root"}}}


def offered(*words: str) -> list[str]:
    """Return what typer finds for the last word, by the way of bash."""
    from typer._completion_classes import BashComplete

    command = typer.main.get_command(build_app(words[:-1]))
    shell = BashComplete(command, {}, "taskctl", "_TASKCTL_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.fixture
def full(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    # The fake answers at once; how fast this machine starts a thread is no matter here.
    monkeypatch.setattr(completing, "DEADLINE_S", 60.0)
    client.put(
        made("old", at=1),
        made("done", "Succeeded", at=9),
        made("broken", "Failed", at=8),
        made("new", at=2),
        child("kid"),
        made("gpu", kind="TaskCluster"),
        made("value", kind="TaskObject"),
        made("team", kind="Namespace"),
    )
    return client


ALL_TASKS = ["new", "old", "kid", "done", "broken"]  # unfinished first, of those the newest
FAILED_FIRST = ["broken", "done", "new", "old", "kid"]
ROOTS = ["new", "old", "done", "broken"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("get", ""), ALL_TASKS),
        (("get", "n"), ["new"]),
        (("get", "x"), []),
        (("get", "task/"), [f"task/{name}" for name in ALL_TASKS]),
        (("get", "tk/o"), ["tk/old"]),
        (("get", "tasks.taskctl.dev/d"), ["tasks.taskctl.dev/done"]),
        (("get", "taskcluster/"), []),
        (("get", "$(id)/"), []),
        (("get", "new", ""), ["old", "kid", "done", "broken"]),
        (("get", "--root", ""), ROOTS),
        (("get", "--cluster", ""), ["gpu"]),
        (("get", "--cluster=g"), ["gpu"]),
        (("get", "--cluster", "tc/"), ["tc/gpu"]),
        (("get", "--state", "F"), ["Failed"]),
        (("get", "--state", "s"), ["scheduled", "succeeded", "skipped"]),
        (("get", "--state", ""), list(TaskState)),
        (("wait", ""), ALL_TASKS),
        (("cancel", ""), ALL_TASKS),
        (("retry", ""), FAILED_FIRST),
        (("logs", ""), ALL_TASKS),
        (("tree", ""), ROOTS),
        (("report", ""), ROOTS),
        (("export", ""), ROOTS),
        (("output", "n"), ["new"]),
        (("output", "taskobject/"), ["taskobject/value"]),
        (("output", "taskcluster/"), []),
        (("output", "x", "--cluster", ""), ["gpu"]),
        (("delete", ""), ALL_TASKS),
        (("delete", "task"), ["taskcluster/gpu", "taskobject/value"]),
        (("delete", "tc/"), ["tc/gpu"]),
        (("submit", "--cluster", ""), ["gpu"]),
        (("submit", "--after", ""), ALL_TASKS),
        (("run", "a.py:f", "--cluster", ""), ["gpu"]),
        (("get", "-n", ""), ["team"]),
        (("-n", ""), ["team"]),
        (("--namespace", "t"), ["team"]),
    ],
)
def test_names(full: FakeClient, words: tuple[str, ...], names: list[str]) -> None:
    assert offered(*words) == names


def test_paths_here_and_workspaces(
    full: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a shell might evaluate is not offered.
    for name in ("got.csv", "g$(touch x)", "g;h", ".gone"):
        (tmp_path / name).touch()
    (tmp_path / "gifts").mkdir()
    (tmp_path / "gifts" / "one").touch()
    monkeypatch.chdir(tmp_path)
    assert offered("cp", "g") == ["gpu:", "gifts/", "got.csv"]
    assert offered("cp", "got.csv", "gp") == ["gpu:"]
    assert offered("cp", "gifts/") == ["gifts/one"]
    assert offered("cp", "./gi") == ["./gifts/"]
    assert offered("cp", "gpu:data") == []


def test_at_most_so_many_the_unfinished_first(full: FakeClient) -> None:
    full.put(*(made(f"z-{n}", "Failed", at=n) for n in range(1000)))
    names = offered("get", "")
    assert len(names) == completing.MAX_NAMES
    assert names[:4] == ["new", "old", "kid", "z-999"]


@pytest.mark.parametrize("name", ["$(id)", "a;b", "a\nb", "\x1b[2J", "`id`", "a" * 254, "A"])
def test_what_is_no_name_is_not_offered(full: FakeClient, name: str) -> None:
    """The script of zsh evaluates what is printed."""
    full.put(made(name))
    assert offered("get", "") == ALL_TASKS


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("-n", "a", "--kubeconfig", "k", "get", ""), access.Access(namespace="a", kubeconfig="k")),
        (("-n", "a", "get", "-n", "b", ""), access.Access(namespace="b")),
        (("get", "--context=c", ""), access.Access(context="c")),
    ],
)
def test_the_options_typed_so_far_count(
    full: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    wanted: access.Access,
) -> None:
    seen = []

    async def open_client(got: access.Access) -> FakeClient:
        seen.append(got)
        return full

    monkeypatch.setattr(access, "open_client", open_client)
    assert offered(*words) == ALL_TASKS
    assert seen == [wanted]
    assert {call[2] for call in full.calls} == {wanted.namespace or "default"}


def test_names_of_a_file(full: FakeClient, tmp_path: Path) -> None:
    file = tmp_path / "tasks"
    task = made("kept") | {"apiVersion": API_VERSION}
    task["metadata"] |= {"namespace": "default", "uid": "1"}
    file.write_text(json.dumps(task))
    assert offered("tree", "--from", str(file), "") == ["kept"]
    assert offered("tree", "--from", str(tmp_path / "none"), "") == []


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, OSError])
def test_a_failure_is_silent(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: type[BaseException],
) -> None:
    async def broken(_: access.Access) -> FakeClient:
        raise error("oops")

    monkeypatch.setattr(access, "open_client", broken)
    assert offered("get", "") == []
    assert capfd.readouterr() == ("", "")


def test_what_came_before_a_failure_is_offered(
    full: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = full.list

    async def failing(*args: Any, **options: Any) -> Any:
        if options["options"].field_selector:
            return await first(*args, **options)
        raise Unavailable("away")

    monkeypatch.setattr(full, "list", failing)
    assert offered("get", "") == ["new", "old", "kid"]


def test_a_look_up_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can it be cancelled: so it is with a name server, or a plugin for credentials."""
    let_go = threading.Event()

    async def stuck(_: access.Access) -> FakeClient:
        let_go.wait()
        raise Unavailable("away")

    monkeypatch.setattr(access, "open_client", stuck)
    monkeypatch.setattr(completing, "DEADLINE_S", 0.2)
    try:
        assert offered("get", "") == []
    finally:
        let_go.set()


@pytest.mark.parametrize(
    ("words", "current", "joined"),
    [
        ("taskctl get a", 2, ("taskctl get a", 2)),
        ("taskctl --context = x @ y : z get a", 9, ("taskctl --context x@y:z get a", 4)),
        ("taskctl get --cluster = de", 4, ("taskctl get --cluster de", 3)),
        ("taskctl get --cluster =", 3, ("taskctl get --cluster =", 3)),
        ("taskctl submit -e A = b", 5, ("taskctl submit -e A = b", 5)),
        ("taskctl", 1, ("taskctl", 1)),
    ],
)
def test_words_that_bash_split(words: str, current: int, joined: tuple[str, int]) -> None:
    environ = {"COMP_WORDS": words.replace(" ", "\n"), "COMP_CWORD": str(current)}
    before = joined[0].split()[1 : joined[1]]
    assert completing.typed_words(environ) == before
    assert environ["COMP_WORDS"].replace("\n", " ") == joined[0]
    assert environ["COMP_CWORD"] == str(joined[1])


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"_TYPER_COMPLETE_ARGS": "taskctl get a"}, ["get"]),
        ({"_TYPER_COMPLETE_ARGS": "taskctl get "}, ["get"]),
        ({"_TYPER_COMPLETE_ARGS": "taskctl"}, []),
        ({"COMP_WORDS": "taskctl\nget", "COMP_CWORD": "x"}, []),
        ({}, []),
    ],
)
def test_words_of_other_shells(environ: dict[str, str], words: list[str]) -> None:
    assert completing.typed_words(environ) == words


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """Return the kubeconfig of an API server with two Tasks in namespace `team`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            items = [made("done", "Succeeded"), made("new")] if "/team/tasks" in self.path else []
            if "fieldSelector" in self.path:
                items = items[1:]
            body = json.dumps({"kind": "List", "metadata": {}, "items": items}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path / "config"
    path.write_text(_kubeconfig(f"http://127.0.0.1:{server.server_port}"))
    yield path
    server.shutdown()
    server.server_close()


def _kubeconfig(address: str) -> str:
    context = {"cluster": "c", "user": "u", "namespace": "team"}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "a@b:c", "context": context}],
            "current-context": "a@b:c",
        }
    )


def shell_out(environ: dict[str, str], command: list[str] | None = None) -> str:
    """Run taskctl, or a command that runs it, as a shell does for the Tab key."""
    result = subprocess.run(
        command or [sys.executable, "-m", "taskctl"],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.stderr == ""
    return result.stdout


def until(wanted: str, environ: dict[str, str], command: list[str] | None = None) -> None:
    """Press Tab until the names are there: a busy machine may miss the deadline."""
    limit = time.monotonic() + 120
    while (got := shell_out(environ, command)) != wanted and time.monotonic() < limit:
        pass
    assert got == wanted


def test_the_script_of_bash(kubeconfig: Path, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    program = tmp_path / "taskctl"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m taskctl "$@"\n')
    program.chmod(0o755)
    # As readline splits what was typed.
    words = f"taskctl --kubeconfig = {kubeconfig} --context a @ b : c get task/"
    script = f"""
        eval "$({program} --show-completion bash)"
        complete -p taskctl | grep -q _taskctl_completion || exit 1
        COMP_WORDS=({words}) COMP_CWORD=$(({len(words.split()) - 1}))
        _taskctl_completion {program}
        echo "${{COMPREPLY[*]}}"
    """
    environ = {"SHELL": bash, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    until("task/new task/done\n", environ, [bash, "--norc", "-c", script])


@pytest.mark.parametrize(
    ("shell", "action", "text"),
    [
        ("zsh", "", """_arguments '*: :(("new"\n"done"))'\n"""),
        ("fish", "get-args", "new\ndone\n"),
    ],
)
def test_other_shells(kubeconfig: Path, shell: str, action: str, text: str) -> None:
    environ = {
        "_TASKCTL_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_ARGS": f"taskctl --kubeconfig {kubeconfig} cancel ",
        "_TYPER_COMPLETE_FISH_ACTION": action,
    }
    until(text, environ)


@pytest.mark.parametrize("content", ["clusters: 5", "\0", _kubeconfig("http://127.0.0.1:1")])
def test_a_shell_sees_no_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    words = f"taskctl --kubeconfig {path} get ".replace(" ", "\n")
    environ = {"_TASKCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "4"}
    assert shell_out(environ).strip() == ""


def test_a_shell_that_asks_wrongly_sees_no_error() -> None:
    assert shell_out({"_TASKCTL_COMPLETE": "complete_bash"}).strip() == ""
    assert shell_out({"_TASKCTL_COMPLETE": "complete_nosuch"}).strip() == ""
