"""Which commands to start ahead, in parked containers, before there is a run for them.

``python -m taskctl.sdk.run module:function`` can be started before its run is known: Python starts,
imports the module, and waits. What ran recently predicts what will run next.

Code that was started ahead may leave files in its container. So a container in which a command was
prepared runs that command, or a task of the tree that the command was taken from; any other task
goes to another container.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from taskctl.constants import ENV_TASK_NAME, ENV_TASK_NAMESPACE
from taskctl.policy.resources import Amount
from taskctl.policy.view import TaskView

# Interpreters that wait on a worker take no slot, but memory: so many at most, and the SDK lets
# none wait that has more than 128 MiB (taskctl/sdk/_prepared.py).
MAX_PREPARED: Final = 8
_MOST_BYTES: Final = 128 * 1024 * 1024
# Of the memory that a worker has for tasks, they take this part at most.
_SHARE_DIVISOR: Final = 8
# A module that is not imported by then never will be, as far as waiting for it goes.
PREPARE_LIMIT_MS: Final = 10_000
# A command that failed to be prepared so often in a row is left alone.
MAX_FAILURES: Final = 3
# What of the starts of a class is remembered.
WINDOW: Final = 16
# Of commands that are larger than that, none is kept.
MAX_COMMAND_CHARS: Final = 16_384

_INTERPRETER = re.compile(r"(.*/)?python[0-9.]*")
_RUNNER: Final = ("-m", "taskctl.sdk.run")
# Python keeps what it prints to a pipe until it ends: a task that is stopped would lose it, and
# users could not follow its log. A Task's own env comes first.
ENV_DEFAULTS_OF_RUNS: Final = {"PYTHONUNBUFFERED": "1"}
_OF_A_RUN: Final = frozenset({ENV_TASK_NAME, ENV_TASK_NAMESPACE})
_PREFIX: Final = "TASKCTL_"


@dataclass(frozen=True, slots=True)
class Command:
    """A command, without what belongs to one run alone.

    Attributes:
        argv: its words.
        env: the variables that the Task gives it, by name in order.
        cwd: where it starts; empty: where the image says.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str

    @property
    def digest(self) -> str:
        """Names the command: the same for equal ones."""
        text = json.dumps([self.argv, self.env, self.cwd], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def can_be_prepared(self) -> bool:
        """Whether the command knows how to wait for its run, and is small enough to be kept."""
        argv = self.argv
        known = len(argv) > len(_RUNNER) + 1 and argv[1 : 1 + len(_RUNNER)] == _RUNNER
        if not known or _INTERPRETER.fullmatch(argv[0]) is None:
            return False
        size = sum(map(len, argv)) + sum(len(k) + len(v) for k, v in self.env) + len(self.cwd)
        return size <= MAX_COMMAND_CHARS


def command_of(told: Mapping[str, Any]) -> Command:
    """Return the command of an instruction to run (docs/protocol.md)."""
    env = {
        name: value
        for name, value in told["env"].items()
        if not name.startswith(_PREFIX) and name not in _OF_A_RUN
    }
    return Command(tuple(told["argv"]), tuple(sorted(env.items())), told["cwd"])


def command_for(view: TaskView) -> Command:
    """Return the command of a Task's runs, without what belongs to one run alone."""
    named = {entry["name"] for entry in view.spec.get("env") or ()}
    defaults = {k: value for k, value in ENV_DEFAULTS_OF_RUNS.items() if k not in named}
    cwd = view.spec.get("workingDir") or ""
    return command_of({"argv": words_of(view), "env": defaults | given_env(view), "cwd": cwd})


def words_of(view: TaskView) -> list[str]:
    """Return the words of a Task's command."""
    return [*view.spec.get("command", ()), *(view.spec.get("args") or ())]


def given_env(view: TaskView) -> dict[str, str]:
    """Return the Task's plain variables; those with ``valueFrom`` are in the container already."""
    return {
        entry["name"]: entry.get("value") or ""
        for entry in view.spec.get("env") or ()
        if "valueFrom" not in entry
    }


@dataclass(frozen=True, slots=True)
class Started:
    """A run that was started.

    Attributes:
        digest: of its command; empty: a command that cannot be prepared.
        root_uid: the tree it belongs to.
    """

    digest: str
    root_uid: str


@dataclass(frozen=True, slots=True)
class Preparation:
    """What was prepared in a container.

    Attributes:
        digest: of the command.
        root_uid: the tree that the command was taken from.
    """

    digest: str
    root_uid: str

    def admits(self, digest: str, root_uid: str) -> bool:
        """Whether a task may run where this was prepared: it is the command, or of its tree."""
        return digest == self.digest or root_uid == self.root_uid


def most_prepared(capacity: Amount) -> int:
    """Return how many interpreters may wait on a worker.

    Args:
        capacity: what the worker has for tasks.
    """
    return min(MAX_PREPARED, capacity.memory_bytes // _SHARE_DIVISOR // _MOST_BYTES)


def decide_prepare(
    recent: Sequence[Started],
    prepared: Sequence[str],
    clean: int,
    room: int,
    failing: frozenset[str],
) -> Started | None:
    """Return the start whose command to prepare in one more parked container of a class.

    The commands get containers in proportion to how often they ran recently; what cannot be
    prepared counts, too, and its share stays as it is. Where tasks of several trees run several
    commands, one container stays as it is in any case.

    Args:
        recent: the last starts of the class, the newest last.
        prepared: digests of what waits, prepared, in containers of the class.
        clean: parked containers of the class in which nothing was prepared, one at least.
        room: how many more may be prepared on this worker.
        failing: digests of commands that are left alone.

    Returns:
        The newest start of the command; None: nothing is to be prepared.
    """
    if room <= 0 or not recent:
        return None
    alike = len({item.digest for item in recent}) == 1 or len({i.root_uid for i in recent}) == 1
    if clean <= 1 and not alike:
        return None
    counts: Counter[str] = Counter()
    newest: dict[str, int] = {}
    for number, item in enumerate(recent):
        digest = "" if item.digest in failing else item.digest
        counts[digest] += 1
        newest[digest] = number
    have = Counter(prepared)
    have[""] = clean - 1
    best = max(counts, key=lambda digest: (counts[digest] / (have[digest] + 1), newest[digest]))
    return recent[newest[best]] if best else None
