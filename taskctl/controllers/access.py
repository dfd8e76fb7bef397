"""Gives the workers of a TaskCluster the account and the rights that agents need."""

from __future__ import annotations

from typing import Final

from taskctl.clock import Clock
from taskctl.constants import WORKER_ACCOUNT
from taskctl.controllers.writes import namespace_goes
from taskctl.errors import AlreadyExists, Forbidden, NotFound
from taskctl.kube.interface import Client, KubeObject
from taskctl.kube.resources import ROLEBINDINGS, SERVICEACCOUNTS, Resource
from taskctl.objectkey import ObjectKey
from taskctl.policy.workeraccess import (
    WorkerAccess,
    binding_name,
    binds_worker,
    build_account,
    build_binding,
    worker_account,
)

_FRESH_S: Final = 60.0
_REMEDY: Final = (
    "Install the controller's roles (`taskctl install`), or create these objects yourself "
    "and start the controller with --worker-access none (docs/install.md)."
)


class AccessKeeper:
    """Makes the ServiceAccount and the RoleBinding of workers, where it is to.

    They are asked for when a worker is to be created, and once a minute at most, so a
    TaskCluster that has its workers costs nothing, and what a user has deleted is made again.

    Args:
        client: the API server.
        clock: for the age of what is known.
        mode: whether to make them.
    """

    def __init__(
        self, client: Client, clock: Clock, mode: WorkerAccess = WorkerAccess.MANAGE
    ) -> None:
        self._client = client
        self._clock = clock
        self._mode = mode
        # UID of a TaskCluster → the account that has its rights, and when we saw it (monotonic).
        self._seen: dict[str, tuple[str, float]] = {}

    def forget(self, uid: str) -> None:
        """Look again before the next worker of that TaskCluster is created."""
        self._seen.pop(uid, None)

    async def ensure(self, cluster: KubeObject) -> str:
        """See to it that the TaskCluster's workers have an account and its rights.

        An account that the TaskCluster names is the user's own; it gets the rights alone.

        Returns:
            Why they have none, as a sentence with the remedy; empty: they have.

        Raises:
            ApiError: no answer, or the namespace is on its way out.
        """
        uid, account = cluster["metadata"]["uid"], worker_account(cluster)
        if self._mode is WorkerAccess.NONE or self._is_fresh(uid, account):
            return ""
        namespace = cluster["metadata"]["namespace"]
        try:
            if account == WORKER_ACCOUNT:
                await self._get_or_create(SERVICEACCOUNTS, build_account(namespace))
            binding = await self._get_or_create(ROLEBINDINGS, build_binding(namespace, account))
        except Forbidden as error:
            if namespace_goes(error):
                raise
            return (
                f"The controller may not give the workers their rights (ServiceAccount "
                f"{account!r}, RoleBinding {binding_name(account)!r}): {error}. {_REMEDY}"
            )
        if not binds_worker(binding, account):
            return (
                f"RoleBinding {str(ObjectKey.of(binding))!r} exists and binds another role or "
                "account; delete it, and the controller makes it again."
            )
        self._seen[uid] = (account, self._clock.monotonic_s())
        return ""

    def _is_fresh(self, uid: str, account: str) -> bool:
        seen, at_s = self._seen.get(uid, ("", 0.0))
        return seen == account and self._clock.monotonic_s() - at_s < _FRESH_S

    async def _get_or_create(self, res: Resource, wanted: KubeObject) -> KubeObject:
        name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
        try:
            return await self._client.get(res, name, namespace)
        except NotFound:
            pass
        try:
            return await self._client.create(res, wanted, namespace)
        except AlreadyExists:  # another was faster
            return await self._client.get(res, name, namespace)
