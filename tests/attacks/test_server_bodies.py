"""Bodies that are small to send and large to understand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.attacks.victim import CRDS, MAPS, MIB, Victim, running

pytestmark = pytest.mark.attack

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
FREE = "/apis/attacks.taskctl.test/v1/namespaces/default/frees"


@pytest.fixture
async def victim() -> AsyncIterator[Victim]:
    async with running() as victim:
        yield victim


async def define(victim: Victim, schema: dict[str, Any]) -> None:
    """Make a kind whose objects may hold anything, or what a schema says, in ``spec``."""
    names = {"plural": "frees", "singular": "free", "kind": "Free", "listKind": "FreeList"}
    root = {"type": "object", "properties": {"spec": schema}}
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": root},
    }  # fmt: skip
    await victim.made(
        CRDS,
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "frees.attacks.taskctl.test"},
            "spec": {
                "group": "attacks.taskctl.test",
                "scope": "Namespaced",
                "names": names,
                "versions": [version],
            },
        },
    )
    for _ in range(100):
        status, _ = await victim.send("GET", FREE)
        if status == 200:
            return
        await asyncio.sleep(0.05)


ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def free(name: str, spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "attacks.taskctl.test/v1",
        "kind": "Free",
        "metadata": {"name": name},
        "spec": spec,
    }


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + "1" + closing * depth


def bomb(levels: int, width: int = 10, *, merge: bool = False) -> str:
    """Return YAML that is 10 to the power of ``levels`` once its aliases are written out."""
    lines = ["x0: &x0 {" + ", ".join(f"k{n}: v" for n in range(width)) + "}"]
    for level in range(1, levels):
        aliases = ", ".join([f"*x{level - 1}"] * width)
        value = f"{{<<: [{aliases}]}}" if merge else f"[{aliases}]"
        lines.append(f"x{level}: &x{level} {value}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "ops",
    [
        [{"op": "copy", "from": "/data", "path": f"/data/{n}"} for n in range(60)],
        [{"op": "copy", "from": "", "path": "/data"}] * 200,
        [{"op": "copy", "from": "/data/text", "path": f"/data/t{n}"} for n in range(9_999)],
        [{"op": "add", "path": "/data/a" + "/b" * 1_000_000, "value": 1}],
        [{"op": "test", "path": "/data/text", "value": "x"}] * 10_001,
    ],
)
async def test_json_patches_that_double(victim: Victim, ops: list[Any]) -> None:
    await victim.made(MAPS, {"metadata": {"name": "a"}, "data": {"text": "x" * 100_000}})
    async with victim.unhindered(growth_bytes=200 * MIB):
        for _ in range(3):
            status, found = await victim.send("PATCH", f"{MAPS}/a", ops, JSON_PATCH)
            assert 400 <= status < 500, found


async def test_a_json_patch_that_doubles_a_list(victim: Victim) -> None:
    await define(victim, ANYTHING)
    await victim.made(FREE, free("a", {"list": [1]}))
    # Each list holds the one before twice.
    ops = [{"op": "copy", "from": "/spec/list", "path": "/spec/list/-"}] * 40
    async with victim.unhindered():
        status, found = await victim.send("PATCH", f"{FREE}/a", ops, JSON_PATCH)
    assert status == 422, found


YAML = (
    bomb(9),
    bomb(9, merge=True),
    "a: &a [*a]",
    "a: " + nested(100_000),
    "a: " + nested(100_000, "{a: ", "}"),
    "- " * 50_000,
    "a: " + "9" * 1_000_000,
    "a: 1" + ":59" * 500_000,
    "a: 0x" + "f" * 1_000_000,
    "a: .nan",
    "a: [" + "," * 2_900_000 + "]",
    "a: &a " + "x" * 100_000 + "\nb: [" + ", ".join(["*a"] * 10_000) + "]",
    "? " * 50_000,
    "a: |" + "\n " * 1_000_000,
    "%TAG ! tag:" + "a" * 100_000 + ":\n--- !b c",
    "[" + "{}, " * 700_000 + "]",
)


@pytest.mark.parametrize("media", ["application/yaml", APPLY])
async def test_yaml(victim: Victim, media: str) -> None:
    method, path = ("POST", MAPS) if media != APPLY else ("PATCH", f"{MAPS}/a")
    for text in YAML:
        inside = text.replace("\n", "\n  ")
        body = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  {inside}\n"
        for sent in (body, text):
            async with victim.unhindered(growth_bytes=300 * MIB):
                status, found = await victim.send(method, f"{path}?fieldManager=x", sent, media)
            assert 400 <= status < 500, (text[:20], found)


@pytest.mark.parametrize("media", ["application/json", MERGE_PATCH, STRATEGIC, JSON_PATCH, APPLY])
async def test_depth(victim: Victim, media: str) -> None:
    await victim.made(MAPS, {"metadata": {"name": "a"}})
    depths = (200, 1000, 100_000)
    lists, maps = map(nested, depths), (nested(one, '{"a":', "}") for one in depths)
    for value in (*lists, *maps):
        text = f'{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{value}}}'
        if media == JSON_PATCH:
            text = f'[{{"op":"add","path":"/data","value":{value}}}]'
        method, path = ("POST", MAPS) if media == "application/json" else ("PATCH", f"{MAPS}/a")
        async with victim.unhindered():
            status, found = await victim.send(method, f"{path}?fieldManager=x", text, media)
        assert 400 <= status < 500, found


async def test_copies_do_not_dig_deeper_either(victim: Victim) -> None:
    await define(victim, ANYTHING)
    await victim.made(FREE, free("a", {"a": {}}))
    ops = [{"op": "copy", "from": "/spec/a", "path": "/spec/a" + "/a" * n} for n in range(1, 100)]
    async with victim.unhindered():
        status, found = await victim.send("PATCH", f"{FREE}/a", ops, JSON_PATCH)
        assert status == 422, found


async def test_many_small_parts(victim: Victim) -> None:
    """As many values as an object may have, through every way to write it."""
    await define(victim, ANYTHING)
    many = free("a", {"list": [{"a": n} for n in range(100_000)]})
    async with victim.unhindered(growth_bytes=300 * MIB):
        await victim.made(FREE, many)
        for media in (MERGE_PATCH, APPLY):
            status, found = await victim.send(
                "PATCH", f"{FREE}/a?fieldManager=x&force=true", many, media
            )
            assert status < 500, found


async def test_strategic_merges_of_long_lists(victim: Victim) -> None:
    pods = "/api/v1/namespaces/default/pods"
    env = [{"name": f"V{n}", "value": "x"} for n in range(15_000)]
    pod = {
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "c", "image": "i", "env": env}]},
    }
    await victim.made(pods, pod)
    gone = [{"name": f"V{n}", "$patch": "delete"} for n in range(15_000)]
    patch = {"spec": {"containers": [{"name": "c", "env": gone}]}}
    async with victim.unhindered():
        status, found = await victim.send("PATCH", f"{pods}/a", patch, STRATEGIC)
        assert status < 500, found


async def test_bodies_that_do_not_end(victim: Victim) -> None:
    async with victim.unhindered():
        for _ in range(60):
            _, writer = await victim.connect(
                f"POST {MAPS}", ["Content-Type: application/json", "Content-Length: 3000000"]
            )
            writer.write(b" " * 2_900_000)
        await asyncio.sleep(1)
        status, _ = await victim.send("POST", MAPS, {"metadata": {"name": "small"}})
        assert status in (201, 429)


async def test_values_of_one_kind_do_not_multiply_columns(victim: Victim) -> None:
    body = {"metadata": {"name": "a"}, "data": {f"k{n}": "" for n in range(50_000)}}
    async with victim.unhindered():
        await victim.made(MAPS, body)
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        async with victim.session.get(MAPS, headers={"Accept": accept}) as answer:
            assert json.loads(await answer.read())["rows"]
