"""The msgpack reader in C against the one in Python, on frames good, bad and mutilated."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.unit.init.conftest import SOURCE, build_sanitized
from tests.unit.init.fake_agent import sanitizer_env

FRAMES = 20_000
Verdict = bool | None  # None: Python refuses for a reason of its own


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    units = [unit for unit in SOURCE.glob("*.c") if unit.name != "main.c"]
    units.append(Path(__file__).with_name("wire_check.c"))
    return build_sanitized(units, tmp_path_factory.mktemp("wire") / "wire_check")


def random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(9 if depth < 4 else 7)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind in (1, 2):
        return rng.choice([1, -1]) * rng.getrandbits(rng.choice([3, 7, 8, 15, 16, 31, 32, 62]))
    if kind == 3:
        return rng.choice([0.5, -1e300, 0.0])
    if kind == 4:
        return "x" * rng.choice([0, 5, 31, 32, 255, 256, 70_000 if rng.random() < 0.01 else 3])
    if kind == 5:
        return rng.randbytes(rng.choice([0, 5, 255, 256]))
    if kind == 6:
        return msgpack.ExtType(rng.randrange(100), rng.randbytes(rng.choice([0, 1, 2, 4, 16, 17])))
    items = range(rng.choice([0, 1, 2, 15, 16, 20] if depth < 2 else [0, 1, 2]))
    if kind == 7:
        return [random_value(rng, depth + 1) for _ in items]
    return {f"k{n}": random_value(rng, depth + 1) for n in items}


def random_body(rng: random.Random) -> bytes:
    keys = ("id", "ok", "a", "argv", "b" * 40)
    message = {key: random_value(rng, 1) for key in keys if rng.random() < 0.6}
    body = bytearray(msgpack.packb(message))
    kind = rng.randrange(6)
    if kind == 0:  # as it is
        return bytes(body)
    if kind == 1:
        return bytes(body[: rng.randrange(len(body) + 1)])
    if kind == 2:
        return bytes(body) + rng.randbytes(rng.randrange(1, 5))
    if kind == 3:
        return rng.randbytes(rng.randrange(40))
    for _ in range(rng.randrange(1, 4)):
        body[rng.randrange(len(body))] = rng.randrange(256)
    return bytes(body)


def python_verdict(body: bytes) -> Verdict:
    """Whether Python takes the body for a map with text keys."""
    pairs: list[list[Any]] = []

    def keep(items: list[Any]) -> list[Any]:
        pairs.append(items)
        return items

    try:  # pairs, not dicts: a list as a key is good msgpack
        value = msgpack.unpackb(body, raw=True, strict_map_key=False, object_pairs_hook=keep)
    except ValueError as error:
        own = ("timestamp", "code must be")  # of ext values, which the C reader steps over
        return None if any(text in str(error).lower() for text in own) else False
    except msgpack.exceptions.UnpackException:
        return False
    if not pairs or value is not pairs[-1]:
        return False
    # With raw, text and bin look alike; the first byte of each key tells them apart, but where
    # the keys begin only the reader knows. So only the clear cases are judged.
    if all(isinstance(key, bytes) for key, _ in value):
        return None if any(key not in KNOWN_KEYS for key, _ in value) else True
    return False


KNOWN_KEYS = {b"id", b"ok", b"a", b"argv", b"b" * 40}


def test_same_verdict(checker: Path) -> None:
    rng = random.Random(20240501)
    bodies = [random_body(rng) for _ in range(FRAMES)]
    stream = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    done = subprocess.run(
        [checker], input=stream, capture_output=True, env=sanitizer_env(), check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    verdicts = done.stdout.decode()
    assert len(verdicts) == FRAMES
    judged = 0
    for body, verdict in zip(bodies, verdicts, strict=True):
        expected = python_verdict(body)
        if expected is not None:
            judged += 1
            assert (verdict == "1") == expected, body.hex()
    assert judged > FRAMES * 0.8
    assert 0.2 < verdicts.count("1") / FRAMES < 0.8, "good and bad ones are both there"
