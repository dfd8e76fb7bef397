"""What can be chosen about an installation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from taskctl.constants import DEFAULT_IMAGE
from taskctl.errors import ConfigError
from taskctl.policy.hostlist import parse_allowed
from taskctl.policy.runclusterrule import RunClusters
from taskctl.quantity import parse_quantity

DEFAULT_NAMESPACE: Final = "taskctl-system"
DEFAULT_REPLICAS: Final = 2
DEFAULT_HISTORY_STORAGE: Final = "1Gi"
DEFAULT_HISTORY_MB: Final = 800
DEFAULT_HISTORY_AGE: Final = "720h"
# What a file system needs for itself, and a file that is being begun.
_HISTORY_ROOM: Final = Decimal("1.15")
_DNS_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Scope(StrEnum):
    """Which namespaces an installation serves."""

    CLUSTER = "cluster"  # all
    NAMESPACE = "namespace"  # the one it lives in


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """What can be chosen about an installation.

    Attributes:
        namespace: where the controller lives.
        scope: which namespaces it serves.
        image: of the controller, and of workers whose TaskCluster names none.
        replicas: of the controller; one works, the others stand by.
        crds: whether to include the CustomResourceDefinitions.
        monitoring: whether to include what the Prometheus operator and Grafana take.
        page: whether to include the page as a Service.
        page_origins: addresses by which browsers reach the page, through a proxy.
        history: whether to include the recorder of the history.
        history_storage: how much its claim asks for; a quantity.
        history_storage_class: of its claim; empty: the cluster's default.
        history_mb: how much it keeps, in megabytes; must leave room in the claim.
        history_age: for how long it keeps it, as the option of ``taskctl recorder``.
        run_clusters: what ``spec.cluster`` of a Task may hold; None: anything where the admission
            policy is installed, which only an administrator of the cluster can do, else what is
            plain.
        notify_allow: where notifications of Tasks may go (taskctl/policy/hostlist.py).

    Raises:
        ConfigError: the namespace, image, number or a host cannot be.
    """

    namespace: str = DEFAULT_NAMESPACE
    scope: Scope = Scope.CLUSTER
    image: str = DEFAULT_IMAGE
    replicas: int = DEFAULT_REPLICAS
    crds: bool = True
    monitoring: bool = False
    page: bool = False
    page_origins: tuple[str, ...] = ()
    history: bool = False
    history_storage: str = DEFAULT_HISTORY_STORAGE
    history_storage_class: str = ""
    history_mb: int = DEFAULT_HISTORY_MB
    history_age: str = DEFAULT_HISTORY_AGE
    run_clusters: RunClusters | None = None
    notify_allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _DNS_LABEL.fullmatch(self.namespace):
            raise ConfigError(
                f"the namespace {self.namespace!r} is not a name for one; use up to 63 lower-case "
                "letters, digits and dashes"
            )
        if not self.image or self.image != self.image.strip():
            raise ConfigError(f"the image {self.image!r} is not a reference, like reg/taskctl:1")
        if self.replicas < 1:
            raise ConfigError(f"replicas is {self.replicas}; at least one controller must run")
        parse_allowed(self.notify_allow)
        self._check_history()

    def _check_history(self) -> None:
        try:
            bytes_asked = parse_quantity(self.history_storage)
        except ValueError as error:
            raise ConfigError(f"the storage of the history: {error}") from None
        if self.history_mb < 1 or self.history_mb * 10**6 * _HISTORY_ROOM > bytes_asked:
            raise ConfigError(
                f"a history of {self.history_mb} MB does not fit a claim of "
                f"{self.history_storage}; it may take up to "
                f"{int(bytes_asked / _HISTORY_ROOM / 10**6)} MB there"
            )
        name = self.history_storage_class
        if name and not _DNS_NAME.fullmatch(name):
            raise ConfigError(f"the storage class {name!r} is not a name for one")

    @property
    def run_clusters_mode(self) -> RunClusters:
        """What ``spec.cluster`` of a Task may hold."""
        if self.run_clusters is not None:
            return self.run_clusters
        return RunClusters.ANY if self.scope is Scope.CLUSTER else RunClusters.PLAIN
