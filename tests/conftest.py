"""Checks that hold for every test: no task is left behind, nothing blocks the event loop."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

# Not counted as blocking: operations on small local files, which take microseconds (the
# server's commit is one of them), as long as nobody sleeps, waits for a lock or a network.
_LOCAL_FILES = ("os.", "io.", "sqlite3.")

# No test is about speed: a fresh checkout takes a second for its first example, as Hypothesis
# then makes its table of characters, and a busy machine takes long for any.
settings.register_profile("taskctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI every run tries the same examples, so that what it says is about the change that it tests.
# New examples are tried where the tests run otherwise, or with `--hypothesis-seed=N`.
settings.register_profile("taskctl-ci", settings.get_profile("taskctl"), derandomize=True)
settings.load_profile("taskctl-ci" if os.environ.get("CI") else "taskctl")


@pytest.fixture(autouse=True)
def strict_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Apply the checks to tests that are coroutines."""
    function = getattr(request, "function", None)
    if function is None or not inspect.iscoroutinefunction(function):
        yield
        return
    request.getfixturevalue("no_leftover_tasks")
    with blockbuster_ctx("taskctl") as guard:
        for name, function in guard.functions.items():
            if name.startswith(_LOCAL_FILES):
                function.deactivate()
            # The synchronous facade waits; its tests drive it beside a fake agent's loop.
            function.can_block_in("taskctl/sdk/_blocking.py", ("connect", "exchange", "perform"))
        yield


@pytest.fixture
async def no_leftover_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves asyncio tasks running."""
    before = asyncio.all_tasks()
    yield
    for _ in range(100):  # handlers of a server that was just stopped are on their way out
        known = before | {asyncio.current_task()}
        left = {task for task in asyncio.all_tasks() - known if not task.done()}
        if not left:
            return
        await asyncio.sleep(0.01)
    names = sorted(f"{task.get_name()}: {task.get_coro()}" for task in left)
    pytest.fail(f"the test left asyncio tasks behind: {names}")
