"""The container of ``taskctl debug``: in which worker, and what it is made of. Pure.

It is an ephemeral container like that of a task: the image, mounts, environment and security
context that a task gets there, but no nonce, so that the agent does not talk to it, and no token of
an account. Its first process only waits; the shell is a further one, started by ``pods/exec``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.constants import (
    ENV_WORKSPACE,
    INIT_PATH,
    TOKEN_VOLUME,
    WORKSPACE_VOLUME,
)
from taskctl.policy.entry import build_container
from taskctl.policy.podview import parse_pod
from taskctl.policy.view import TaskView
from taskctl.policy.workerpod import parse_frame

PREFIX: Final = "debug-"
# The best shell that the image has, interactive where it has a terminal.
SHELL: Final = ("sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")
_TASKCTL_PREFIX: Final = "TASKCTL_"


@dataclass(frozen=True, slots=True)
class DebugRequest:
    """What is asked for.

    Attributes:
        name: of the container, beginning with :data:`PREFIX`.
        image: of the container; empty: the Task's.
        limit_s: seconds after which it ends by itself.
        term: type of the terminal; empty: there is none.
    """

    name: str
    image: str
    limit_s: int
    term: str


def choose_worker(
    pods: Iterable[Mapping[str, Any]], pod_uid: str
) -> tuple[Mapping[str, Any] | None, bool]:
    """Return the worker to use, and whether it is the one where the Task ran.

    Args:
        pods: raw worker pods of the Task's TaskCluster.
        pod_uid: the worker that the Task names; empty: none.

    Returns:
        That worker if it serves, else the newest one that does; None: none does.
    """
    usable = [pod for pod in pods if _serves(pod)]
    for pod in usable:
        if pod["metadata"]["uid"] == pod_uid:
            return pod, True
    newest = max(usable, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)
    return newest, False


def _serves(pod: Mapping[str, Any]) -> bool:
    view = parse_pod(pod)
    return view.agent_running and view.deletion is None and parse_frame(pod) is not None


def build_debug_container(
    view: TaskView, pod: Mapping[str, Any], wanted: DebugRequest
) -> dict[str, Any]:
    """Return the ephemeral container.

    Args:
        view: the Task, with the defaults of its TaskCluster.
        pod: the raw worker; it serves.
        wanted: what is asked for.
    """
    frame = parse_frame(pod) or {}
    mounts = [one for one in frame.get("volumeMounts") or () if one.get("name") != TOKEN_VOLUME]
    workspace = next((one["mountPath"] for one in mounts if one["name"] == WORKSPACE_VOLUME), "")
    env = [
        dict(item)
        for item in view.spec.get("env") or ()
        if not str(item.get("name")).startswith(_TASKCTL_PREFIX)
    ]
    if workspace:
        env.append({"name": ENV_WORKSPACE, "value": workspace})
    if wanted.term:
        env = [item for item in env if item.get("name") != "TERM"]
        env.append({"name": "TERM", "value": wanted.term})
    container = build_container(
        wanted.name,
        wanted.image or str(view.spec["image"]),
        env,
        {**frame, "volumeMounts": mounts},
        read_only=bool(view.spec.get("readOnlyWorkspace")),
    )
    container["command"] = [INIT_PATH, "debug-hold", wanted.name, str(wanted.limit_s)]
    if workspace:
        container["workingDir"] = workspace
    return container
