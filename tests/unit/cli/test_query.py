from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from taskctl.api.states import TaskState
from taskctl.cli.terminal import is_unsafe
from taskctl.kube.interface import EventType, WatchEvent
from taskctl.testing.builders import TaskBuilder, task
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient


def complete(builder: TaskBuilder, *, good: bool) -> dict[str, Any]:
    conditions = [
        {"type": "Complete", "status": "True"},
        {"type": "Succeeded", "status": "True" if good else "False"},
    ]
    return builder.status(conditions=conditions).metadata(resourceVersion="101").build()


GOOD = complete(task("good").state(TaskState.SUCCEEDED), good=True)
BAD = complete(
    task("bad").state(TaskState.FAILED, "NonZeroExit").status(message="exit 3\nlog"), good=False
)
HALF = complete(
    task("half").state(TaskState.SUCCEEDED).status(descendants={"failed": 2}), good=False
)


def test_get_lists_names_and_json(run: Run, client: FakeClient) -> None:
    client.put(GOOD, BAD)
    assert run("get").stdout.splitlines()[0].split()[:3] == ["NAME", "STATE", "REASON"]
    assert run("get", "-o", "name").stdout == "task.taskctl.dev/bad\ntask.taskctl.dev/good\n"
    listed = json.loads(run("get", "-o", "json").stdout)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["bad", "good"]
    one = json.loads(run("get", "good", "-o", "json").stdout)
    assert one["metadata"]["name"] == "good"


def test_get_nothing(run: Run, client: FakeClient) -> None:
    empty = run("-n", "a", "get")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert empty.stderr == "No tasks in namespace a.\n"
    missing = run("get", "x")
    assert missing.exit_code == 3
    assert missing.stderr == 'taskctl: tasks.taskctl.dev "x" not found\n'


def test_get_filters_on_the_server(run: Run, client: FakeClient) -> None:
    root = task("root").build()
    client.put(root, task("kid").child_of(root).build(), task("other").build(), GOOD)
    assert run("get", "--state", "Succeeded", "-o", "name").stdout == "task.taskctl.dev/good\n"
    tree = run("get", "--root", "root", "-o", "name").stdout
    assert tree == "task.taskctl.dev/kid\ntask.taskctl.dev/root\n"
    run("get", "-A", "--cluster", "c", "-l", "a=b")
    verb, _, namespace, options = client.calls[-1]
    assert (verb, namespace) == ("list", None)
    assert options.field_selector == "spec.clusterName=c"
    assert options.label_selector == "a=b"
    assert run("get", "x", "--state", "Failed").exit_code == 2


@pytest.mark.parametrize(
    ("before", "goal", "code", "words"),
    [
        (GOOD, "succeeded", 0, "good succeeded"),
        (BAD, "succeeded", 1, "bad failed (NonZeroExit: exit 3: log)"),
        (BAD, "complete", 0, "bad failed"),
        (HALF, "succeeded", 1, "half succeeded, but of its descendants 2 failed, 0 cancelled"),
    ],
)
def test_wait_for_what_is_over(
    run: Run, client: FakeClient, before: dict[str, Any], goal: str, code: int, words: str
) -> None:
    client.put(before)
    result = run("wait", before["metadata"]["name"], "--for", goal)
    assert (result.exit_code, words in result.stdout) == (code, True)


def test_wait_prints_objects(run: Run, client: FakeClient) -> None:
    client.put(BAD)
    result = run("wait", "bad", "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["status"]["reason"] == "NonZeroExit"
    assert run("wait", "bad", "-o", "name").stdout == "task.taskctl.dev/bad\n"


def test_wait_follows_changes(run: Run, client: FakeClient) -> None:
    client.put(task("good").build(), task("bad").build())
    client.events = [
        WatchEvent(EventType.MODIFIED, task("good").running("c-1").build()),
        WatchEvent(EventType.MODIFIED, GOOD),
        WatchEvent(EventType.MODIFIED, BAD),
    ]
    result = run("wait", "good", "bad")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == ["good succeeded", "bad failed (NonZeroExit: exit 3: log)"]


def test_a_finished_root_waits_for_its_tree(run: Run, client: FakeClient) -> None:
    client.put(task("root").state(TaskState.SUCCEEDED).build())
    result = run("wait", "root", "--timeout", "0.05")
    assert result.exit_code == 4
    assert result.stderr == "taskctl: not finished after 0.05 s: root\n"


def test_wait_for_nothing(run: Run, client: FakeClient) -> None:
    assert run("wait", "ghost").exit_code == 3
    client.put(task("gone").build())
    client.events = [WatchEvent(EventType.DELETED, task("gone").build())]
    result = run("wait", "gone")
    assert result.exit_code == 3
    assert "does not exist" in result.stderr


@pytest.mark.parametrize(
    ("timeout", "code", "words"),
    [
        ("0", 0, "good succeeded"),
        ("0s", 0, "good succeeded"),
        ("0.001", 0, "good succeeded"),
        ("1h30m", 0, "good succeeded"),
        ("nan", 2, "--timeout 'nan' must be seconds or a duration"),
        ("inf", 2, "--timeout 'inf' must be"),
        ("-1", 2, "--timeout '-1' must be"),
        ("1e400", 2, "--timeout '1e400' must be"),
        ("99999999999", 2, "--timeout '99999999999' must be at most"),
        ("1m30", 2, "--timeout '1m30' must be"),
        ("", 2, "--timeout '' must be"),
        ("soon", 2, "--timeout 'soon' must be"),
    ],
)
def test_times_to_wait(run: Run, client: FakeClient, timeout: str, code: int, words: str) -> None:
    client.put(GOOD)
    result = run("wait", "good", "--timeout", timeout)
    assert (result.exit_code, words in result.stdout + result.stderr) == (code, True)


def test_zero_looks_once(run: Run, client: FakeClient) -> None:
    client.put(GOOD, task("slow").build())
    result = run("wait", "slow", "good", "--timeout", "0")
    assert (result.exit_code, result.stdout) == (4, "good succeeded\n")
    assert result.stderr == "taskctl: not finished after 0 s: slow\n"
    assert not [call for call in client.calls if call[0] == "watch"]
    assert run("wait", "ghost", "--timeout", "0").exit_code == 3


@pytest.mark.parametrize("verb", ["get", "wait", "cancel", "tree", "logs", "retry"])
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("task/bad", None),
        ("tasks/bad", None),
        ("Task/bad", None),
        ("tk/bad", None),
        ("task.taskctl.dev/bad", None),
        ("tasks.v1alpha1.taskctl.dev/bad", None),
        ("pod/bad", 2),
        ("task.example.com/bad", 2),
        ("a/task/bad", 2),
        ("task/", 2),
        ("/bad", 2),
        ("Bad", 2),
        ("../bad", 2),
        ("", 2),
    ],
)
def test_names_with_their_kind(
    run: Run, client: FakeClient, verb: str, name: str, code: int | None
) -> None:
    client.put(BAD)
    plain = run(verb, "bad")
    client.put(BAD)
    named = run(verb, name)
    if code is None:
        assert (named.exit_code, named.stdout[:20]) == (plain.exit_code, plain.stdout[:20])
    else:
        assert named.exit_code == code
        assert named.stderr.count("\n") == 1
        assert repr(name) in named.stderr


def test_states_in_any_case(run: Run, client: FakeClient) -> None:
    client.put(GOOD, BAD)
    assert run("get", "--state", "failed", "-o", "name").stdout == "task.taskctl.dev/bad\n"
    unknown = run("get", "--state", "finished")
    assert unknown.exit_code == 2
    assert "--state: there is no state 'finished'; choose one of Pending, " in unknown.stderr


def test_formats_of_wait(run: Run, client: FakeClient) -> None:
    client.put(BAD)
    assert run("wait", "bad", "-o", "wide").stdout == run("get", "bad", "-o", "wide").stdout


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31mtext\u202egnp.exe\r\n[red]last\x1b[31m line"


@pytest.mark.parametrize(
    "args",
    [
        ("get", "bad", "-o", "wide"),
        ("get", "-o", "wide"),
        ("get", "bad", "-o", "yaml"),
        ("get", "bad", "-o", "json"),
        ("tree", "bad"),
        ("tree", "-o", "yaml"),
        ("wait", "bad"),
        ("cancel", "bad"),
        ("logs", "bad"),
    ],
)
def test_nothing_of_an_object_reaches_the_terminal_as_it_is(
    run: Run, client: FakeClient, args: tuple[str, ...]
) -> None:
    hostile = complete(
        task("bad").state(TaskState.FAILED, f"Reason{HOSTILE}").status(message=HOSTILE), good=False
    )
    client.put(hostile)
    result = run(*args)
    assert not is_unsafe((result.stdout + result.stderr).replace("\n", ""))
    if args[:2] == ("get", "bad") and args[-1] in ("yaml", "json"):
        assert yaml.safe_load(result.stdout)["status"]["message"] == HOSTILE
    if args[0] == "wait":
        assert "[red]last\\x1b[31m line" in result.stdout


def test_errors_of_the_server_are_made_safe(run: Run, client: FakeClient) -> None:
    result = run("wait", "ghost", "--timeout", "0", "-n", "x\x1b[2J")
    assert "\x1b" not in result.stderr
