"""What all parts of a running node share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from taskctl.clock import Clock
from taskctl.embedded.node.api import ApiClient
from taskctl.embedded.node.env import EnvSources
from taskctl.embedded.node.events import NodeEvents
from taskctl.embedded.node.images import NodeImages
from taskctl.embedded.node.options import NodeOptions, NodePaths
from taskctl.embedded.node.secrecy import HiddenPaths
from taskctl.embedded.node.shimspec import Isolation


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What all parts of a running node share.

    Attributes:
        options: settings.
        paths: where the node keeps its files.
        api: the API server.
        clock: source of time.
        events: the recorder of Events.
        shim: the shim's binary.
        isolation: what the kernel allows.
        hidden: paths of the host that containers do not see.
        sources: the node's addresses and resources, for the downward API.
        images: what the images of containers are.
        fields_told: common fields, with their values, that a FieldsNotApplied Event was written
            for.
    """

    options: NodeOptions
    paths: NodePaths
    api: ApiClient
    clock: Clock
    events: NodeEvents
    shim: Path
    isolation: Isolation
    hidden: HiddenPaths
    sources: EnvSources
    images: NodeImages
    fields_told: set[str] = field(default_factory=set)
