"""``Task.spec.env``: the environment of the command."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import meta
from taskctl.api.meta import Name, SpecModel

_Key = Annotated[str, Field(min_length=1, max_length=253, description="Key in its `data`.")]


class SecretKeyRef(SpecModel):
    """A key of a Secret in the Task's namespace."""

    name: Annotated[Name, Field(description="Name of the Secret.")]
    key: _Key
    optional: Annotated[
        bool | None, Field(description="If true and the key is missing, the variable is left out.")
    ] = None


class ConfigMapKeyRef(SpecModel):
    """A key of a ConfigMap in the Task's namespace."""

    name: Annotated[Name, Field(description="Name of the ConfigMap.")]
    key: _Key
    optional: Annotated[
        bool | None, Field(description="If true and the key is missing, the variable is left out.")
    ] = None


class FieldRef(SpecModel):
    """A field of the worker pod."""

    field_path: Annotated[
        str, Field(min_length=1, max_length=256, description="For example `spec.nodeName`.")
    ]


class EnvVarSource(SpecModel):
    """Where a variable's value comes from. Exactly one of the three."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(
                "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)]"
                ".filter(x, x).size() == 1",
                "set exactly one of secretKeyRef, configMapKeyRef and fieldRef",
            )
        )
    )
    secret_key_ref: Annotated[
        SecretKeyRef | None, Field(description="A key of a Secret in the Task's namespace.")
    ] = None
    config_map_key_ref: Annotated[
        ConfigMapKeyRef | None, Field(description="A key of a ConfigMap in the Task's namespace.")
    ] = None
    field_ref: Annotated[
        FieldRef | None, Field(description="A field of the worker pod, as in a pod's env.")
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.secret_key_ref, self.config_map_key_ref, self.field_ref)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("set exactly one of secretKeyRef, configMapKeyRef and fieldRef")
        return self


NOT_OURS = meta.cel(
    "!self.name.startsWith('TASKCTL_')",
    "names that begin with TASKCTL_ are taskctl's own; choose another",
    field_path=".name",
)


class EnvVar(SpecModel):
    """One environment variable of the command."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(
                "!(has(self.value) && has(self.valueFrom))",
                "set either value or valueFrom, not both",
            ),
            NOT_OURS,
        )
    )
    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=256,
            pattern=r"^[^=]+$",
            description="Name; must not contain `=` or begin with `TASKCTL_`.",
        ),
    ]
    value: Annotated[
        meta.LongText | None, Field(description="The value, taken literally: $(…) is not expanded.")
    ] = None
    value_from: Annotated[EnvVarSource | None, Field(description="Take the value from there.")] = (
        None
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.value is not None and self.value_from is not None:
            raise ValueError("set either value or valueFrom, not both")
        size = len(f"{self.name}={self.value or ''}".encode(errors="replace"))
        if size > meta.MAX_COMMAND_TEXT:
            raise ValueError(
                f"has {size} bytes with its name; Linux starts no process with a variable of over "
                f"{meta.MAX_COMMAND_TEXT}: pass it as input, or in a file"
            )
        if self.name.startswith("TASKCTL_"):
            raise ValueError("names that begin with TASKCTL_ are taskctl's own; choose another")
        return self
