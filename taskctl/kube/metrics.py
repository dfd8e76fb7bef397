"""What health server and manager ask of a process' metrics; which ones those are, it decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class ProcessMetrics(Protocol):
    """The metrics of one process."""

    def declare_cache(self, resource: str, size: Callable[[], int]) -> None:
        """Report ``size()`` as the number of objects in a cache."""
        ...

    def declare_controller(self, controller: str) -> None:
        """Expect reports on a controller of this name."""
        ...

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        ...


class NoMetrics:
    """Metrics that are not kept."""

    def declare_cache(self, resource: str, size: Callable[[], int]) -> None:
        """Ignore the cache."""

    def declare_controller(self, controller: str) -> None:
        """Ignore the controller."""

    def render(self) -> bytes:
        """Return nothing."""
        return b""
