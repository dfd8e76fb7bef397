"""When the token of a pod's service account is asked for anew."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskctl.clock import format_seconds
from taskctl.embedded.node.env import EnvSources
from taskctl.embedded.node.model import PodRef
from taskctl.embedded.node.options import NodePaths
from taskctl.embedded.node.volumes import PodVolumes
from tests.unit.clocks import SetClock

HOUR_S = 3600.0
SOURCE = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
    "spec": {"volumes": [{"name": "t", "projected": {"sources": [SOURCE]}}]},
}


class Api:
    """Hands out numbered tokens; its own clock is off by so many seconds."""

    def __init__(self, clock: SetClock, off_s: float = 0.0) -> None:
        self.clock, self.off_s, self.given = clock, off_s, 0

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path.endswith("/serviceaccounts/default/token")
        self.given += 1
        life = timedelta(seconds=body["spec"]["expirationSeconds"] + self.off_s)
        expires = format_seconds(self.clock.wall + life)
        return {"status": {"token": f"token-{self.given}", "expirationTimestamp": expires}}


def volumes_of(api: Api, tmp_path: Path) -> PodVolumes:
    return PodVolumes(
        PodRef("ns", "p", "u"),
        paths=NodePaths(tmp_path),
        api=api,  # type: ignore[arg-type]
        clock=api.clock,
        sources=EnvSources(),
    )


@pytest.mark.parametrize("jump_s", [-HOUR_S, 0.0, HOUR_S])
async def test_a_token_is_renewed_after_most_of_its_life(tmp_path: Path, jump_s: float) -> None:
    clock = SetClock()
    api = Api(clock)
    volumes = volumes_of(api, tmp_path)
    file = (await volumes.prepare(POD))["t"].path / "token"
    assert file.read_text() == "token-1"
    clock.wall += timedelta(seconds=jump_s)
    clock.pass_s(0.8 * HOUR_S - 1)
    await volumes.refresh(POD)
    assert file.read_text() == "token-1"
    clock.pass_s(2)
    await volumes.refresh(POD)
    assert file.read_text() == "token-2"


async def test_a_server_whose_clock_is_ahead_is_not_believed(tmp_path: Path) -> None:
    clock = SetClock()
    api = Api(clock, off_s=HOUR_S)
    volumes = volumes_of(api, tmp_path)
    await volumes.prepare(POD)
    clock.pass_s(0.8 * HOUR_S + 1)
    await volumes.refresh(POD)
    assert api.given == 2
