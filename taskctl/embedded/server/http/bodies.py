"""Request bodies: size, media type, JSON or YAML."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import orjson
from aiohttp import web

from taskctl.embedded.server.http import yaml_bodies
from taskctl.embedded.server.protobuf import decode as protobuf
from taskctl.embedded.server.refusals import errors
from taskctl.embedded.server.values.nesting import MAX_DEPTH, too_deep

T = TypeVar("T")

# k8s.io/apiserver pkg/server/config.go, MaxRequestBodyBytes.
BODY_LIMIT_BYTES: Final = 3 * 1024 * 1024
_MEDIA_TYPES: Final = "application/json, application/yaml"
_JSON: Final = ("", "application/json", "text/plain", "application/octet-stream")
_YAML: Final = ("application/yaml", "text/yaml", "application/x-yaml")
# Bodies that are being received, of all clients.
RECEIVED_LIMIT_BYTES: Final = 64 * 1024 * 1024
RECEIVE_TIMEOUT_S: Final = 60.0
_RETRY_S: Final = 2
SMALL_BODY_BYTES: Final = 32 * 1024
_thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-bodies")
_READ_BYTES: Final = 256 * 1024


class _Received:
    """Counts what clients have sent of bodies that are not whole yet."""

    size_bytes = 0


async def read(request: web.BaseRequest) -> bytes:
    """Read a request's body.

    Raises:
        errors.StatusError: 408, the client takes too long; 413; 429, too much is on its way.
    """
    if not request.can_read_body:
        return b""
    length = request.content_length
    if length is not None and length > BODY_LIMIT_BYTES:
        raise errors.too_large(BODY_LIMIT_BYTES)
    parts = []
    size = 0
    try:
        async with asyncio.timeout(RECEIVE_TIMEOUT_S):
            async for part in request.content.iter_chunked(_READ_BYTES):
                size += len(part)
                _Received.size_bytes += len(part)
                if size > BODY_LIMIT_BYTES:
                    raise errors.too_large(BODY_LIMIT_BYTES)
                if _Received.size_bytes > RECEIVED_LIMIT_BYTES:
                    raise errors.too_many_requests(
                        "too many large requests are being received; try again later", _RETRY_S
                    )
                parts.append(part)
    except TimeoutError:
        raise errors.StatusError(
            408, "Timeout", f"the body has not arrived within {RECEIVE_TIMEOUT_S:.0f} seconds"
        ) from None
    finally:
        _Received.size_bytes -= size
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def in_turn(size_bytes: int, work: Callable[[], T]) -> T:
    """Do work that may take long with a large body, so that others need not wait for it.

    Large ones are done in a thread, one after the other.

    Args:
        size_bytes: of the body.
        work: must not touch what others see.
    """
    if size_bytes <= SMALL_BODY_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_thread, _uncollected, work)


def _uncollected(work: Callable[[], T]) -> T:
    """Do work that makes a million objects without looking at each of them again and again.

    One thread alone does this, so it always knows whom it has to switch the collector on for.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return work()
    finally:
        if enabled:
            gc.enable()


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
    """Parse the body of a delete; a wrong one is an error of the server (500), as upstream.

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
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.bad_request(f"{refusal}: {error}") from error
    check_depth(body, parsed, refusal)
    return parsed


def parse_yaml(body: bytes) -> Any:
    """Parse YAML, of which JSON is a part.

    Raises:
        errors.StatusError: 400.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    else:
        check_depth(body, parsed, "error parsing YAML")
        return parsed
    try:
        return yaml_bodies.parse(body)
    except yaml_bodies.YamlError as error:
        raise errors.bad_request(f"error parsing YAML: {error}") from error


def check_depth(body: bytes, parsed: Any, refusal: str) -> None:
    """Refuse JSON that is too deeply nested to be stored and walked.

    Args:
        body: the text, if there is one; what has few brackets is not deep.
        parsed: what it says.
        refusal: how the sentence begins.

    Raises:
        errors.StatusError: 400.
    """
    if body and body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    if too_deep(parsed):
        raise errors.bad_request(f"{refusal}: exceeded max depth of {MAX_DEPTH}")


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
