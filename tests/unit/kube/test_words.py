"""The layer for Kubernetes has no word of the product that uses it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import taskctl.kube

ROOT = Path(taskctl.kube.__file__).parent
# How a module names its own package and what that stands on, and asyncio's words.
OWN = re.compile(
    r"\btaskctl\.(?:backoff|clock|errors|kube|objectkey|safetext)\b"
    r"|\bTaskctlError\b|\basyncio\.Task\b|\bTaskGroup\b"
)
FOREIGN = re.compile(r"taskctl|\bTASK|\bTask|task[-_ ]?(?:cluster|object)|workspace", re.I)
# A task in small letters is asyncio's.
SMALL = re.compile(r"\b_?tasks?\b|\bcreate_task\b")


def foreign_words(text: str) -> list[str]:
    """Return the words of the product in a module, each with its line."""
    return [
        f"{number}: {found[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := FOREIGN.search(SMALL.sub("", OWN.sub("", line))))
    ]


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda path: str(path.name))
def test_the_layer_has_no_word_of_the_product(path: Path) -> None:
    assert foreign_words(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        'TASKS = Resource("taskctl.dev", "v1alpha1", "tasks", "Task")',
        "from taskctl.constants import GROUP",
        "from taskctl import __version__",
        "# The claim on a Task's status sees to that.",
        'kind = "TaskCluster"',
        "taskcluster = owner",
        "workspace_path: str",
    ],
)
def test_words_of_the_product_are_found(line: str) -> None:
    assert foreign_words(line) != []


@pytest.mark.parametrize(
    "line",
    [
        "from taskctl.kube.timing import Timing",
        "from taskctl.errors import TaskctlError",
        "async with asyncio.TaskGroup() as group:",
        "task = group.create_task(run())  # other tasks share the loop",
    ],
)
def test_words_of_the_language_are_none(line: str) -> None:
    assert foreign_words(line) == []
