"""``Task.spec.notify``: whom the controller tells that a tree has begun or ended."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from taskctl.api import meta
from taskctl.api.meta import Name, SpecModel
from taskctl.api.states import NotifyEvent

MAX_NOTIFY: Final = 5
MAX_QUEUE: Final = 256
MAX_PAYLOAD: Final = 16_384
DEFAULT_SECRET: Final = "taskctl-notify"
DEFAULT_SECRET_KEY: Final = "key"
DEFAULT_TIMEOUT_S: Final = 10
# A reconcile may take 60 s, and has to write down what came of it.
MAX_TIMEOUT_S: Final = 30
DEFAULT_RETRY_LIMIT: Final = 12
# No user and password, no fragment, no character that two parsers might read in two ways.
URL: Final = r"^https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?([/?][!$-~]*)?$"
CHILD_NOTIFY_MESSAGE: Final = "notify tells of a whole tree; set it on the root"


class SigningKeyRef(SpecModel):
    """A key of a Secret in the Task's namespace, with which messages are signed."""

    name: Annotated[
        Name | None,
        Field(
            description=f"Name of the Secret. Default: {DEFAULT_SECRET}; the controller may read "
            "no other, unless you give it the right to."
        ),
    ] = None
    key: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=meta.MAX_NAME,
            description=f"Key in its `data`. Default: {DEFAULT_SECRET_KEY}.",
        ),
    ] = None


class Notify(SpecModel):
    """A receiver: it gets an HTTP POST with a CloudEvent in JSON, signed."""

    url: Annotated[
        str,
        Field(
            max_length=2048,
            pattern=URL,
            description="Where to send it: http or https, without user, password and fragment. "
            "The controller sends to no host that is not in its list (`--notify-allow`).",
        ),
    ]
    events: Annotated[
        list[NotifyEvent] | None,
        Field(
            min_length=1,
            max_length=len(NotifyEvent),
            description="Of what it is told: Started, and the ends Succeeded, Failed (also for "
            "want of time) and Cancelled. Default: every end.",
            json_schema_extra=meta.SET_LIST,
        ),
    ] = None
    secret_key_ref: Annotated[
        SigningKeyRef | None,
        Field(
            description="The secret for the signature, as Standard Webhooks has it: `whsec_` and "
            "24 to 64 bytes in base64; several, with spaces between, sign all."
        ),
    ] = None
    queue: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_QUEUE,
            description="Name of a queue or topic; a member of the event's data.",
        ),
    ] = None
    payload: Annotated[
        str | None,
        Field(max_length=MAX_PAYLOAD, description="Any text; a member of the event's data."),
    ] = None
    timeout_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_TIMEOUT_S,
            description=f"Deadline of one request. Default {DEFAULT_TIMEOUT_S}.",
        ),
    ] = None
    retry_limit: Annotated[
        int | None,
        Field(
            ge=0,
            le=50,
            description="How often to try again, after 2 s, 4 s, 8 s and so on, 15 minutes at "
            f"most. Default {DEFAULT_RETRY_LIMIT}: about an hour.",
        ),
    ] = None
