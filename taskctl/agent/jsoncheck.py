"""A program that turns a large value into compact JSON, or says why it is none.

The agent runs it as a process of its own for each large value (see ``largejson.py``): parsing one
in the agent would hold up all tasks of the worker, because the parser does not let go of the
interpreter, and a few megabytes of ``[{},{},…`` become hundreds of megabytes.

    python -I jsoncheck.py json|msgpack  <value  >json
    python -I jsoncheck.py json|msgpack KEY  <value  >text

The second form picks one member of a map: a text as it stands, anything else as JSON.

Exit code 3: refused, with the reason on standard error; 4: over the limit on memory.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any, Final

MAX_NESTING: Final = 200
MEMORY_BYTES: Final = 1024 * 1024 * 1024
CPU_S: Final = 20
KEYS_SHOWN: Final = 50
REFUSED: Final = 3
TOO_LARGE: Final = 4


def compact(value: Any) -> bytes:
    """Return compact JSON.

    Raises:
        ValueError: the value has no JSON form; the message says why.
        TypeError: the same.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON; the message says where.
        RecursionError: it is nested very deeply.
    """
    return json.loads(text, parse_constant=_no_constant)


def check(value: Any) -> None:
    """Refuse what Kubernetes would choke on, or change silently; no recursion here.

    Raises:
        ValueError: the message says what.
    """
    level = [value]
    for _ in range(MAX_NESTING):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, (list, tuple)):
                below.extend(item)
            elif isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise ValueError(
                    f"holds the integer {item}, which has over 64 bits; send it as text"
                )
        if not below:
            return
        level = below
    raise ValueError(f"is nested more than {MAX_NESTING} levels deep")


def pick(value: Any, key: str) -> bytes:
    """Return one member of a map: a text as it stands, anything else as compact JSON.

    Raises:
        ValueError: it is not a map, or has no such key; the message names the keys.
    """
    if not isinstance(value, dict):
        what = "empty" if value is None else "not a map"
        raise ValueError(f"is {what}, so it has no key {key!r}")
    if key not in value:
        names = ", ".join(list(value)[:KEYS_SHOWN])
        more = ", ..." if len(value) > KEYS_SHOWN else ""
        raise ValueError(f"has no key {key!r}; it has: {names}{more}")
    found = value[key]
    return found.encode() if isinstance(found, str) else compact(found)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _load(codec: str, content: bytes) -> Any:
    if codec == "json":
        return parse(content)
    import msgpack  # the agent's own; JSON does without

    return msgpack.unpackb(content, raw=False, strict_map_key=True)


def main(codec: str, key: str | None = None) -> int:
    """Read a value from standard input, write it, or one member, to standard output."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    try:
        try:
            value = _load(codec, sys.stdin.buffer.read())
        except (ValueError, RecursionError, TypeError) as error:
            sys.stderr.write(f"is not {codec}: {error}")
            return REFUSED
        check(value)
        sys.stdout.buffer.write(compact(value) if key is None else pick(value, key))
    except (ValueError, TypeError) as error:
        sys.stderr.write(str(error))
        return REFUSED
    except MemoryError:
        return TOO_LARGE
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
