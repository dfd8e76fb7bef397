"""What the controller is told of all workers, whatever their TaskCluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskctl.constants import DEFAULT_IMAGE


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What all workers of a controller have in common.

    Attributes:
        image: of the worker's own containers, unless ``spec.workerImage`` names one.
        metrics_port: where each agent serves its metrics, on its pod's address; 0: nowhere.
        traces: tasks are told of the trace that they belong to.
    """

    image: str = DEFAULT_IMAGE
    metrics_port: int = 0
    traces: bool = False


DEFAULT_WORKERS: Final = WorkerSettings()
