"""Fields that a task takes from its root where it leaves them out: one type for each."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from taskctl.api import containerfields
from taskctl.api.meta import INT32_MAX

FROM_ROOT: Final = "Default: that of the root."

_Seconds = Annotated[int, Field(ge=1, le=INT32_MAX)]

Image = Annotated[containerfields.Image | None, Field(description=f"Container image. {FROM_ROOT}")]
Arguments = Annotated[
    containerfields.Arguments | None, Field(description="Further arguments, added to `command`.")
]
WorkingDir = Annotated[
    containerfields.WorkingDir | None, Field(description=f"Directory to start in. {FROM_ROOT}")
]
TimeoutSeconds = Annotated[
    _Seconds | None, Field(description=f"Seconds that one attempt may run. {FROM_ROOT}")
]
StartDeadlineSeconds = Annotated[
    _Seconds | None,
    Field(description=f"Seconds that a placed attempt may wait for its start. {FROM_ROOT}"),
]
Priority = Annotated[
    int | None,
    Field(ge=-INT32_MAX - 1, le=INT32_MAX, description=f"Higher runs first. {FROM_ROOT}"),
]
Slots = Annotated[
    int | None, Field(ge=1, le=100, description=f"Slots of the worker it takes. {FROM_ROOT}")
]
ReadOnlyWorkspace = Annotated[
    bool | None, Field(description=f"Mount the shared workspace read-only. {FROM_ROOT}")
]
