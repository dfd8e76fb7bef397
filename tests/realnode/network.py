"""The pods' network: a bridge with the API server's address, and an interface for each pod."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.realnode import certificates

BRIDGE: Final = "cni0"
# Not "bridge", as in every example: what bears this name on a machine is ours to remove.
NETWORK: Final = "taskctl-test"
CNI_CONFIG: Final[dict[str, Any]] = {
    "cniVersion": "0.4.0",
    "name": NETWORK,
    "plugins": [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.88.0.0/16", "rangeStart": "10.88.1.1"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "loopback"},
    ],
}
_CNI_STATE: Final = Path("/var/lib/cni")


def make_bridge() -> None:
    """Make the pods' bridge, with the address that the API server is reached at."""
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
        address = f"{certificates.BRIDGE_ADDRESS}/16"
        subprocess.run(["ip", "addr", "add", address, "dev", BRIDGE], check=True)
    subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def remove() -> None:
    """Remove the network of each pod there was, and the bridge.

    containerd would have the plugins do it for a pod that is deleted; pods that are there when
    the node goes down have nobody to do it, and each would leave a namespace, mounted, and a
    pair of interfaces behind.
    """
    for result in (_CNI_STATE / "results").glob(f"{NETWORK}-*"):
        for name in namespaces(result.read_text()):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        result.unlink(missing_ok=True)
    shutil.rmtree(_CNI_STATE / "networks" / NETWORK, ignore_errors=True)
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)


def namespaces(result: str) -> set[str]:
    """Return the names of the network namespaces in a cached result of the CNI plugins."""
    interfaces = json.loads(result).get("result", {}).get("interfaces", [])
    return {Path(one["sandbox"]).name for one in interfaces if one.get("sandbox")}
