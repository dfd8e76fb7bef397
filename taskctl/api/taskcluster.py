"""The TaskCluster: warm worker pods that share one workspace."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from taskctl.api import containerfields, meta, podparts
from taskctl.api.meta import INT32_MAX, Condition, Name, ObjectMeta, SpecModel, StatusModel
from taskctl.api.standby import Standby
from taskctl.api.taskdefaults import TaskDefaults
from taskctl.api.variables import (
    MAX_USER,
    USER_DOTS_MESSAGE,
    USER_MESSAGE,
    USER_NAME,
    check_variables,
    uses_user,
)
from taskctl.api.workertemplate import WorkerTemplate
from taskctl.api.workspace import (
    MOUNT_PATH,
    MOUNT_PATH_MESSAGE,
    RESERVED_PATHS,
    Workspace,
    inside,
    path_rules,
    reserved_path_rule,
    text_rule,
)
from taskctl.constants import RUNTIME_VOLUME, STATE_VOLUME, TOKEN_VOLUME, WORKSPACE_VOLUME

# Leaves room for "-<n>" within the 63 characters of a pod's host name.
MAX_PREFIX = 52
MAX_REPLICAS = 1000
MAX_VOLUMES = 50
MAX_SLOTS = 100
MAX_IMAGES = 20
RESERVED_VOLUMES = (RUNTIME_VOLUME, STATE_VOLUME, TOKEN_VOLUME, WORKSPACE_VOLUME)

NAME_MESSAGE = (
    f"metadata.name must have at most {MAX_PREFIX} characters, because workers are named after "
    "it; choose a shorter one"
)
VOLUME_NAME_MESSAGE = (
    f"the volume names {', '.join(RESERVED_VOLUMES)} are taskctl's own; choose another"
)
# To Kubernetes a volume without a source is an empty directory: a misspelt one would be, too.
ONE_SOURCE_MESSAGE = (
    "set exactly one source, for example persistentVolumeClaim; for an empty directory write "
    "emptyDir: {}"
)
SUBPATH_MESSAGE = (
    "subPath and subPathExpr are not possible: tasks run in ephemeral containers, where "
    "Kubernetes forbids them; mount the whole volume"
)
SUBPATH_DESCRIPTION = (
    "Not supported: Kubernetes forbids it in ephemeral containers. Mount the whole volume."
)


MIN_ALONE_MESSAGE = "minReplicas needs maxReplicas; set that, or use replicas for a fixed number"
IDLE_ALONE_MESSAGE = "idleSecondsBeforeScaleDown needs maxReplicas; set that, or remove it"
MIN_ABOVE_MAX_MESSAGE = "minReplicas must not be larger than maxReplicas; change one of them"
NOT_BY_HAND_MESSAGE = (
    "replicas is not used with maxReplicas, as taskctl scales the workers itself; change "
    "minReplicas and maxReplicas, or remove them first"
)


def _add_sources(schema: dict[str, Any]) -> None:
    """Add what volumes may be; one without a source, or with two, is refused."""
    podparts.extend("Volume")(schema)
    for source, field in (("hostPath", "path"), ("nfs", "path")):
        schema["properties"][source]["properties"][field] |= {
            "maxLength": meta.MAX_TEXT,
            **meta.validations(*path_rules()),
        }
    schema["properties"]["persistentVolumeClaim"]["properties"]["claimName"] |= {
        "maxLength": meta.MAX_NAME,
        **meta.validations(text_rule()),
    }
    sources = [name for name in schema["properties"] if name != "name"]
    count = f"[{', '.join(f'has(self.{name})' for name in sources)}].filter(x, x).size()"
    schema |= meta.validations(meta.cel(f"{count} == 1", ONE_SOURCE_MESSAGE))


class Volume(SpecModel):
    """A volume of the worker pods, as in a pod's `spec.volumes`."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_add_sources)
    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=meta.MAX_LABEL,
            pattern=meta.DNS_LABEL,
            description="Name, as volumeMounts use it.",
        ),
    ]

    _known = model_validator(mode="before")(podparts.checker("Volume"))

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.name in RESERVED_VOLUMES:
            raise ValueError(VOLUME_NAME_MESSAGE)
        if sum(source is not None for source in (self.model_extra or {}).values()) != 1:
            raise ValueError(ONE_SOURCE_MESSAGE)
        return self


class VolumeMount(SpecModel):
    """A mount of the worker and of every task container, as in a container's `volumeMounts`."""

    model_config = ConfigDict(extra="allow", json_schema_extra=podparts.extend("VolumeMount"))
    name: Annotated[
        str, Field(min_length=1, max_length=meta.MAX_LABEL, description="Name of the volume.")
    ]
    mount_path: Annotated[
        str,
        Field(
            max_length=meta.MAX_TEXT,
            pattern=MOUNT_PATH,
            description="Where to mount it; may have variables.",
            json_schema_extra=meta.validations(*path_rules()),
        ),
    ]
    read_only: Annotated[bool | None, Field(description="Mount read-only.")] = None
    sub_path: Annotated[str | None, Field(description=SUBPATH_DESCRIPTION)] = None
    sub_path_expr: Annotated[str | None, Field(description=SUBPATH_DESCRIPTION)] = None

    _known = model_validator(mode="before")(podparts.checker("VolumeMount"))

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.sub_path is not None or self.sub_path_expr is not None:
            raise ValueError(SUBPATH_MESSAGE)
        if inside(self.mount_path, RESERVED_PATHS):
            raise ValueError(f"mountPath: {MOUNT_PATH_MESSAGE}")
        return self


class Rotation(SpecModel):
    """When to replace a worker. Containers of finished tasks stay in a pod and slow it down."""

    max_tasks: Annotated[
        int,
        Field(
            ge=1,
            le=500,
            description=(
                "Largest number of containers that a worker takes before it is replaced. Default "
                "100. While no replacement is ready, the worker takes up to twice as many; a "
                "number below 20 is never exceeded."
            ),
        ),
    ] = 100
    max_age_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            description=(
                "Seconds after which a worker is replaced. It is replaced up to a tenth earlier, "
                "so that workers which were created together are not replaced together. Not set: "
                "no limit."
            ),
        ),
    ] = None


class TaskClusterSpec(SpecModel):
    """The workers and what they share."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(f"has(self.user) || !({uses_user()})", USER_MESSAGE, field_path=".user"),
            meta.cel(
                "has(self.maxReplicas) || !has(self.minReplicas)",
                MIN_ALONE_MESSAGE,
                field_path=".minReplicas",
            ),
            meta.cel(
                "has(self.maxReplicas) || !has(self.idleSecondsBeforeScaleDown)",
                IDLE_ALONE_MESSAGE,
                field_path=".idleSecondsBeforeScaleDown",
            ),
            meta.cel(
                "!has(self.maxReplicas) || !has(self.minReplicas)"
                " || self.minReplicas <= self.maxReplicas",
                MIN_ABOVE_MAX_MESSAGE,
                field_path=".minReplicas",
            ),
            meta.cel(
                "!has(self.maxReplicas) || !has(oldSelf.maxReplicas)"
                " || self.replicas == oldSelf.replicas",
                NOT_BY_HAND_MESSAGE,
                field_path=".replicas",
            ),
            meta.cel(
                "!has(self.volumes) || self.volumes.all(v, !(v.name in ["
                + ", ".join(f"'{name}'" for name in RESERVED_VOLUMES)
                + "]))",
                VOLUME_NAME_MESSAGE,
                field_path=".volumes",
            ),
            meta.cel(
                "!has(self.volumeMounts) || self.volumeMounts.all(m, "
                "!has(m.subPath) && !has(m.subPathExpr))",
                SUBPATH_MESSAGE,
                field_path=".volumeMounts",
            ),
            meta.cel(
                "!has(self.volumeMounts) || self.volumeMounts.all(m, "
                + reserved_path_rule("m.mountPath")
                + ")",
                MOUNT_PATH_MESSAGE,
                field_path=".volumeMounts",
            ),
            meta.cel(
                "!has(self.volumeMounts) || self.volumeMounts.all(m, "
                "has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
                "each of volumeMounts must name one of volumes",
                field_path=".volumeMounts",
            ),
        )
    )
    replicas: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_REPLICAS,
            description="Number of workers to keep. Default 1. Not used with `maxReplicas`.",
        ),
    ] = 1
    min_replicas: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_REPLICAS,
            description="Workers to keep even if no task runs. Default 0. Needs `maxReplicas`.",
        ),
    ] = None
    max_replicas: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_REPLICAS,
            description=(
                "Largest number of workers. If set, taskctl creates workers while tasks wait for a "
                "slot, up to this number, and deletes idle workers."
            ),
        ),
    ] = None
    service_account_name: Annotated[
        Name | None,
        Field(
            description=(
                "ServiceAccount of the worker pods. If set, tasks get its token too, and may do "
                "with the Kubernetes API what the account may do. Default: `taskctl-worker`, and "
                "tasks get no token."
            )
        ),
    ] = None
    deployment_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_PREFIX,
            pattern=meta.DNS_LABEL,
            description=(
                "First part of the workers' names, which are `<deploymentName>-<n>`. taskctl "
                "creates no Deployment. Default: the TaskCluster's name."
            ),
        ),
    ] = None
    user: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_USER,
            pattern=USER_NAME,
            description="For whom the TaskCluster is: the value of `${USER}` in `workspace`, "
            "`volumes` and `volumeMounts`. taskctl takes it as it is declared; an admission policy "
            "can hold it to who asks.",
            json_schema_extra=meta.validations(meta.cel("!self.contains('..')", USER_DOTS_MESSAGE)),
        ),
    ] = None
    slots_per_worker: Annotated[
        int,
        Field(
            ge=1,
            le=MAX_SLOTS,
            description=(
                "Number of slots per worker. A Task takes `spec.slots` of them while it runs. "
                "Default 4."
            ),
        ),
    ] = 4
    workspace: Annotated[
        Workspace | None,
        Field(description="The directory that all tasks share. Not set: no workspace."),
    ] = None
    volumes: Annotated[
        list[Volume] | None,
        Field(
            max_length=MAX_VOLUMES,
            description="Further volumes, as in a pod's spec.",
            json_schema_extra=meta.map_list("name"),
        ),
    ] = None
    volume_mounts: Annotated[
        list[VolumeMount] | None,
        Field(
            max_length=MAX_VOLUMES,
            description="Where workers and task containers mount them.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    template: Annotated[
        WorkerTemplate | None,
        Field(description="Parts of the worker pods that taskctl passes to Kubernetes unchanged."),
    ] = None
    task_defaults: Annotated[
        TaskDefaults | None,
        Field(
            description=(
                "Values for fields that a Task leaves out. A change applies to attempts that are "
                "placed after it."
            )
        ),
    ] = None
    images: Annotated[
        list[containerfields.Image] | None,
        Field(
            max_length=MAX_IMAGES,
            description="Images that each worker's node pulls before the worker takes tasks.",
            json_schema_extra=meta.SET_LIST,
        ),
    ] = None
    allowed_images: Annotated[
        list[containerfields.Image] | None,
        Field(
            max_length=100,
            description=(
                "Images that Tasks may name, written as in the Task; `*` stands for any text. A "
                "Task with another image waits with reason ImageNotAllowed. Not set: all images "
                "are allowed."
            ),
            json_schema_extra=meta.SET_LIST,
        ),
    ] = None
    peers: Annotated[
        list[Name] | None,
        Field(
            max_length=50,
            description=(
                "Other TaskClusters of this namespace in which tasks of this TaskCluster may "
                "create children (`clusterName` of the child). The list is not inherited: a "
                "TaskCluster that is listed here needs a list of its own. Not set: tasks may "
                "create children only in this TaskCluster."
            ),
            json_schema_extra=meta.SET_LIST,
        ),
    ] = None
    rotation: Annotated[Rotation | None, Field(description="When to replace a worker.")] = None
    standby: Annotated[
        Standby | None,
        Field(
            description=(
                "Start containers before there are tasks for them. Not set: containers start with "
                "their tasks."
            )
        ),
    ] = None
    inline_outputs: Annotated[
        bool,
        Field(
            description=(
                "Whether taskctl stores what a function returns in its Task's `status.output` if "
                "it has 2 KiB at most, which saves a write for each task. Default false: the "
                "output is stored in a TaskObject."
            )
        ),
    ] = False
    idle_seconds_before_scale_down: Annotated[
        int | None,
        Field(
            ge=0,
            le=INT32_MAX,
            description=(
                "Seconds for which fewer workers must have been enough before taskctl deletes idle "
                "workers. Default 300. Needs `maxReplicas`."
            ),
        ),
    ] = None
    worker_image: Annotated[
        containerfields.Image | None,
        Field(
            description="Image of the worker's main container, which holds taskctl. Default: "
            "`taskctl:<version>` of the controller.",
        ),
    ] = None

    _variables = model_validator(mode="before")(check_variables)

    @field_validator("user")
    @classmethod
    def _no_dots(cls, user: str | None) -> str | None:
        if user and ".." in user:
            raise ValueError(USER_DOTS_MESSAGE)
        return user

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_replicas is None:
            if self.min_replicas is not None:
                raise ValueError(MIN_ALONE_MESSAGE)
            if self.idle_seconds_before_scale_down is not None:
                raise ValueError(IDLE_ALONE_MESSAGE)
        elif (self.min_replicas or 0) > self.max_replicas:
            raise ValueError(MIN_ABOVE_MAX_MESSAGE)
        sets = {"images": self.images, "allowedImages": self.allowed_images, "peers": self.peers}
        for field, items in sets.items():
            if items is not None and len(set(items)) != len(items):
                what = "a name" if field == "peers" else "an image"
                raise ValueError(f"{field} has {what} twice; remove one")
        names = [volume.name for volume in self.volumes or ()]
        if len(set(names)) != len(names):
            raise ValueError("volumes has the same name twice; rename one")
        for mount in self.volume_mounts or ():
            if mount.name not in names:
                raise ValueError("each of volumeMounts must name one of volumes")
        return self


# --- status -------------------------------------------------------------------------


class TaskClusterStatus(StatusModel):
    """What there is of workers and work. Written by taskctl only."""

    replicas: Annotated[int | None, Field(ge=0, description="Number of workers wanted.")] = None
    workers: Annotated[
        int | None,
        Field(
            ge=0,
            description="Number of workers that exist, including those that are being replaced.",
        ),
    ] = None
    selector: Annotated[
        str | None,
        Field(max_length=meta.MAX_TEXT, description="Label selector of the workers' pods."),
    ] = None
    ready: Annotated[
        int | None, Field(ge=0, description="Number of workers that can take tasks.")
    ] = None
    available_replicas: Annotated[
        int | None,
        Field(
            ge=0,
            description="The same as `ready`, under the name that kubectl and other tools expect.",
        ),
    ] = None
    busy_slots: Annotated[
        int | None, Field(ge=0, description="Number of slots taken by tasks.")
    ] = None
    free_slots: Annotated[
        int | None, Field(ge=0, description="Number of slots free for tasks.")
    ] = None
    queue_length: Annotated[
        int | None, Field(ge=0, description="Number of Tasks that could run but wait for a slot.")
    ] = None
    worker_serial: Annotated[
        int | None, Field(ge=0, description="Highest number given to a worker.")
    ] = None
    observed_generation: Annotated[
        int | None, Field(ge=0, description="`metadata.generation` that this status describes.")
    ] = None
    conditions: Annotated[
        list[Condition] | None,
        Field(
            max_length=20,
            description=(
                "Ready: as many workers are ready as are wanted. WorkspaceReady: the workspace can "
                "be mounted."
            ),
            json_schema_extra=meta.map_list("type"),
        ),
    ] = None


class TaskCluster(SpecModel):
    """A TaskCluster keeps warm worker pods that share one workspace and run Tasks."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(f"size(self.metadata.name) <= {MAX_PREFIX}", NAME_MESSAGE)
        )
    )
    api_version: Literal["taskctl.dev/v1alpha1"] = "taskctl.dev/v1alpha1"
    kind: Literal["TaskCluster"] = "TaskCluster"
    metadata: ObjectMeta
    spec: TaskClusterSpec
    status: TaskClusterStatus | None = None

    @model_validator(mode="after")
    def _name_fits(self) -> Self:
        if len(self.metadata.name or "") > MAX_PREFIX:
            raise ValueError(NAME_MESSAGE)
        return self
