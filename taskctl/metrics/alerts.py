"""Alerts over the metrics of the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Severity(StrEnum):
    """Whom an alert is for."""

    CRITICAL = "critical"  # a person must act now
    WARNING = "warning"  # a person must act today


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert.

    Attributes:
        name: CamelCase.
        expression: in PromQL.
        after: for how long it must hold, as Prometheus writes it.
        severity: whom it is for.
        summary: what is wrong, in a sentence.
        remedy: where to look.
    """

    name: str
    expression: str
    after: str
    severity: Severity
    summary: str
    remedy: str


_OF: Final = "TaskCluster {{ $labels.namespace }}/{{ $labels.cluster }}"

ALERTS: Final = (
    Alert(
        "TaskctlNoController",
        "absent(taskctl_leader == 1)",
        "5m",
        Severity.CRITICAL,
        "No taskctl controller leads.",
        "Running tasks continue, but no task is placed. Look at the pods and logs of the "
        "Deployment taskctl-controller, and whether Prometheus reaches them.",
    ),
    Alert(
        "TaskctlNoWorkers",
        "sum by (namespace, cluster) (taskctl_queue_length) > 0 "
        "unless sum by (namespace, cluster) (taskctl_slots) > 0",
        "10m",
        Severity.CRITICAL,
        f"Tasks of {_OF} wait, and it has no worker that takes any.",
        "The condition Ready of the TaskCluster says why: kubectl describe taskcluster.",
    ),
    Alert(
        "TaskctlQueueOld",
        "max by (namespace, cluster) (taskctl_queue_oldest_age_seconds) > 1800",
        "10m",
        Severity.WARNING,
        f"A task of {_OF} has been waiting for a slot for more than half an hour.",
        "Raise spec.replicas or spec.maxReplicas, or see which tasks hold the slots: taskctl top.",
    ),
    Alert(
        "TaskctlTasksFail",
        "sum by (namespace, cluster) "
        '(increase(taskctl_tasks_finished_total{state="Failed"}[15m])) > 5 '
        "and sum by (namespace, cluster) "
        '(rate(taskctl_tasks_finished_total{state="Failed"}[15m])) '
        "> 0.5 * sum by (namespace, cluster) (rate(taskctl_tasks_finished_total[15m]))",
        "10m",
        Severity.WARNING,
        f"More than half of the tasks of {_OF} that end have failed.",
        "The label reason of taskctl_tasks_finished_total says how; taskctl tree says which.",
    ),
    Alert(
        "TaskctlAttemptsLost",
        "sum by (namespace, cluster) (increase(taskctl_attempts_lost_total[15m])) > 5",
        "5m",
        Severity.WARNING,
        f"Attempts of {_OF} are lost with their workers or containers.",
        "Look for evictions and memory limits of the workers' pods and for trouble of their nodes.",
    ),
    Alert(
        "TaskctlWorkersLost",
        "sum by (namespace, cluster) "
        '(increase(taskctl_workers_removed_total{reason="lost"}[30m])) > 3',
        "5m",
        Severity.WARNING,
        f"Workers of {_OF} end by themselves.",
        "The Events WorkerFailed of the TaskCluster say how each of them ended.",
    ),
    Alert(
        "TaskctlWorkspaceFull",
        "min by (namespace, cluster) "
        "(taskctl_workspace_free_bytes / taskctl_workspace_size_bytes) < 0.1",
        "15m",
        Severity.WARNING,
        f"Less than a tenth of the workspace of {_OF} is free.",
        "Delete what is no longer needed in it, or give its claim more room; logs and large values "
        "of tasks lie below .taskctl.",
    ),
    Alert(
        "TaskctlStartsSlowly",
        "histogram_quantile(0.9, sum by (le) "
        '(rate(taskctl_task_stage_duration_seconds_bucket{stage="starting"}[15m]))) > 30',
        "15m",
        Severity.WARNING,
        "One task in ten takes more than 30 seconds from its placing to its start.",
        "Images that have to be pulled (spec.images pulls them ahead), or busy nodes.",
    ),
    Alert(
        "TaskctlApiErrors",
        'sum(rate(taskctl_api_requests_total{code=~"0|5.."}[10m])) '
        "> 0.1 * sum(rate(taskctl_api_requests_total[10m]))",
        "10m",
        Severity.WARNING,
        "More than a tenth of the controller's requests to the API server fail.",
        "Look at the API server, and at the network between it and the controller.",
    ),
    Alert(
        "TaskctlReconcileErrors",
        "sum by (controller) "
        '(rate(taskctl_reconcile_total{outcome=~"error|timeout|panic"}[10m])) > 0.5',
        "10m",
        Severity.WARNING,
        "Reconciles of {{ $labels.controller }} fail all the time.",
        "The log of the controller that leads says why.",
    ),
    Alert(
        "TaskctlHistoryNotWritten",
        "min_over_time(taskctl_history_waiting[10m]) > 0",
        "10m",
        Severity.WARNING,
        "The recorder of the history does not write what it has seen.",
        "Its claim may be full: the log of the Deployment taskctl-history says why. It keeps what "
        "waits in memory, up to a limit; once it writes again, it records the latest state of each "
        "Task.",
    ),
)


def rule_groups() -> list[dict[str, Any]]:
    """Return the alerts as groups of rules, the way Prometheus reads them."""
    return [
        {
            "name": "taskctl",
            "rules": [
                {
                    "alert": alert.name,
                    "expr": alert.expression,
                    "for": alert.after,
                    "labels": {"severity": alert.severity.value},
                    "annotations": {"summary": alert.summary, "description": alert.remedy},
                }
                for alert in ALERTS
            ],
        }
    ]
