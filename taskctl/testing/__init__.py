"""Helpers for tests of programs that use taskctl, and of taskctl itself.

``FakeCluster`` is loaded when it is first used: the builders and the stack need no server in
this process.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from taskctl.testing.cluster import FakeCluster

__all__ = ["FakeCluster"]


def __getattr__(name: str) -> object:
    if name != "FakeCluster":
        raise AttributeError(f"module 'taskctl.testing' has no attribute {name!r}")
    from taskctl.testing.cluster import FakeCluster

    return FakeCluster
