"""Every verb that takes names takes them as ``kind/name``, and says which kinds it takes."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.fake import FakeClient

TASK = ("task", "tasks", "tk", "Task", "tasks.taskctl.dev", "tasks.v1alpha1.taskctl.dev")
CLUSTER = ("taskcluster", "taskclusters", "tc", "taskclusters.taskctl.dev")
OBJECT = ("taskobject", "taskobjects", "tobj", "taskobjects.taskctl.dev")
# The words of a command, with {} for the name; and the kinds that it takes.
VERBS = [
    ("get {}", TASK),
    ("get --root {}", TASK),
    ("wait {} --timeout 0", TASK),
    ("cancel {}", TASK),
    ("retry {}", TASK),
    ("logs {}", TASK),
    ("logs --tree {}", TASK),
    ("debug {}", TASK),
    ("cp {}: .", TASK + CLUSTER),
    ("tree {}", TASK),
    ("report {} -o -", TASK),
    ("export {}", TASK),
    ("output {}", TASK + OBJECT),
    ("delete {}", TASK + CLUSTER + OBJECT),
]


@pytest.mark.parametrize(("line", "words"), VERBS)
def test_kinds_of_every_verb(
    run: Run, client: FakeClient, line: str, words: tuple[str, ...]
) -> None:
    for word in words:
        result = run(*line.format(f"{word}/gone").split())
        assert result.exit_code == 3, result.output  # understood, and not found
    for word in {*TASK, *CLUSTER, *OBJECT, "pod", "", "tasks.other.dev"} - set(words):
        result = run(*line.format(f"{word}/gone").split())
        assert result.exit_code == 2, result.output
        for kind in {
            "task/",
            *(one + "/" for one in words if one in ("taskcluster", "taskobject")),
        }:
            assert kind + "NAME" in result.output, (word, result.output)
