"""Page, alerts and dashboard are those of the list, and promtool agrees."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.gen_monitoring import render
from scripts.generated import ROOT
from taskctl.agent.meters import ClaimOutcome
from taskctl.agent.outcomes import DROPPED
from taskctl.api.states import TaskState
from taskctl.cli.output import Style
from taskctl.cli.tables import STATE_STYLES
from taskctl.controllers.metrics import Metrics
from taskctl.history.server import Served
from taskctl.install.manifests import build
from taskctl.install.options import InstallOptions, Scope
from taskctl.kube.controller import Outcome
from taskctl.metrics.alerts import ALERTS
from taskctl.metrics.catalog import CATALOG, MetricKind, Process
from taskctl.metrics.dashboard import PANELS, build_dashboard
from taskctl.placement.fleet import RetireReason
from taskctl.placement.states import WorkerState
from taskctl.policy.workerpod import build_worker
from taskctl.policy.workersettings import WorkerSettings

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None and os.environ.get("TASKCTL_REQUIRE_PROMETHEUS") != "1",
    reason="needs promtool on PATH",
)

EXPRESSIONS = [(alert.name, alert.expression) for alert in ALERTS] + [
    (panel.title, expression) for panel in PANELS for _, expression in panel.series
]
# What an expression may name of each metric, and by which labels.
KNOWN: dict[str, set[str]] = {}
for one in CATALOG:
    if one.kind is MetricKind.HISTOGRAM:
        KNOWN |= {f"{one.name}_{end}": {*one.labels, "le"} for end in ("bucket", "sum", "count")}
    else:
        KNOWN[one.name] = set(one.labels)
    if one.process is Process.AGENT:
        KNOWN[one.name].add("pod")  # by the PodMonitor
SERIES = re.compile(r"(taskctl_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


def promtool(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *arguments], input=text, capture_output=True, text=True, timeout=50, check=False
    )


def test_files_are_those_of_the_list() -> None:
    for name, text in render().items():
        assert (ROOT / name).read_text() == text, f"run scripts/gen_monitoring.py: {name}"


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_alerts_and_panels_ask_for_what_there_is(name: str, expression: str) -> None:
    found = SERIES.findall(expression)
    assert found, name
    for series, selector in found:
        assert series in KNOWN, f"{name}: {series}"
        labels = set(LABEL.findall(re.sub(r'"[^"]*"', '""', selector)))
        assert labels <= KNOWN[series], f"{name}: {labels}"
    for by in re.findall(r"by \(([^)]*)\)", expression):
        wanted = {label.strip() for label in by.split(",")}
        assert any(wanted <= KNOWN[series] for series, _ in found), f"{name}: by {by}"


@pytest.mark.parametrize(
    ("legend", "expression"),
    [pytest.param(*one, id=f"{panel.title}: {one[0]}") for panel in PANELS for one in panel.series],
)
def test_each_line_of_a_panel_has_a_name_of_its_own(legend: str, expression: str) -> None:
    """The lines of a query differ in the labels that it keeps, and the legend says all of them."""
    grouped = re.findall(
        r"\b(?:sum|max|min|avg)(?: by \(([^)]*)\))? \(|\b(?:sum|max|min)\(", expression
    )
    assert grouped, "one line for each process that is scraped"
    kept = {label.strip() for by in grouped for label in by.split(",") if label}
    assert set(re.findall(r"{{(\w+)}}", legend)) == kept - {"le"}


def test_each_metric_of_tasks_and_workers_has_a_panel() -> None:
    drawn = " ".join(expression for panel in PANELS for _, expression in panel.series)
    left_out = {m.name for m in CATALOG if not re.search(rf"{m.name}(_bucket|_sum)?\b", drawn)}
    inner = {"taskctl_leader", "taskctl_events_dropped_total"}
    assert {name for name in left_out if not name.startswith("taskctl_workqueue")} - inner == {
        "taskctl_reconcile_duration_seconds"
    }


def test_names_are_as_prometheus_wants_them() -> None:
    names = [metric.name for metric in CATALOG]
    assert len(names) == len(set(names))
    for metric in CATALOG:
        assert re.fullmatch(r"taskctl_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
        assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert not {"task", "uid", "pod", "container_name"} & set(metric.labels)


def test_the_outcomes_that_alert_exist() -> None:
    (alert,) = [one for one in ALERTS if one.name == "TaskctlReconcileErrors"]
    words = re.search(r'outcome=~"([^"]+)"', alert.expression)
    assert words
    assert set(words[1].split("|")) <= {outcome.value for outcome in Outcome}


def test_the_dashboard_has_no_two_panels_in_one_place() -> None:
    panels = build_dashboard()["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)


# Panel, the words that its lines are named by, and such a name with what may stand beside the word.
COLOURED: list[tuple[str, Collection[str], str]] = [
    ("Tasks by state", set(TaskState), "{}"),
    ("Tasks that end", {state for state in TaskState if state.terminal}, "{} NonZeroExit"),
    ("Workers by state", set(WorkerState) - {WorkerState.GONE}, "{}"),
    ("Workers that go", {*RetireReason, "lost", "deleted"}, "{}"),
    ("Attempts that failed or were lost", {"failed", "lost"}, "{}"),
    ("What agents start", set(ClaimOutcome), "claims {}"),
    ("What agents start", {"own", "standby", "handed over", "children"}, "{}"),
    ("What agents record", {*TaskState, DROPPED}, "{}"),
    ("Reconciles", set(Outcome), "taskcluster {}"),
    ("Spans of traces", {"made", "exported", "failed"}, "{}"),
    ("History: requests", set(Served), "{}"),
]


@pytest.mark.parametrize(("title", "words", "name"), COLOURED)
def test_each_state_has_one_colour(title: str, words: Collection[str], name: str) -> None:
    colours = {word: colours_of(title, name.format(word)) for word in words}
    assert {word: found for word, found in colours.items() if len(found) != 1} == {}


def test_each_panel_with_colours_is_tested() -> None:
    assert {panel.title for panel in PANELS if panel.colours} == {title for title, *_ in COLOURED}


def test_a_panel_by_state_or_outcome_has_colours() -> None:
    for panel in PANELS:
        if any(re.search(r"{{(state|outcome)}}$", legend) for legend, _ in panel.series):
            assert panel.colours, panel.title


def test_states_look_as_they_do_in_the_terminal() -> None:
    looks = {Style.GOOD: "green", Style.BAD: "red", Style.ACTIVE: "blue"}
    for state, style in STATE_STYLES.items():
        (colour,) = colours_of("Tasks by state", state)
        assert looks.get(style, colour) == colour
        assert (style in looks) == (colour in looks.values())


def colours_of(title: str, name: str) -> list[str]:
    """Return the colours that the rules of a panel give to a line, by Grafana's matchers."""
    (panel,) = [one for one in build_dashboard()["panels"] if one["title"] == title]
    found = []
    for rule in panel["fieldConfig"]["overrides"]:
        kind, wanted = rule["matcher"]["id"], rule["matcher"]["options"]
        assert kind in {"byName", "byRegexp"}
        pattern = re.escape(wanted) + r"\Z" if kind == "byName" else wanted.strip("/")
        if (re.match if kind == "byName" else re.search)(pattern, name):
            found += [one["value"]["fixedColor"] for one in rule["properties"]]
    return found


@pytest.mark.parametrize("scope", list(Scope))
def test_install_with_monitoring(scope: Scope) -> None:
    options = InstallOptions(namespace="team", scope=scope, monitoring=True)
    found = {one["kind"]: one for one in build(options)}
    workers = found["PodMonitor"]["spec"]
    assert (workers.get("namespaceSelector") == {"any": True}) == (scope is Scope.CLUSTER)
    arguments = found["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    (argument,) = [one for one in arguments if one.startswith("--worker-metrics-port=")]
    cluster = {"metadata": {"name": "c", "namespace": "team", "uid": "u"}, "spec": {}}
    worker = build_worker(
        cluster, "w", WorkerSettings(metrics_port=int(argument.partition("=")[2]))
    )
    (expression,) = workers["selector"]["matchExpressions"]
    assert expression == {"key": "taskctl.dev/cluster-uid", "operator": "Exists"}
    assert expression["key"] in worker["metadata"]["labels"]
    (endpoint,) = workers["podMetricsEndpoints"]
    assert endpoint["port"] in {p["name"] for p in worker["spec"]["containers"][0]["ports"]}
    (rules,) = found["PrometheusRule"]["spec"]["groups"]
    assert [rule["alert"] for rule in rules["rules"]] == [alert.name for alert in ALERTS]
    assert json.loads(found["ConfigMap"]["data"]["taskctl.json"]) == build_dashboard()
    plain = {one["kind"] for one in build(InstallOptions(namespace="team", scope=scope))}
    assert not {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"} & plain


@pytest.mark.parametrize("scope", list(Scope))
def test_the_service_monitor_chooses_who_has_metrics(scope: Scope) -> None:
    everything = InstallOptions(
        namespace="team", scope=scope, monitoring=True, page=True, history=True
    )
    objects = build(everything)
    (monitor,) = [one for one in objects if one["kind"] == "ServiceMonitor"]
    assert monitor["metadata"]["namespace"] == "team"
    (term,) = monitor["spec"]["selector"]["matchExpressions"]
    assert term["operator"] == "In"
    (endpoint,) = monitor["spec"]["endpoints"]
    services = [one for one in objects if one["kind"] == "Service"]
    chosen = [s for s in services if s["metadata"]["labels"][term["key"]] in term["values"]]
    assert {one["metadata"]["name"] for one in chosen} == {"taskctl-controller", "taskctl-history"}
    for service in services:
        assert service["metadata"]["namespace"] == "team"
        has_metrics = endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert has_metrics == (service in chosen)


@needs_promtool
def test_promtool_takes_the_alerts() -> None:
    done = promtool("check", "rules", str(ROOT / "config/monitoring/alerts.rules.yaml"))
    assert done.returncode == 0, done.stderr + done.stdout


@needs_promtool
def test_promtool_has_no_fault_to_find_with_the_metrics() -> None:
    done = promtool("check", "metrics", text=Metrics().render().decode())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_promtool
def test_promtool_takes_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stderr + done.stdout


C = 'namespace="ns",cluster="c"'
# Alert, series, and whether it is to fire after half an hour.
FIRING: list[tuple[str, dict[str, str], bool]] = [
    ("TaskctlNoController", {"taskctl_leader": "0x60"}, True),
    ("TaskctlNoController", {"taskctl_leader": "1x60"}, False),
    ("TaskctlNoController", {}, True),
    (
        "TaskctlNoWorkers",
        {f"taskctl_queue_length{{{C}}}": "3x60", f"taskctl_slots{{{C}}}": "0x60"},
        True,
    ),
    (
        "TaskctlNoWorkers",
        {f"taskctl_queue_length{{{C}}}": "3x60", f"taskctl_slots{{{C}}}": "4x60"},
        False,
    ),
    ("TaskctlQueueOld", {f"taskctl_queue_oldest_age_seconds{{{C}}}": "1700+60x60"}, True),
    (
        "TaskctlTasksFail",
        {
            f'taskctl_tasks_finished_total{{{C},state="Failed",reason="Timeout"}}': "0+6x60",
            f'taskctl_tasks_finished_total{{{C},state="Succeeded",reason="Completed"}}': "0+4x60",
        },
        True,
    ),
    (
        "TaskctlTasksFail",
        {
            f'taskctl_tasks_finished_total{{{C},state="Failed",reason="Timeout"}}': "0+3x60",
            f'taskctl_tasks_finished_total{{{C},state="Succeeded",reason="Completed"}}': "0+4x60",
        },
        False,
    ),
    ("TaskctlAttemptsLost", {f"taskctl_attempts_lost_total{{{C}}}": "0+1x60"}, True),
    (
        "TaskctlWorkersLost",
        {f'taskctl_workers_removed_total{{{C},reason="lost"}}': "0+1x60"},
        True,
    ),
    (
        "TaskctlWorkersLost",
        {f'taskctl_workers_removed_total{{{C},reason="worn"}}': "0+1x60"},
        False,
    ),
    (
        "TaskctlApiErrors",
        {
            'taskctl_api_requests_total{verb="get",resource="tasks",code="503"}': "0+20x60",
            'taskctl_api_requests_total{verb="get",resource="tasks",code="200"}': "0+80x60",
        },
        True,
    ),
    (
        "TaskctlReconcileErrors",
        {'taskctl_reconcile_total{controller="task",outcome="error"}': "0+60x60"},
        True,
    ),
    ("TaskctlHistoryNotWritten", {"taskctl_history_waiting": "0+3x60"}, True),
    ("TaskctlHistoryNotWritten", {"taskctl_history_waiting": "0 5 9x3 0x2 7x3 0 8x5 0x60"}, False),
    (
        "TaskctlWorkspaceFull",
        {
            f'taskctl_workspace_free_bytes{{{C},pod="w"}}': "5x60",
            f'taskctl_workspace_size_bytes{{{C},pod="w"}}': "100x60",
        },
        True,
    ),
    (
        "TaskctlWorkspaceFull",
        {
            f'taskctl_workspace_free_bytes{{{C},pod="w"}}': "50x60",
            f'taskctl_workspace_size_bytes{{{C},pod="w"}}': "100x60",
        },
        False,
    ),
    (
        "TaskctlStartsSlowly",
        {
            'taskctl_task_stage_duration_seconds_bucket{stage="starting",le="30"}': "0+5x60",
            'taskctl_task_stage_duration_seconds_bucket{stage="starting",le="60"}': "0+9x60",
            'taskctl_task_stage_duration_seconds_bucket{stage="starting",le="+Inf"}': "0+9x60",
        },
        True,
    ),
]


@needs_promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    cases = [_case(name, series, fires=fires) for name, series, fires in FIRING]
    path = tmp_path / "alerts.test.yaml"
    rules = str(ROOT / "config/monitoring/alerts.rules.yaml")
    path.write_text(yaml.safe_dump({"rule_files": [rules], "tests": cases}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire() -> None:
    assert {name for name, _, fires in FIRING if fires} == {alert.name for alert in ALERTS}


def _case(name: str, series: dict[str, str], *, fires: bool) -> dict[str, Any]:
    query = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    expected = [{"labels": "{}", "value": 1.0 if fires else 0.0}]
    return {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [{"expr": query, "eval_time": "45m", "exp_samples": expected}],
    }
