"""All metrics of taskctl, in the order of docs/metrics.md, which is generated from this list.

Names follow client-go's and controller-runtime's with ``taskctl_`` before them. Labels have few
values: none holds a Task's name, a UID or anything else that grows with the work done.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MetricKind(StrEnum):
    """How a metric behaves, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Process(StrEnum):
    """Which process exposes a metric."""

    CONTROLLER = "controller"
    AGENT = "agent"
    RECORDER = "recorder"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: as it is exposed; counters end in ``_total``.
        kind: how it behaves.
        text: what it says, one sentence or two.
        labels: names of its labels.
        process: who exposes it.
        buckets: upper bounds; histograms only.
    """

    name: str
    kind: MetricKind
    text: str
    labels: tuple[str, ...] = ()
    process: Process = Process.CONTROLLER
    buckets: tuple[float, ...] = ()


CLUSTER: Final = ("namespace", "cluster")
_SECONDS: Final = (
    *(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# Commands and queues take longer than requests.
_LONG_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0),
)
_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

# --- Tasks ----------------------------------------------------------------------------------
TASKS: Final = Metric(
    "taskctl_tasks",
    _GAUGE,
    "Tasks that exist, by `status.state` and `status.reason`.",
    (*CLUSTER, "state", "reason"),
)
TASKS_FINISHED: Final = Metric(
    "taskctl_tasks_finished_total",
    _COUNTER,
    "Tasks that came to an end, by the state and reason they ended with.",
    (*CLUSTER, "state", "reason"),
)
STAGE_SECONDS: Final = Metric(
    "taskctl_task_stage_duration_seconds",
    _HISTOGRAM,
    "How long finished Tasks spent in each stage of their last attempt: `queued` (created to "
    "placed, of Tasks with one attempt), `starting` (placed to started), `launching` (started to "
    "user code), `running` (user code to exited), `recording` (exited to recorded).",
    ("stage",),
    buckets=_LONG_SECONDS,
)
TASK_ATTEMPTS: Final = Metric(
    "taskctl_task_attempts",
    _HISTOGRAM,
    "How many attempts finished Tasks took; 0: it was never started.",
    buckets=(0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0),
)
ATTEMPTS_STARTED: Final = Metric(
    "taskctl_attempts_started_total",
    _COUNTER,
    "Attempts begun. `container` is `standby` where a parked container took the task at once (a "
    "hit), `own` where a container was started for it (a miss, if the TaskCluster has standby).",
    (*CLUSTER, "container"),
)
ATTEMPTS_FAILED: Final = Metric(
    "taskctl_attempts_failed_total",
    _COUNTER,
    "Attempts that failed by the task's own doing; retries follow some of them.",
    CLUSTER,
)
ATTEMPTS_LOST: Final = Metric(
    "taskctl_attempts_lost_total",
    _COUNTER,
    "Attempts lost with their worker or container (infrastructure losses).",
    CLUSTER,
)
# --- queues and workers -----------------------------------------------------------------------
QUEUE_LENGTH: Final = Metric(
    "taskctl_queue_length", _GAUGE, "Tasks that are ready and wait for a slot.", CLUSTER
)
QUEUE_AGE: Final = Metric(
    "taskctl_queue_oldest_age_seconds",
    _GAUGE,
    "How long the task that has waited longest has been in the queue; 0: the queue is empty.",
    CLUSTER,
)
SLOTS: Final = Metric(
    "taskctl_slots", _GAUGE, "Slots of the workers that take tasks at present.", CLUSTER
)
SLOTS_USED: Final = Metric(
    "taskctl_slots_used",
    _GAUGE,
    "Slots taken by attempts. It may exceed `taskctl_slots` while workers go, and when tasks that "
    "waited for their children resume.",
    CLUSTER,
)
WORKERS: Final = Metric(
    "taskctl_workers",
    _GAUGE,
    "Workers by state: `coming`, `serving`, `worn` (its replacement is on its way), `retiring`.",
    (*CLUSTER, "state"),
)
WORKERS_REMOVED: Final = Metric(
    "taskctl_workers_removed_total",
    _COUNTER,
    "Workers that went. `worn`, `aged` and `outdated` are rotation; `surplus` is scaling down; "
    "`leaving`: its node is to be emptied; `workspace`: it must not be used any more; `lost`: the "
    "pod ended or vanished by itself; `deleted`: by a user, or with its TaskCluster.",
    (*CLUSTER, "reason"),
)
STANDBY_READY: Final = Metric(
    "taskctl_standby_containers_ready",
    _GAUGE,
    "Parked containers that can be given a task.",
    CLUSTER,
)
# --- the controller itself ----------------------------------------------------------------------
REQUESTS: Final = Metric(
    "taskctl_api_requests_total",
    _COUNTER,
    "Requests sent to the API server; code 0: no answer.",
    ("verb", "resource", "code"),
)
REQUEST_SECONDS: Final = Metric(
    "taskctl_api_request_duration_seconds",
    _HISTOGRAM,
    "Time to the end of the answer; for watches to its beginning.",
    ("verb",),
    buckets=_SECONDS,
)
REQUEST_RETRIES: Final = Metric(
    "taskctl_api_request_retries_total",
    _COUNTER,
    "Requests that were sent again after a failure.",
    ("verb", "resource"),
)
RECONCILES: Final = Metric(
    "taskctl_reconcile_total", _COUNTER, "Reconciles by outcome.", ("controller", "outcome")
)
RECONCILE_SECONDS: Final = Metric(
    "taskctl_reconcile_duration_seconds",
    _HISTOGRAM,
    "Time of a reconcile.",
    ("controller",),
    buckets=_SECONDS,
)
WORKQUEUE_DEPTH: Final = Metric(
    "taskctl_workqueue_depth",
    _GAUGE,
    "Keys waiting. One that stands by counts all that it will see to when it leads.",
    ("queue",),
)
WORKQUEUE_ADDS: Final = Metric("taskctl_workqueue_adds_total", _COUNTER, "Keys queued.", ("queue",))
WORKQUEUE_RETRIES: Final = Metric(
    "taskctl_workqueue_retries_total", _COUNTER, "Keys queued again after a failure.", ("queue",)
)
WORKQUEUE_SECONDS: Final = Metric(
    "taskctl_workqueue_wait_duration_seconds",
    _HISTOGRAM,
    "Time a key waited for a worker.",
    ("queue",),
    buckets=_SECONDS,
)
EVENTS_DROPPED: Final = Metric(
    "taskctl_events_dropped_total", _COUNTER, "Events not written, by cause.", ("cause",)
)
SPANS: Final = Metric(
    "taskctl_spans_total",
    _COUNTER,
    "Spans of traces: `made`, `exported` to the collector, `failed` to be. What is made and "
    "neither of both was dropped, as the queue was full, or still waits.",
    ("outcome",),
)
CACHED_OBJECTS: Final = Metric(
    "taskctl_cached_objects", _GAUGE, "Objects in a cache.", ("resource",)
)
LEADER: Final = Metric("taskctl_leader", _GAUGE, "1 while this process leads.")

# --- the recorder of the history ------------------------------------------------------------------
_RECORDER: Final = Process.RECORDER
HISTORY_LINES: Final = Metric(
    "taskctl_history_lines",
    _GAUGE,
    "Number of the last line of the history: those that were deleted since count as well.",
    (),
    _RECORDER,
)
HISTORY_WAITING: Final = Metric(
    "taskctl_history_waiting",
    _GAUGE,
    "Transitions that wait for their line. It grows while the disk is full.",
    (),
    _RECORDER,
)
HISTORY_REQUESTS: Final = Metric(
    "taskctl_history_requests_total",
    _COUNTER,
    "Requests for the history: `answered`, `refused` (without the token), `bad`, `busy` (too many "
    "at once) or `failed`.",
    ("outcome",),
    _RECORDER,
)

# --- the agent of each worker ---------------------------------------------------------------------
_AGENT: Final = Process.AGENT
AGENT_RUNS: Final = Metric(
    "taskctl_agent_runs", _GAUGE, "Attempts that run on this worker.", CLUSTER, _AGENT
)
AGENT_STARTS: Final = Metric(
    "taskctl_agent_starts_total",
    _COUNTER,
    "Attempts that this agent had started, in a parked container (`standby`) or in one of their "
    "`own`.",
    (*CLUSTER, "container"),
    _AGENT,
)
AGENT_HANDOVERS: Final = Metric(
    "taskctl_agent_handovers_total",
    _COUNTER,
    "Tasks that the controller handed to parked containers of this worker.",
    CLUSTER,
    _AGENT,
)
AGENT_CLAIMS: Final = Metric(
    "taskctl_agent_claims_total",
    _COUNTER,
    "Containers that asked what to run: `won`: the attempt is theirs; `lost`: it does not count "
    "any more, or another container is to run it.",
    (*CLUSTER, "outcome"),
    _AGENT,
)
AGENT_OUTCOMES: Final = Metric(
    "taskctl_agent_outcomes_total",
    _COUNTER,
    "Exits by the state of the Task that was recorded (`Pending`: it is tried again). `Dropped`: "
    "the attempt did not count any more.",
    (*CLUSTER, "state"),
    _AGENT,
)
AGENT_CHILDREN: Final = Metric(
    "taskctl_agent_children_created_total",
    _COUNTER,
    "Tasks created for tasks of this worker.",
    CLUSTER,
    _AGENT,
)
AGENT_REQUESTS: Final = Metric(
    "taskctl_agent_requests_total",
    _COUNTER,
    "Requests of taskctl-init and of tasks on the agent's socket, by operation.",
    (*CLUSTER, "operation"),
    _AGENT,
)
AGENT_REFUSALS: Final = Metric(
    "taskctl_agent_refusals_total",
    _COUNTER,
    "Requests on the socket that were answered with an error, by its code.",
    (*CLUSTER, "error"),
    _AGENT,
)
AGENT_CONNECTIONS: Final = Metric(
    "taskctl_agent_connections", _GAUGE, "Open connections on the agent's socket.", CLUSTER, _AGENT
)
AGENT_LOG_BYTES: Final = Metric(
    "taskctl_agent_log_bytes_total",
    _COUNTER,
    "Size of the logs that attempts had left in the workspace when they ended.",
    CLUSTER,
    _AGENT,
)
AGENT_API_REQUESTS: Final = Metric(
    "taskctl_agent_api_requests_total",
    _COUNTER,
    "Requests that the agent sent to the API server; code 0: no answer.",
    (*CLUSTER, "verb", "resource", "code"),
    _AGENT,
)
AGENT_MEMORY: Final = Metric(
    "taskctl_agent_memory_bytes", _GAUGE, "Resident memory of the agent.", CLUSTER, _AGENT
)
AGENT_CPU: Final = Metric(
    "taskctl_agent_cpu_seconds_total", _COUNTER, "CPU time of the agent.", CLUSTER, _AGENT
)
WORKSPACE_SIZE: Final = Metric(
    "taskctl_workspace_size_bytes",
    _GAUGE,
    "Size of the workspace's file system, as this worker sees it.",
    CLUSTER,
    _AGENT,
)
WORKSPACE_FREE: Final = Metric(
    "taskctl_workspace_free_bytes",
    _GAUGE,
    "What tasks may still write to the workspace's file system. Not there while it does not "
    "answer.",
    CLUSTER,
    _AGENT,
)

CATALOG: Final = (
    TASKS,
    TASKS_FINISHED,
    STAGE_SECONDS,
    TASK_ATTEMPTS,
    ATTEMPTS_STARTED,
    ATTEMPTS_FAILED,
    ATTEMPTS_LOST,
    QUEUE_LENGTH,
    QUEUE_AGE,
    SLOTS,
    SLOTS_USED,
    WORKERS,
    WORKERS_REMOVED,
    STANDBY_READY,
    REQUESTS,
    REQUEST_SECONDS,
    REQUEST_RETRIES,
    RECONCILES,
    RECONCILE_SECONDS,
    WORKQUEUE_DEPTH,
    WORKQUEUE_ADDS,
    WORKQUEUE_RETRIES,
    WORKQUEUE_SECONDS,
    EVENTS_DROPPED,
    SPANS,
    CACHED_OBJECTS,
    LEADER,
    HISTORY_LINES,
    HISTORY_WAITING,
    HISTORY_REQUESTS,
    AGENT_RUNS,
    AGENT_STARTS,
    AGENT_HANDOVERS,
    AGENT_CLAIMS,
    AGENT_OUTCOMES,
    AGENT_CHILDREN,
    AGENT_REQUESTS,
    AGENT_REFUSALS,
    AGENT_CONNECTIONS,
    AGENT_LOG_BYTES,
    AGENT_API_REQUESTS,
    AGENT_MEMORY,
    AGENT_CPU,
    WORKSPACE_SIZE,
    WORKSPACE_FREE,
)
