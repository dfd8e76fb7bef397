"""Operations: tasks put together to one graph, which runs and is deleted as one.

The names are those of CloudHarness' workflows API, so that programs written for it keep their
shape. See docs/operations.md.
"""

from taskctl.outside.operations.contexts import PodExecutionContext
from taskctl.outside.operations.directories import SharedDirectory
from taskctl.outside.operations.documents import Manifests, read_yaml
from taskctl.outside.operations.shapes import (
    Operation,
    ParallelOperation,
    PipelineOperation,
    SimpleDagOperation,
    SingleTaskOperation,
)
from taskctl.outside.operations.tasks import (
    BashTask,
    CommandBasedTask,
    CustomTask,
    OperationTask,
    PythonTask,
)

__all__ = [
    "BashTask",
    "CommandBasedTask",
    "CustomTask",
    "Manifests",
    "Operation",
    "OperationTask",
    "ParallelOperation",
    "PipelineOperation",
    "PodExecutionContext",
    "PythonTask",
    "SharedDirectory",
    "SimpleDagOperation",
    "SingleTaskOperation",
    "read_yaml",
]
