"""What the server knows of one kind of object, built in or from a CRD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from taskctl.embedded.server.kinds.builtin_schema import schema_for
from taskctl.embedded.server.kinds.structural_schema import StructuralSchema


@dataclass(frozen=True, slots=True)
class Column:
    """One column of ``kubectl get``.

    Attributes:
        name: heading.
        type: OpenAPI type, or ``date``.
        format: OpenAPI format; may be empty.
        description: for ``columnDefinitions``.
        priority: 0 is always shown, above that only with ``-o wide``.
        json_path: where the value lies, for kinds from CRDs; empty for built-in kinds.
    """

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0
    json_path: str = ""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How objects of a kind are stored as those of another.

    Attributes:
        group: API group of the other kind, which has the same plural.
        load: makes an object of this kind from a stored one.
        store: makes an object to be stored from one of this kind.
    """

    group: str
    load: Callable[[dict[str, Any]], dict[str, Any]]
    store: Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where in an object its replicas are: paths such as ``.spec.replicas``.

    Attributes:
        spec: of the number that is wanted.
        status: of the number that there is.
        selector: of a label selector, as text; may be empty.
    """

    spec: str
    status: str
    selector: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind in one version.

    Attributes:
        group: API group; empty for the core group.
        version: for example ``v1``.
        kind: for example ``Pod``.
        list_kind: for example ``PodList``.
        plural: the name in paths.
        singular: lower case.
        short_names: for kubectl.
        categories: for kubectl, for example ``all``.
        namespaced: objects live in a namespace.
        subresources: names, for example ``status``, ``log``, ``ephemeralcontainers``.
        columns: of ``kubectl get``, without the leading Name.
        selectable_fields: paths allowed in field selectors, without a leading dot.
        builtin: not from a CRD.
        storage: objects are stored in this version.
        deprecation_warning: sent with every answer; empty if not deprecated.
        read_only: there are no objects, and none can be made: only lists and watches are served.
        conversion: where objects are stored as those of another kind.
        scale: for the ``scale`` subresource; None where there is none.
        custom_schema: the schema of a kind from a CRD; see :attr:`schema`.
    """

    group: str
    version: str
    kind: str
    list_kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()
    columns: tuple[Column, ...] = ()
    selectable_fields: tuple[str, ...] = ()
    builtin: bool = False
    storage: bool = True
    deprecation_warning: str = ""
    read_only: bool = False
    conversion: Conversion | None = None
    scale: ScalePaths | None = None
    custom_schema: StructuralSchema | None = field(default=None, repr=False)

    @property
    def api_version(self) -> str:
        """``v1`` or ``group/version``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def schema(self) -> StructuralSchema | None:
        """The schema; that of a built-in kind is loaded when first asked for."""
        if self.builtin:
            return schema_for(self.group, self.version, self.kind)
        return self.custom_schema
