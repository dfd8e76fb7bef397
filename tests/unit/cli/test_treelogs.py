"""``logs --tree``, the log during ``submit --wait``, and what lines with prefixes may hold."""

from __future__ import annotations

import io
import random
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.api.states import TaskState
from taskctl.cli.logsink import MAX_LINE_BYTES, LineWriter
from taskctl.cli.terminal import is_unsafe
from taskctl.cli.treelogs import Family, Prefixes
from taskctl.kube.interface import EventType, WatchEvent
from taskctl.policy.entry import container_name
from taskctl.testing.builders import TaskBuilder, task
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

ROOT = task("root").running("c-1")


def child(name: str, parent: TaskBuilder = ROOT) -> TaskBuilder:
    return task(name).child_of(parent.build(), key=name)


def log_of(name: str, attempt: int = 1) -> tuple[str, str]:
    return "c-1", container_name(f"uid-{name}", attempt)


def lines_of(chunks: list[bytes], *, filtered: bool) -> bytes:
    out = io.TextIOWrapper(io.BytesIO())
    before, sys.stdout = sys.stdout, out
    try:
        writer = LineWriter("t | ", filtered=filtered)
        for chunk in chunks:
            writer.write(chunk)
        writer.end()
    finally:
        sys.stdout = before
    return out.buffer.getvalue()


@given(st.binary(max_size=300), st.lists(st.integers(0, 300)))
def test_lines_keep_every_byte_in_a_pipe(log: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    chunks = [log[start:stop] for start, stop in pairwise(places)]
    lines = lines_of(chunks, filtered=False).split(b"\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"t | ") for line in lines)
    whole = b"\n".join(line.removeprefix(b"t | ") for line in lines)
    assert whole == log.removesuffix(b"\n")


@given(st.binary(max_size=300))
def test_lines_on_a_terminal_are_harmless_and_never_hide_the_prefix(log: bytes) -> None:
    shown = lines_of([log], filtered=True).decode()
    for line in shown.split("\n")[:-1]:
        assert line.startswith("t | ")
        assert "\r" not in line
        plain = line.replace("\x1b[0m", "")
        assert "\x1b" in plain or not is_unsafe(plain.replace("\t", ""))


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (b"50%\r100%\n", b"t | 100%\n"),
        (b"windows\r\n", b"t | windows\n"),
        (b"\rroot | forged\n", b"t | root | forged\n"),
        (b"\x1b[31mred\nplain\n", b"t | \x1b[31mred\x1b[0m\nt | plain\n"),
        (b"\x1b]0;title\x07\x1b[2J\n", b"t | \\x1b]0;title\\x07\\x1b[2J\n"),
        (b"\xff", b"t | \\xff\n"),
    ],
)
def test_lines_on_a_terminal(log: bytes, shown: bytes) -> None:
    assert lines_of([log], filtered=True) == shown


def test_a_line_without_an_end_is_cut() -> None:
    printed = lines_of([b"x" * 4096] * 600, filtered=False)
    assert max(map(len, printed.split(b"\n"))) <= MAX_LINE_BYTES + len(b"t | ")


def test_prefixes() -> None:
    plain = Prefixes(colour=False, aligned=False)
    assert plain.of("a") == "a | "
    shown = Prefixes(colour=True, aligned=True)
    first, again = shown.of("task-1"), shown.of("task-1")
    assert first == again
    assert shown.of("t").startswith("\x1b[")
    assert "t      |" in shown.of("t")


@pytest.mark.parametrize("seed", range(20))
def test_a_family_is_the_same_in_whatever_order_its_members_come(seed: int) -> None:
    order = random.Random(seed)
    builders = {"a": child("a")}
    for number in range(30):
        parent = order.choice([*builders.values(), ROOT])
        builders[f"t-{number}"] = child(f"t-{number}", parent)
    tasks = [builder.build() for builder in builders.values()]
    below = {"uid-a"}
    for raw in tasks:  # parents come before their children here
        if raw["spec"]["lineage"]["parentUID"] in below:
            below.add(raw["metadata"]["uid"])
    order.shuffle(tasks)
    family = Family(builders["a"].build())
    found = [raw for one in tasks for raw in family.add([one])]
    assert {raw["metadata"]["uid"] for raw in found} == below
    assert not family.ended
    for raw in found:
        raw["status"] = {"state": "Succeeded"}
    family.add(found)
    assert family.ended


def test_logs_of_a_tree_one_after_the_other(run: Run, client: FakeClient) -> None:
    root = ROOT.state(TaskState.SUCCEEDED)
    kids = [child(f"k-{n}").running("c-1").state(TaskState.FAILED) for n in (10, 9)]
    client.put(root.build(), *(kid.build() for kid in kids), child("waits").build())
    client.put(child("below", kids[0]).running("c-1").build(), task("other").running("c-1").build())
    for name in ("root", "k-10", "k-9", "below", "other"):
        client.logs[log_of(name)] = f"from {name}\nlast".encode()
    result = run("logs", "--tree", "task/root")
    assert result.stdout.splitlines()[:2] == ["below | from below", "below | last"]
    names = [line.partition(" |")[0] for line in result.stdout.splitlines()[::2]]
    assert names == ["below", "k-9", "k-10", "root"]  # of the same second: by name
    assert (result.exit_code, result.stderr) == (0, "(1 task has not run, and so no log)\n")
    some = run("logs", "--tree", "k-10", "--tail", "1")
    assert some.stdout == "below | last\nk-10 | last\n"


def test_a_log_that_is_gone_is_told(run: Run, client: FakeClient) -> None:
    client.put(ROOT.build(), child("gone").running("c-9").build())
    client.logs[log_of("root")] = b"hello\n"
    result = run("logs", "--tree", "root")
    assert (result.exit_code, result.stdout) == (1, "root | hello\n")
    assert result.stderr.startswith("(gone: the log of attempt 1 is not to be had")


def test_logs_of_a_tree_that_grows(run: Run, client: FakeClient) -> None:
    client.put(ROOT.build())
    kid = child("kid")
    again = kid.running("c-1", attempt=2).status(attempts=[{"attempt": 1, "podName": "c-1"}])
    steps = [
        kid,
        kid.running("c-1"),
        again,
        again.state(TaskState.SUCCEEDED),
        *[ROOT] * 20,  # the root's own watch is no faster than the other
        ROOT.state(TaskState.SUCCEEDED).status(conditions=[{"type": "Complete", "status": "True"}]),
    ]
    client.events = [
        WatchEvent(EventType.MODIFIED, step.metadata(resourceVersion=str(10 + n)).build())
        for n, step in enumerate(steps)
    ]
    client.logs = {
        log_of("root"): b"root begins\n",
        log_of("kid"): b"first\n",
        log_of("kid", 2): b"second\n",
    }
    result = run("logs", "--tree", "-f", "root")
    assert result.exit_code == 0, result.stderr
    # Two tasks' logs are read side by side: in which order their lines come is left open.
    lines = result.stdout.splitlines()
    own = ["kid | first", "kid | --- attempt 2 ---", "kid | second"]
    assert [line for line in lines if line.startswith("kid")] == own
    assert sorted(lines) == sorted([*own, "root | root begins"])


def test_following_ends_when_the_root_is_deleted(run: Run, client: FakeClient) -> None:
    client.put(ROOT.build())
    client.logs[log_of("root")] = b""
    client.events = [WatchEvent(EventType.DELETED, ROOT.build())]
    result = run("logs", "--tree", "-f", "root")
    assert (result.exit_code, "root was deleted" in result.stderr) == (3, True)


def test_tree_excludes_attempt(run: Run, client: FakeClient) -> None:
    result = run("logs", "--tree", "root", "--attempt", "1")
    assert (result.exit_code, "--tree and --attempt" in result.stderr) == (2, True)


def ended(name: str) -> TaskBuilder:
    complete = [{"type": kind, "status": "True"} for kind in ("Complete", "Succeeded")]
    return task(name).running("c-1").state(TaskState.SUCCEEDED).status(conditions=complete)


def test_submit_wait_shows_the_log_on_stderr(run: Run, client: FakeClient) -> None:
    client.events = [
        WatchEvent(EventType.MODIFIED, task("t").running("c-1").build()),
        WatchEvent(EventType.MODIFIED, ended("t").build()),
    ]
    client.logs[log_of("t")] = b"hello\nno end"
    options = ("--name", "t", "--cluster", "c", "--image", "i", "-o", "name")
    result = run("submit", "--wait", *options, "--", "echo", "hello")
    assert (result.exit_code, result.stdout) == (0, "task.taskctl.dev/t\n")
    assert result.stderr == "hello\nno end\nt succeeded\n"


def test_submit_wait_of_several_names_each_line(run: Run, client: FakeClient) -> None:
    client.events = [WatchEvent(EventType.MODIFIED, ended(name).build()) for name in ("a", "b")]
    client.logs = {log_of(name): f"from {name}\n".encode() for name in ("a", "b")}
    text = "---\n".join(
        f"apiVersion: taskctl.dev/v1alpha1\nkind: Task\nmetadata: {{name: {name}}}\n"
        "spec: {clusterName: c, image: i, command: [x]}\n"
        for name in ("a", "b")
    )
    result = run("submit", "--wait", "-f", "-", stdin=text)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "a | from a",
        "a succeeded",
        "b | from b",
        "b succeeded",
    ]
