"""Makes volumes for claims on the native node, as kind's local-path provisioner does.

    python3 -m tests.realnode.provisioner KUBECONFIG_DIRECTORY VOLUMES SERVER

Each claim of the default storage class gets a directory of this machine, as a volume of
type ``local`` (the kubelet applies fsGroup to those). Directories go when their claim does.
"""

from __future__ import annotations

import json
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

PROVISIONER = "taskctl.dev/test-directories"
CLASS_NAME = "standard"
NODE = "realnode"
WATCH_S = 300
REQUEST_S = 10
RETRY_S = 0.5

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": CLASS_NAME,
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "Immediate",
}


class Provisioner:
    """Watches claims and volumes.

    Args:
        pki: folder with ca.crt and admin.token.
        volumes: where the directories are made.
        server: the API server's address.
    """

    def __init__(self, pki: Path, volumes: Path, server: str) -> None:
        self._volumes = volumes
        self._server = server
        self._token = (pki / "admin.token").read_text().strip()
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))

    def run(self) -> None:
        """Serve until killed."""
        self._volumes.mkdir(mode=0o711, parents=True, exist_ok=True)
        while True:
            try:
                self._create("/apis/storage.k8s.io/v1/storageclasses", STORAGE_CLASS)
                self._pass()
            except OSError as error:
                print(f"the API server does not answer: {error}", flush=True)
            time.sleep(RETRY_S)

    def _pass(self) -> None:
        """Bring everything into step, then wait for the next change of a claim."""
        claims = self._json("GET", "/api/v1/persistentvolumeclaims")
        for claim in claims["items"]:
            self._provide(claim)
        uids = {claim["metadata"]["uid"] for claim in claims["items"]}
        for volume in self._json("GET", "/api/v1/persistentvolumes")["items"]:
            self._collect(volume, uids)
        version = claims["metadata"]["resourceVersion"]
        path = f"/api/v1/persistentvolumeclaims?watch=1&resourceVersion={version}"
        with self._open("GET", f"{path}&timeoutSeconds={WATCH_S}", None, WATCH_S + 30) as stream:
            stream.readline()

    def _provide(self, claim: dict[str, Any]) -> None:
        spec, metadata = claim["spec"], claim["metadata"]
        wanted = spec.get("storageClassName") == CLASS_NAME and not spec.get("volumeName")
        if not wanted or metadata.get("deletionTimestamp"):
            return
        name = f"pvc-{metadata['uid']}"
        directory = self._volumes / metadata["namespace"] / name
        directory.mkdir(parents=True, exist_ok=True)
        host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
            },
            "spec": {
                "capacity": spec["resources"]["requests"],
                "accessModes": spec["accessModes"],
                "volumeMode": spec.get("volumeMode", "Filesystem"),
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": CLASS_NAME,
                "claimRef": {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
                "local": {"path": str(directory)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            },
        }
        self._create("/api/v1/persistentvolumes", volume)
        print(f"{metadata['namespace']}/{metadata['name']}: {directory}", flush=True)

    def _collect(self, volume: dict[str, Any], claims: set[str]) -> None:
        """Remove a volume of ours whose claim is gone, files first."""
        annotations = volume["metadata"].get("annotations") or {}
        if annotations.get("pv.kubernetes.io/provisioned-by") != PROVISIONER:
            return
        if volume["spec"]["claimRef"]["uid"] in claims:
            return
        directory = Path(volume["spec"]["local"]["path"])
        if directory.is_relative_to(self._volumes):
            shutil.rmtree(directory, ignore_errors=True)
        self._json("DELETE", f"/api/v1/persistentvolumes/{volume['metadata']['name']}")

    # --- requests ------------------------------------------------------------------------
    def _create(self, path: str, body: dict[str, Any]) -> None:
        try:
            self._json("POST", path, body)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        with self._open(method, path, body, REQUEST_S) as answer:
            return json.load(answer)

    def _open(self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float) -> Any:
        request = urllib.request.Request(
            self._server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            },
        )
        return urllib.request.urlopen(request, timeout=timeout_s, context=self._tls)


if __name__ == "__main__":
    Provisioner(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]).run()
