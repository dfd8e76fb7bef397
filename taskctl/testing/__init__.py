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
    try:
        from taskctl.testing.cluster import FakeCluster
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"FakeCluster needs the local stack: pip install 'taskctl[local]' ({error})"
        ) from error
    return FakeCluster
