"""A pod's volumes on this machine: made before its containers start, kept fresh after."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskctl import beneath
from taskctl.clock import Clock, parse_time
from taskctl.embedded.node import payloads
from taskctl.embedded.node.api import ApiClient, core_path
from taskctl.embedded.node.binding import PROVISIONED_BY, PROVISIONER
from taskctl.embedded.node.env import EnvSources
from taskctl.embedded.node.model import Json, PodRef
from taskctl.embedded.node.mounts import VolumeSource
from taskctl.embedded.node.options import NodePaths
from taskctl.embedded.node.payloads import Payload, PayloadError, PayloadFile
from taskctl.errors import ApiError, NotFound

log = logging.getLogger(__name__)

# As the kubelet's sync of mounted ConfigMaps and Secrets.
REFRESH_S: Final = 60.0
# Share of a token's life after which it is replaced, as in the kubelet's token manager.
TOKEN_RENEW_AT: Final = 0.8
_TOKEN_DEFAULT_S: Final = 3600
_PAYLOAD_KINDS: Final = ("configMap", "secret", "downwardAPI", "projected")
_REMOTE_KINDS: Final = ("nfs", "csi", "iscsi", "cephfs", "rbd", "glusterfs", "fc", "image")


class VolumeError(Exception):
    """A volume is not ready. The pod waits with ``ContainerCreating``; the node tries again."""


@dataclass(frozen=True, slots=True)
class _Token:
    content: bytes
    renew_at_s: float  # monotonic


class PodVolumes:
    """The volumes of one pod.

    Args:
        ref: the pod.
        paths: the node's files.
        api: for ConfigMaps, Secrets, claims and tokens.
        clock: for the life of tokens.
        sources: the node's addresses and resources, for the downward API.
    """

    def __init__(
        self, ref: PodRef, *, paths: NodePaths, api: ApiClient, clock: Clock, sources: EnvSources
    ) -> None:
        self._ref = ref
        self._paths = paths
        self._api = api
        self._clock = clock
        self._sources = sources
        self._ready: dict[str, VolumeSource] = {}
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._lock = asyncio.Lock()

    async def prepare(self, pod: Json) -> Mapping[str, VolumeSource]:
        """Make what is missing and return all volumes by name.

        Raises:
            VolumeError: a volume cannot be made (yet).
        """
        volumes = pod["spec"].get("volumes") or ()
        if all(volume["name"] in self._ready for volume in volumes):
            return self._ready
        async with self._lock:
            for volume in volumes:
                if volume["name"] not in self._ready:
                    self._ready[volume["name"]] = await self._make(pod, volume)
        return self._ready

    async def refresh(self, pod: Json) -> None:
        """Write the content of ConfigMap, Secret, downward and token volumes again."""
        async with self._lock:
            for volume in pod["spec"].get("volumes") or ():
                if volume["name"] in self._ready and _payload_kind(volume):
                    try:
                        await self._write(pod, volume)
                    except VolumeError as error:
                        log.warning("pod %s: volume %s: %s", self._ref, volume["name"], error)

    def needs_refresh(self, pod: Json) -> bool:
        """Whether any volume has content that can change."""
        return any(_payload_kind(volume) for volume in pod["spec"].get("volumes") or ())

    async def _make(self, pod: Json, volume: Json) -> VolumeSource:
        name = volume["name"]
        try:
            if _payload_kind(volume):
                await self._write(pod, volume)
                return VolumeSource(self._paths.volume(self._ref.uid, name), read_only=True)
            if "hostPath" in volume:
                return await asyncio.to_thread(host_path, volume["hostPath"])
            if "persistentVolumeClaim" in volume:
                return await self._claim(pod, volume["persistentVolumeClaim"])
            if "emptyDir" in volume or set(volume) == {"name"}:
                path = self._paths.volume(self._ref.uid, name)
                await asyncio.to_thread(_empty_dir, path)
                return VolumeSource(path)
        except OSError as error:
            raise VolumeError(f"volume {name!r}: {error}") from error
        raise VolumeError(f"volume {name!r}: {_unsupported(volume)}")

    async def _claim(self, pod: Json, source: Json) -> VolumeSource:
        name = source.get("claimName", "")
        claim = await self._get("persistentvolumeclaims", name)
        if claim is None:
            raise VolumeError(f'persistentvolumeclaim "{name}" not found')
        if claim["metadata"].get("deletionTimestamp") and not _has_run(pod):
            # The kubelet's rule and words (desired_state_of_world_populator.go): a pod that has
            # started keeps what it has mounted.
            raise VolumeError(
                f"error processing PVC {self._ref.namespace}/{name}: PVC is being deleted"
            )
        volume_name = (claim.get("spec") or {}).get("volumeName")
        if (claim.get("status") or {}).get("phase") != "Bound" or not volume_name:
            raise VolumeError(f'persistentvolumeclaim "{name}" is not bound yet')
        try:
            volume = await self._api.get(core_path("persistentvolumes", name=volume_name))
        except ApiError as error:
            raise VolumeError(f'persistentvolume "{volume_name}": {error}') from error
        spec = volume.get("spec") or {}
        where = spec.get("hostPath") or spec.get("local")
        if not where:
            raise VolumeError(
                f"persistentvolume {volume_name!r} has no hostPath; the local node mounts no other"
            )
        annotations = volume["metadata"].get("annotations") or {}
        kind = where.get("type") or "Directory"
        if annotations.get(PROVISIONED_BY) == PROVISIONER:
            kind = "Directory"  # made with the volume: an empty one in its place would hide a loss
        found = await asyncio.to_thread(host_path, {"path": where["path"], "type": kind})
        return VolumeSource(found.path, read_only=bool(source.get("readOnly")))

    async def _write(self, pod: Json, volume: Json) -> None:
        kind = _payload_kind(volume)
        try:
            if kind == "projected":
                payload = await self._projected(pod, volume[kind])
            else:
                mode = volume[kind].get("defaultMode") or payloads.DEFAULT_MODE
                payload = await self._payload(pod, kind, volume[kind], mode)
        except PayloadError as error:
            raise VolumeError(f"volume {volume['name']!r}: {error}") from error
        directory = self._paths.volume(self._ref.uid, volume["name"])
        try:
            await asyncio.to_thread(payloads.write_payload, directory, payload)
        except OSError as error:
            raise VolumeError(f"volume {volume['name']!r}: {error}") from error

    async def _projected(self, pod: Json, source: Json) -> Payload:
        mode = source.get("defaultMode") or payloads.DEFAULT_MODE
        result: Payload = {}
        for entry in source.get("sources") or ():
            for kind, value in entry.items():
                result.update(await self._payload(pod, kind, value, mode))
        return result

    async def _payload(self, pod: Json, kind: str, source: Json, mode: int) -> Payload:
        if kind == "configMap":
            found = await self._get("configmaps", source.get("name", ""))
            data = None if found is None else payloads.config_map_data(found)
            return payloads.select(data, source, kind="configmap", mode=mode)
        if kind == "secret":
            name = source.get("secretName") or source.get("name", "")
            found = await self._get("secrets", name)
            data = None if found is None else payloads.secret_data(found)
            return payloads.select(data, source, kind="secret", mode=mode)
        if kind == "downwardAPI":
            items = source.get("items") or []
            return payloads.downward(pod, items, sources=self._sources, mode=mode)
        if kind == "serviceAccountToken":
            path = payloads.checked_path(source.get("path", ""))
            # As the kubelet: only the owner reads a token.
            return {path: PayloadFile(await self._token(pod, source), 0o600)}
        raise PayloadError(f"projected source {kind!r} is not supported by the local node")

    async def _token(self, pod: Json, source: Json) -> bytes:
        account = pod["spec"].get("serviceAccountName") or "default"
        audience = source.get("audience") or ""
        seconds = int(source.get("expirationSeconds") or _TOKEN_DEFAULT_S)
        now_s = self._clock.monotonic_s()
        key = (account, audience)
        held = self._tokens.get(key)
        if held is not None and now_s < held.renew_at_s:
            return held.content
        body: Json = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [audience] if audience else [],
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": self._ref.name,
                    "uid": self._ref.uid,
                },
            },
        }
        path = core_path("serviceaccounts", self._ref.namespace, account, "token")
        try:
            status = (await self._api.create(path, body)).get("status") or {}
        except ApiError as error:
            raise PayloadError(f"token of service account {account!r}: {error}") from error
        expires = status.get("expirationTimestamp")
        # Once, and for no longer than was asked for: from here on the monotonic clock counts.
        left_s = (parse_time(expires) - self._clock.now()).total_seconds() if expires else seconds
        life_s = min(max(left_s, 0.0), float(seconds))
        renew_at_s = now_s + life_s * TOKEN_RENEW_AT
        token = _Token(str(status.get("token", "")).encode(), renew_at_s)
        self._tokens[key] = token
        return token.content

    async def _get(self, plural: str, name: str) -> Json | None:
        if not name:
            return None
        try:
            return await self._api.get(core_path(plural, self._ref.namespace, name))
        except NotFound:
            return None
        except ApiError as error:
            raise VolumeError(f"{plural} {name!r}: {error}") from error


def host_path(source: Json) -> VolumeSource:
    """Check a hostPath against its type, making what the type says shall be made; blocking.

    Raises:
        VolumeError: the path is not what the type asks for.
        OSError: it cannot be looked at or made.
    """
    path, kind = Path(source["path"]), source.get("type") or ""
    if not path.is_absolute():
        raise VolumeError(f"hostPath {source['path']!r}: write an absolute path")
    if kind == "DirectoryOrCreate":
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    checks = {
        "": path.exists,
        "Directory": path.is_dir,
        "DirectoryOrCreate": path.is_dir,
        "File": path.is_file,
        "FileOrCreate": path.is_file,
        "Socket": path.is_socket,
        "CharDevice": path.is_char_device,
        "BlockDevice": path.is_block_device,
    }
    if kind not in checks:
        raise VolumeError(f"hostPath type {kind!r} is unknown; use one of {json.dumps([*checks])}")
    if not checks[kind]():
        what = f"is not a {kind}" if path.exists() else "does not exist"
        raise VolumeError(f"hostPath type check failed: {path} {what}")
    return VolumeSource(path.resolve())


def _has_run(pod: Json) -> bool:
    """Whether a container of the pod runs or has run: a node that starts again mounts again."""
    status = pod.get("status") or {}
    states = [
        entry.get("state") or {}
        for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for entry in status.get(kind) or ()
    ]
    return any("running" in state or "terminated" in state for state in states)


def _payload_kind(volume: Json) -> str:
    return next((kind for kind in _PAYLOAD_KINDS if kind in volume), "")


def _empty_dir(path: Path) -> None:
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    beneath.set_mode(path, 0o777)


def _unsupported(volume: Json) -> str:
    kind = next((key for key in volume if key != "name"), "")
    if kind in _REMOTE_KINDS:
        return (
            f"the local node cannot mount {kind} volumes; mount it on the host yourself and "
            "name the directory as hostPath"
        )
    return f"the local node has no volumes of kind {kind!r}"
