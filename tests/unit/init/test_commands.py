"""taskctl-init as a command inside a task."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskctl import wire
from tests.unit.init.fake_agent import Agent, Link, sanitizer_env

TASK_TOKEN = "t-1:secret"
ATTACHED = {
    "task": "count-1",
    "namespace": "default",
    "uid": "uid-1",
    "attempt": 2,
    "root": "count-0",
    "parent": "",
    "depth": 1,
    "workspace": "/workspace",
    "inline_limit": 1000,
    "cluster": "main",
}
Done = subprocess.CompletedProcess[str]
Answer = Callable[[wire.Message], wire.Message]


class Shell:
    """Runs the command while a fake agent answers."""

    def __init__(self, binary: Path, agent: Agent, keys: Path) -> None:
        self.binary = binary
        self.agent = agent
        self.requests: list[wire.Message] = []
        self.env = {
            "PATH": os.environ["PATH"],
            "TASKCTL_SOCKET": str(agent.path),
            "TASKCTL_TOKEN": TASK_TOKEN,
            "TASKCTL_KEYS": str(keys),
            "TASKCTL_DEADLINE_S": "10",
            **sanitizer_env(),
        }

    def run(self, *arguments: str, stdin: str = "") -> Done:
        return subprocess.run(
            [self.binary, *arguments],
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=20,
        )

    def ask(self, *arguments: str, stdin: str = "", **answer: Any) -> Done:
        """Run it; the agent answers its one request with these fields."""
        thread = threading.Thread(target=self._serve, args=(answer,))
        thread.start()
        done = self.run(*arguments, stdin=stdin)
        thread.join(20)
        return done

    def spec(self, *arguments: str) -> wire.Message:
        """Spawn; returns the spec that was sent."""
        done = self.ask("spawn", *arguments, tasks=[{"name": "child-1", "uid": "u"}])
        assert (done.returncode, done.stdout) == (0, "child-1\n"), done.stderr
        [spec] = self.requests[-1]["tasks"]
        return dict(spec)

    def _serve(self, answer: wire.Message) -> None:
        link = attach(self.agent)
        request = link.receive()
        self.requests.append(request)
        link.answer(request, **answer)
        link.closed_by_peer()


def attach(agent: Agent) -> Link:
    link = agent.accept()
    request = link.expect("attach")
    assert (request["v"], request["token"]) == (wire.VERSION, TASK_TOKEN)
    link.answer(request, **ATTACHED)
    return link


@pytest.fixture
def shell(binary: Path, agent: Agent, tmp_path: Path) -> Shell:
    keys = tmp_path / "keys"
    keys.touch()
    return Shell(binary, agent, keys)


# --- input --------------------------------------------------------------------------------------


def test_whole_input(shell: Shell) -> None:
    done = shell.ask("input", json='{"n": 1, "t": "ü"}')
    assert (done.returncode, done.stdout) == (0, '{"n": 1, "t": "ü"}\n')
    assert shell.requests[0]["format"] == "json"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain text", "plain text"),
        ("two\nlines", "two\nlines"),
        ("", ""),
        (5, "5"),
        (-5, "-5"),
        (-(2**63), str(-(2**63))),
        (2**64 - 1, str(2**64 - 1)),
        (300, "300"),
        (-129, "-129"),
        (True, "true"),
        (None, "null"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        ([1, [], {}], "[1,[],{}]"),
        ({"a": 'q"\\\n\x01ü'}, '{"a":"q\\"\\\\\\u000a\\u0001ü"}'),
    ],
)
def test_one_key(shell: Shell, value: Any, text: str) -> None:
    done = shell.ask("input", "key", value={"other": [1, {"key": 0}], "key": value})
    assert (done.returncode, done.stdout) == (0, f"{text}\n")
    assert shell.requests[0]["format"] == "value"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1, "b": 2}, 'the input has no key "key"; it has: a, b'),
        ([1], "the input is not a map"),
        ("key", "the input is not a map"),
        (None, "the input is empty"),
    ],
)
def test_key_that_is_not_there(shell: Shell, value: Any, message: str) -> None:
    done = shell.ask("input", "key", value=value)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_key_of_a_large_input(shell: Shell) -> None:
    done = shell.ask("input", "key", ref={"path": "x"})
    assert done.returncode == 1
    assert "print all of it with `taskctl-init input`" in done.stderr


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=JSON.filter(lambda value: not isinstance(value, str)))
def test_printed_values_read_back(shell: Shell, value: Any) -> None:
    done = shell.ask("input", "key", value={"key": value})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == value


# --- spawn --------------------------------------------------------------------------------------


def test_spawn_with_everything(shell: Shell) -> None:
    spec = shell.spec(
        *("--key", "next", "--name=child", "--image", "busybox", "--timeout", "60", "--slots=2"),
        *("--data", "count=1", "limit=a=b", "empty=", "--env", "A=1", "B=", "--set", "priority=-5"),
        *("--set", "suspend=true", "--set", "group=g", "--", "sh", "-c", "exit 3", "--key"),
    )
    assert spec == {
        "key": "next",
        "name": "child",
        "data": {"count": "1", "limit": "a=b", "empty": ""},
        "overrides": {
            "image": "busybox",
            "timeoutSeconds": 60,
            "slots": 2,
            "priority": -5,
            "suspend": True,
            "group": "g",
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
            "command": ["sh", "-c", "exit 3", "--key"],
            "args": [],
        },
    }


def test_spawn_the_same_again(shell: Shell) -> None:
    assert shell.spec("--key", "k") == {"key": "k"}


def test_spawn_with_json(shell: Shell) -> None:
    assert shell.spec("--key", "k", "--input", '{"n": 1}') == {"key": "k", "json": '{"n": 1}'}


def test_spawn_with_an_object(shell: Shell) -> None:
    spec = shell.spec("--key", "k", "--input-object", "prepared")
    assert spec == {"key": "k", "input_object": "prepared"}


def test_data_may_be_given_piece_by_piece(shell: Shell) -> None:
    spec = shell.spec("--data", "a=1", "--key", "k", "--data=b=2", "c=3")
    assert spec["data"] == {"a": "1", "b": "2", "c": "3"}


def test_default_keys(shell: Shell, tmp_path: Path) -> None:
    """Equal children are told apart; a new attempt arrives at the same keys."""

    def keys() -> list[str]:
        (tmp_path / "keys").write_bytes(b"")
        commands = (["a"], ["a"], ["b"], ["a"])
        return [shell.spec("--", *command)["key"] for command in commands]

    first = keys()
    assert len(set(first)) == 4
    assert [key.rpartition("-")[2] for key in first] == ["0", "1", "0", "2"]
    assert keys() == first


def test_default_key_follows_from_what_is_spawned(shell: Shell) -> None:
    variants = [["--data", "a=1"], ["--data", "a=2"], ["--image", "x"], ["--", "a"], []]
    keys = [shell.spec(*variant)["key"] for variant in variants]
    assert len({key.rpartition("-")[0] for key in keys}) == 5


def test_default_keys_of_parallel_processes(shell: Shell) -> None:
    """The count is taken under a lock."""
    names: list[str] = []

    def serve() -> None:
        for _ in range(20):
            link = attach(shell.agent)
            request = link.receive()
            names.append(request["tasks"][0]["key"])
            link.answer(request, tasks=[{"name": "child", "uid": "u"}])

    server = threading.Thread(target=serve)
    server.start()
    script = f"for i in $(seq 20); do {shell.binary} spawn -- true & done; wait"
    subprocess.run(["sh", "-c", script], env=shell.env, check=True, capture_output=True)
    server.join(20)
    assert len(set(names)) == 20


@pytest.mark.parametrize("keys", ["", "/no/such/file"])
def test_default_key_needs_the_shared_count(shell: Shell, keys: str) -> None:
    shell.env["TASKCTL_KEYS"] = keys
    done = shell.run("spawn", "--", "true")
    assert done.returncode == 1
    assert "--key" in done.stderr


def test_program_and_sdk_share_the_file(shell: Shell, tmp_path: Path) -> None:
    from taskctl.sdk._keys import Ledger

    ledger = Ledger(str(tmp_path / "keys"))
    shell.spec("--", "a")
    assert ledger.number([b"12345678"]) == [0]
    shell.spec("--", "a")
    assert (tmp_path / "keys").stat().st_size == 24
    assert ledger.number([b"12345678"]) == [1]


# --- output, progress, info ---------------------------------------------------------------------


def test_output(shell: Shell) -> None:
    assert shell.ask("output", "[1, 2]").returncode == 0
    assert shell.ask("output", "--data", "a=1", "b=2").returncode == 0
    assert shell.ask("output", "-", stdin='{"big": "' + "x" * 200_000 + '"}').returncode == 0
    first, second, third = shell.requests
    assert first["json"] == "[1, 2]"
    assert second["data"] == {"a": "1", "b": "2"}
    assert len(third["json"]) == 200_011


def test_output_too_large(shell: Shell) -> None:
    done = shell.run("output", "-", stdin="x" * (17 * 1024 * 1024))
    assert done.returncode == 1
    assert "16 MiB" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["3"], {"done": 3, "total": 0, "message": ""}),
        (["3", "10"], {"done": 3, "total": 10, "message": ""}),
        (["3", "10", "working on it"], {"done": 3, "total": 10, "message": "working on it"}),
    ],
)
def test_progress(shell: Shell, arguments: list[str], expected: wire.Message) -> None:
    assert shell.ask("progress", *arguments).returncode == 0
    assert {key: shell.requests[0][key] for key in expected} == expected


def test_info(shell: Shell) -> None:
    done = shell.ask("info", cancel="Cancelled", deadline_us=1_700_000_000_000_000)
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert lines == {
        **{key: str(value) for key, value in ATTACHED.items() if key != "inline_limit"},
        "cancel": "Cancelled",
        "deadline_us": "1700000000000000",
    }


def test_other_name(shell: Shell, tmp_path: Path) -> None:
    link = tmp_path / "taskctl-input"
    link.symlink_to(shell.binary)
    shell.binary = link
    assert shell.ask("key", value={"key": "x"}).stdout == "x\n"


def test_version_and_help(shell: Shell) -> None:
    from taskctl import __version__

    done = shell.run("version")
    assert done.stdout == f"taskctl-init {__version__} (protocol {wire.VERSION})\n"
    for argument in ("--help", "-h", "help"):
        done = shell.run(argument)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: taskctl-init")
        assert all(len(line) <= 100 for line in done.stdout.splitlines())


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dance"], 'no command "dance"'),
        (["input", "a", "b"], "one key at most"),
        (["spawn", "--key"], "--key needs a value"),
        (["spawn", "--key", ""], "must not be empty"),
        (["spawn", "stray"], '"stray"'),
        (["spawn", "--keyed", "x"], '"--keyed"'),
        (["spawn", "--data", "x"], '"x" is not KEY=VALUE'),
        (["spawn", "--data", "=x"], "is not KEY=VALUE"),
        (["spawn", "--input", "1", "--data", "a=b"], "give one input"),
        (["spawn", "--input", "1", "--input-object", "a"], "give one input"),
        (["spawn", "--timeout", "1.5"], "whole number"),
        (["spawn", "--timeout", "0"], "from 1 on"),
        (["spawn", "--slots", "many"], "whole number"),
        (["spawn", "--slots", "99999999999999999999"], "whole number"),
        (["spawn", "--set", "priority"], "FIELD=VALUE"),
        (["spawn", "--"], "followed by a command"),
        (["output"], "wants JSON"),
        (["output", "1", "2"], '"2"'),
        (["output", "--data", "a=b", "-"], '"-"'),
        (["progress"], "DONE"),
        (["progress", "x"], "DONE must be a whole number"),
        (["progress", "1", "x"], "TOTAL must be"),
        (["progress", "1", "2", "a", "b"], "three arguments"),
        (["info", "x"], "no argument"),
    ],
)
def test_usage_errors(shell: Shell, arguments: list[str], message: str) -> None:
    done = shell.run(*arguments)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("taskctl-init: ")
    assert message in line
    assert line.endswith("see taskctl-init --help")


def test_text_that_is_not_utf8(shell: Shell) -> None:
    for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"a\xe2\x82"):
        done = subprocess.run(
            [shell.binary, "output", bad], env=shell.env, capture_output=True, check=False
        )
        assert done.returncode == 2
        assert b"not UTF-8" in done.stderr


def test_refused(shell: Shell) -> None:
    done = shell.ask("spawn", "--key", "k", ok=False, error="limit", message="too\ndeep")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "taskctl-init: spawn refused (limit): too deep\n"


@pytest.mark.parametrize("name", ["TASKCTL_SOCKET", "TASKCTL_TOKEN"])
def test_outside_a_task(shell: Shell, name: str) -> None:
    del shell.env[name]
    done = shell.run("input")
    assert done.returncode == 1
    assert "not inside a task" in done.stderr


def test_agent_away(shell: Shell) -> None:
    shell.env["TASKCTL_DEADLINE_S"] = "1"
    shell.agent.stop()
    done = shell.run("input")
    assert done.returncode == 75
    assert "the agent is away" in done.stderr


def test_agent_says_nothing(shell: Shell) -> None:
    shell.env["TASKCTL_DEADLINE_S"] = "1"
    assert shell.run("input").returncode == 75


def serve_after_trouble(shell: Shell, trouble: Callable[[Link], None]) -> Done:
    """The first connections end in trouble, the last one is answered."""

    def serve() -> None:
        for _ in range(3):
            link = shell.agent.accept()
            trouble(link)
            link.close()
        link = attach(shell.agent)
        link.answer(link.expect("input"), json="1")

    thread = threading.Thread(target=serve)
    thread.start()
    done = shell.run("input")
    thread.join(20)
    return done


def close_at_once(link: Link) -> None:
    link.receive()


def close_after_attach(link: Link) -> None:
    link.answer(link.expect("attach"), **ATTACHED)
    link.receive()


def unavailable(link: Link) -> None:
    link.answer(link.expect("attach"), **ATTACHED)
    link.refuse(link.receive(), "unavailable", "the API server is away")


def malformed(link: Link) -> None:
    link.receive()
    link.sock.sendall(b"\0\0\0\1\x90")


def cut_off(link: Link) -> None:
    link.receive()
    link.sock.sendall(b"\0\0\1\0\x81")


@pytest.mark.parametrize(
    "trouble", [close_at_once, close_after_attach, unavailable, malformed, cut_off]
)
def test_tries_again(shell: Shell, trouble: Callable[[Link], None]) -> None:
    assert serve_after_trouble(shell, trouble).stdout == "1\n"


def test_unavailable_for_too_long(shell: Shell) -> None:
    shell.env["TASKCTL_DEADLINE_S"] = "1"
    stop = threading.Event()

    def serve() -> None:
        shell.agent._listener.settimeout(0.5)  # type: ignore[union-attr]
        while not stop.is_set():
            try:
                unavailable(shell.agent.accept())
            except TimeoutError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    done = shell.run("input")
    stop.set()
    thread.join(20)
    assert done.returncode == 75
    assert "the API server is away" in done.stderr


def test_closed_output(shell: Shell) -> None:
    def serve() -> None:
        link = attach(shell.agent)
        link.answer(link.expect("input"), json="x" * 500_000)

    thread = threading.Thread(target=serve)
    thread.start()
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [shell.binary, "input"], env=shell.env, stdout=full, stderr=subprocess.PIPE, text=True
        )
    thread.join(20)
    assert done.returncode == 1
    assert "standard output" in done.stderr


@pytest.mark.parametrize("answer", [{}, {"tasks": []}, {"tasks": [{}]}, {"tasks": "x"}])
def test_answer_without_a_name(shell: Shell, answer: wire.Message) -> None:
    done = shell.ask("spawn", "--key", "k", **answer)
    assert done.returncode == 1
    assert "without the child's name" in done.stderr


def test_deep_answer_does_not_overflow_the_stack(shell: Shell) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    done = shell.ask("input", "key", value={"key": deep})
    assert done.returncode == 1
    assert "nested too deeply" in done.stderr
