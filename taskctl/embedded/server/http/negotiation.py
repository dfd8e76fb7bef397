"""Which representation of an object or list a client asks for, by its Accept header."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from taskctl.embedded.server.refusals import errors

JSON_TYPE: Final = "application/json"
YAML_TYPE: Final = "application/yaml"
PROTOBUF_TYPE: Final = "application/vnd.kubernetes.protobuf"
ACCEPTED: Final = "application/json, application/yaml"


class ObjectForm(StrEnum):
    """What is made of objects."""

    OBJECT = "Object"
    TABLE = "Table"
    PARTIAL = "PartialObjectMetadata"


@dataclass(frozen=True, slots=True)
class Encoding:
    """A representation.

    Attributes:
        form: of the objects.
        version: of ``meta.k8s.io``, for the forms that have one.
        yaml: YAML instead of JSON.
        protobuf: protobuf instead of JSON.
    """

    form: ObjectForm = ObjectForm.OBJECT
    version: str = "v1"
    yaml: bool = False
    protobuf: bool = False

    @property
    def content_type(self) -> str:
        """The response's Content-Type, which echoes the parameters asked for."""
        if self.protobuf:
            return PROTOBUF_TYPE
        return YAML_TYPE if self.yaml else JSON_TYPE


PLAIN: Final = Encoding()


@dataclass(frozen=True, slots=True)
class _Clause:
    media_type: str
    parameters: dict[str, str]


def _clauses(accept: str) -> list[_Clause]:
    found = []
    for part in accept.split(","):
        media_type, *rest = (piece.strip() for piece in part.split(";"))
        parameters = dict(piece.partition("=")[::2] for piece in rest if piece)
        found.append(_Clause(media_type.lower(), parameters))
    return found


@lru_cache(maxsize=512)
def negotiate(accept: str, *, protobuf: bool = False) -> Encoding:
    """Choose the first representation in the header that this server can make.

    Args:
        accept: the header.
        protobuf: what is asked for can be written in protobuf, too; a client gets that only if
            it takes nothing else.

    Raises:
        errors.StatusError: 406.
    """
    if not accept:
        return PLAIN
    for clause in _clauses(accept):
        if clause.media_type not in (JSON_TYPE, YAML_TYPE, "*/*", "application/*"):
            continue
        yaml = clause.media_type == YAML_TYPE
        wanted = clause.parameters.get("as", "")
        if not wanted:
            return Encoding(yaml=yaml)
        version = clause.parameters.get("v", "")
        if clause.parameters.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
            continue
        if wanted == "Table":
            return Encoding(ObjectForm.TABLE, version, yaml)
        if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return Encoding(ObjectForm.PARTIAL, version, yaml)
    if protobuf and any(
        one.media_type == PROTOBUF_TYPE and "as" not in one.parameters for one in _clauses(accept)
    ):
        return Encoding(protobuf=True)
    raise errors.not_acceptable(ACCEPTED)


@lru_cache(maxsize=64)
def wants_aggregated_discovery(accept: str) -> str | None:
    """Return the version of aggregated discovery that is asked for first, or None."""
    for clause in _clauses(accept):
        parameters = clause.parameters
        if clause.media_type != JSON_TYPE:
            continue
        if parameters.get("as") is None:
            return None
        if (
            parameters.get("g") == "apidiscovery.k8s.io"
            and parameters.get("as") == "APIGroupDiscoveryList"
            and parameters.get("v") == "v2"
        ):
            return "v2"
    return None
