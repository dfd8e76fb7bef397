"""Image references: their syntax, and when two of them mean the same (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# The grammar of github.com/distribution/reference, without its length limits per component.
_DOMAIN = (
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"^(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?$"
)
_NAME_LIMIT: Final = 255
_DEFAULT_TAG: Final = "latest"
_DEFAULT_DOMAIN: Final = "docker.io"
_LOOPBACK: Final = re.compile(r"^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image reference.

    Attributes:
        domain: of the registry; ``docker.io`` when none is written.
        path: in the registry, ``library/busybox`` for ``busybox``.
        tag: empty when none is written.
        digest: empty when none is written.
    """

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def tagged(self) -> str:
        """With the tag that is meant."""
        return f"{self.name}:{self.tag or _DEFAULT_TAG}"

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine: only there is plain HTTP taken."""
        return bool(_LOOPBACK.match(self.domain))

    def __str__(self) -> str:
        if self.digest:
            return f"{self.name}@{self.digest}"
        return self.tagged


def parse_reference(text: str) -> Reference | None:
    """Return a reference in full, or None when its syntax is invalid."""
    match = _REFERENCE.match(text)
    if match is None or len(match["name"]) > _NAME_LIMIT:
        return None
    first, slash, rest = match["name"].partition("/")
    if slash and (first == "localhost" or any(c in first for c in ".:") or first.lower() != first):
        domain, path = first, rest
    else:
        domain, path = _DEFAULT_DOMAIN, match["name"]
    if domain == "index.docker.io":
        domain = _DEFAULT_DOMAIN
    if domain == _DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    return Reference(domain, path, match["tag"] or "", match["digest"] or "")


def image_name(reference: str) -> str | None:
    """Return the reference without tag and digest, or None when its syntax is invalid."""
    match = _REFERENCE.match(reference)
    if match is None or len(match["name"]) > _NAME_LIMIT:
        return None
    return match["name"]
