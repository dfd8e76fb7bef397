"""Names that more than one package must agree on: group, labels, finalizers, reasons.

A value that only one module uses belongs in that module.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from taskctl import __version__

GROUP: Final = "taskctl.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# Who writes: the field manager, and the `app.kubernetes.io/managed-by` label on workers.
FIELD_MANAGER: Final = "taskctl"
# Of the controller and of workers, unless told otherwise.
DEFAULT_IMAGE: Final = f"taskctl:{__version__}"

# --- accounts and rights (docs/install.md) ----------------------------------------------
# Whom workers run as unless the TaskCluster names another, and the role with their rights.
WORKER_ACCOUNT: Final = "taskctl-worker"
LEASE_NAME: Final = "taskctl-controller"  # of the controllers' election

# --- labels and annotations ---------------------------------------------------------
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_CLUSTER: Final = "taskctl.dev/cluster"  # on worker pods: the TaskCluster's name
LABEL_CLUSTER_UID: Final = "taskctl.dev/cluster-uid"
# Selects the descendants of a root; labels are for people, who may change them.
FIELD_ROOT_UID: Final = "spec.lineage.rootUID"
LABEL_ROOT: Final = "taskctl.dev/root"  # on tasks and objects: the root task's name
LABEL_ROOT_UID: Final = "taskctl.dev/root-uid"
LABEL_PARENT_UID: Final = "taskctl.dev/parent-uid"
LABEL_OUTPUT_OF: Final = "taskctl.dev/output-of"  # on a TaskObject: UID of the Task it came from
LABEL_ATTEMPT: Final = "taskctl.dev/attempt"  # on an output: number of the attempt that made it
LABEL_CLIENT: Final = "taskctl.dev/client"  # on what a Client submits: which client
LABEL_EXIT_OF: Final = "taskctl.dev/exit-of"  # on the task in onExit: UID of the root
LABEL_GROUP: Final = "taskctl.dev/group"
ANNOTATION_PARENT: Final = "taskctl.dev/parent"  # the parent task's name
ANNOTATION_DEPTH: Final = "taskctl.dev/depth"  # decimal; the root has depth 0
ANNOTATION_SPAWN_KEY: Final = "taskctl.dev/spawn-key"
# Name of the task that cancelled this one, or one above it, because it needs it no more.
ANNOTATION_STOPPED_BY: Final = "taskctl.dev/stopped-by"
# On a root: ``taskctl retry`` has suspended it until all tasks of its tree are queued again.
ANNOTATION_RETRYING: Final = "taskctl.dev/retrying"
# Why taskctl has cancelled a running task: TreeTimeout. Absent: a user did.
ANNOTATION_STOP_REASON: Final = "taskctl.dev/stop-reason"
# On the workspace's claim: what becomes of it when its TaskCluster is deleted, as last asked for.
ANNOTATION_RECLAIM: Final = "taskctl.dev/reclaim"
# On worker pods: UID of the workspace's claim that they were made for.
ANNOTATION_CLAIM_UID: Final = "taskctl.dev/workspace-claim-uid"
# On worker pods: they stay readable until each of their containers is accounted for.
FINALIZER_EVIDENCE: Final = "taskctl.dev/evidence"
# On what a Client submits: tells it from a stranger's of the same name.
ANNOTATION_SUBMISSION: Final = "taskctl.dev/submission"
# RFC 3339 with microseconds, by the client that created the Task: Kubernetes notes whole seconds.
# On a TaskObject whose content lies in a workspace: the TaskCluster that has it.
ANNOTATION_WORKSPACE_OF: Final = "taskctl.dev/workspace-of"
ANNOTATION_CREATED: Final = "taskctl.dev/created"
# The W3C trace context in which a root was submitted; its descendants have the same.
ANNOTATION_TRACEPARENT: Final = "taskctl.dev/traceparent"

# --- inside a worker pod ------------------------------------------------------------
AGENT_CONTAINER: Final = "agent"
PREPARE_CONTAINER: Final = "prepare"  # init container: fills the runtime volume
RUNTIME_VOLUME: Final = "taskctl-runtime"  # taskctl-init, the SDK and the agent's socket
STATE_VOLUME: Final = "taskctl-state"  # the agent's own memory; no task mounts it
WORKSPACE_VOLUME: Final = "workspace"
TOKEN_VOLUME: Final = "taskctl-token"  # tasks mount it where the TaskCluster names an account
RUNTIME_PATH: Final = "/taskctl"
STATE_PATH: Final = "/taskctl-state"
PARKED_PREFIX: Final = "s-"  # of the names of containers that are parked
INIT_PATH: Final = "/taskctl/bin/taskctl-init"
SOCKET_PATH: Final = "/taskctl/agent.sock"
TOKEN_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
DEFAULT_WORKSPACE_PATH: Final = "/workspace"
# Below the workspace's mount path; tasks should leave it alone.
WORKSPACE_META_DIR: Final = ".taskctl"
LOGS_DIR: Final = ".taskctl/logs"
EXITS_DIR: Final = ".taskctl/exits"
OBJECTS_DIR: Final = ".taskctl/objects"
TASKS_DIR: Final = ".taskctl/tasks"  # the SDK makes one for each task that asks for it

# --- environment of the agent (besides POD_NAME, POD_NAMESPACE, POD_UID) ------------
ENV_RUNTIME_DIR: Final = "TASKCTL_RUNTIME_DIR"
ENV_STATE_DIR: Final = "TASKCTL_STATE_DIR"
# "1": what a function returns stands in its Task's status, if it is small.
ENV_INLINE_OUTPUTS: Final = "TASKCTL_INLINE_OUTPUTS"
ENV_LOG_LIMIT: Final = "TASKCTL_LOG_LIMIT_BYTES"
DEFAULT_LOG_LIMIT_BYTES: Final = 64 * 1024 * 1024
LOG_SEGMENTS_SUFFIX: Final = ".d"  # of the directory beside a log with what came later
# Where the agent serves its metrics; not there: nowhere.
ENV_METRICS_PORT: Final = "TASKCTL_METRICS_PORT"
ENV_POD_IP: Final = "POD_IP"
# "1": the controller exports traces, so tasks are told of the one that they belong to.
ENV_TRACES: Final = "TASKCTL_TRACES"

# --- environment of a task container ------------------------------------------------
# In the ephemeral container's entry (readable by every user who may read the pod):
ENV_CONTAINER: Final = "TASKCTL_CONTAINER"
ENV_TASK: Final = "TASKCTL_TASK"
ENV_TASK_UID: Final = "TASKCTL_TASK_UID"
ENV_ATTEMPT: Final = "TASKCTL_ATTEMPT"
ENV_CLASS: Final = "TASKCTL_CLASS"  # of a parked container: which tasks it fits
ENV_NONCE: Final = "TASKCTL_NONCE"  # one time; taskctl-init takes it out of the environment
ENV_PLACED: Final = "TASKCTL_PLACED"  # RFC 3339: when the controller decided the placement
# JSON: what the attempt takes of its TaskCluster's spec.taskDefaults; not there: nothing.
ENV_DEFAULTS: Final = "TASKCTL_DEFAULTS"
# JSON: CPU and memory that the attempt takes of its worker; not there: none.
ENV_REQUESTS: Final = "TASKCTL_REQUESTS"
ENV_SOCKET: Final = "TASKCTL_SOCKET"
# Added for the user's process by the agent:
ENV_TOKEN: Final = "TASKCTL_TOKEN"
ENV_WORKSPACE: Final = "TASKCTL_WORKSPACE"
ENV_ROOT: Final = "TASKCTL_ROOT"
ENV_PARENT: Final = "TASKCTL_PARENT"
ENV_DEPTH: Final = "TASKCTL_DEPTH"
ENV_TRACEPARENT: Final = "TRACEPARENT"  # OpenTelemetry's name
# The prototype's names, kept so that its task code runs unchanged:
ENV_TASK_NAME: Final = "TASK_NAME"
ENV_TASK_NAMESPACE: Final = "TASK_NAMESPACE"

# --- sizes --------------------------------------------------------------------------
INLINE_LIMIT_BYTES: Final = 256 * 1024  # a larger TaskObject value is spilled to the workspace
SMALL_VALUE_BYTES: Final = 2048  # of JSON; what a function takes or returns goes into its Task
MESSAGE_LIMIT_CHARS: Final = 2048  # status.message, conditions and events are cut here
LOG_TAIL_BYTES: Final = 2048  # of a failed task's log, carried in status.message

# --- names of objects (Kubernetes: IsDNS1123Subdomain) ------------------------------
MAX_NAME: Final = 253
DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class Reason(StrEnum):
    """Machine-readable reasons on Task and TaskCluster status, conditions and Events."""

    # Task, Pending
    CLUSTER_NOT_FOUND = "ClusterNotFound"
    INPUT_NOT_FOUND = "InputNotFound"
    QUEUED = "Queued"
    SUSPENDED = "Suspended"
    WAITING_FOR_TASKS = "WaitingForTasks"
    BACK_OFF = "BackOff"
    SLOTS_EXCEED_WORKER = "SlotsExceedWorker"
    RESOURCES_EXCEED_WORKER = "ResourcesExceedWorker"
    SPEC_INCOMPLETE = "SpecIncomplete"
    IMAGE_NOT_ALLOWED = "ImageNotAllowed"
    WORKER_LOST = "WorkerLost"
    CONTAINER_LOST = "ContainerLost"
    NO_READY_WORKER = "NoReadyWorker"
    PLACEMENT_FORBIDDEN = "PlacementForbidden"
    PLACEMENT_FAILED = "PlacementFailed"
    # Task, Scheduled
    WAITING_TO_START = "WaitingToStart"
    # Task, Running
    STARTED = "Started"
    # Task, terminal
    COMPLETED = "Completed"
    NON_ZERO_EXIT = "NonZeroExit"
    SIGNALLED = "Signalled"
    TIMEOUT = "Timeout"
    MEMORY_LIMIT = "MemoryLimitExceeded"
    START_DEADLINE = "StartDeadlineExceeded"
    COMMAND_NOT_FOUND = "CommandNotFound"
    START_ERROR = "StartError"
    CANCELLED = "Cancelled"
    STOPPED = "StoppedByTask"
    TREE_TIMEOUT = "TreeTimeout"
    DEPENDENCY_FAILED = "DependencyFailed"
    DEPENDENCY_CYCLE = "DependencyCycle"
    SKIPPED = "Skipped"
    OOM_KILLED = "OOMKilled"
    INFRASTRUCTURE = "InfrastructureFailures"
    OUTPUT_REJECTED = "OutputRejected"
    # Task tree
    TREE_ACTIVE = "TreeActive"
    TREE_COMPLETE = "TreeComplete"
    TREE_FAILED = "TreeFailed"
    LIVE_TASKS_LIMIT = "LiveTasksLimit"
    EXIT_TASK_DELETED = "ExitTaskDeleted"
    # TaskCluster
    WORKERS_READY = "WorkersReady"
    WORKERS_NOT_READY = "WorkersNotReady"
    WORKERS_REFUSED = "WorkersRefused"
    SPEC_INVALID = "SpecInvalid"
    WORKSPACE_READY = "WorkspaceReady"
    WORKSPACE_PENDING = "WorkspacePending"
    WORKSPACE_DISABLED = "WorkspaceDisabled"
    WORKSPACE_MISMATCH = "WorkspaceMismatch"
    WORKSPACE_TERMINATING = "WorkspaceTerminating"
    NAME_CONFLICT = "NameConflict"
