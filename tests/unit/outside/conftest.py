"""The SDK's tests know how to look like a task."""

from tests.unit.sdk.conftest import agent, fresh, workspace

__all__ = ["agent", "fresh", "workspace"]
