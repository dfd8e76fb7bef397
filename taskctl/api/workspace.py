"""``TaskCluster.spec.workspace``: the directory that all tasks of a TaskCluster share."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from taskctl.api import meta, podparts
from taskctl.api.meta import Name, SpecModel
from taskctl.api.states import Reclaim
from taskctl.api.variables import NO_STEP_BACK, SOUND_TEXT, STEP_BACK_MESSAGE, UNKNOWN_MESSAGE
from taskctl.constants import (
    DEFAULT_LOG_LIMIT_BYTES,
    DEFAULT_WORKSPACE_PATH,
    RUNTIME_PATH,
    STATE_PATH,
)

RESERVED_PATHS = (RUNTIME_PATH, STATE_PATH)
WORKSPACE_SOURCES = ("pvc", "claimName", "hostPath", "nfs", "emptyDir")
SOURCE_MESSAGE = f"set at most one of {', '.join(WORKSPACE_SOURCES)}"
MOUNT_PATH_MESSAGE = (
    f"{' and '.join(RESERVED_PATHS)} belong to taskctl; mount the volume somewhere else"
)
MIN_LOG_BYTES = 65_536
LOG_LIMIT_MESSAGE = f"must be 0, for no limit, or at least {MIN_LOG_BYTES}"
MOUNT_PATH = r"^/[^:]+$"


def inside(path: str, roots: tuple[str, ...]) -> bool:
    """Whether ``path`` is one of ``roots`` or below one."""
    return any(path == root or path.startswith(root + "/") for root in roots)


def reserved_path_rule(variable: str) -> str:
    """Return the CEL expression that is true where ``variable`` is outside RESERVED_PATHS."""
    return " && ".join(
        f"{variable} != '{path}' && !{variable}.startsWith('{path}/')" for path in RESERVED_PATHS
    )


def text_rule() -> dict[str, str]:
    """Return the CEL rule of a text that may have variables."""
    return meta.cel(f"self.matches(r'{SOUND_TEXT}')", UNKNOWN_MESSAGE)


def path_rules() -> tuple[dict[str, str], ...]:
    """Return the CEL rules of the path of a directory, which may have variables."""
    return text_rule(), meta.cel(f"!self.matches(r'{NO_STEP_BACK}')", STEP_BACK_MESSAGE)


class ClaimResources(SpecModel):
    """What the claim asks for."""

    requests: Annotated[
        dict[str, meta.Quantity],
        Field(
            max_length=8,
            default_factory=lambda: {"storage": "1Gi"},
            description="`storage`: size of the claim, for example 10Gi. Default 1Gi.",
            json_schema_extra={"default": {"storage": "1Gi"}},
        ),
    ]
    limits: Annotated[
        dict[str, meta.Quantity] | None,
        Field(max_length=8, description="`storage`: largest size of the claim."),
    ] = None


class WorkspaceClaim(SpecModel):
    """The PersistentVolumeClaim that taskctl creates for the workspace."""

    access_modes: Annotated[
        list[Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]],
        Field(
            min_length=1,
            max_length=3,
            description=(
                "ReadWriteOnce (the default): all workers run on one node. ReadWriteMany: workers "
                "may run on several nodes; the storage class must support it."
            ),
            default_factory=lambda: ["ReadWriteOnce"],
            json_schema_extra={**meta.ATOMIC_LIST, "default": ["ReadWriteOnce"]},
        ),
    ]
    resources: Annotated[
        ClaimResources,
        Field(
            default_factory=ClaimResources,
            description="What the claim asks for.",
            json_schema_extra={"default": {"requests": {"storage": "1Gi"}}},
        ),
    ]
    storage_class_name: Annotated[
        str | None,
        Field(max_length=meta.MAX_NAME, description="Default: the cluster's default class."),
    ] = None
    volume_mode: Annotated[
        Literal["Filesystem"], Field(description="Filesystem: tasks share files.")
    ] = "Filesystem"
    selector: Annotated[
        podparts.LabelSelector | None,
        Field(description="Label selector for the PersistentVolumes to bind to."),
    ] = None


class HostPathSource(SpecModel):
    """A directory of the node. All workers must then be on that node, or see the same files."""

    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=meta.MAX_TEXT,
            description="Path; may have variables.",
            json_schema_extra=meta.validations(*path_rules()),
        ),
    ]
    type: Annotated[
        Literal["", "DirectoryOrCreate", "Directory"] | None,
        Field(description="Directory, DirectoryOrCreate, or not set: no check."),
    ] = None


class NfsSource(SpecModel):
    """An NFS export."""

    server: Annotated[str, Field(min_length=1, max_length=253, description="Host name or IP.")]
    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=meta.MAX_TEXT,
            description="Exported path; may have variables.",
            json_schema_extra=meta.validations(*path_rules()),
        ),
    ]
    read_only: Annotated[bool | None, Field(description="Mount read-only.")] = None


class EmptyDirSource(SpecModel):
    """A directory that lives and dies with the worker, and is not shared between workers."""

    medium: Annotated[
        Literal["", "Memory"] | None, Field(description="Memory: a tmpfs. Default: the disk.")
    ] = None
    size_limit: Annotated[meta.Quantity | None, Field(description="For example 1Gi.")] = None


class Cleanup(SpecModel):
    """When taskctl removes what Tasks have left in its directory `.taskctl` of the workspace."""

    enabled: Annotated[bool, Field(description="False: nothing is removed. Default true.")] = True
    after_deletion_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=meta.INT32_MAX,
            description="Seconds since their last change that logs and directories of a Task stay "
            "though the Task is gone. Default 0.",
        ),
    ] = 0
    orphan_seconds: Annotated[
        int | None,
        Field(
            ge=60,
            le=meta.INT32_MAX,
            description="Seconds since their last change that files stay whose Task no agent has "
            "seen. Default 86400 for claims and emptyDir. With hostPath and nfs, which other "
            "namespaces may share, the default is that they stay, and large values too.",
        ),
    ] = None
    max_age_seconds: Annotated[
        int | None,
        Field(
            ge=60,
            le=meta.INT32_MAX,
            description="Seconds after its end that logs and the directory of a Task stay though "
            "the Task is there. Not set: as long as the Task.",
        ),
    ] = None
    period_seconds: Annotated[
        int,
        Field(
            ge=5,
            le=86_400,
            description="Seconds between two looks, on average, of all workers together. "
            "Default 60.",
        ),
    ] = 60


class Workspace(SpecModel):
    """The directory that all tasks of the TaskCluster share.

    Name at most one source; with none, a claim is created with the defaults of `pvc`.
    """

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(
                f"[{', '.join(f'has(self.{name})' for name in WORKSPACE_SOURCES)}]"
                ".filter(x, x).size() <= 1",
                SOURCE_MESSAGE,
            ),
            meta.cel(
                "!has(self.mountPath) || (" + reserved_path_rule("self.mountPath") + ")",
                MOUNT_PATH_MESSAGE,
                field_path=".mountPath",
            ),
        )
    )
    enable: Annotated[
        bool,
        Field(description="false: no workspace, as if the field were absent. Default true."),
    ] = True
    pvc: Annotated[
        WorkspaceClaim | None,
        Field(description="Create a PersistentVolumeClaim named `<TaskCluster>-workspace`."),
    ] = None
    claim_name: Annotated[
        Annotated[Name, Field(json_schema_extra=meta.validations(text_rule()))] | None,
        Field(description="Use this PersistentVolumeClaim, which you created; may have variables."),
    ] = None
    host_path: Annotated[
        HostPathSource | None, Field(description="Use a directory of the node.")
    ] = None
    nfs: Annotated[NfsSource | None, Field(description="Use an NFS export.")] = None
    empty_dir: Annotated[
        EmptyDirSource | None,
        Field(description="Use a directory of the worker; not shared between workers."),
    ] = None
    mount_path: Annotated[
        str,
        Field(
            max_length=meta.MAX_TEXT,
            pattern=MOUNT_PATH,
            description="Path at which tasks find it; may have variables. Default /workspace.",
            json_schema_extra=meta.validations(*path_rules()),
        ),
    ] = DEFAULT_WORKSPACE_PATH
    log_limit_bytes: Annotated[
        int,
        Field(
            ge=0,
            le=2**50,
            description="How many bytes of an attempt's log the workspace keeps: at least 65536, "
            "or 0 for no limit. Of a longer log the first half of that stays, and at least the "
            "last quarter. Default 67108864 (64 MiB).",
            json_schema_extra=meta.validations(
                meta.cel(f"self == 0 || self >= {MIN_LOG_BYTES}", LOG_LIMIT_MESSAGE)
            ),
        ),
    ] = DEFAULT_LOG_LIMIT_BYTES
    cleanup: Annotated[
        Cleanup | None,
        Field(description="When files of Tasks that are gone are removed. Default: soon."),
    ] = None
    reclaim: Annotated[
        Reclaim,
        Field(
            description=(
                "What happens to the claim that taskctl created when the TaskCluster is deleted: "
                "Delete (the default) or Retain. taskctl never deletes a claim that you created."
            )
        ),
    ] = Reclaim.DELETE

    @field_validator("log_limit_bytes")
    @classmethod
    def _log_limit(cls, limit: int) -> int:
        if 0 < limit < MIN_LOG_BYTES:
            raise ValueError(LOG_LIMIT_MESSAGE)
        return limit

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sources = (self.pvc, self.claim_name, self.host_path, self.nfs, self.empty_dir)
        if sum(source is not None for source in sources) > 1:
            raise ValueError(SOURCE_MESSAGE)
        if inside(self.mount_path, RESERVED_PATHS):
            raise ValueError(f"mountPath: {MOUNT_PATH_MESSAGE}")
        return self
