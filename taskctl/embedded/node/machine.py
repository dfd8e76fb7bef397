"""What the node says of the machine it runs on."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Final

from taskctl.embedded.node.model import Json
from taskctl.embedded.platforms import architecture

POD_LIMIT: Final = 110


def labels(node_name: str) -> dict[str, str]:
    """Return the well-known labels of a node."""
    return {
        "kubernetes.io/hostname": node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
    }


def capacity(data_dir: Path) -> dict[str, str]:
    """Return the machine's resources as quantities."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{pages // 1024}Ki",
        "ephemeral-storage": f"{shutil.disk_usage(data_dir).total // 1024}Ki",
        "pods": str(POD_LIMIT),
    }


def node_info(version: str) -> Json:
    """Return ``status.nodeInfo``.

    Args:
        version: shown as the kubelet's.
    """
    release = _os_release()
    return {
        "architecture": architecture(),
        "operatingSystem": "linux",
        "kernelVersion": platform.release(),
        "osImage": release.get("PRETTY_NAME") or platform.system(),
        "containerRuntimeVersion": "process://1",
        "kubeletVersion": version,
        "kubeProxyVersion": "",
        "machineID": _read("/etc/machine-id"),
        "systemUUID": "",
        "bootID": _read("/proc/sys/kernel/random/boot_id"),
    }


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
