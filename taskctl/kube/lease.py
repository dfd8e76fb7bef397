"""Leader election by a Lease, after client-go (tools/leaderelection/leaderelection.go).

It keeps two controllers from working against each other most of the time. It does not
fence: a leader that was paused may continue for a moment after another has taken over. Every
side effect must be safe under two leaders, for example by comparing resourceVersions.

Clocks of different machines are never compared: a lease counts as held for its duration
from the moment *we* saw its record change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from taskctl.clock import format_micro
from taskctl.errors import AlreadyExists, ConfigError, Conflict, NotFound, TaskctlError
from taskctl.kube.interface import KubeObject, Reader, Writer
from taskctl.kube.resources import LEASES
from taskctl.kube.timing import SYSTEM_TIMING, Timing

log = logging.getLogger(__name__)

_JITTER: Final = 1.2  # client-go's JitterFactor


class LeaseClient(Reader, Writer, Protocol):
    """What an election needs."""


class LeadershipLost(TaskctlError):
    """The lease could not be renewed in time; the work was stopped."""


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Times of the election; the defaults are client-go's.

    Attributes:
        namespace: where the Lease lives.
        name: its name.
        identity: who we are; must differ between any two candidates.
        duration_s: how long a silent leader is waited for.
        renew_deadline_s: how long a leader tries to renew before it gives up. Shorter than
            ``duration_s``, so that it stops before another starts.
        retry_s: pause between attempts.

    Raises:
        ConfigError: the times are not in that order.
    """

    namespace: str
    name: str
    identity: str
    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.duration_s > self.renew_deadline_s > self.retry_s * _JITTER > 0:
            raise ConfigError(
                "a lease needs duration_s > renew_deadline_s > 1.2 x retry_s > 0; got "
                f"{self.duration_s:g}, {self.renew_deadline_s:g}, {self.retry_s:g}"
            )
        if not self.identity:
            raise ConfigError("a lease needs an identity")


class LeaderElector:
    """Runs work while holding a lease.

    Args:
        client: where the Lease lives.
        settings: which lease, and times.
        timing: clock, sleep and chance.
        changed: told whenever we begin or cease to lead, or None.
    """

    def __init__(
        self,
        client: LeaseClient,
        settings: LeaseSettings,
        *,
        timing: Timing = SYSTEM_TIMING,
        changed: Callable[[bool], None] | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._timing = timing
        self._changed = changed
        self._record: dict[str, Any] = {}
        self._observed_at_s = 0.0
        self._leading = False

    @property
    def leading(self) -> bool:
        """Whether we hold the lease, as far as we know."""
        return self._leading

    @property
    def holder(self) -> str:
        """The holder of the lease when last seen; empty if there was none."""
        return str(self._record.get("holderIdentity") or "")

    @property
    def transitions(self) -> int:
        """How often the lease has changed hands, as last seen."""
        return int(self._record.get("leaseTransitions") or 0)

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, do ``work`` while holding it, and give it back.

        Raises:
            LeadershipLost: the lease could not be renewed; ``work`` has been cancelled.
        """
        await self._acquire()
        self._set_leading(True)
        try:
            async with asyncio.TaskGroup() as tasks:
                renewing = tasks.create_task(self._renew(), name="lease-renew")
                try:
                    await work()
                finally:
                    renewing.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
        finally:
            held = self._leading
            self._set_leading(False)
            if held:
                await self._release()

    async def _acquire(self) -> None:
        announced = ""
        while not await self._attempt():
            if self.holder and self.holder != announced:
                announced = self.holder
                log.info("the lease %s is held by %s; waiting", self._settings.name, announced)
            pause_s = self._settings.retry_s
            await self._timing.sleep(pause_s * (1.0 + _JITTER * self._timing.random()))
        log.info("leading as %s", self._settings.identity)

    async def _renew(self) -> None:
        clock = self._timing.clock
        renewed_s = clock.monotonic_s()
        while True:
            await self._timing.sleep(self._settings.retry_s)
            left_s = self._settings.renew_deadline_s - (clock.monotonic_s() - renewed_s)
            started_s = clock.monotonic_s()
            if left_s > 0 and await self._attempt_within(left_s):
                renewed_s = started_s
            elif clock.monotonic_s() - renewed_s >= self._settings.renew_deadline_s:
                self._set_leading(False)
                raise LeadershipLost(
                    f"the lease {self._settings.namespace}/{self._settings.name} could not be "
                    f"renewed for {self._settings.renew_deadline_s:g} s"
                )

    async def _attempt_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                return await self._attempt()
        except TimeoutError:
            return False

    async def _attempt(self) -> bool:
        """Try once to take or renew the lease."""
        try:
            return await self._take_or_renew()
        except (Conflict, AlreadyExists):
            return False  # another was faster
        except TaskctlError as error:
            log.warning("the lease %s: %s", self._settings.name, error)
            return False

    async def _take_or_renew(self) -> bool:
        settings = self._settings
        try:
            lease = await self._client.get(LEASES, settings.name, settings.namespace)
        except NotFound:
            self._observe(await self._client.create(LEASES, self._new_lease(), settings.namespace))
            return True
        self._observe(lease)
        mine = self.holder == settings.identity
        if self.holder and not mine and not self._expired():
            return False
        now = format_micro(self._timing.clock.now())
        spec = dict(lease.get("spec") or {})
        spec["holderIdentity"] = settings.identity
        spec["leaseDurationSeconds"] = max(1, round(settings.duration_s))
        spec["renewTime"] = now
        if not mine:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = self.transitions + 1
        # With the resourceVersion that was read: of two candidates one gets a Conflict.
        self._observe(await self._client.replace(LEASES, {**lease, "spec": spec}))
        return True

    async def _release(self) -> None:
        """Give the lease back, so that the next leader need not wait for its end."""
        settings = self._settings
        try:
            async with asyncio.timeout(settings.retry_s):
                lease = await self._client.get(LEASES, settings.name, settings.namespace)
                spec = dict(lease.get("spec") or {})
                if spec.get("holderIdentity") != settings.identity:
                    return
                now = format_micro(self._timing.clock.now())
                spec.update(holderIdentity="", leaseDurationSeconds=1, renewTime=now)
                await self._client.replace(LEASES, {**lease, "spec": spec})
        except (TaskctlError, TimeoutError) as error:
            log.info("the lease %s was not given back: %s", settings.name, error)

    def _new_lease(self) -> KubeObject:
        settings = self._settings
        now = format_micro(self._timing.clock.now())
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": settings.name, "namespace": settings.namespace},
            "spec": {
                "holderIdentity": settings.identity,
                "leaseDurationSeconds": max(1, round(settings.duration_s)),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    def _observe(self, lease: KubeObject) -> None:
        record = dict(lease.get("spec") or {})
        if record != self._record:
            self._record = record
            self._observed_at_s = self._timing.clock.monotonic_s()

    def _expired(self) -> bool:
        # As client-go: the holder's own duration counts, it may differ from ours.
        duration_s = float(self._record.get("leaseDurationSeconds") or self._settings.duration_s)
        return self._timing.clock.monotonic_s() - self._observed_at_s >= duration_s

    def _set_leading(self, leading: bool) -> None:
        if leading != self._leading:
            self._leading = leading
            if self._changed is not None:
                self._changed(leading)
