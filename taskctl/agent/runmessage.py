"""The instruction to run: what taskctl-init needs to know of a Task."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from taskctl.agent.context import Context
from taskctl.agent.runs import Run
from taskctl.constants import (
    ENV_ATTEMPT,
    ENV_DEPTH,
    ENV_PARENT,
    ENV_ROOT,
    ENV_TASK,
    ENV_TASK_NAME,
    ENV_TASK_NAMESPACE,
    ENV_TASK_UID,
    ENV_TOKEN,
    ENV_TRACEPARENT,
    ENV_WORKSPACE,
)
from taskctl.policy.prepare import ENV_DEFAULTS_OF_RUNS, given_env, words_of
from taskctl.policy.resources import memory_limit_bytes, requested
from taskctl.policy.tracecontext import context_of_run, parse_traceparent
from taskctl.policy.view import TaskView, parse_task
from taskctl.wire import Message

# Between SIGTERM and SIGKILL; Kubernetes gives pods 30 s, and the report must fit in there too.
GRACE_MS: Final = 10_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Return microseconds since the epoch."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """Return the moment that many microseconds after the epoch.

    Raises:
        OverflowError: it is beyond the year 9999.
    """
    return _EPOCH + value * _MICROSECOND


def timeout_ms(task: dict[str, Any]) -> int:
    """Return how long an attempt may run; 0: forever."""
    return int(parse_task(task).spec.get("timeoutSeconds") or 0) * 1000


def run_message(context: Context, run: Run, task: dict[str, Any]) -> Message:
    """Return the instruction to run this attempt of the Task."""
    view = parse_task(task)
    return {
        "action": "run",
        "task": run.told.task,
        "namespace": context.namespace,
        "uid": run.told.uid,
        "attempt": run.told.attempt,
        "argv": words_of(view),
        "env": _environment(context, run, view),
        "cwd": view.spec.get("workingDir") or "",
        "timeout_ms": run.told.timeout_ms,
        "grace_ms": GRACE_MS,
        "memory_bytes": memory_limit_bytes(view.spec),
        "cpu_milli": requested(view.spec).cpu_milli,
        "workspace": context.workspace_path,
        "log": run.told.log,
        "log_bytes": context.settings.log_limit_bytes,
        "record": run.told.record,
        "record_key": record_key(context, run),
    }


def record_key(context: Context, run: Run) -> str:
    """Return what an exit record must hold to count: only that run's taskctl-init is told."""
    told = run.told
    return context.tokens.for_record(told.container, told.uid, told.attempt)


def _environment(context: Context, run: Run, view: TaskView) -> dict[str, str]:
    given = given_env(view)
    told = run.told
    named = {entry["name"] for entry in view.spec.get("env") or ()}
    # No rule forbids these names, so what the Task says about them counts.
    kept = {ENV_TASK_NAME: told.task, ENV_TASK_NAMESPACE: context.namespace, **ENV_DEFAULTS_OF_RUNS}
    if context.settings.traces or parse_traceparent(view.traceparent) is not None:
        kept[ENV_TRACEPARENT] = context_of_run(view, told.attempt).text()
    own = {
        ENV_TASK: told.task,
        ENV_TASK_UID: told.uid,
        ENV_ATTEMPT: str(told.attempt),
        ENV_TOKEN: context.tokens.for_task(told.container, told.uid, told.attempt),
        ENV_ROOT: view.root_name,
        ENV_PARENT: view.parent_name,
        ENV_DEPTH: str(view.depth),
        ENV_WORKSPACE: context.workspace_path,
    }
    return {name: value for name, value in kept.items() if name not in named} | given | own
