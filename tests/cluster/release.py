"""taskctl as a Helm release, and what is left of it, or of any installation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.realnode.node import NativeNode

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "config/helm/taskctl"
NAME: Final = "taskctl"
HELM_S: Final = 240
GONE_S: Final = 60


@dataclass(frozen=True)
class Release:
    """The release ``taskctl`` of the chart in this checkout.

    Attributes:
        helm: path of Helm.
        node: where it is installed.
        namespace: of the release.
    """

    helm: str
    node: NativeNode
    namespace: str

    def run(self, verb: str, *words: str) -> str:
        """Run Helm on the release; returns what it prints.

        Raises:
            AssertionError: it failed; with its words.
        """
        done = self._run(verb, *words)
        assert done.returncode == 0, f"helm {verb}: {done.stderr}"
        return done.stdout

    def is_there(self) -> bool:
        """Whether there is such a release."""
        return self._run("status").returncode == 0

    def _run(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [self.helm, verb, NAME, *words, "--namespace", self.namespace]
        return subprocess.run(
            command, env=os.environ | {"KUBECONFIG": str(self.node.admin)}, capture_output=True,
            text=True, timeout=HELM_S + 20, check=False,
        )  # fmt: skip


def uninstall(node: NativeNode) -> None:
    """Undo ``taskctl install`` as docs/install.md says, word for word but for the waiting."""
    delete_work(node)
    manifests = printed("install")
    must(node, "delete", "-f", "-", text=manifests)
    delete_accounts(node)


def delete_work(node: NativeNode) -> None:
    """Delete TaskClusters and Tasks, and wait until the controller has let go of the workers."""
    must(node, "delete", "taskclusters,tasks", "--all", "-A")
    must(
        node, "wait", "--for=delete", "pods", "-A", "-l", "app.kubernetes.io/managed-by=taskctl",
        "--timeout=180s",
    )  # fmt: skip


def delete_accounts(node: NativeNode) -> None:
    """Delete what the controller has made for the workers."""
    selector = "app.kubernetes.io/managed-by=taskctl"
    must(node, "delete", "serviceaccounts,rolebindings", "-A", "-l", selector)


def printed(*words: str) -> str:
    """Return what a command of taskctl prints."""
    return subprocess.run(
        [sys.executable, "-m", "taskctl", *words],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip


def must(node: NativeNode, *words: str, text: str | None = None) -> str:
    """Run kubectl, which may wait for long; returns what it prints.

    Raises:
        AssertionError: it failed; with its words.
    """
    done = node.kubectl(*words, "--request-timeout=0", text=text, timeout_s=240)
    assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
    return done.stdout


def left_in_the_end(node: NativeNode, expected: set[str]) -> set[str]:
    """Return what the cluster has of taskctl once it is as expected, or after a minute.

    What Kubernetes deletes in the background, namespaces of other tests among it, takes a while.
    """
    deadline_s = time.monotonic() + GONE_S
    while (found := left(node)) != expected and time.monotonic() < deadline_s:
        time.sleep(1)
    return found


def left(node: NativeNode) -> set[str]:
    """Return what the cluster has of taskctl, as ``KIND NAMESPACE NAME``.

    The conformance suite leaves its own kinds, of groups below ``taskctl.test``.
    """
    kinds = must(node, "api-resources", "--verbs=list", "-o", "name").split()
    # Events go by themselves, and Kubernetes makes an APIService for each group of CRDs.
    wanted = ",".join(
        one for one in kinds if one.partition(".")[0] not in ("events", "apiservices")
    )
    columns = "custom-columns=:.kind,:.metadata.namespace,:.metadata.name"
    lines = must(node, "get", wanted, "-A", "-o", columns, "--ignore-not-found").splitlines()
    return {" ".join(line.split()) for line in lines if re.search(r"taskctl(?!\.test)", line)}
