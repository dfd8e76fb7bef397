"""Trees of tasks that never ran, as large as one likes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from taskctl.api.states import TaskState
from taskctl.testing.builders import EPOCH, task

Object = dict[str, Any]
START = EPOCH + timedelta(hours=1)
TRACEBACK = """Traceback (most recent call last):
  File "/app/sums.py", line 7, in square
    return 1 / (number - 3)
ZeroDivisionError: division by zero"""


def moments(begin_s: float, run_s: float) -> dict[str, datetime]:
    """Return the times of a task that was created at ``begin_s`` seconds."""
    at = [begin_s, begin_s + 0.01, begin_s + 0.05, begin_s + 0.06]
    at += [begin_s + 0.06 + run_s, begin_s + 0.065 + run_s]
    names = ("created", "placed", "started", "userCode", "exited", "observed")
    return {name: START + timedelta(seconds=second) for name, second in zip(names, at, strict=True)}


def ended(builder: Any, begin_s: float, run_s: float, worker: str) -> Any:
    """Make a task one that has succeeded."""
    return (
        builder.state(TaskState.SUCCEEDED, "Completed")
        .status(podName=worker, attempt=1, exitCode=0)
        .times(**moments(begin_s, run_s))
    )


def function(name: str) -> tuple[str, ...]:
    """Return the command that runs a function of ``sums.py``."""
    return ("python3", "-m", "taskctl.sdk.run", "--path", "/app", f"sums:{name}")


def wide_tree(count: int, *, workers: int = 8, slots: int = 4) -> list[Object]:
    """Return a root that made stages, which made ``count`` tasks in all; a few failed."""
    root = ended(task("sums").command(*function("main")), 0, 30, "c-0").build()
    tasks = [root]
    stages = max(1, min(12, count // 40))
    heads = []
    for number in range(stages):
        name = f"stage-{number}"
        head = task(name).command(*function("stage")).child_of(root)
        heads.append(ended(head, 0.2 + number / 4, 20, f"c-{number % workers}").build())
    tasks += heads
    for number in range(count - len(tasks)):
        head = heads[number % stages]
        lane = number // (workers * slots)
        begin_s = 1 + lane * 0.2 + (number % 7) / 50
        builder = task(f"t-{number}").command(*function("square" if number % 3 else "load"))
        leaf = builder.child_of(head)
        worker = f"c-{number % workers}"
        if number % 997 == 5:
            leaf = ended(leaf, begin_s, 0.1, worker).state(TaskState.FAILED, "NonZeroExit")
            leaf = leaf.status(exitCode=1, message=TRACEBACK)
        elif number > count * 0.9:
            leaf = leaf.state(TaskState.PENDING, "Queued").times(
                created=START + timedelta(seconds=begin_s)
            )
        elif number > count * 0.88:
            leaf = leaf.running(worker).times(
                **{k: v for k, v in moments(begin_s, 1).items() if k not in ("exited", "observed")}
            )
        else:
            leaf = ended(leaf, begin_s, 0.1 + (number % 11) / 100, worker)
        tasks.append(leaf.build())
    return tasks
