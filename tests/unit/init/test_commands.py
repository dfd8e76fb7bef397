"""taskctl-init as a command inside a task."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskctl import wire
from tests.unit.init.fake_shell import ATTACHED, Shell, attach

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
    """The agent reads the file and picks the key."""

    def serve() -> None:
        link = attach(shell.agent)
        for fields in ({"ref": {"path": "x"}}, {"text": "7\nß"}):
            request = link.receive()
            shell.requests.append(request)
            link.answer(request, **fields)

    server = threading.Thread(target=serve)
    server.start()
    done = shell.run("input", "key")
    server.join(20)
    assert (done.returncode, done.stdout) == (0, "7\nß\n")
    asked = [(request["op"], request["format"], request.get("key")) for request in shell.requests]
    assert asked == [("input", "value", None), ("input", "text", "key")]


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
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}],
            "command": ["sh", "-c", "exit 3", "--key"],
            "args": [],
        },
        "set": [["priority", "-5"], ["suspend", "true"], ["group", "g"]],
    }


GRAPH = [
    (["--group", "g"], {"group": "g"}),
    (["--cluster", "gpu"], {"clusterName": "gpu"}),
    (["--cluster=gpu"], {"clusterName": "gpu"}),
    (["--after", "a", "b"], {"runAfter": {"tasks": ["a", "b"]}}),
    (["--after=a", "--after", "b", "a"], {"runAfter": {"tasks": ["a", "b"]}}),
    (
        ["--after", "a", "--min-success", "0", "--subtree", "--when=Always"],
        {"runAfter": {"minSuccess": 0, "subtree": True, "tasks": ["a"]}, "when": "Always"},
    ),
    (
        ["--after-group", "g", "--count=200", "--min-success", "190"],
        {"runAfter": {"group": "g", "count": 200, "minSuccess": 190}},
    ),
    (
        ["--then", "a", "b"],
        {"runAfter": {"tasks": ["a", "b"]}, "inputFrom": [{"path": "", "tasks": ["a", "b"]}]},
    ),
    (
        ["--then", "/l", "a", "--after", "b", "--then=/r/x", "c", "a"],
        {
            "runAfter": {"tasks": ["a", "b", "c"]},
            "inputFrom": [{"path": "/l", "tasks": ["a"]}, {"path": "/r/x", "tasks": ["c", "a"]}],
        },
    ),
]


@pytest.mark.parametrize(("arguments", "overrides"), GRAPH)
def test_spawn_in_a_graph(shell: Shell, arguments: list[str], overrides: wire.Message) -> None:
    spec = shell.spec("--key", "k", *arguments, "--", "true")
    command = {"command": ["true"], "args": []}
    assert spec == {"key": "k", "overrides": overrides | command}


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
