"""What can be chosen about an installation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from taskctl.constants import DEFAULT_IMAGE
from taskctl.errors import ConfigError
from taskctl.policy.hostlist import parse_allowed
from taskctl.policy.runclusterrule import RunClusters

DEFAULT_NAMESPACE: Final = "taskctl-system"
DEFAULT_REPLICAS: Final = 2
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

    @property
    def run_clusters_mode(self) -> RunClusters:
        """What ``spec.cluster`` of a Task may hold."""
        if self.run_clusters is not None:
            return self.run_clusters
        return RunClusters.ANY if self.scope is Scope.CLUSTER else RunClusters.PLAIN
