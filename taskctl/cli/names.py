"""Names of objects as people type them: alone, or as ``-o name`` and kubectl print them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from taskctl.api.states import TaskState
from taskctl.cli.exits import UsageError
from taskctl.constants import DNS_SUBDOMAIN, GROUP, MAX_NAME, VERSION

_WORDS: Final = {
    "Task": ("task", "tasks", "tk"),
    "TaskCluster": ("taskcluster", "taskclusters", "tc"),
    "TaskObject": ("taskobject", "taskobjects", "tobj"),
}
_SUFFIXES: Final = ("", f".{GROUP}", f".{VERSION}.{GROUP}")


def parse_name(text: str, kind: str = "Task", option: str = "") -> str:
    """Return the name in ``NAME``, ``task/NAME``, ``tasks/NAME`` or ``task.taskctl.dev/NAME``.

    Args:
        text: as typed.
        kind: Task, TaskCluster or TaskObject.
        option: which it was given to, for the error; empty for an argument.

    Raises:
        UsageError: it names an object of another kind, or no object could have that name.
    """
    where = f"{option} " if option else ""
    prefix, slash, name = text.rpartition("/")
    if slash and kind_of_word(prefix) != kind:
        raise UsageError(
            f"{where}{text!r} does not name a {kind}; write NAME or {kind.lower()}/NAME"
        )
    if len(name) > MAX_NAME or re.fullmatch(DNS_SUBDOMAIN, name) is None:
        raise UsageError(
            f"{where}{text!r} cannot be the name of a {kind}: names have lower-case letters, "
            f"digits, '-' and '.', at most {MAX_NAME}, and begin and end with a letter or digit"
        )
    return name


def kind_of_word(word: str) -> str | None:
    """Return the kind that ``task``, ``tk`` or ``tasks.taskctl.dev`` stands for, or None."""
    for kind, known in _WORDS.items():
        if word.lower() in {name + suffix for name in known for suffix in _SUFFIXES}:
            return kind
    return None


def parse_any(text: str) -> tuple[str, str]:
    """Return kind and name of ``NAME`` (a Task) or ``KIND/NAME``.

    Raises:
        UsageError: there is no such kind, or no object could have that name.
    """
    prefix, slash, _ = text.rpartition("/")
    kind = kind_of_word(prefix) if slash else "Task"
    if kind is None:
        kinds = ", ".join(f"{known.lower()}/NAME" for known in _WORDS)
        raise UsageError(f"{text!r} names no kind of taskctl; write NAME of a Task, or {kinds}")
    return kind, parse_name(text, kind)


def parse_names(texts: Iterable[str], option: str = "") -> list[str]:
    """Return the names of Tasks, each once, in the order they were typed."""
    return list(dict.fromkeys(parse_name(text, option=option) for text in texts))


def parse_when(text: str) -> str:
    """Return the value of ``spec.when`` that a text names in any case.

    Raises:
        UsageError: there is no such value; names those there are.
    """
    from taskctl.api.states import When

    return _choice(text, list(When), "--when: there is no outcome")


def parse_state(text: str) -> TaskState:
    """Return the state that a text names in any case.

    Raises:
        UsageError: there is no such state; names those there are.
    """
    return TaskState(_choice(text, list(TaskState), "--state: there is no state"))


def _choice(text: str, values: Sequence[str], complaint: str) -> str:
    known = {str(value).lower(): str(value) for value in values}
    try:
        return known[text.lower()]
    except KeyError:
        raise UsageError(
            f"{complaint} {text!r}; choose one of {', '.join(known.values())}"
        ) from None
