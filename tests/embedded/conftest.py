"""One local stack for all tests of this folder: server, controller and node as processes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskctl.kube.client import KubeClient
from taskctl.testing.stack import LocalStack
from tests.embedded.world import World

DEMO = Path(__file__).resolve().parents[2] / "demo"


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    """Return a running stack; its data directory is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="taskctl-test-"))
    images = {
        "counter:latest": DEMO / "counter" / "image",
        "counter-sh:latest": DEMO / "counter-sh" / "image",
        "quicksort:latest": DEMO / "quicksort" / "image",
        "prototype:latest": DEMO / "prototype" / "image",
        "wordcount:latest": DEMO / "wordcount" / "image",
        "crawl:latest": DEMO / "crawl" / "image",
        "sweep:latest": DEMO / "sweep" / "image",
    }
    stack = LocalStack(directory / "data", image_roots=images, notify_allow=["http://127.0.0.1:*"])
    try:
        stack.start()
        asyncio.run(stack.wait_ready())
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def world(stack: LocalStack, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Return a namespace of the test's own, seen through a client; emptied afterwards."""
    async with await KubeClient.connect(stack.client_settings()) as client:
        world = await World.create(client, request.node.name, stack.data_dir)
        try:
            yield world
        finally:
            await world.delete()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Put the ends of the stack's logs into a failing test's report."""
    outcome: Any = yield
    report = outcome.get_result()
    stack = getattr(item, "funcargs", {}).get("stack")
    if report.when == "call" and report.failed and isinstance(stack, LocalStack):
        report.sections.append(("local stack", stack.logs()))
