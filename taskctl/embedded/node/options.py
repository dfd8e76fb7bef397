"""Settings of the node, and where it keeps its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOCKET_NAME = "node.sock"
# As the kubelet: the pod's own default, and so the most that a stop of the node waits.
DEFAULT_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a node is told at start.

    Attributes:
        data_dir: holds ``server.json``, ``token`` and ``tls/`` of the API server; the node adds
            ``node-token``, ``node.sock``, ``pods/`` and ``volumes/``. Containers cannot see it.
        node_name: name of the Node object.
        image_roots: image reference (with or without tag) → directory whose top-level entries
            cover those of the host's root in containers of that image; goes before what the data
            directory remembers of that name.
        grace_s: the longest that a stop of the node waits for a container, in seconds; a pod's
            own shorter ``terminationGracePeriodSeconds`` goes before it.
        path_variables: environment variable → mount path. Where the kernel allows no mount
            namespaces, the variable tells the container the host path of what it would have
            found at the mount path.
        registry: directory in which the stacks of one user name their data directories, so that
            each hides all of them from its containers; None: only its own is hidden.
        home: home directory whose credentials (``.ssh`` and the like) are hidden, or None.
    """

    data_dir: Path
    node_name: str = "local"
    image_roots: Mapping[str, Path] = field(default_factory=dict)
    grace_s: float = DEFAULT_GRACE_S
    path_variables: Mapping[str, str] = field(
        default_factory=lambda: {"TASKCTL_WORKSPACE": "/workspace"}
    )
    registry: Path | None = None
    home: Path | None = None

    @property
    def paths(self) -> NodePaths:
        """The node's files below ``data_dir``."""
        return NodePaths(self.data_dir.resolve())


@dataclass(frozen=True, slots=True)
class NodePaths:
    """The layout of the data directory, as far as the node uses it."""

    data_dir: Path

    @property
    def server_file(self) -> Path:
        """JSON with the API server's ``url``."""
        return self.data_dir / "server.json"

    @property
    def token_file(self) -> Path:
        """The node's bearer token for the API server."""
        return self.data_dir / "token"

    @property
    def authority_file(self) -> Path:
        """The certificate that vouches for the API server."""
        return self.data_dir / "tls" / "ca.crt"

    @property
    def node_token_file(self) -> Path:
        """The bearer token that the API server shows to the node's log endpoint."""
        return self.data_dir / "node-token"

    @property
    def node_socket(self) -> Path:
        """Where the node's log endpoint listens."""
        return self.data_dir / SOCKET_NAME

    @property
    def pods(self) -> Path:
        """One directory per pod, named by UID."""
        return self.data_dir / "pods"

    @property
    def claims(self) -> Path:
        """Directories behind PersistentVolumeClaims: ``<namespace>/<name>``."""
        return self.data_dir / "volumes"

    @property
    def images(self) -> Path:
        """Images that were unpacked, and what their names stand for."""
        return self.data_dir / "images"

    def pod(self, uid: str) -> Path:
        """All that belongs to one pod."""
        return self.pods / uid

    def pod_record(self, uid: str) -> Path:
        """JSON with the pod's namespace and name, for a node that finds it without the API."""
        return self.pod(uid) / "pod.json"

    def volume(self, uid: str, volume: str) -> Path:
        """A volume that lives and dies with the pod."""
        return self.pod(uid) / "volumes" / volume

    def containers(self, uid: str) -> Path:
        """One directory per container name."""
        return self.pod(uid) / "containers"

    def instance(self, uid: str, container: str, restarts: int) -> Path:
        """One run of a container: the directory that its shim works in."""
        return self.containers(uid) / container / str(restarts)
