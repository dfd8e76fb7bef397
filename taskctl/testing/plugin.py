"""Fixtures for pytest, which finds them by the entry point ``pytest11`` once taskctl is installed.

Nothing of taskctl is imported before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from taskctl.outside.stack import LocalStack
    from taskctl.testing.cluster import FakeCluster


@pytest.fixture(scope="session")
def taskctl_stack_options() -> dict[str, Any]:
    """Keyword arguments of :func:`taskctl.local` for ``taskctl_stack``; override it."""
    return {}


@pytest.fixture(scope="session")
def taskctl_stack(taskctl_stack_options: dict[str, Any]) -> Iterator[LocalStack]:
    """A local stack that runs for the whole session, as ``taskctl.local()`` starts it."""
    from taskctl.outside.stack import local

    with local(**taskctl_stack_options) as stack:
        yield stack


@pytest.fixture
def taskctl_cluster_options() -> dict[str, Any]:
    """Keyword arguments of FakeCluster for ``taskctl_cluster``; override it."""
    return {}


try:
    from pytest_asyncio import fixture as _async_fixture
except ModuleNotFoundError:

    @pytest.fixture
    def taskctl_cluster() -> None:
        """Say what is missing."""
        pytest.fail(
            "the fixture taskctl_cluster needs pytest-asyncio: install it, or write `async with "
            "FakeCluster() as cluster` in the test"
        )

else:

    @_async_fixture
    async def taskctl_cluster(  # type: ignore[misc]  # another kind of fixture
        taskctl_cluster_options: dict[str, Any],
    ) -> AsyncIterator[FakeCluster]:
        """A FakeCluster of the test's own, in the event loop of the test."""
        from taskctl.testing.cluster import FakeCluster

        async with FakeCluster(**taskctl_cluster_options) as cluster:
            yield cluster
