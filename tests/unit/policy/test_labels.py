"""What a command does, in a word."""

from __future__ import annotations

import pytest

from taskctl.policy.labels import label_of

CASES = [
    (["python3", "-m", "taskctl.sdk.run", "--path", "/app", "sums:square"], "square"),
    (["/venv/bin/python3.11", "-m", "taskctl.sdk.run", "a.b:Class.method"], "Class.method"),
    (["python3", "-m", "taskctl.sdk.run", "--pickled", "f.<locals>.inner"], "inner"),
    (["python3", "-m", "taskctl.sdk.run", "--many", "--pickled"], "python3"),
    (["python3", "/app/counter.py", "7"], "counter.py"),
    (["python3", "-u", "train.py"], "train.py"),
    (["python3", "-m", "http.server"], "http.server"),
    (["sh", "-c", "echo hello"], "echo …"),
    (["sh", "-c", "true"], "true"),
    (["sh", "-c", "/opt/tool --fast"], "tool …"),
    (["bash", "-c", "set -e; make"], "bash"),
    (["sh", "-c", "for i in 1 2; do echo; done"], "sh"),
    (["sh", "-c", "A=1 make"], "sh"),
    (["sh", "-c", "(cd x && make)"], "sh"),
    (["sh", "-c", "[ -f x ] && make"], "sh"),
    (["sh", "-c", "echo>x y"], "sh"),
    (["python3", "-c", "import sys; print(1)"], "python3"),
    (["node", "-e", "1"], "node"),
    (["sh", "-c"], "sh"),
    (["sh", "/work/step.sh"], "step.sh"),
    (["/usr/bin/ffmpeg", "-i", "a.mp4"], "ffmpeg"),
    (["env", "A=1", "-i", "node", "index.js"], "index.js"),
    (["nice", "make"], "make"),
    (["python3"], "python3"),
    ([], ""),
    ([""], ""),
    (["x" * 500], "x" * 60),
]


@pytest.mark.parametrize(("command", "label"), CASES)
def test_a_command_has_a_short_name(command: list[str], label: str) -> None:
    assert label_of(command) == label
