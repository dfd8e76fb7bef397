"""The TaskObject: an immutable value, the input or the output of a Task."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.meta import ObjectMeta, SpecModel
from taskctl.api.states import Codec

ONE_OF_MESSAGE = "set exactly one of data, value and ref"
IMMUTABLE_MESSAGE = "a TaskObject cannot be changed; create another one under a new name"
PATH_MESSAGE = "path must not contain `..`: it is relative to the workspace and stays inside"
# etcd's default request limit is 1.5 MiB; what is larger goes to the workspace (`ref`).
MAX_DATA_CHARS = 1024 * 1024


class ValueRef(SpecModel):
    """A value that is too large for the API server: a file in the workspace."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel("!self.path.matches('(^|/)[.][.](/|$)')", PATH_MESSAGE, field_path=".path")
        )
    )
    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=meta.MAX_TEXT,
            pattern=r"^[^/]",
            description="File, relative to the root of the TaskCluster's workspace.",
        ),
    ]
    sha256: Annotated[
        str,
        Field(
            max_length=64,
            pattern=r"^[0-9a-f]{64}$",
            description="SHA-256 of the file, 64 lower-case hexadecimal digits.",
        ),
    ]
    size: Annotated[int, Field(ge=0, description="Bytes.")]
    codec: Annotated[Codec, Field(description="How the file is encoded: json or msgpack.")]

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if ".." in self.path.split("/"):
            raise ValueError(PATH_MESSAGE)
        return self


class TaskObject(SpecModel):
    """A TaskObject holds the input or the output of a Task. It never changes."""

    model_config = ConfigDict(
        json_schema_extra={
            # `value` may be any JSON, so CEL cannot see it; OpenAPI can.
            "oneOf": [{"required": ["data"]}, {"required": ["value"]}, {"required": ["ref"]}],
            **meta.validations(
                meta.cel("!(has(self.data) && has(self.ref))", ONE_OF_MESSAGE),
                meta.cel(
                    f"{meta.unchanged('data')} && {meta.unchanged('ref')}"
                    f" && {meta.unchanged('value', dyn=True)}",
                    IMMUTABLE_MESSAGE,
                ),
            ),
        }
    )
    api_version: Literal["taskctl.dev/v1alpha1"] = "taskctl.dev/v1alpha1"
    kind: Literal["TaskObject"] = "TaskObject"
    metadata: ObjectMeta
    data: Annotated[
        dict[str, Annotated[str, Field(max_length=MAX_DATA_CHARS)]] | None,
        Field(
            max_length=meta.MAX_LIST,
            description="A map of text to text. Exactly one of data, value and ref is set.",
        ),
    ] = None
    value: Annotated[meta.RawValue, Field(description="Any JSON value, null included.")] = None
    ref: Annotated[
        ValueRef | None, Field(description="A large value, kept as a file in the workspace.")
    ] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = (self.data is not None, "value" in self.model_fields_set, self.ref is not None)
        if sum(given) != 1:
            raise ValueError(ONE_OF_MESSAGE)
        return self
