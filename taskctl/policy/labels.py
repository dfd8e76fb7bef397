"""What a Task does, in a word: its function, or its program. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from taskctl.policy.view import TaskView

_RUNNER: Final = "taskctl.sdk.run"
_INTERPRETER: Final = re.compile(
    r"^(python|pypy|node|deno|bun|ruby|perl|sh|bash|dash|zsh|ash|Rscript|julia|php)[\d.]*$"
)
_SHELL: Final = re.compile(r"^(sh|bash|dash|zsh|ash)[\d.]*$")
# How a shell's script begins without saying what it does.
_PREAMBLE: Final = re.compile(
    r"^([^\w./-].*|set|cd|export|trap|umask|ulimit|for|while|until|if|case|test|\w+=.*|.*[;|&<>(){}$].*)$"
)
_WRAPPERS: Final = frozenset({"env", "nice", "time", "timeout", "stdbuf", "exec", "setsid"})
_MAX_CHARS: Final = 60
# Names that taskctl gives to children end in a part of a digest (policy/lineage.py).
_HASH_CHARS_MIN: Final = 6


def label_of(command: Sequence[str]) -> str:
    """Return what a command runs: a function (``square``), a script or a program.

    >>> label_of(["python3", "-m", "taskctl.sdk.run", "sums:square"])
    'square'
    >>> label_of(["/usr/bin/python3", "/app/counter.py", "7"])
    'counter.py'
    """
    words = [str(word) for word in command]
    while len(words) > 1 and _base(words[0]) in _WRAPPERS:
        words = words[1:]
        while len(words) > 1 and (words[0].startswith("-") or "=" in words[0]):
            words = words[1:]
    if not words:
        return ""
    program = _base(words[0])
    if _RUNNER in words[:3]:
        name = words[-1].rpartition(":")[2].rpartition("<locals>.")[2]
        return program if name.startswith("-") else name[:_MAX_CHARS] or program
    if _INTERPRETER.match(program):
        return (_script(words[1:], is_shell=bool(_SHELL.match(program))) or program)[:_MAX_CHARS]
    return program[:_MAX_CHARS]


def key_of(view: TaskView) -> str:
    """Return the key of a child whose name taskctl made up; empty for all other tasks."""
    key = str((view.spec.get("lineage") or {}).get("key") or "") if view.parent_uid else ""
    digest = hashlib.sha256(f"{view.parent_uid}/{key}".encode()).hexdigest()
    end = view.name.rpartition("-")[2]
    return key if len(end) >= _HASH_CHARS_MIN and digest.startswith(end) else ""


def _script(arguments: Sequence[str], *, is_shell: bool) -> str:
    """Return what an interpreter was given to run, or empty."""
    for place, word in enumerate(arguments):
        if word == "-m" and place + 1 < len(arguments):
            return arguments[place + 1]
        if word in ("-c", "-e", "-lc", "-ec", "-euc", "-eu"):
            first = arguments[place + 1].split() if place + 1 < len(arguments) else []
            if not first or not is_shell or (len(first) > 1 and _PREAMBLE.match(first[0])):
                return ""
            return f"{_base(first[0])} …" if len(first) > 1 else first[0]
        if not word.startswith("-"):
            return _base(word)
    return ""


def _base(word: str) -> str:
    return word.rstrip("/").rpartition("/")[2] or word
