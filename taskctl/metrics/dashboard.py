"""The Grafana dashboard over the metrics of the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from taskctl.metrics import colours

_WIDTH: Final = 24  # of Grafana's grid
_HEIGHT: Final = 8
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
# Filled in by Grafana from its variables.
_OF: Final = 'namespace=~"$namespace",cluster=~"$cluster"'
_BY: Final = "sum by (namespace, cluster)"


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph.

    Attributes:
        title: above it.
        series: legend (Grafana's template) and expression of each query.
        unit: Grafana's name of the unit.
        stacked: whether the series add up.
        colours: Grafana's colours by a word in the names of lines, as ``taskctl.metrics.colours``
            has them.
        among: how names that say more than the word are matched, as a regular expression of
            JavaScript with ``WORD`` in it. Lines that share a word get shades of its colour.
    """

    title: str
    series: tuple[tuple[str, str], ...]
    unit: str = "short"
    stacked: bool = False
    colours: Mapping[str, str] = field(default_factory=dict)
    among: str = ""


def _quantiles(histogram: str, by: str, selector: str = "") -> tuple[tuple[str, str], ...]:
    rate = f"sum by (le, {by}) (rate({histogram}_bucket{selector}[$__rate_interval]))"
    return tuple(
        (f"p{int(quantile * 100)} {{{{{by}}}}}", f"histogram_quantile({quantile}, {rate})")
        for quantile in (0.5, 0.95)
    )


def _rate(counter: str, by: str, selector: str = _OF) -> str:
    return f"sum by ({by}) (rate({counter}{{{selector}}}[$__rate_interval]))"


_NAME: Final = "{{namespace}}/{{cluster}}"
PANELS: Final = (
    Panel(
        "Tasks by state",
        (("{{state}}", f"sum by (state) (taskctl_tasks{{{_OF}}})"),),
        stacked=True,
        colours=colours.TASK_STATES,
    ),
    Panel(
        "Tasks that end",
        (("{{state}} {{reason}}", _rate("taskctl_tasks_finished_total", "state, reason")),),
        unit="ops",
        colours=colours.TASK_STATES,
        among=r"/^WORD\b/",
    ),
    Panel(
        "Why tasks wait",
        (
            (
                "{{reason}}",
                # Tasks that wait for a slot have no reason, and Grafana would call that "Value".
                "label_replace(sum by (reason) "
                f'(taskctl_tasks{{{_OF},state=~"Pending|Scheduled"}}), '
                '"reason", "in the queue", "reason", "")',
            ),
        ),
        stacked=True,
    ),
    Panel("Queue", ((_NAME, f"{_BY} (taskctl_queue_length{{{_OF}}})"),)),
    Panel(
        "Age of the oldest task in the queue",
        (
            (
                _NAME,
                f"max by (namespace, cluster) (taskctl_queue_oldest_age_seconds{{{_OF}}})",
            ),
        ),
        unit="s",
    ),
    Panel(
        "Slots",
        (
            ("used", f"sum(taskctl_slots_used{{{_OF}}})"),
            ("there", f"sum(taskctl_slots{{{_OF}}})"),
        ),
    ),
    Panel(
        "Workers by state",
        (("{{state}}", f"sum by (state) (taskctl_workers{{{_OF}}})"),),
        stacked=True,
        colours=colours.WORKER_STATES,
    ),
    Panel(
        "Workers that go",
        (("{{reason}}", _rate("taskctl_workers_removed_total", "reason")),),
        unit="ops",
        colours=colours.WORKERS_REMOVED,
    ),
    Panel(
        "Stages of a task, all TaskClusters",
        _quantiles("taskctl_task_stage_duration_seconds", "stage"),
        unit="s",
    ),
    Panel(
        "Attempts begun",
        (("{{container}}", _rate("taskctl_attempts_started_total", "container")),),
        unit="ops",
        stacked=True,
    ),
    Panel(
        "Parked containers ready",
        ((_NAME, f"{_BY} (taskctl_standby_containers_ready{{{_OF}}})"),),
    ),
    Panel(
        "Attempts that failed or were lost",
        (
            ("failed", f"sum(rate(taskctl_attempts_failed_total{{{_OF}}}[$__rate_interval]))"),
            ("lost", f"sum(rate(taskctl_attempts_lost_total{{{_OF}}}[$__rate_interval]))"),
        ),
        unit="ops",
        colours=colours.ATTEMPTS,
    ),
    Panel(
        "Attempts a task took, mean of all TaskClusters",
        (
            (
                "attempts",
                "sum(rate(taskctl_task_attempts_sum[$__rate_interval])) "
                "/ sum(rate(taskctl_task_attempts_count[$__rate_interval]))",
            ),
        ),
    ),
    Panel(
        "Attempts that run, by worker",
        (("{{pod}}", f"sum by (pod) (taskctl_agent_runs{{{_OF}}})"),),
        stacked=True,
    ),
    Panel(
        "What agents start",
        (
            ("{{container}}", _rate("taskctl_agent_starts_total", "container")),
            ("handed over", f"sum(rate(taskctl_agent_handovers_total{{{_OF}}}[$__rate_interval]))"),
            ("claims {{outcome}}", _rate("taskctl_agent_claims_total", "outcome")),
            (
                "children",
                f"sum(rate(taskctl_agent_children_created_total{{{_OF}}}[$__rate_interval]))",
            ),
        ),
        unit="ops",
        colours=colours.AGENT_STARTS,
    ),
    Panel(
        "What agents record",
        (("{{state}}", _rate("taskctl_agent_outcomes_total", "state")),),
        unit="ops",
        colours=colours.RECORDED,
    ),
    Panel(
        "Requests on the agents' sockets",
        (
            ("{{operation}}", _rate("taskctl_agent_requests_total", "operation")),
            ("refused: {{error}}", _rate("taskctl_agent_refusals_total", "error")),
        ),
        unit="reqps",
    ),
    Panel(
        "Requests of agents to the API server",
        (("{{verb}} {{code}}", _rate("taskctl_agent_api_requests_total", "verb, code")),),
        unit="reqps",
    ),
    Panel(
        "Memory of agents",
        (("{{pod}}", f"max by (pod) (taskctl_agent_memory_bytes{{{_OF}}})"),),
        unit="bytes",
    ),
    Panel(
        "CPU of agents",
        (("{{pod}}", _rate("taskctl_agent_cpu_seconds_total", "pod")),),
    ),
    Panel(
        "Connections on the agents' sockets",
        (("{{pod}}", f"max by (pod) (taskctl_agent_connections{{{_OF}}})"),),
    ),
    Panel(
        "Workspaces",
        (
            (
                f"free {_NAME}",
                f"min by (namespace, cluster) (taskctl_workspace_free_bytes{{{_OF}}})",
            ),
            (
                f"size {_NAME}",
                f"max by (namespace, cluster) (taskctl_workspace_size_bytes{{{_OF}}})",
            ),
        ),
        unit="bytes",
    ),
    Panel(
        "Logs written",
        ((_NAME, _rate("taskctl_agent_log_bytes_total", "namespace, cluster")),),
        unit="Bps",
    ),
    Panel(
        "Requests to the API server",
        (
            ("{{verb}} {{code}}", _rate("taskctl_api_requests_total", "verb, code", "")),
            ("again: {{verb}}", _rate("taskctl_api_request_retries_total", "verb", "")),
        ),
        unit="reqps",
    ),
    Panel(
        "Time of requests",
        _quantiles("taskctl_api_request_duration_seconds", "verb", '{verb!="watch"}'),
        unit="s",
    ),
    Panel(
        "Reconciles",
        (
            (
                "{{controller}} {{outcome}}",
                # Seven controllers have six outcomes each, of which most never come.
                _rate("taskctl_reconcile_total", "controller, outcome", "") + " > 0",
            ),
        ),
        unit="ops",
        colours=colours.RECONCILES,
        among=r"/\bWORD$/",
    ),
    Panel(
        "Keys waiting for a reconcile",
        (
            (
                "{{queue}}",
                # A controller that stands by keeps the keys of all objects for when it leads.
                "sum by (queue) (taskctl_workqueue_depth and on (instance) taskctl_leader == 1)",
            ),
        ),
    ),
    Panel(
        "Spans of traces",
        (("{{outcome}}", _rate("taskctl_spans_total", "outcome", "")),),
        unit="ops",
        colours=colours.SPANS,
    ),
    Panel(
        "Objects in caches",
        (("{{resource}}", "max by (resource) (taskctl_cached_objects)"),),
    ),
    Panel(
        "History: lines written",
        (("lines", "sum(deriv(taskctl_history_lines[$__rate_interval]))"),),
        unit="ops",
    ),
    Panel(
        "History: lines that wait",
        (("waiting", "sum(taskctl_history_waiting)"),),
    ),
    Panel(
        "History: requests",
        (("{{outcome}}", _rate("taskctl_history_requests_total", "outcome", "")),),
        unit="reqps",
        colours=colours.HISTORY_REQUESTS,
    ),
)


def build_dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "title": "taskctl",
        "uid": "taskctl",
        "tags": ["taskctl"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource"}
    variables: list[dict[str, Any]] = [source | {"query": "prometheus"}]
    for name, query in (
        ("namespace", "label_values(taskctl_slots, namespace)"),
        ("cluster", 'label_values(taskctl_slots{namespace=~"$namespace"}, cluster)'),
    ):
        variables.append(
            {
                "name": name,
                "label": name,
                "type": "query",
                "datasource": _SOURCE,
                "query": {"query": query, "refId": name},
                "refresh": 2,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
                "sort": 1,
            }
        )
    return variables


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    across = _WIDTH // 2
    custom = {"fillOpacity": 10, "stacking": {"mode": "normal" if panel.stacked else "none"}}
    return {
        "id": number + 1,
        "title": panel.title,
        "type": "timeseries",
        "datasource": _SOURCE,
        "gridPos": {
            "x": across * (number % 2),
            "y": _HEIGHT * (number // 2),
            "w": across,
            "h": _HEIGHT,
        },
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": [_override(panel, *one) for one in panel.colours.items()],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
            for index, (legend, expression) in enumerate(panel.series)
        ],
    }


def _override(panel: Panel, word: str, colour: str) -> dict[str, Any]:
    """Return the rule that gives ``colour`` to the lines of ``word``."""
    matcher = {"id": "byName", "options": word}
    if panel.among:
        matcher = {"id": "byRegexp", "options": panel.among.replace("WORD", word)}
    value = {"mode": "shades" if panel.among else "fixed", "fixedColor": colour}
    return {"matcher": matcher, "properties": [{"id": "color", "value": value}]}
