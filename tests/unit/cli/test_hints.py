from __future__ import annotations

import pytest

from taskctl.api.states import TaskState
from taskctl.cli.hints import hint_for
from taskctl.testing.builders import task

NO_MODULE = "The command exited with code 1.\nTraceback\nModuleNotFoundError: No module named "
NOT_FOUND = (
    "The command '{0}' was not found in the image.\nexec: \"{0}\": no such file or directory"
)


@pytest.mark.parametrize(
    ("reason", "message", "words"),
    [
        ("CommandNotFound", NOT_FOUND.format("/tmp/x/run.sh"), "does not see /tmp/x/run.sh of"),
        ("CommandNotFound", NOT_FOUND.format("frobnicate"), "the programs of its image"),
        ("NonZeroExit", "Code 2.\nsh: 0: cannot open /tmp/a b: No such file", "not see /tmp/a of"),
        (
            "StartError",
            'The command could not be started. workingDir "/run/x": no such file or directory',
            "does not see /run/x of",
        ),
        ("NonZeroExit", NO_MODULE + "'mine.part'", "does not find the package mine. If"),
        ("NonZeroExit", "Code 1.\nlog: wrote /tmp/result\nValueError: x", ""),
        ("NonZeroExit", "Code 1.\ncannot open /var/tmp/x: No such file", ""),
        ("NonZeroExit", "Code 1.\ncannot open /workspace/tmp/x: No such file", ""),
        ("Timeout", "It ran for longer than 3 s.", ""),
    ],
)
def test_what_to_do(reason: str, message: str, words: str) -> None:
    failed = task("t").state(TaskState.FAILED, reason).status(message=message)
    hint = hint_for(failed.build())
    assert words in hint
    assert bool(words) is bool(hint)
    assert hint == "" or hint.endswith(".")


def test_only_failures_have_a_hint() -> None:
    message = NOT_FOUND.format("/tmp/x")
    for state in (TaskState.SUCCEEDED, TaskState.RUNNING, TaskState.CANCELLED):
        assert hint_for(task("t").state(state).status(message=message).build()) == ""
    assert hint_for(task("t").build()) == ""
