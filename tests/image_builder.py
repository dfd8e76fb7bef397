"""Tiny images for tests, in pure Python: OCI layouts, OCI archives and `docker save` archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskctl.embedded.images.manifests import architecture

NAME_KEY = "org.opencontainers.image.ref.name"


@dataclass
class Item:
    """One entry of a layer; ``kind`` is a type of :mod:`tarfile`."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


def directory(name: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Item:
    return Item(name, kind=tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid)


def link(name: str, target: str) -> Item:
    return Item(name, kind=tarfile.SYMTYPE, target=target, mode=0o777)


def hard(name: str, target: str) -> Item:
    return Item(name, kind=tarfile.LNKTYPE, target=target)


def program(name: str, text: str) -> Item:
    return Item(name, text.encode(), mode=0o755)


def layer(items: Sequence[Item]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.linkname, info.mode = item.kind, item.target, item.mode
            info.uid, info.gid, info.mtime = item.uid, item.gid, 1_000_000_000
            info.size = len(item.content)
            archive.addfile(info, io.BytesIO(item.content))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Image:
    """An image that is to be written down."""

    layers: Sequence[bytes]
    config: dict[str, Any] = field(default_factory=dict)
    name: str = "example.com/app:1"
    compress: bool = True
    architecture: str = field(default_factory=architecture)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def config_document(self) -> bytes:
        return json.dumps(
            {
                "architecture": self.architecture,
                "os": "linux",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in self.layers]},
            }
        ).encode()

    def put(self, data: bytes, media_type: str) -> dict[str, Any]:
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def manifest(self) -> dict[str, Any]:
        """Fill ``blobs``; returns the descriptor of the manifest."""
        packed = [gzip.compress(d, mtime=0) if self.compress else d for d in self.layers]
        kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if self.compress else "")
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.put(self.config_document(), "application/vnd.oci.image.config.v1+json"),
            "layers": [self.put(data, kind) for data in packed],
        }
        descriptor = self.put(json.dumps(document).encode(), document["mediaType"])
        return {**descriptor, "annotations": {NAME_KEY: self.name}}


def write_layout(path: Path, *images: Image) -> Path:
    files = layout_files(*images)
    for name, data in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return path


def layout_files(*images: Image) -> dict[str, bytes]:
    manifests = [image.manifest() for image in images]
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    for image in images:
        for name, data in image.blobs.items():
            files["blobs/" + name.replace(":", "/")] = data
    return files


def write_oci_archive(path: Path, *images: Image) -> Path:
    return write_tar(path, layout_files(*images))


def write_docker_archive(path: Path, *images: Image) -> Path:
    files: dict[str, bytes] = {}
    entries = []
    for image in images:
        config = image.config_document()
        name = digest(config).removeprefix("sha256:") + ".json"
        files[name] = config
        layers = []
        for data in image.layers:
            member = digest(data).removeprefix("sha256:") + "/layer.tar"
            files[member] = data
            layers.append(member)
        entries.append({"Config": name, "RepoTags": [image.name], "Layers": layers})
    files["manifest.json"] = json.dumps(entries).encode()
    return write_tar(path, files)


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(layer([Item(name, data) for name, data in files.items()]))
    return path
