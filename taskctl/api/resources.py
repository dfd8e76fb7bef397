"""Where the API server keeps the kinds of taskctl; loads no models."""

from __future__ import annotations

from typing import Final

from taskctl.constants import GROUP, VERSION
from taskctl.kube.resources import Resource

TASKS: Final = Resource(GROUP, VERSION, "tasks", "Task")
TASKOBJECTS: Final = Resource(GROUP, VERSION, "taskobjects", "TaskObject")
TASKCLUSTERS: Final = Resource(GROUP, VERSION, "taskclusters", "TaskCluster")
