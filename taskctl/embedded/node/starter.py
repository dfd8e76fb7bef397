"""From a container in a pod's spec to the spec file of its shim."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from taskctl.embedded.images import environments, process
from taskctl.embedded.images.model import ImageError
from taskctl.embedded.node import env, images, mounts, payloads, records, subpaths
from taskctl.embedded.node.api import core_path
from taskctl.embedded.node.context import NodeContext
from taskctl.embedded.node.images import PodPullPolicy, PullError, RunImage
from taskctl.embedded.node.model import Json, PodRef
from taskctl.embedded.node.mounts import Bind, VolumeSource
from taskctl.embedded.node.privileges import PrivilegeError, privileges
from taskctl.embedded.node.programs import (
    network_binds,
    own_directories,
    program_binds,
    system_paths,
)
from taskctl.embedded.node.shimspec import ShimSpec
from taskctl.errors import NotFound

_PULL_SECRET: Final = ".dockerconfigjson"
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StartError(Exception):
    """A container cannot be started (yet).

    Attributes:
        reason: for ``state.waiting``.
        final: trying again is of no use until the pod changes.
    """

    def __init__(self, reason: str, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.final = final


def default_path() -> str:
    """Return the PATH of containers: the node's own and where its Python's programs are."""
    path = os.environ.get("PATH") or _DEFAULT_PATH
    programs = str(Path(sys.executable).parent)
    return path if programs in path.split(":") else f"{path}:{programs}"


def base_env(context: NodeContext, pod: Json) -> dict[str, str]:
    """Return the variables that an image and a container engine would give."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = "/"
    result = {
        "PATH": default_path(),
        "HOME": home,
        "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
    }
    scheme, host, port = context.api.address()
    # Those of the service "kubernetes" that clients look at (pkg/kubelet/envvars).
    result["KUBERNETES_SERVICE_HOST"] = host
    result["KUBERNETES_SERVICE_PORT"] = str(port)
    result[f"KUBERNETES_SERVICE_PORT_{scheme.upper()}"] = str(port)
    return result


class Starter:
    """Works out what a container needs to run.

    Args:
        context: the node.
    """

    def __init__(self, context: NodeContext) -> None:
        self._context = context
        self._programs = program_binds((*own_directories(), *system_paths()))

    async def image(self, pod: Json, container: Json) -> RunImage:
        """Return how a container's image runs; may have to pull it.

        Raises:
            StartError: its name is malformed, or it cannot be had.
        """
        reference = container.get("image", "")
        if images.image_name(reference) is None:
            raise StartError(
                "InvalidImageName",
                f'Failed to apply default image tag "{reference}": couldn\'t parse image name: '
                "invalid reference format",
                final=True,
            )
        policy = PodPullPolicy(container.get("imagePullPolicy") or PodPullPolicy.IF_NOT_PRESENT)
        try:
            return await self._context.images.resolve(
                reference, policy, lambda: self._pull_secrets(pod)
            )
        except PullError as error:
            raise StartError(error.reason, str(error)) from error
        except ImageError as error:
            raise StartError("ImageInspectError", str(error)) from error

    async def build(
        self,
        pod: Json,
        container: Json,
        volumes: Mapping[str, VolumeSource],
        directory: Path,
        image: RunImage,
    ) -> ShimSpec:
        """Return the spec of a container.

        Args:
            pod: the pod.
            container: one of its containers.
            volumes: the pod's volumes, prepared.
            directory: of this run; the termination message file is made in it.
            image: what :meth:`image` returned.

        Raises:
            StartError: something is missing or wrong.
            ApiError: the API server could not be asked.
        """
        try:
            variables = env.build_env(
                pod,
                container,
                base=_base_of(image, base_env(self._context, pod)),
                sources=await self._sources(PodRef.of(pod), container),
            )
            binds = mounts.volume_binds(container, volumes, variables)
            allowed = privileges(pod, container)
            identity = image.root and process.identity(pod, container, image.config, image.accounts)
        except (env.EnvError, mounts.MountError, PrivilegeError, ImageError) as error:
            raise StartError("CreateContainerConfigError", str(error)) from error
        binds = await asyncio.to_thread(_settle_subpaths, binds)
        spec = ShimSpec(
            args=[env.expand(text, variables) for text in _command(container, image)],
            env=variables,
            cwd=container.get("workingDir") or image.config.working_dir,
            isolation=self._context.isolation,
            privileges=allowed,
        )
        if identity:
            # What the image says comes last: a pod's variables cannot refer to it.
            base = {"PATH": process.DEFAULT_PATH, "HOME": identity.home}
            own = {**base, **image.config.env, **variables}
            spec = replace(spec, env=own, rootfs=image.root, identity=identity)
        if not self._context.isolation.mounts:
            return self._on_host(spec, binds)
        return self._isolated(spec, container, binds, directory, image)

    def _isolated(
        self,
        spec: ShimSpec,
        container: Json,
        binds: tuple[Bind, ...],
        directory: Path,
        image: RunImage,
    ) -> ShimSpec:
        security = container.get("securityContext") or {}
        message_path = container.get("terminationMessagePath") or mounts.DEFAULT_TERMINATION_PATH
        message_file = directory / records.TERMINATION_FILE
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        message_file.touch()
        message_file.chmod(0o666)  # the container's user may be any
        message = Bind(message_file, PurePosixPath(message_path), read_only=False)
        hidden = self._context.hidden.current()
        own = network_binds() if spec.rootfs is not None else self._programs
        if image.environment is not None:
            own = (*own, *environment_binds(image.environment, hidden))
        return replace(
            spec,
            mounts=mounts.with_masks(
                [*own, *binds, message], hidden, host_root=spec.rootfs is None
            ),
            image_root=image.folder,
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
        )

    def _on_host(self, spec: ShimSpec, binds: tuple[Bind, ...]) -> ShimSpec:
        """Without mount namespaces: name the host's paths instead of the container's."""
        variables = {
            name: value if name == "PATH" else mounts.to_host_path(value, binds)
            for name, value in spec.env.items()
        }
        for name, mount_path in self._context.options.path_variables.items():
            path = mounts.to_host_path(mount_path, binds)
            if path != mount_path:
                variables[name] = path
        return replace(
            spec,
            args=[mounts.to_host_path(text, binds) for text in spec.args],
            env=variables,
            cwd=mounts.to_host_path(spec.cwd, binds),
        )

    async def _pull_secrets(self, pod: Json) -> list[bytes]:
        """The pod's pull secrets; one that is not there is passed over, as by the kubelet."""
        ref = PodRef.of(pod)
        names = [entry.get("name", "") for entry in pod["spec"].get("imagePullSecrets") or ()]
        found = await asyncio.gather(*(self._get(ref, "secrets", name) for name in names if name))
        contents = [payloads.secret_data(secret) for secret in found if secret]
        return [data[_PULL_SECRET] for data in contents if _PULL_SECRET in data]

    async def _sources(self, ref: PodRef, container: Json) -> env.EnvSources:
        maps, secrets = env.references(container)
        if not maps and not secrets:
            return self._context.sources
        names = [("configmaps", name) for name in maps] + [("secrets", name) for name in secrets]
        found = await asyncio.gather(*(self._get(ref, plural, name) for plural, name in names))
        objects = dict(zip(names, found, strict=True))
        return replace(
            self._context.sources,
            config_maps={n: o for (p, n), o in objects.items() if p == "configmaps" and o},
            secrets={
                n: payloads.secret_data(o) for (p, n), o in objects.items() if p == "secrets" and o
            },
        )

    async def _get(self, ref: PodRef, plural: str, name: str) -> Json | None:
        try:
            return await self._context.api.get(core_path(plural, ref.namespace, name))
        except NotFound:
            return None


def _base_of(image: RunImage, base: dict[str, str]) -> dict[str, str]:
    """What the node gives every container of an image: what is the host's only outside of one."""
    if image.root is not None:
        return {name: value for name, value in base.items() if name not in ("PATH", "HOME")}
    if image.environment is not None:
        path = f"{image.environment}/bin:{base['PATH']}"
        return {**base, "PATH": path, "VIRTUAL_ENV": str(image.environment)}
    return base


def _command(container: Json, image: RunImage) -> list[str]:
    try:
        return process.command(container, image.config)
    except ImageError as error:
        hint = (
            ""
            if image.root
            else (
                "; the image is not unpacked here, so its entrypoint is not known: set command, "
                "or add the image with `taskctl image add`"
            )
        )
        raise StartError("CreateContainerError", f"{error}{hint}", final=True) from error


def environment_binds(environment: Path, hidden: Sequence[Path]) -> tuple[Bind, ...]:
    """Return what shows a Python environment and its interpreter where they are on the host."""
    base = environments.base_directory(environment)
    shown = program_binds(path for path in (environment, base) if path is not None)
    if any(environment.is_relative_to(path) for path in hidden):
        shown = (*shown, Bind(environment, PurePosixPath(environment), read_only=True))
    return shown


def _settle_subpaths(binds: tuple[Bind, ...]) -> tuple[Bind, ...]:
    """Find, or make, what each subPath means; blocking.

    Raises:
        StartError: it leads out of its volume, or is not usable.
    """
    try:
        return tuple(subpaths.settle(bind) for bind in binds)
    except subpaths.SubPathError as error:
        raise StartError("CreateContainerConfigError", str(error)) from error
