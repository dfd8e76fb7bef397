"""What the programs of taskctl say to, and want of, the Kubernetes client."""

from __future__ import annotations

from typing import Final

from taskctl import __version__
from taskctl.kube.config import ClientSettings

# Start from these with ``dataclasses.replace``: they find the local stack in the working directory.
CLIENT_SETTINGS: Final = ClientSettings(
    user_agent=f"taskctl/{__version__}",
    local_kubeconfig=".taskctl/kubeconfig",
    local_command="taskctl local",
)
