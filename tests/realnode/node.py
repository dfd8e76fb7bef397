"""The native node: etcd, API server, controller manager, scheduler, kubelet, containerd.

    scripts/cluster up | down | load IMAGE.tar… | kubeconfig | status

Every process has a pid file; ``down`` ends them all, also after an ``up`` that failed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tests.realnode import certificates, network
from tests.realnode.binary import cache_dir, ensure_binary
from tests.realnode.processes import Process

PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "umoci": "umoci",
    "skopeo": "skopeo",
    "busybox": "busybox-static",
    "debootstrap": "debootstrap",
    "openssl": "openssl",
    "kubectl": "kubernetes-client",
}
CNI_BIN = Path("/usr/lib/cni")
NODE = "realnode"
API_PORT = 16443
SERVER = f"https://{certificates.BRIDGE_ADDRESS}:{API_PORT}"
ETCD_PORT = 12379
ETCD = f"http://127.0.0.1:{ETCD_PORT}"
PAUSE_IMAGE = "localhost/pause:1"
READY_S = 90.0
KUBECTL_S = 60.0


class NodeError(Exception):
    """The node cannot be run here; the message says why and what to do."""


class NativeNode:
    """All files and processes of the node, below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = directory / "pki"
        self.logs = directory / "logs"
        self.admin = self.pki / "admin.kubeconfig"
        self.volumes = directory / "volumes"
        self.socket = directory / "containerd.sock"
        names = [
            "containerd", "etcd", "kube-apiserver", "kube-controller-manager",
            "kube-scheduler", "kubelet", "kube-proxy", "provisioner",
        ]  # fmt: skip
        self.processes = {name: Process(name, self.logs) for name in names}

    # --- up ------------------------------------------------------------------------------
    def up(self) -> None:
        """Bring the node to Ready. Does nothing that is done already."""
        if os.geteuid() != 0:
            raise NodeError("the native node needs root: it runs containerd and a kubelet")
        install_packages()
        ensure_binary()
        for folder in (self.directory, self.pki, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        network.make_bridge()
        self._write_config()
        self._start_control_plane()
        self._start_runtime()
        self.processes["provisioner"].start(
            [
                sys.executable, "-m", "tests.realnode.provisioner",
                str(self.pki), str(self.volumes), SERVER,
            ]
        )  # fmt: skip
        self.wait("node Ready", self.node_ready)

    def _start_control_plane(self) -> None:
        pki, run, binary = self.pki, self.processes, str(ensure_binary())
        peer = f"http://127.0.0.1:{ETCD_PORT + 1}"
        run["etcd"].start(
            [
                binary, "etcd", f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync",
                f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}",
                f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
            ]
        )  # fmt: skip
        self.start_api_server()
        self.wait("API server ready", self.api_ready)
        run["kube-controller-manager"].start(
            [
                binary, "kube-controller-manager", f"--kubeconfig={self.admin}",
                "--leader-elect=false", f"--root-ca-file={pki / 'ca.crt'}",
                f"--service-account-private-key-file={pki / 'sa.key'}",
                "--bind-address=127.0.0.1",
            ]
        )  # fmt: skip
        run["kube-scheduler"].start(
            [
                binary, "kube-scheduler", f"--kubeconfig={pki / 'scheduler.kubeconfig'}",
                "--leader-elect=false", "--bind-address=127.0.0.1",
            ]
        )  # fmt: skip

    def start_api_server(self) -> None:
        """Start the API server; a test may stop and start it alone."""
        pki = self.pki
        self.processes["kube-apiserver"].start(
            [
                str(ensure_binary()), "kube-apiserver", f"--etcd-servers={ETCD}",
                f"--secure-port={API_PORT}", f"--bind-address={certificates.BRIDGE_ADDRESS}",
                f"--advertise-address={certificates.BRIDGE_ADDRESS}",
                f"--tls-cert-file={pki / 'server.crt'}",
                f"--tls-private-key-file={pki / 'server.key'}",
                f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
                f"--kubelet-client-key={pki / 'kubelet-client.key'}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--client-ca-file={pki / 'ca.crt'}", f"--token-auth-file={pki / 'tokens.csv'}",
                "--authorization-mode=Node,RBAC", "--allow-privileged=true",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki / 'sa.pub'}",
                f"--service-account-signing-key-file={pki / 'sa.key'}",
                "--service-cluster-ip-range=10.96.0.0/24",
            ]
        )  # fmt: skip

    def _start_runtime(self) -> None:
        run = self.processes
        self.start_containerd()
        self.load_pause_image()
        self.start_kubelet()
        run["kube-proxy"].start(
            [
                str(ensure_binary()), "kube-proxy",
                f"--kubeconfig={self.pki / 'proxy.kubeconfig'}",
                "--proxy-mode=iptables", f"--hostname-override={NODE}",
                "--cluster-cidr=10.88.0.0/16", "--bind-address=127.0.0.1",
                "--healthz-bind-address=127.0.0.1:11256", "--metrics-bind-address=127.0.0.1:11249",
                "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
            ]
        )  # fmt: skip

    def start_containerd(self) -> None:
        """Start containerd; a test may stop and start it alone."""
        command = ["containerd", f"--config={self.directory / 'containerd.toml'}"]
        self.processes["containerd"].start(command)
        self.wait("containerd ready", self._containerd_ready)

    def start_kubelet(self) -> None:
        """Start the kubelet; a test may stop and start it alone."""
        self.processes["kubelet"].start(
            [
                str(ensure_binary()), "kubelet", f"--config={self.directory / 'kubelet.yaml'}",
                f"--kubeconfig={self.pki / 'kubelet.kubeconfig'}",
                f"--root-dir={self.directory / 'kubelet'}",
                f"--hostname-override={NODE}", f"--node-ip={certificates.BRIDGE_ADDRESS}",
                "--runtime-cgroups=/", "--kubelet-cgroups=/",
            ]
        )  # fmt: skip

    def _write_config(self) -> None:
        certificates.make(self.pki, NODE)
        for user in ("admin", "scheduler", "kubelet", "proxy"):
            certificates.write_kubeconfig(
                self.pki, user, f"https://{certificates.BRIDGE_ADDRESS}:{API_PORT}"
            )
        cni = self.directory / "cni"
        cni.mkdir(exist_ok=True)
        (cni / "10-bridge.conflist").write_text(json.dumps(network.CNI_CONFIG, indent=2))
        (self.directory / "containerd.toml").write_text(
            CONTAINERD_CONFIG.format(directory=self.directory, cni_bin=CNI_BIN, pause=PAUSE_IMAGE)
        )
        (self.directory / "kubelet.yaml").write_text(
            KUBELET_CONFIG.format(
                directory=self.directory,
                ca=self.pki / "ca.crt",
                address=certificates.BRIDGE_ADDRESS,
            )
        )

    # --- questions -----------------------------------------------------------------------
    def kubectl(
        self, *arguments: str, text: str | None = None, timeout_s: float = KUBECTL_S
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as admin; ``text`` is its standard input."""
        command = ["kubectl", f"--kubeconfig={self.admin}", "--request-timeout=5s", *arguments]
        given = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout_s, **given
        )

    def is_up(self) -> bool:
        """Whether the node was started and is Ready."""
        return self.processes["kubelet"].pid() is not None and self.node_ready()

    def api_ready(self) -> bool:
        """Whether the API server answers."""
        return self.kubectl("get", "--raw", "/readyz").returncode == 0

    def node_ready(self) -> bool:
        """Whether the node is Ready."""
        path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        return self.kubectl("get", "node", NODE, "-o", path).stdout == "True"

    def _containerd_ready(self) -> bool:
        return self.ctr("version").returncode == 0

    def remove_container(self, container_id: str) -> None:
        """Remove an ended container, as a person with crictl might: the kubelet is not told."""
        command = [str(ensure_binary()), "cri-remove", f"unix://{self.socket}", container_id]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run containerd's client in the kubelet's namespace."""
        command = ["ctr", f"--address={self.socket}", "--namespace=k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait until it is so.

        Raises:
            NodeError: it is not so for a minute and a half.
        """
        deadline = time.monotonic() + READY_S
        while not ready():
            dead = [name for name, p in self.processes.items() if p.log.exists() and not p.pid()]
            if time.monotonic() > deadline:
                raise NodeError(f"not {what} after {READY_S:.0f} s; ended: {dead}; see {self.logs}")
            time.sleep(0.2)

    # --- images --------------------------------------------------------------------------
    def load(self, archive: Path) -> None:
        """Import an OCI or docker archive."""
        done = self.ctr("images", "import", str(archive))
        if done.returncode != 0:
            raise NodeError(f"{archive} cannot be imported: {done.stderr.strip()}")

    def load_pause_image(self) -> None:
        """Import a pause image made of busybox, unless it is there."""
        if PAUSE_IMAGE in self.ctr("images", "ls", "-q").stdout.split():
            return
        from tests.realnode import images

        self.load(images.pause(self.directory / "images", PAUSE_IMAGE))

    # --- down ----------------------------------------------------------------------------
    def down(self) -> None:
        """End everything that was started; keep the logs."""
        self.processes["kubelet"].stop()
        self._kill_containers()
        for name in ("provisioner", "kube-proxy", "kube-scheduler", "kube-controller-manager"):
            self.processes[name].stop()
        for name in ("kube-apiserver", "etcd", "containerd"):
            self.processes[name].stop()
        # Its rules outlive it; the program removes them itself.
        cleanup = [str(ensure_binary()), "kube-proxy", "--cleanup"]
        subprocess.run(cleanup, check=False, capture_output=True, timeout=30)
        self._unmount()
        network.remove()
        for name in ("etcd", "kubelet", "containerd", "containerd-state", "volumes"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()

    def _kill_containers(self) -> None:
        if self.processes["containerd"].pid() is None:
            return
        for task in self.ctr("tasks", "ls", "-q").stdout.split():
            self.ctr("tasks", "kill", "-s", "SIGKILL", task)
        for _ in range(50):
            if not self.ctr("tasks", "ls", "-q").stdout.strip():
                break
            for task in self.ctr("tasks", "ls", "-q").stdout.split():
                self.ctr("tasks", "delete", "--force", task)
            time.sleep(0.1)

    def _unmount(self) -> None:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        inside = [line.split()[1] for line in mounts if str(self.directory) in line.split()[1]]
        for mount in sorted(inside, reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)


def cluster_directory() -> Path:
    """Return where the node lives: $TASKCTL_CLUSTER_DIR, or the user's cache."""
    return Path(os.environ.get("TASKCTL_CLUSTER_DIR") or cache_dir() / "cluster")


def install_packages(tools: Collection[str] = PACKAGES) -> None:
    """Install the Debian packages of the tools that are missing."""
    missing = [PACKAGES[tool] for tool in tools if shutil.which(tool) is None]
    if "containerd" in tools and not CNI_BIN.exists():
        missing.append("containernetworking-plugins")
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NodeError(f"install these first: {', '.join(missing)}")
    subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL)
    command = ["apt-get", "install", "-y", "-qq", *missing]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


# restrict_oom_score_adj: lowering the score needs CAP_SYS_RESOURCE, which may be absent.
CONTAINERD_CONFIG = """version = 2
root = "{directory}/containerd"
state = "{directory}/containerd-state"
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
"""
KUBELET_CONFIG = """apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {ca}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix://{directory}/containerd.sock
failSwapOn: false
failCgroupV1: false
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: {{}}
resolvConf: ""
podLogsDir: {directory}/pod-logs
"""


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Let one ``up`` or ``down`` run at a time."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "load", "kubeconfig", "status"])
    parser.add_argument("archive", nargs="*", type=Path)
    args = parser.parse_args()
    directory = cluster_directory()
    node = NativeNode(directory)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if args.verb in ("up", "down"):
            with exclusive(directory):
                getattr(node, args.verb)()
        elif args.verb == "load":
            for archive in args.archive:
                node.load(archive)
        elif args.verb == "status":
            for name, process in node.processes.items():
                print(f"{name:<24} {process.pid() or 'not running'}")
        if args.verb in ("up", "kubeconfig"):
            print(node.admin)
    except NodeError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
