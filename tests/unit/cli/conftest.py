from __future__ import annotations

from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner, Result

from taskctl.cli import access
from taskctl.cli.app import build_app
from tests.unit.cli.fake import FakeClient

Run = Callable[..., Result]


@pytest.fixture
def app() -> typer.Typer:
    return build_app()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()

    async def open_client(_: access.Access) -> FakeClient:
        return fake

    monkeypatch.setattr(access, "open_client", open_client)
    return fake


@pytest.fixture
def run(app: typer.Typer) -> Run:
    def call(*args: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(args), input=stdin)

    return call
