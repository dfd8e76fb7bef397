"""The ephemeral containers of this agent's own pod, as the API server has them.

The pod's spec is the record of what was placed here, and holds each container's nonce. It is
read when a container that is not known yet says hello, not watched: a watch would send the
whole pod again for each change of its status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.agent.retry import Retrier
from taskctl.agent.settings import PodIdentity
from taskctl.constants import (
    ENV_ATTEMPT,
    ENV_CONTAINER,
    ENV_DEFAULTS,
    ENV_NONCE,
    ENV_PLACED,
    ENV_TASK,
    ENV_TASK_UID,
    WORKSPACE_VOLUME,
)
from taskctl.errors import ApiError, NotFound
from taskctl.kube.interface import Reader
from taskctl.kube.resources import PODS
from taskctl.policy.claim import ClaimEntry
from taskctl.policy.handover import Handover, SeenTask, parse_parked
from taskctl.policy.resources import UNCOUNTED, capacity_of
from taskctl.policy.taskdefaults import from_text
from taskctl.policy.workerpod import parse_frame


@dataclass(frozen=True, slots=True)
class PodEntry:
    """What the controller wrote into the pod for one attempt of one task.

    Attributes:
        claim: the part that the fence is about.
        task: name of the Task.
        nonce: what taskctl-init must show, once.
        writes_workspace: the workspace is mounted there, and not read-only.
        container_class: fingerprint of the tasks that fit, where it was parked; else empty: it
            was made for this one.
        seen: the Task when it was handed over; None: it is to be read first.
    """

    claim: ClaimEntry
    task: str
    nonce: str = field(repr=False)
    writes_workspace: bool = True
    container_class: str = ""
    seen: SeenTask | None = None


@dataclass(frozen=True, slots=True)
class ParkedEntry:
    """A container that the controller put into the pod without a task.

    Attributes:
        container: its name.
        container_class: fingerprint of the tasks it fits.
        nonce: what taskctl-init must show, once.
        writes_workspace: the workspace is mounted there, and not read-only.
    """

    container: str
    container_class: str
    nonce: str = field(repr=False)
    writes_workspace: bool = True

    def given(self, handover: Handover, identity: PodIdentity) -> PodEntry:
        """Return the entry as if the controller had written it for this attempt."""
        claim = ClaimEntry(
            task_uid=handover.task_uid,
            attempt=handover.attempt,
            container=self.container,
            pod_name=identity.name,
            pod_uid=identity.uid,
            placed=handover.placed,
            defaults=handover.defaults,
        )
        return PodEntry(
            claim=claim,
            task=handover.task_name,
            nonce=self.nonce,
            writes_workspace=self.writes_workspace,
            container_class=self.container_class,
            seen=handover.seen,
        )


class OwnPod:
    """Entries of the own pod, cached by container name: an entry never changes.

    Args:
        reader: where to read the pod.
        identity: which pod.
        retrier: repeats the read while the API server is away.

    Attributes:
        capacity: what the worker has for tasks; known once the pod has been read.
    """

    def __init__(self, reader: Reader, identity: PodIdentity, retrier: Retrier) -> None:
        self._reader = reader
        self._identity = identity
        self._retrier = retrier
        self.capacity = UNCOUNTED
        self._entries: dict[str, PodEntry | ParkedEntry] = {}
        self._lock = asyncio.Lock()
        self._started = 0
        self._finished = 0  # number of the newest read that succeeded

    async def entry(self, container: str) -> PodEntry | ParkedEntry:
        """Return a container's entry, waiting for the API server if it must be asked.

        Raises:
            Refusal: ``unknown_container``: the pod has no such entry, or is another pod by
                now; ``rejected``: the API server does not let the pod be read.
        """
        if container not in self._entries:
            asked = self._started
            async with self._lock:
                # A read that began after we asked is as good as one of our own.
                if container not in self._entries and self._finished <= asked:
                    await self._read()
        try:
            return self._entries[container]
        except KeyError:
            raise Refusal(
                ErrorCode.UNKNOWN_CONTAINER,
                f"pod {self._identity.name} has no ephemeral container {container} of taskctl's",
            ) from None

    async def _read(self) -> None:
        name, namespace = self._identity.name, self._identity.namespace
        self._started += 1
        number = self._started
        try:
            pod = await self._retrier.call(
                f"read pod {name}", lambda: self._reader.get(PODS, name, namespace)
            )
        except NotFound:
            raise Refusal(ErrorCode.UNKNOWN_CONTAINER, f"pod {name} is gone") from None
        except ApiError as error:
            raise from_api(error) from error
        if pod["metadata"]["uid"] != self._identity.uid:
            raise Refusal(
                ErrorCode.UNKNOWN_CONTAINER, f"pod {name} was deleted and made again meanwhile"
            )
        self.capacity = capacity_of((parse_frame(pod) or {}).get("resources"))
        for container in pod.get("spec", {}).get("ephemeralContainers") or ():
            entry = parse_entry(container, self._identity)
            if entry is not None:
                self._entries[container["name"]] = entry
        self._finished = number


def parse_entry(
    container: Mapping[str, Any], identity: PodIdentity
) -> PodEntry | ParkedEntry | None:
    """Return the entry of one ephemeral container; None if it is not taskctl's.

    Somebody else's (of ``kubectl debug``) has no such environment.
    """
    env = {item["name"]: item.get("value", "") for item in container.get("env") or ()}
    parked = parse_parked(container)
    if parked is not None and env.get(ENV_NONCE):
        return ParkedEntry(
            container=parked.container,
            container_class=parked.fingerprint,
            nonce=env[ENV_NONCE],
            writes_workspace=_writes_workspace(container),
        )
    attempt = env.get(ENV_ATTEMPT, "")
    wanted = (ENV_TASK, ENV_TASK_UID, ENV_NONCE)
    if env.get(ENV_CONTAINER) != container["name"] or not all(env.get(name) for name in wanted):
        return None
    if not (attempt.isascii() and attempt.isdigit()):
        return None
    claim = ClaimEntry(
        task_uid=env[ENV_TASK_UID],
        attempt=int(attempt),
        container=container["name"],
        pod_name=identity.name,
        pod_uid=identity.uid,
        placed=env.get(ENV_PLACED, ""),
        defaults=from_text(env.get(ENV_DEFAULTS, "")),
    )
    return PodEntry(
        claim=claim,
        task=env[ENV_TASK],
        nonce=env[ENV_NONCE],
        writes_workspace=_writes_workspace(container),
    )


def _writes_workspace(container: Mapping[str, Any]) -> bool:
    return any(
        mount.get("name") == WORKSPACE_VOLUME and not mount.get("readOnly")
        for mount in container.get("volumeMounts") or ()
    )
