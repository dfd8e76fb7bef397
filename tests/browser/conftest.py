"""A browser for each test; without one the tests are skipped, and say so."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import NAMES, Tab, chromium_tab, find_chromium
from tests.browser.localstack import Local, running_local

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)
            if item.get_closest_marker("timeout") is None:
                # A busy machine takes ten seconds to start a Chromium.
                item.add_marker(pytest.mark.timeout(180))


@pytest.fixture
async def tab(request: pytest.FixtureRequest) -> AsyncIterator[Tab]:
    """Return an empty page of 1280x800; fails at the end if anything went wrong in it."""
    if find_chromium() is None:
        message = f"no browser on PATH ({', '.join(NAMES)}); on Debian: apt-get install chromium"
        if os.environ.get("TASKCTL_REQUIRE_BROWSER") == "1":
            pytest.fail(f"TASKCTL_REQUIRE_BROWSER=1, but there is {message}")
        pytest.skip(message)
    async with chromium_tab() as tab:
        await tab.size(1280, 800)
        await tab.theme("light")
        yield tab
        assert tab.errors == []  # exceptions, refused requests, violations of the policy


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    """Return a running `taskctl local` with a TaskCluster `c`."""
    yield from _local()


@pytest.fixture
def own_local() -> Iterator[Local]:
    """Return a `local` of this test alone: the page shows what every test has put there."""
    yield from _local()


def _local() -> Iterator[Local]:
    if find_chromium() is None and os.environ.get("TASKCTL_REQUIRE_BROWSER") != "1":
        pytest.skip("no browser on PATH")
    with running_local() as found:
        yield found
