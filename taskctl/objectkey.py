"""The key of a Kubernetes object within its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Names an object within its kind.

    Attributes:
        namespace: empty for kinds without one.
        name: ``metadata.name``.
    """

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> ObjectKey:
        """Return the key of a raw Kubernetes object."""
        metadata = obj["metadata"]
        return cls(metadata.get("namespace", ""), metadata["name"])
