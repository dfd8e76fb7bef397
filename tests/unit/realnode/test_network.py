"""What a node leaves behind of its pods' networks, and how it is found again."""

from __future__ import annotations

import json

from tests.realnode.network import CNI_CONFIG, NETWORK, namespaces


def test_namespaces_of_a_cached_result() -> None:
    interfaces = [
        {"name": "cni0", "mac": "0e:27:b9:b6:e7:4b"},
        {"name": "vethc2c2c139", "mac": "3e:ec:1d:cb:45:72"},
        {"name": "eth0", "sandbox": "/var/run/netns/cni-0479484b-d65f-2d83"},
    ]
    cached = {"kind": "cniCacheV1", "networkName": NETWORK, "result": {"interfaces": interfaces}}
    assert namespaces(json.dumps(cached)) == {"cni-0479484b-d65f-2d83"}


def test_a_result_without_interfaces() -> None:
    assert namespaces('{"kind": "cniCacheV1"}') == set()


def test_the_network_bears_a_name_of_its_own() -> None:
    assert CNI_CONFIG["name"] == NETWORK
    assert NETWORK not in ("bridge", "cni0"), "what is removed by name must not be a stranger's"
