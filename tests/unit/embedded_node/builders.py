"""Pods and what the node knows of their containers, in few words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from taskctl.embedded.node.model import ContainerView, RunState, Terminated

Json = dict[str, Any]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def container(name: str, **fields: Any) -> Json:
    return {"name": name, "image": "img", "command": ["true"], **fields}


def pod(
    *containers: Json, meta: Json | None = None, status: Json | None = None, **spec: Any
) -> Json:
    return {
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", **(meta or {})},
        "spec": {"containers": list(containers) or [container("main")], **spec},
        "status": {"phase": "Pending", **(status or {})},
    }


RUNNING = ContainerView(RunState.RUNNING, started_at=NOW, container_id="process://u/c/0")


def ended(code: int = 0, **fields: Any) -> ContainerView:
    end = Terminated(
        exit_code=code,
        signal=0,
        reason="Error" if code else "Completed",
        message="",
        started_at=NOW,
        finished_at=later(1),
        container_id="process://u/c/0",
    )
    return ContainerView(RunState.EXITED, started_at=NOW, terminated=end, **fields)
