from __future__ import annotations

import base64
from pathlib import Path

import pytest

from taskctl.embedded.node import payloads
from taskctl.embedded.node.env import EnvSources
from taskctl.embedded.node.payloads import PayloadError, PayloadFile
from tests.unit.embedded_node.builders import pod

DATA = {"a": b"1", "b": b"2"}


def test_all_keys_by_default() -> None:
    found = payloads.select(DATA, {"name": "m"}, kind="configmap", mode=0o600)
    assert found == {"a": PayloadFile(b"1", 0o600), "b": PayloadFile(b"2", 0o600)}


def test_items_choose_keys_paths_and_modes() -> None:
    source = {"name": "m", "items": [{"key": "b", "path": "x/y", "mode": 0o400}]}
    found = payloads.select(DATA, source, kind="configmap", mode=0o644)
    assert found == {"x/y": PayloadFile(b"2", 0o400)}


def test_missing_objects_and_keys() -> None:
    with pytest.raises(PayloadError, match='secret "s" not found'):
        payloads.select(None, {"secretName": "s"}, kind="secret", mode=0o644)
    items = {"name": "m", "items": [{"key": "z", "path": "z"}]}
    with pytest.raises(PayloadError, match="no key 'z'"):
        payloads.select(DATA, items, kind="configmap", mode=0o644)
    assert payloads.select(None, {"optional": True}, kind="secret", mode=0o644) == {}


@pytest.mark.parametrize("path", ["", "/abs", "../up", "a/../b", "..data"])
def test_paths_stay_inside(path: str) -> None:
    with pytest.raises(PayloadError, match="relative path"):
        payloads.checked_path(path)


def test_binary_data() -> None:
    encoded = base64.b64encode(b"\xff\x00").decode()
    found = payloads.config_map_data({"data": {"t": "x"}, "binaryData": {"b": encoded}})
    assert found == {"t": b"x", "b": b"\xff\x00"}
    assert payloads.secret_data({"data": {"b": encoded}}) == {"b": b"\xff\x00"}


def test_downward_files() -> None:
    items = [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]
    subject = pod(meta={"labels": {"b": 'quo"te', "a": "1"}})
    found = payloads.downward(subject, items, sources=EnvSources(), mode=0o644)
    assert found["l"].content == b'a="1"\nb="quo\\"te"'
    bad = [{"path": "x", "fieldRef": {"fieldPath": "spec.none"}}]
    with pytest.raises(PayloadError, match="spec"):
        payloads.downward(subject, bad, sources=EnvSources(), mode=0o644)


def test_files_are_replaced_as_one(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    first = {"a": PayloadFile(b"1"), "d/x": PayloadFile(b"2", 0o400)}
    payloads.write_payload(directory, first)
    assert (directory / "a").read_bytes() == b"1"
    assert (directory / "d" / "x").stat().st_mode & 0o777 == 0o400
    version = (directory / "..data").readlink()
    payloads.write_payload(directory, dict(first))
    assert (directory / "..data").readlink() == version  # nothing to do
    payloads.write_payload(directory, {"a": PayloadFile(b"3"), "n": PayloadFile(b"4")})
    names = sorted(p.name for p in directory.iterdir() if not p.name.startswith(".."))
    assert names == ["a", "n"]
    assert (directory / "a").read_bytes() == b"3"
    assert not (directory / version).exists()
