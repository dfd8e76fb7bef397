"""What taskctl-init runs, in which world, and what it reports of it."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskctl import wire
from tests.unit.init.fake_agent import TOKEN, Agent, Init, eventually, run, shell


def test_from_hello_to_exit(agent: Agent, init: Init) -> None:
    before_us = time.time_ns() // 1000
    link = agent.accept()
    hello = link.expect("hello")
    assert hello == {
        "id": 1,
        "op": "hello",
        "v": wire.VERSION,
        "container": "t-0123456789-1",
        "nonce": "a-nonce-of-the-test",
    }
    link.answer(hello, token=TOKEN)
    following = link.expect("next")
    assert following == {"id": 2, "op": "next"}
    link.answer(following, **shell("echo out; echo err >&2; exit 3", uid="u", attempt=4))
    report = link.expect("exited")
    assert {key: report[key] for key in ("uid", "attempt", "code", "signal", "reason")} == {
        "uid": "u",
        "attempt": 4,
        "code": 3,
        "signal": 0,
        "reason": "",
    }
    assert report["message"] == ""
    assert before_us <= report["started_us"] <= report["exited_us"] <= time.time_ns() // 1000
    assert sorted(report["tail"].splitlines()) == [b"err", b"out"]
    link.answer(report, action="exit", code=3)
    assert init.wait() == 3
    assert init.out == "out\n"
    assert init.err == "err\n"


def test_exit_code_is_what_the_agent_says(agent: Agent, init: Init) -> None:
    init.finish(agent.start("false"), code=42)


def test_usage_of_the_whole_run_is_reported(agent: Agent, init: Init) -> None:
    burn = "import resource; b = bytearray(60_000_000)\nfor i in range(3_000_000): pass"
    report = init.finish(agent.start(sys.executable, "-S", "-c", burn))
    assert report["user_us"] > 20_000
    assert 60_000 < report["max_rss_kb"] < 600_000


def test_one_run_after_another(agent: Agent, init: Init) -> None:
    link = agent.start("sh", "-c", "echo one; exit 1")
    first = link.expect("exited")
    link.answer(first, **shell("echo two", uid="uid-2", attempt=7))
    second = init.finish(link)
    assert (second["uid"], second["attempt"], second["code"]) == ("uid-2", 7, 0)
    assert second["tail"] == b"two\n", "nothing is left of the run before"
    assert init.out == "one\ntwo\n"


# --- the command's world ----------------------------------------------------------------

SHOW = """
import json, os, sys
print(json.dumps({
    "env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv[1:], "stdin": sys.stdin.read(),
    "leads": os.getsid(0) == os.getpgid(0) == os.getpid(), "fds": os.listdir("/proc/self/fd"),
    "ignored": [line.split()[1] for line in open("/proc/self/status") if line[:6] == "SigIgn"],
    "blocked": [line.split()[1] for line in open("/proc/self/status") if line[:6] == "SigBlk"],
}))
"""


def world(agent: Agent, init: Init, *args: str, **fields: Any) -> dict[str, Any]:
    """Run a program that shows its world; returns it."""
    init.finish(agent.start(sys.executable, "-S", "-c", SHOW, *args, **fields))
    shown: dict[str, Any] = json.loads(init.out)
    return shown


def test_arguments_and_directory(agent: Agent, init: Init, tmp_path: Path) -> None:
    shown = world(agent, init, "a b", "", "ünï", cwd=str(tmp_path))
    assert shown["argv"] == ["a b", "", "ünï"]
    assert shown["cwd"] == str(tmp_path)


def test_process_starts_clean(agent: Agent, init: Init) -> None:
    shown = world(agent, init)
    assert shown["leads"], "a session and a process group of its own"
    assert shown["stdin"] == ""
    assert len(shown["fds"]) == 4, "0, 1, 2 and the one that lists them"
    assert int(shown["blocked"][0], 16) == 0
    # Python itself ignores SIGPIPE and SIGXFSZ; nothing else may be.
    assert int(shown["ignored"][0], 16) & ~(1 << 12 | 1 << 24) == 0


def test_sigpipe_is_not_ignored(agent: Agent, init: Init) -> None:
    report = init.finish(agent.start("sh", "-c", "sed -n '/SigIgn/p' /proc/self/status"))
    assert int(report["tail"].split()[1], 16) == 0


def test_environment(agent: Agent, binary: Path, start_init: Callable[..., Init]) -> None:
    init = start_init(KEPT="1", CHANGED="old")
    shown = world(agent, init, env={"CHANGED": "new", "ADDED": "x=y", "EMPTY": ""})["env"]
    assert shown["KEPT"] == "1"
    assert shown["CHANGED"] == "new"
    assert shown["ADDED"] == "x=y"
    assert shown["EMPTY"] == ""
    assert "TASKCTL_NONCE" not in shown
    assert shown["PATH"] == f"{os.environ['PATH']}:{binary.parent}"
    assert shown["PYTHONPATH"] == str(binary.parent.parent / "python")
    keys = shown["TASKCTL_KEYS"].split("/")
    assert keys[:2] + keys[3:4] == ["", "proc", "fd"]
    assert keys[2] != str(init.process.pid), "of taskctl-init's own nothing can be opened"


def test_paths_of_image_and_user_come_first(
    agent: Agent, binary: Path, start_init: Callable[..., Init]
) -> None:
    python = str(binary.parent.parent / "python")
    init = start_init(PYTHONPATH="/image")
    env = {"PATH": f"/mine:{binary.parent}:/usr/bin:/bin", "PYTHONPATH": "/user"}
    shown = world(agent, init, env=env)["env"]
    assert shown["PATH"] == env["PATH"], "it is not added twice"
    assert shown["PYTHONPATH"] == f"/user:{python}"


def test_command_is_found_on_the_path_of_the_run(agent: Agent, init: Init, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "greet"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    init.finish(agent.start("greet", env={"PATH": f"{program.parent}:/bin:/usr/bin"}))
    assert init.out == "hello\n"


def test_command_uses_taskctl_init_by_name(agent: Agent, init: Init) -> None:
    init.finish(agent.start("taskctl-init", "version"))
    assert init.out.startswith("taskctl-init ")


def test_nonce_is_wiped(agent: Agent, init: Init) -> None:
    agent.accept().expect("hello")
    assert b"a-nonce-of-the-test" not in Path(f"/proc/{init.process.pid}/environ").read_bytes()


def test_large_run(agent: Agent, init: Init) -> None:
    env = {f"NAME_{number}": "x" * 100 for number in range(9000)}
    report = init.finish(agent.start("sh", "-c", "env | grep -c ^NAME_", env=env))
    assert report["tail"] == b"9000\n"


# --- commands that cannot be started ------------------------------------------------------


def start_failure(agent: Agent, init: Init, *argv: str, **fields: Any) -> tuple[str, int, str]:
    report = init.finish(agent.start(*argv, **fields), code=fields.get("code", 1))
    assert report["started_us"] <= report["exited_us"]
    assert report["signal"] == 0
    return report["reason"], report["code"], report["message"]


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "./none", ""])
def test_command_not_found(agent: Agent, init: Init, program: str) -> None:
    message = f'exec: "{program}": no such file or directory'
    assert start_failure(agent, init, program) == ("CommandNotFound", 127, message)


def test_not_executable(agent: Agent, init: Init, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    message = f'exec: "{file}": permission denied'
    assert start_failure(agent, init, str(file)) == ("StartError", 126, message)


@pytest.mark.parametrize(
    ("text", "word"), [("text", "format error"), ("#!/no/such/shell\n", "interpreter")]
)
def test_not_a_program(agent: Agent, init: Init, tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    file.chmod(0o755)
    reason, code, message = start_failure(agent, init, str(file))
    assert (reason, code) == ("StartError", 126)
    assert word in message


def test_working_directory_is_missing(agent: Agent, init: Init) -> None:
    message = 'workingDir "/no/dir": no such file or directory'
    assert start_failure(agent, init, "true", cwd="/no/dir") == ("StartError", 126, message)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"argv": ["sh", "a\0b"]}, "argument 1"),
        ({"argv": ["sh"], "env": {"NAME": "a\0b"}}, "NAME"),
        ({"argv": ["sh"], "env": {"N\0": "b"}}, "env"),
        ({"argv": ["sh"], "env": {"A=B": "c"}}, "env"),
        ({"argv": ["sh"], "env": {"": "c"}}, "env"),
        ({"argv": ["sh"], "cwd": "/\0"}, "cwd"),
    ],
)
def test_what_no_process_can_be_given(
    agent: Agent, init: Init, fields: dict[str, Any], named: str
) -> None:
    reason, code, message = start_failure(agent, init, **fields)
    assert (reason, code) == ("StartError", 126)
    assert named in message


def test_long_text_is_cut_between_characters(agent: Agent, init: Init) -> None:
    _, _, message = start_failure(agent, init, "/" + "ü" * 3000)
    assert message.startswith('exec: "/üü')
    assert len(message.encode()) < 1024


# --- the end ------------------------------------------------------------------------------


def test_ended_by_a_signal(agent: Agent, init: Init) -> None:
    report = init.finish(agent.start("sh", "-c", "kill -9 $$"), code=137)
    assert (report["code"], report["signal"], report["reason"]) == (0, signal.SIGKILL, "")


def test_orphans_are_reaped(agent: Agent, init: Init, tmp_path: Path) -> None:
    # Each `setsid` child outlives its parent and ends later: taskctl-init must bury it.
    go = tmp_path / "go"
    script = (
        "for i in 1 2 3 4 5 6 7 8; do (setsid sh -c 'sleep 0.1' &) ; done;"
        f" touch {tmp_path}/up; until [ -e {go} ]; do sleep 0.02; done"
    )
    link = agent.start("sh", "-c", script)
    eventually((tmp_path / "up").exists, "all are started")
    eventually(lambda: len(init.children()) == 1, "only the command is left")
    go.touch()
    assert init.finish(link)["code"] == 0


def test_record_is_there_before_the_report(agent: Agent, init: Init, tmp_path: Path) -> None:
    record = tmp_path / "ws" / ".taskctl" / "exits" / "uid-1-1"
    link = agent.start("sh", "-c", "echo bye; exit 9", record=str(record))
    report = link.expect("exited")
    written = wire.decode_body(record.read_bytes())
    assert written == {key: report[key] for key in report if key not in ("id", "op")}
    assert written["code"] == 9
    assert stat.S_IMODE(record.stat().st_mode) == 0o644
    assert stat.S_IMODE(record.parent.stat().st_mode) == 0o1777
    assert os.listdir(record.parent) == [record.name]


def test_record_replaces_what_a_crash_left(agent: Agent, init: Init, tmp_path: Path) -> None:
    record = tmp_path / "record"
    record.write_bytes(b"old")
    target = tmp_path / "target"
    (tmp_path / "record.tmp").symlink_to(target)
    init.finish(agent.start("true", record=str(record)))
    assert wire.decode_body(record.read_bytes())["code"] == 0
    assert not target.exists(), "a link in the way is not followed"


def test_record_that_cannot_be_written(agent: Agent, init: Init, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    report = init.finish(agent.start("true", record=str(tmp_path / "file" / "record")))
    assert report["code"] == 0
    assert "exit record" in init.err
    assert "not a directory" in init.err.lower()


def test_many_children_at_once(agent: Agent, init: Init) -> None:
    script = "i=0; while [ $i -lt 300 ]; do (setsid true &); i=$((i+1)); done; sleep 0.2"
    link = agent.start("sh", "-c", script)
    assert link.expect("exited")["code"] == 0
    eventually(lambda: init.children() == [], "all are reaped")


def test_answers_in_any_form_of_msgpack(agent: Agent, init: Init) -> None:
    """Numbers and lengths may be longer than they need be."""
    link = agent.greet()
    request = link.expect("next")
    fields = wire.encode(run("true"))[5:]
    body = b"\xdf\x00\x00\x00\x0e\xd9\x02id\xd3" + request["id"].to_bytes(8, "big")
    body += b"\xda\x00\x02ok\xc3" + fields
    link.sock.sendall(len(body).to_bytes(4, "big") + body)
    assert init.finish(link)["code"] == 0
