"""How the machine is named."""

from __future__ import annotations

import platform

import pytest

from taskctl.embedded.platforms import architecture


@pytest.mark.parametrize(
    ("machine", "name"),
    [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm"), ("riscv64", "riscv64")],
)
def test_the_names_are_those_of_go(
    monkeypatch: pytest.MonkeyPatch, machine: str, name: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert architecture() == name
