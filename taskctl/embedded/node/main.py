"""The node's process: puts the parts together, runs them, stops them in good order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from taskctl import __version__
from taskctl.clock import Clock, SystemClock
from taskctl.embedded.images.model import ImageError
from taskctl.embedded.images.store import ImageStore
from taskctl.embedded.node import machine
from taskctl.embedded.node.api import ApiClient, ObjectFeed, WatchHandler
from taskctl.embedded.node.claims import ClaimBinder
from taskctl.embedded.node.context import NodeContext
from taskctl.embedded.node.env import EnvSources
from taskctl.embedded.node.events import EventReason, NodeEvents, Subject
from taskctl.embedded.node.heartbeat import ADDRESS, Heartbeat, NodeFacts
from taskctl.embedded.node.images import NodeImages, used_images
from taskctl.embedded.node.isolation import find_isolation
from taskctl.embedded.node.logserver import LogServer, node_token
from taskctl.embedded.node.manager import PodManager
from taskctl.embedded.node.options import NodeOptions, NodePaths
from taskctl.embedded.node.scheduler import Scheduler
from taskctl.embedded.node.secrecy import HiddenPaths, register
from taskctl.errors import ApiError, ConfigError
from taskctl.init import shim_binary_path
from taskctl.kube.resources import NODES, PERSISTENTVOLUMES, PODS, PVCS, STORAGECLASSES, Resource

log = logging.getLogger(__name__)

_FAREWELL_S: Final = 3.0


async def run_node(options: NodeOptions) -> None:
    """Run the node until SIGTERM or SIGINT; then end all containers with grace.

    It waits for the API server to come up and survives its absence of any length. A task that
    is cancelled instead leaves the containers running, for the next node to take over.

    Raises:
        ConfigError: the options are wrong, the shim is missing, or another node uses the data
            directory.
    """
    node = Node(options)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    try:
        await node.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


class Node:
    """The local node.

    Args:
        options: settings.
        clock: source of time.
    """

    def __init__(self, options: NodeOptions, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Have :meth:`run` end all containers with grace and return."""
        self._stop.set()

    async def run(self) -> None:
        """Run until :meth:`stop` is called."""
        shim = shim_binary_path()
        paths = self._options.paths
        await asyncio.to_thread(_check, self._options)
        with _sole_user(paths.pods):
            async with ApiClient(paths) as api:
                finding = await find_isolation(shim, paths.pods)
                if finding.message:
                    log.warning("isolation of containers is reduced: %s", finding.message)
                resources = machine.capacity(paths.data_dir)
                context = NodeContext(
                    options=replace(self._options, data_dir=paths.data_dir),
                    paths=paths,
                    api=api,
                    clock=self._clock,
                    events=NodeEvents(api, self._clock, self._options.node_name),
                    shim=shim,
                    isolation=finding.isolation,
                    hidden=HiddenPaths(paths.data_dir, self._options.registry, self._options.home),
                    sources=EnvSources(host_ip=ADDRESS, pod_ip=ADDRESS, allocatable=resources),
                    images=NodeImages(
                        ImageStore(paths.images),
                        self._options.image_roots,
                        "" if finding.isolation.images else "the kernel allows no other root",
                    ),
                )
                await self._run_parts(context, finding.message)

    async def _run_parts(self, context: NodeContext, isolation_message: str) -> None:
        api = context.api
        async with asyncio.TaskGroup() as pods:
            scheduler = Scheduler(context)
            manager = PodManager(context, scheduler, pods)
            manager.adopt()
            await asyncio.to_thread(_sweep, context.paths)
            token = await asyncio.to_thread(node_token, context.paths.node_token_file)
            server = LogServer(manager.find, token, self._clock, context.shim)
            await server.start(context.paths.node_socket)
            facts = NodeFacts(f"v{__version__}", isolation_message)
            heartbeat = Heartbeat(context, facts)
            binder = ClaimBinder(context, manager.pods)
            scheduler.heed(binder, manager.pods)
            if isolation_message:
                subject = Subject("Node", "", self._options.node_name, self._options.node_name)
                context.events.warn(subject, EventReason.ISOLATION_REDUCED, isolation_message)
            watches: dict[Resource, WatchHandler] = {
                PODS: manager,
                NODES: scheduler,
                PVCS: binder.claims,
                PERSISTENTVOLUMES: binder.volumes,
                STORAGECLASSES: binder.classes,
            }
            parts = [
                pods.create_task(heartbeat.run(), name="heartbeat"),
                pods.create_task(scheduler.run(), name="scheduler"),
                pods.create_task(binder.run(), name="claims"),
                pods.create_task(context.events.run(), name="events"),
            ]
            parts += [
                pods.create_task(ObjectFeed(api, res, handler).run(), name=res.plural)
                for res, handler in watches.items()
            ]
            log.info("node %s is up", self._options.node_name)
            try:
                await self._stop.wait()
                log.info("stopping: all containers are told to end")
                await manager.stop()
                await _farewell(heartbeat)
            finally:
                for part in parts:
                    part.cancel()
                await server.stop()


async def _farewell(heartbeat: Heartbeat) -> None:
    try:
        async with asyncio.timeout(_FAREWELL_S):
            await heartbeat.report(ready=False)
    except (ApiError, TimeoutError) as error:
        log.info("the API server was not told that the node stops: %s", error)


def _sweep(paths: NodePaths) -> None:
    """Remove images without a name; the node starts no container meanwhile."""
    try:
        ImageStore(paths.images).sweep(used_images(paths.pods, paths.images))
    except (ImageError, OSError) as error:
        log.warning("images that are not needed any more were not removed: %s", error)


def _check(options: NodeOptions) -> None:
    for reference, root in options.image_roots.items():
        if not root.is_absolute() or not root.is_dir():
            raise ConfigError(
                f"image_roots: {root} for image {reference!r} must be the absolute path of a "
                "directory"
            )
    options.paths.pods.mkdir(mode=0o700, parents=True, exist_ok=True)
    options.paths.claims.mkdir(mode=0o700, parents=True, exist_ok=True)
    if options.registry is not None:
        try:
            register(options.registry, options.paths.data_dir)
        except OSError as error:
            log.warning("containers of other local stacks may see this one's files: %s", error)


@contextlib.contextmanager
def _sole_user(pods: Path) -> Iterator[None]:
    """Two nodes on one directory would start everything twice."""
    fd = os.open(pods / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise ConfigError(
            f"another node uses {pods.parent}; stop it or name another data directory"
        ) from error
    try:
        yield
    finally:
        os.close(fd)
