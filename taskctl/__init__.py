"""taskctl: dynamic batch work on warm Kubernetes worker pods.

In a task, use :mod:`taskctl.sdk`. From outside, ``taskctl.Client`` and its relatives, which are
loaded when they are first used: this module is imported inside every task, where each
millisecond counts.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from taskctl.outside import operations
    from taskctl.outside.client import Client
    from taskctl.outside.executor import TaskExecutor as Executor
    from taskctl.outside.here import run_here
    from taskctl.outside.stack import local
    from taskctl.outside.sync import SyncClient

_OUTSIDE = {
    "Client": ("client", "Client"),
    "Executor": ("executor", "TaskExecutor"),
    "SyncClient": ("sync", "SyncClient"),
    "local": ("stack", "local"),
    "operations": ("operations", ""),
    "run_here": ("here", "run_here"),
}
__all__ = ["Client", "Executor", "SyncClient", "__version__", "local", "operations", "run_here"]


def __getattr__(name: str) -> object:
    if name not in _OUTSIDE:
        raise AttributeError(f"module 'taskctl' has no attribute {name!r}")
    from importlib import import_module

    module_name, attribute = _OUTSIDE[name]
    module = f"taskctl.outside.{module_name}"
    try:
        holder = import_module(module)
        found: object = getattr(holder, attribute) if attribute else holder
    except ModuleNotFoundError as error:
        if error.name not in ("taskctl.outside", module):
            raise
        found = _absent(name) if attribute else _AbsentModule(name)
    globals()[name] = found
    return found


class _AbsentModule:
    """What stands for a module in a task."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> type:
        return _absent(f"{self._name}.{attribute}")


def _absent(name: str) -> type:
    """Return what stands for a name in a task, whose taskctl is the SDK alone.

    A module may hold both, tasks and the program that submits them.
    """

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise RuntimeError(
            f"taskctl.{name} is for programs outside; this is a task: use taskctl.sdk"
        )

    return type(name, (), {"__init__": refuse})
