"""What the agent must know before it starts; all of it comes from its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskctl.constants import (
    DEFAULT_LOG_LIMIT_BYTES,
    ENV_INLINE_OUTPUTS,
    ENV_LOG_LIMIT,
    ENV_METRICS_PORT,
    ENV_POD_IP,
    ENV_RUNTIME_DIR,
    ENV_STATE_DIR,
    ENV_TRACES,
    ENV_WORKSPACE,
    RUNTIME_PATH,
    STATE_PATH,
)
from taskctl.errors import ConfigError

ENV_POD_NAME: Final = "POD_NAME"
ENV_POD_NAMESPACE: Final = "POD_NAMESPACE"
ENV_POD_UID: Final = "POD_UID"
ENV_CLUSTER: Final = "TASKCTL_CLUSTER"

_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_PORT: Final = 65535
_UID = re.compile(r"[0-9A-Za-z-]{1,128}")


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """The worker pod this agent lives in.

    Attributes:
        name: ``metadata.name``.
        namespace: ``metadata.namespace``.
        uid: ``metadata.uid``; another pod of the same name has another one.
    """

    name: str
    namespace: str
    uid: str


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of one agent.

    Attributes:
        pod: the worker pod.
        cluster: name of the TaskCluster.
        workspace: where the shared workspace is mounted, the same for tasks; None without one.
        runtime_dir: the volume that tasks see too: taskctl-init, the SDK, the socket.
        state_dir: the agent's own memory, which no task sees; it lives as long as the pod.
        inline_outputs: what a function returns stands in its Task's status, if it is small.
        log_limit_bytes: of an attempt's log in the workspace; 0: none.
        metrics_host: address to serve metrics on.
        metrics_port: port to serve metrics on; None: they are not served.
        traces: tasks are told of the trace that they belong to.
    """

    pod: PodIdentity
    cluster: str
    workspace: Path | None = None
    runtime_dir: Path = Path(RUNTIME_PATH)
    state_dir: Path = Path(STATE_PATH)
    inline_outputs: bool = False
    log_limit_bytes: int = DEFAULT_LOG_LIMIT_BYTES
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    traces: bool = False

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> AgentSettings:
        """Read the settings from environment variables.

        Raises:
            ConfigError: one is missing or malformed; names it and says what belongs there.
        """
        pod = PodIdentity(
            name=_subdomain(env, ENV_POD_NAME, "metadata.name"),
            namespace=_subdomain(env, ENV_POD_NAMESPACE, "metadata.namespace"),
            uid=_uid(env),
        )
        cluster = env.get(ENV_CLUSTER, "")
        if not _DNS_SUBDOMAIN.fullmatch(cluster):
            raise ConfigError(f"{ENV_CLUSTER} is {cluster!r}; set it to the TaskCluster's name")
        return cls(
            pod=pod,
            cluster=cluster,
            workspace=_directory(env, ENV_WORKSPACE, None),
            runtime_dir=_directory(env, ENV_RUNTIME_DIR, RUNTIME_PATH) or Path(RUNTIME_PATH),
            state_dir=_directory(env, ENV_STATE_DIR, STATE_PATH) or Path(STATE_PATH),
            inline_outputs=env.get(ENV_INLINE_OUTPUTS) == "1",
            log_limit_bytes=_bytes(env, ENV_LOG_LIMIT, DEFAULT_LOG_LIMIT_BYTES),
            metrics_host=env.get(ENV_POD_IP) or "127.0.0.1",
            metrics_port=_port(env),
            traces=env.get(ENV_TRACES) == "1",
        )


def _subdomain(env: Mapping[str, str], name: str, field: str) -> str:
    value = env.get(name, "")
    if not _DNS_SUBDOMAIN.fullmatch(value):
        raise ConfigError(
            f"{name} is {value!r}; set it in the worker pod by fieldRef {field} "
            "(the controller does that; by hand: export it before starting the agent)"
        )
    return value


def _bytes(env: Mapping[str, str], name: str, default: int) -> int:
    value = env.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise ConfigError(f"{name} is {value!r}; set it to a number of bytes, 0 for no limit")
    return int(value)


def _uid(env: Mapping[str, str]) -> str:
    value = env.get(ENV_POD_UID, "")
    if not _UID.fullmatch(value):
        raise ConfigError(
            f"{ENV_POD_UID} is {value!r}; set it in the worker pod by fieldRef metadata.uid"
        )
    return value


def _port(env: Mapping[str, str]) -> int | None:
    text = env.get(ENV_METRICS_PORT, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_PORT):
        raise ConfigError(f"{ENV_METRICS_PORT} is {text!r}; it must be a port, 1 to {_MAX_PORT}")
    return int(text)


def _directory(env: Mapping[str, str], name: str, default: str | None) -> Path | None:
    """Return the directory a variable names; empty means not set.

    Raises:
        ConfigError: not absolute, or no directory is there.
    """
    text = env.get(name) or default
    if text is None:
        return None
    path = Path(text)
    if not path.is_absolute():
        raise ConfigError(f"{name} is {text!r}; it must be an absolute path")
    if not path.is_dir():
        raise ConfigError(
            f"{name}: {text} is not a directory; mount the volume there, or point {name} at it"
        )
    return path
