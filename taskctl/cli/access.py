"""The options that every verb has: which cluster, which namespace, how much detail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated

import typer

from taskctl.outside.session import Session

if TYPE_CHECKING:
    from taskctl.kube.client import KubeClient

__all__ = ["Access", "Session", "open_client"]

# People wait for the answer: a cluster that is away should be noticed within seconds.
REQUEST_TIMEOUT_S = 15.0
CLIENT_QPS = 50.0


def _namespaces(ctx: typer.Context, incomplete: str) -> list[str]:
    from taskctl.cli import completing  # which needs this module

    return completing.namespaces(ctx, incomplete)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where to find the API server; also the options before the verb.

    Attributes:
        namespace: None takes the kubeconfig's.
        kubeconfig: path; None searches (:mod:`taskctl.kube.config`).
        context: None takes the kubeconfig's current one.
        debug: show tracebacks and the log.
    """

    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            help="Namespace. Default: the kubeconfig's.",
            autocompletion=_namespaces,
        ),
    ] = None
    kubeconfig: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Default: $KUBECONFIG, the pod's own account, ./.taskctl/kubeconfig, "
            "~/.kube/config.",
        ),
    ] = None
    context: Annotated[
        str | None, typer.Option(metavar="NAME", help="Context in the kubeconfig.")
    ] = None
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and what is sent.")] = (
        False
    )

    def merged_over(self, outer: Access | None) -> Access:
        """Return these options, each one that was not given taken from ``outer``."""
        if outer is None:
            return self
        given = {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        return replace(outer, **given)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Session]:
        """Open a client; closed at the end of the block.

        Raises:
            ConfigError: no API server is configured, or the kubeconfig is wrong.
        """
        async with await open_client(self) as client:
            namespace = self.namespace or client.namespace
            yield Session(client, namespace, self.kubeconfig, self.context)


async def open_client(access: Access) -> KubeClient:
    """Make the client; tests put another one in its place."""
    from taskctl.clientsettings import CLIENT_SETTINGS
    from taskctl.kube.client import KubeClient
    from taskctl.kube.paging import LARGE_PAGES

    settings = replace(
        CLIENT_SETTINGS,
        kubeconfig=access.kubeconfig,
        context=access.context,
        qps=CLIENT_QPS,
        timeout_s=REQUEST_TIMEOUT_S,
        pages=LARGE_PAGES,
    )
    return await KubeClient.connect(settings)
