"""Request bodies: size, media type, JSON or YAML."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, ClassVar, Final

import orjson
import yaml
from aiohttp import web

from taskctl.embedded.server import errors, protobuf

# k8s.io/apiserver pkg/server/config.go, MaxRequestBodyBytes.
BODY_LIMIT_BYTES: Final = 3 * 1024 * 1024
_MEDIA_TYPES: Final = "application/json, application/yaml"
_JSON: Final = ("", "application/json", "text/plain", "application/octet-stream")
_YAML: Final = ("application/yaml", "text/yaml", "application/x-yaml")
_READ_BYTES: Final = 256 * 1024


async def read(request: web.BaseRequest) -> bytes:
    """Read a request's body.

    Raises:
        errors.StatusError: 413.
    """
    if not request.can_read_body:
        return b""
    length = request.content_length
    if length is not None and length > BODY_LIMIT_BYTES:
        raise errors.too_large(BODY_LIMIT_BYTES)
    parts = []
    size = 0
    async for part in request.content.iter_chunked(_READ_BYTES):
        size += len(part)
        if size > BODY_LIMIT_BYTES:
            raise errors.too_large(BODY_LIMIT_BYTES)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def media_type(request: web.BaseRequest) -> str:
    """Return the body's media type without parameters."""
    header = request.headers.get("Content-Type", "")
    return header.partition(";")[0].strip().lower()


def parse_object(body: bytes, media: str, kind: str, *, protobuf_too: bool = True) -> errors.Json:
    """Parse a body that must be an object, in JSON, YAML or protobuf.

    Args:
        body: the bytes.
        media: media type; empty means JSON.
        kind: of the object, for the refusal.
        protobuf_too: the kind is built in, so the body may be protobuf.

    Raises:
        errors.StatusError: 400, not to be parsed; 415, none of these.
    """
    unrecognized = f"the object provided is unrecognized (must be of type {kind}): "
    if media in _YAML:
        obj = parse_yaml(body)
    elif media in _JSON:
        obj = parse_json(body, f"{unrecognized}couldn't get version/kind; json parse error")
    elif media == protobuf.MEDIA_TYPE and protobuf_too:
        try:
            obj = protobuf.decode(body)
        except protobuf.UnreadableError as error:
            raise errors.bad_request(f"{unrecognized}{error}") from error
    else:
        raise errors.unsupported_media_type(_MEDIA_TYPES)
    if not isinstance(obj, dict):
        raise errors.bad_request(f"{unrecognized}a JSON object is wanted")
    return obj


def parse_delete_options(body: bytes, media: str) -> errors.Json:
    """Parse the body of a delete; what is wrong with it is nobody's fault, as upstream.

    Raises:
        errors.StatusError: 415; 500, not to be parsed.
    """
    if body.strip() == b"null":
        return {}
    try:
        return parse_object(body, media, "DeleteOptions")
    except errors.StatusError as error:
        raise errors.unclassified(error.message) if error.code == 400 else error from error


def parse_json(body: bytes, refusal: str) -> Any:
    """Parse JSON.

    Args:
        body: the bytes.
        refusal: how the sentence begins if that fails.

    Raises:
        errors.StatusError: 400.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"{refusal}: {error}") from error


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: dates stay text, a plain ``y`` or ``n`` is a boolean."""

    bool_values: ClassVar = {**yaml.SafeLoader.bool_values, "y": True, "n": False}


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))


def parse_yaml(body: bytes) -> Any:
    """Parse YAML, of which JSON is a part.

    Raises:
        errors.StatusError: 400.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        obj = yaml.load(body, _Loader)
        # Keys that are not strings, and numbers such as .nan, are YAML but not JSON.
        return orjson.loads(orjson.dumps(obj))
    except (yaml.YAMLError, UnicodeDecodeError, orjson.JSONEncodeError, RecursionError) as error:
        raise errors.bad_request(f"error parsing YAML: {error}") from error


_NAME_END: Final = re.compile(rb'"\s*:')


def _parsed_or_none(body: bytes, parsed: Any) -> Any:
    if parsed is not None:
        return parsed
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _count_names(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(
            _count_names(one) for one in value.values() if isinstance(one, dict | list)
        )
    if isinstance(value, list):
        return sum(_count_names(one) for one in value if isinstance(one, dict | list))
    return 0


class _Twice(dict[str, Any]):
    """A JSON object some of whose names stood in the text twice."""

    names: list[str]


def duplicate_fields(body: bytes, parsed: Any = None) -> list[str]:
    """Return a sentence per field that a JSON body has twice.

    Args:
        body: the text.
        parsed: what the text says, if the caller knows.
    """
    # A quote before a colon ends each name; elsewhere there may be more such pairs, but never
    # fewer. So as a rule this count says that nothing stands there twice.
    if len(_NAME_END.findall(body)) == _count_names(_parsed_or_none(body, parsed)):
        return []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        marked = _Twice(plain)
        counts = Counter(name for name, _ in pairs)
        marked.names = sorted(name for name, count in counts.items() if count > 1)
        return marked

    try:
        parsed = json.loads(body, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return []
    return [f'duplicate field "{path}"' for path in _find_twice(parsed, "")]


def _find_twice(value: Any, path: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        if isinstance(value, _Twice):
            found += [f"{prefix}{name}" for name in value.names]
        for name, item in value.items():
            found += _find_twice(item, f"{prefix}{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += _find_twice(item, f"{path}[{index}]")
    return found
