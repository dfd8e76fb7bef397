"""Certificates and credentials of the node, made by openssl; valid for a year."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

BRIDGE_ADDRESS = "10.88.0.1"
SERVICE_ADDRESS = "10.96.0.1"
DAYS = "365"
_NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def make(directory: Path, node_name: str) -> None:
    """Write what is missing of ca, server, kubelet-client, sa, tokens.csv and *.token."""
    if not (directory / "tokens.csv").exists():
        _make_server(directory)
        _write_tokens(directory, node_name)
    if not (directory / "kubelet-client.crt").exists():
        # The API server shows it to the kubelet, for logs and exec.
        _sign(directory, "kubelet-client", "/O=system:masters/CN=kubelet-client")


def _sign(directory: Path, name: str, subject: str, *extra: str) -> None:
    """Make a key and a certificate signed by the CA."""
    _openssl(
        directory, "req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr",
        "-subj", subject,
    )  # fmt: skip
    _openssl(
        directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", f"{name}.crt", "-days", DAYS, *extra,
    )  # fmt: skip


def _make_server(directory: Path) -> None:
    _openssl(
        directory, "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.crt",
        "-days", DAYS, "-subj", "/CN=taskctl-test-ca",
    )  # fmt: skip
    names = [f"IP:{ip}" for ip in ("127.0.0.1", BRIDGE_ADDRESS, SERVICE_ADDRESS)]
    names += [f"DNS:{name}" for name in ("localhost", "kubernetes.default.svc")]
    (directory / "san").write_text(f"subjectAltName={','.join(names)}\n")
    _sign(directory, "server", "/CN=kube-apiserver", "-extfile", "san")
    _openssl(directory, "genrsa", "-out", "sa.key", "2048")
    _openssl(directory, "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")


def _write_tokens(directory: Path, node_name: str) -> None:
    users = {
        "admin": ("admin", "system:masters"),
        "scheduler": ("system:kube-scheduler", ""),
        "kubelet": (f"system:node:{node_name}", "system:nodes"),
        "proxy": ("system:kube-proxy", ""),
    }
    lines = []
    for name, (user, group) in users.items():
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{user},"{group}"' if group else f"{token},{user},{user}")
        path = directory / f"{name}.token"
        path.touch(mode=0o600)
        path.write_text(token)
    table = directory / "tokens.csv"
    table.touch(mode=0o600)
    table.write_text("\n".join(lines) + "\n")


def write_kubeconfig(directory: Path, name: str, server: str) -> Path:
    """Write the kubeconfig of one user; returns its path."""
    path = directory / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(
        f"""apiVersion: v1
kind: Config
clusters:
- name: realnode
  cluster:
    server: {server}
    certificate-authority: {directory / "ca.crt"}
users:
- name: {name}
  user:
    token: {(directory / f"{name}.token").read_text()}
contexts:
- name: realnode
  context: {{cluster: realnode, user: {name}}}
current-context: realnode
"""
    )
    return path
