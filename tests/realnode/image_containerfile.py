"""Reads a Containerfile: as much of one as this project's need."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.realnode.images import Config, ImageError


@dataclass(frozen=True)
class Copy:
    """One COPY: from the build context, or from an earlier stage."""

    sources: tuple[str, ...]
    target: str
    stage: str = ""
    mode: str = ""


@dataclass
class Stage:
    """What follows one FROM."""

    base: str
    name: str = ""
    copies: list[Copy] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    def config(self) -> Config:
        """Return what the image of this stage says of its processes."""
        return Config(self.user, self.entrypoint, self.command, self.env, self.labels)


def parse(text: str) -> list[Stage]:
    """Return the stages in order; the last one is the image.

    Raises:
        ImageError: an instruction is unknown here, or not understood.
    """
    stages: list[Stage] = []
    # A backslash joins lines; a comment between such lines vanishes.
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if not line.strip():
            continue
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            stages.append(_from(rest))
        elif instruction not in _READERS or not stages:
            raise ImageError(f"not understood in a Containerfile: {line.strip()}")
        else:
            _READERS[instruction](stages[-1], rest.strip())
    if not stages:
        raise ImageError("the Containerfile has no FROM")
    return stages


def _from(rest: str) -> Stage:
    words = rest.split()
    if len(words) == 1:
        return Stage(words[0])
    if len(words) == 3 and words[1].upper() == "AS":
        return Stage(words[0], words[2])
    raise ImageError(f"not understood in a Containerfile: FROM {rest}")


def _copy(stage: Stage, rest: str) -> None:
    words = shlex.split(rest)
    options = dict.fromkeys(("--from", "--chmod"), "")
    while words and words[0].startswith("--"):
        option, _, value = words.pop(0).partition("=")
        if option not in options:
            raise ImageError(f"not understood in a Containerfile: COPY {rest}")
        options[option] = value
    if len(words) < 2:
        raise ImageError(f"COPY needs a source and a target: {rest}")
    *sources, target = words
    stage.copies.append(Copy(tuple(sources), target, options["--from"], options["--chmod"]))


def _pairs(rest: str) -> dict[str, str]:
    pairs = {}
    for word in shlex.split(rest):
        name, equals, value = word.partition("=")
        if not equals:
            raise ImageError(f"write NAME=VALUE in ENV and LABEL, not {rest!r}")
        pairs[name] = value
    return pairs


def _words(rest: str) -> tuple[str, ...]:
    try:
        words = json.loads(rest)
    except ValueError as error:
        raise ImageError(f"write a JSON array in ENTRYPOINT and CMD, not {rest!r}") from error
    return tuple(words)


def _set(name: str, convert: Callable[[str], object]) -> Callable[[Stage, str], None]:
    return lambda stage, rest: setattr(stage, name, convert(rest))


_READERS: dict[str, Callable[[Stage, str], None]] = {
    "COPY": _copy,
    "RUN": lambda stage, rest: stage.runs.append(rest),
    "ENV": lambda stage, rest: stage.env.update(_pairs(rest)),
    "LABEL": lambda stage, rest: stage.labels.update(_pairs(rest)),
    "USER": _set("user", str),
    "WORKDIR": _set("workdir", str),
    "ENTRYPOINT": _set("entrypoint", _words),
    "CMD": _set("command", _words),
}
