"""The kinds that the server serves: built-in ones and those of CRDs."""

from __future__ import annotations

from collections.abc import Iterator

from taskctl.embedded.server.kinds.builtin import BUILTINS
from taskctl.embedded.server.kinds.model import Kind


class Registry:
    """Which kinds exist at the moment. Not for concurrent writers.

    Attributes:
        generation: rises with every change; caches of discovery and OpenAPI compare it.
    """

    def __init__(self, builtins: tuple[Kind, ...] = BUILTINS) -> None:
        self._builtins = builtins
        self._by_crd: dict[str, tuple[Kind, ...]] = {}
        self._by_plural: dict[tuple[str, str, str], Kind] = {}
        self.generation = 0
        self._index()

    def by_plural(self, group: str, version: str, plural: str) -> Kind | None:
        """Return a kind by its place in paths; group is empty for the core group."""
        return self._by_plural.get((group, version, plural))

    def by_kind(self, group: str, version: str, kind: str) -> Kind | None:
        """Return a kind by its name, for example ``Pod``."""
        for one in self:
            if one.kind == kind and one.group == group and one.version == version:
                return one
        return None

    def all(self) -> tuple[Kind, ...]:
        """Return every kind: built-in ones first, then by CRD in order of registration."""
        return tuple(self)

    def __iter__(self) -> Iterator[Kind]:
        yield from self._builtins
        for kinds in self._by_crd.values():
            yield from kinds

    def set_crd_kinds(self, crd_name: str, kinds: tuple[Kind, ...]) -> None:
        """Serve the kinds of a CRD, in place of what it defined before."""
        self._by_crd[crd_name] = kinds
        self._index()

    def remove(self, crd_name: str) -> None:
        """Stop serving the kinds of a CRD; nothing happens if there are none."""
        if self._by_crd.pop(crd_name, None) is not None:
            self._index()

    def _index(self) -> None:
        self._by_plural = {(one.group, one.version, one.plural): one for one in self}
        self.generation += 1
