"""An open client, its namespace, and where the local stack keeps its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from taskctl.errors import ConfigError

if TYPE_CHECKING:
    from taskctl.kube.client import KubeClient


@dataclass(frozen=True, slots=True)
class Session:
    """An open client and the namespace to work in.

    Attributes:
        client: of the API server.
        namespace: where the Tasks are.
        kubeconfig: path that the client was made from; None: it was searched for.
        context: in that kubeconfig; None: its current one.
    """

    client: KubeClient
    namespace: str
    kubeconfig: str | None = None
    context: str | None = None


def data_dir_of(kubeconfig: str | None, context: str | None) -> Path | None:
    """Return the data directory of the local stack that these settings lead to, or None.

    Blocking.
    """
    from taskctl.clientsettings import CLIENT_SETTINGS
    from taskctl.kube.config import KubeconfigPlace, Surroundings, find_place

    settings = replace(CLIENT_SETTINGS, kubeconfig=kubeconfig, context=context)
    try:
        place = find_place(settings, Surroundings.of_process())
    except ConfigError:
        return None
    if not isinstance(place, KubeconfigPlace) or len(place.paths) != 1:
        return None
    directory = place.paths[0].resolve().parent
    return directory if (directory / "server.json").is_file() else None
