"""What all kinds share: object keys, metadata, conditions, quantities, the model base."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from taskctl.api.states import ConditionStatus
from taskctl.constants import DNS_SUBDOMAIN as DNS_SUBDOMAIN
from taskctl.constants import MAX_NAME as MAX_NAME
from taskctl.constants import MESSAGE_LIMIT_CHARS

# Bounds that the API server's CEL cost estimator needs; generous for people, finite for it.
INT32_MAX = 2**31 - 1
MAX_LABEL = 63  # label value
MAX_TEXT = 4096
MAX_COMMAND_ITEMS = 256
# MAX_ARG_STRLEN of Linux is 131,072 bytes with the NUL at the end, for an argument and for a
# variable with its name. A schema counts characters; bytes are counted by its rules, and by the
# models for the command line and the agent.
MAX_COMMAND_TEXT = 131_071
# A character has four bytes at most: what has no more than so many need not be counted.
_SURELY_SHORT = 32_000
MAX_ENV = 256
MAX_LIST = 1000

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
# k8s.io/apimachinery's quantity, as controller-gen writes it into CRDs.
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)


def cel(rule: str, message: str, *, field_path: str | None = None) -> dict[str, str]:
    """Return one entry of ``x-kubernetes-validations``.

    Args:
        rule: CEL expression over ``self`` and, in a transition rule, ``oldSelf``.
        message: says what is wrong and the remedy.
        field_path: path of the blamed field below the schema node, for example ``.command``.
    """
    entry = {"rule": rule, "message": message}
    if field_path is not None:
        entry["fieldPath"] = field_path
    return entry


def unchanged(name: str, *, dyn: bool = False) -> str:
    """Return the CEL condition that a field of ``self`` is as it was in ``oldSelf``.

    Args:
        name: the field.
        dyn: it has no type (``RawValue``), so that a rule reaches it through ``dyn()`` only. The
            API server then compares it as a whole (``unknownPreserved.Equal`` in k8s.io/apiserver
            ``pkg/cel/common/values.go``).
    """
    new, old = ("dyn(self)", "dyn(oldSelf)") if dyn else ("self", "oldSelf")
    return (
        f"has({new}.{name}) == has({old}.{name})"
        f" && (!has({new}.{name}) || {new}.{name} == {old}.{name})"
    )


def validations(*rules: dict[str, str]) -> dict[str, Any]:
    """Return the ``json_schema_extra`` that carries CEL rules."""
    return {"x-kubernetes-validations": list(rules)}


def map_list(*keys: str) -> dict[str, Any]:
    """Return the ``json_schema_extra`` of a list that server-side apply merges by key."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC_LIST: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
SET_LIST: dict[str, Any] = {"x-kubernetes-list-type": "set"}

# Any JSON value, null included.
RawValue = Annotated[
    Any,
    WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True, "nullable": True}),
]
Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": QUANTITY,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
MicroTime = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
GroupName = Annotated[str, Field(min_length=1, max_length=MAX_LABEL, pattern=LABEL_VALUE)]


def startable_list(what: str, *texts: str) -> list[dict[str, str]]:
    """Return the CEL rules that no item of a list is longer than Linux takes, in bytes.

    There are two, each for half of the list: the API server takes every item to be as long as it
    may be, and a single rule would exceed what it allows a rule to cost.

    Args:
        what: an item, for the message.
        texts: CEL expressions over the item, ``{item}``: what it is made of, with a byte between.
    """
    short, size = (
        " + ".join(form.format(text) for text in texts) for form in ("size({})", "size(bytes({}))")
    )
    half = MAX_COMMAND_ITEMS // 2
    limit = MAX_COMMAND_TEXT - len(texts) + 1
    tens, ones = list(range(0, half, 16)), list(range(16))
    message = (
        f"Linux starts no process with {what} of over {MAX_COMMAND_TEXT} bytes: pass it as input, "
        "or in a file"
    )
    return [
        cel(
            f"self.all(x, {short.format(item='x')} <= {_SURELY_SHORT}) || "
            f"{[start + ten for ten in tens]}.all(i, {ones}.all(k, size(self) <= i + k || "
            f"{size.format(item='self[i + k]')} <= {limit}))",
            message,
        )
        for start in (0, half)
    ]


def _startable(text: str) -> str:
    size = len(text.encode(errors="replace"))
    if size > MAX_COMMAND_TEXT:
        raise ValueError(
            f"has {size} bytes; Linux starts no process with an argument or variable of over "
            f"{MAX_COMMAND_TEXT}: pass it as input, or in a file"
        )
    return text


LongText = Annotated[str, Field(max_length=MAX_COMMAND_TEXT), AfterValidator(_startable)]


class SpecModel(BaseModel):
    """Base of what users write: unknown fields are an error, because they are typing errors.

    That goes for a field's name in Python too: the API server would drop ``timeout_seconds``.
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> dict[str, Any]:
        """Return the object as it goes over the wire: camelCase, without unset fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> Self:
        """Parse what the API server delivers.

        Raises:
            pydantic.ValidationError: it breaks the schema; see :func:`describe_errors`.
        """
        return cls.model_validate(obj)


class StatusModel(BaseModel):
    """Base of what taskctl writes: unknown fields are ignored, as a newer version may add some."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore")


class OwnerReference(StatusModel):
    """metav1.OwnerReference."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(BaseModel):
    """The part of metav1.ObjectMeta that taskctl reads; the rest is kept as it came."""

    model_config = ConfigDict(alias_generator=to_camel, extra="allow")

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    owner_references: list[OwnerReference] | None = None


class Condition(StatusModel):
    """One aspect of the object's state, as `kubectl wait --for=condition=…` reads it."""

    type: Annotated[str, Field(max_length=316, description="CamelCase word, unique in the list.")]
    status: Annotated[ConditionStatus, Field(description="True, False or Unknown.")]
    reason: Annotated[
        str, Field(min_length=1, max_length=1024, description="CamelCase word, for machines.")
    ]
    message: Annotated[
        str, Field(max_length=32768, description=f"For people; {MESSAGE_LIMIT_CHARS} characters.")
    ] = ""
    last_transition_time: Annotated[
        MicroTime, Field(description="When `status` last changed (RFC 3339).")
    ]
    observed_generation: Annotated[
        int | None,
        Field(ge=0, description="`metadata.generation` that this was computed from."),
    ] = None


def describe_errors(error: ValidationError, model: type[BaseModel] | None = None) -> list[str]:
    """Turn a pydantic error into sentences of the form ``spec.retry.limit: what is wrong``.

    Args:
        error: what the validation raised.
        model: what it was about; for the likely name of a field that is not known.
    """
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        path = ""
        for part in item["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _fields_at(model, item["loc"][:-1]) if model is not None else ()
            likely = likely_field(str(item["loc"][-1]), known)
            remedy = (
                f"did you mean {likely}?"
                if likely
                else ("see `kubectl explain` for the ones there are")
            )
            message = f"unknown field; {remedy}"
        elif item["type"] == "missing":
            message = "is required"
        lines.append(f"{path}: {message}" if path else message)
    return lines


def likely_field(name: str, known: Collection[str]) -> str | None:
    """Return the field that a user who wrote ``name`` most likely meant, or None."""
    plain = {one.lower(): one for one in sorted(known)}
    wanted = re.sub(r"[-_ ]", "", name).lower()
    close = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _fields_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Return the names of the fields at a path below a model, as they are in JSON."""
    for part in path:
        if isinstance(part, int):
            continue
        found = next((f for n, f in model.model_fields.items() if (f.alias or n) == part), None)
        below = _model_in(found.annotation) if found is not None else None
        if below is None:
            return []
        model = below
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as ``list[EnvVar] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for one in get_args(annotation) if (m := _model_in(one)) is not None), None)
