"""All that is installed, in the order in which it can be applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taskctl.api.crds import load_all
from taskctl.install import controller, history, monitoring, page, rights, runclusters
from taskctl.install.options import InstallOptions, Scope

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """The manifests of an installation, by who may apply them.

    Attributes:
        crds: the CustomResourceDefinitions; an administrator of the cluster.
        cluster: what else is cluster-wide; likewise.
        namespaced: the rest.
    """

    crds: list[Manifest]
    cluster: list[Manifest]
    namespaced: list[Manifest]


def build_parts(options: InstallOptions) -> Parts:
    """Return the manifests by part; the CRDs whatever ``options.crds`` says."""
    everything = [
        *rights.controller_rights(options),
        *rights.worker_rights(options),
        controller.deployment(options),
        controller.disruption_budget(options),
        controller.metrics_service(options),
    ]
    if options.monitoring:
        everything += monitoring.monitoring(options)
    if options.page:
        everything += page.page(options)
    if options.history:
        everything += history.history(options)
    # A namespace that is served alone belongs to a user: taskctl does not set its labels.
    first = [controller.namespace(options)] if options.scope is Scope.CLUSTER else []
    cluster = [*first, *rights.people_rights()]
    cluster += [one for one in everything if "namespace" not in one["metadata"]]
    if options.scope is Scope.CLUSTER:
        cluster += runclusters.admission_policy()
    namespaced = [one for one in everything if "namespace" in one["metadata"]]
    return Parts(load_all(), cluster, namespaced)


def build(options: InstallOptions) -> list[Manifest]:
    """Return the manifests, ready to be applied in this order."""
    parts = build_parts(options)
    if options.crds:
        return [*parts.crds, *parts.cluster, *parts.namespaced]
    # Without CRDs, an install for one namespace holds only what that namespace's owner may create.
    cluster = parts.cluster if options.scope is Scope.CLUSTER else []
    return [*cluster, *parts.namespaced]
