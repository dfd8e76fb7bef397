"""What becomes of a claim that nothing suits."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from taskctl.embedded.node.claims import ClaimBinder
from taskctl.embedded.node.context import NodeContext
from tests.unit.embedded_node.builders import Json


class Events:
    """Keeps the messages of warnings."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def warn(self, subject: Any, reason: Any, message: str) -> None:
        self.messages.append(f"{subject.kind} {subject.name}: {reason}: {message}")


def item(name: str, **spec: Any) -> Json:
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"}
    return {"metadata": meta, "spec": {"accessModes": ["ReadWriteOnce"], **spec}}


async def test_a_claim_for_a_device_stays_pending_and_is_told_why(tmp_path: Path) -> None:
    events = Events()
    # Without an API: whoever tried to bind or to provision would fail.
    context = SimpleNamespace(events=events, paths=SimpleNamespace(claims=tmp_path))
    binder = ClaimBinder(cast(NodeContext, context), list)
    binder.volumes.replace([item("v", capacity={"storage": "5Gi"})])
    binder.claims.replace(
        [item("c", volumeMode="Block", volumeName="v"), item("d", volumeMode="Block")]
    )
    binder.classes.replace([])
    running = asyncio.create_task(binder.run())
    async with asyncio.timeout(5):
        while len(events.messages) < 2:
            await asyncio.sleep(0)
    binder.claims.applied(item("d", volumeMode="Block"))
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert [one.split(": no ")[0] for one in events.messages] == [
        "PersistentVolumeClaim c: ProvisioningFailed",
        "PersistentVolumeClaim d: ProvisioningFailed",
    ]
    assert "use volumeMode Filesystem" in events.messages[0]
    assert list(tmp_path.iterdir()) == []
