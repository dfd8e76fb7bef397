"""A namespace on the real cluster, with the same verbs as on the local stack."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskctl.kube.client import KubeClient
from taskctl.kube.resources import NAMESPACES, PVCS
from tests.embedded.world import World
from tests.realnode.node import NativeNode

# All namespaces of the tests hold pods to the strictest of Kubernetes' standards.
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
BUSYBOX = "localhost/taskctl-test-busybox:1"
KUBECTL_S = 30


@dataclass(frozen=True)
class ClusterWorld(World):
    """A world on the native node.

    Attributes:
        kubeconfig: of an administrator.
        node: the node that runs it all.
    """

    kubeconfig: Path = Path()
    node: NativeNode | None = None

    @classmethod
    async def on_node(cls, client: KubeClient, test_name: str, node: NativeNode) -> ClusterWorld:
        """Make a namespace for a test."""
        digest = hashlib.sha256(test_name.encode()).hexdigest()[:8]
        metadata = {"generateName": f"t-{digest}-", "labels": RESTRICTED}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        made = await client.create(NAMESPACES, body)
        name = made["metadata"]["name"]
        return cls(client, name, node.volumes, BUSYBOX, kubeconfig=node.admin, node=node)

    def workspace(self, cluster: str = "c") -> Path:
        """Return the directory of this machine behind the TaskCluster's claim."""
        path = "jsonpath={.spec.volumeName}"
        name = self._kubectl_now("get", "pvc", f"{cluster}-workspace", "-o", path)
        return self.data_dir / self.namespace / name

    async def claim(self, cluster: str = "c") -> dict[str, Any]:
        """Return the TaskCluster's claim."""
        return await self.get(PVCS, f"{cluster}-workspace")

    async def kubectl(self, *arguments: str, body: Any = None) -> str:
        """Run kubectl in the namespace; returns what it prints.

        Raises:
            AssertionError: it failed; with its words.
        """
        text = None if body is None else json.dumps(body)
        return await asyncio.to_thread(self._kubectl_now, *arguments, text=text)

    def _kubectl_now(self, *arguments: str, text: str | None = None) -> str:
        assert self.node is not None
        done = self.node.kubectl("--namespace", self.namespace, *arguments, text=text)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout
