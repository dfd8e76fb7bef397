"""Certificates and credentials of the node, made by openssl; valid for a year."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

BRIDGE_ADDRESS = "10.88.0.1"
SERVICE_ADDRESS = "10.96.0.1"
DAYS = "365"


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def make(directory: Path, node_name: str) -> None:
    """Write ca.{crt,key}, server.{crt,key}, sa.{key,pub}, tokens.csv and *.token."""
    if (directory / "tokens.csv").exists():
        return
    new_key = ("-newkey", "rsa:2048", "-nodes")
    _openssl(
        directory, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt",
        "-days", DAYS, "-subj", "/CN=taskctl-test-ca",
    )  # fmt: skip
    _openssl(
        directory, "req", *new_key, "-keyout", "server.key", "-out", "server.csr",
        "-subj", "/CN=kube-apiserver",
    )  # fmt: skip
    names = [f"IP:{ip}" for ip in ("127.0.0.1", BRIDGE_ADDRESS, SERVICE_ADDRESS)]
    names += [f"DNS:{name}" for name in ("localhost", "kubernetes.default.svc")]
    (directory / "san").write_text(f"subjectAltName={','.join(names)}\n")
    _openssl(
        directory, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", "server.crt", "-days", DAYS, "-extfile", "san",
    )  # fmt: skip
    _openssl(directory, "genrsa", "-out", "sa.key", "2048")
    _openssl(directory, "rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
    _write_tokens(directory, node_name)


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
