"""Objects, lists and watch events as bytes, in the form a client asked for.

The plain JSON form is put together from the stored bytes without parsing them; the others are
made once per event and shared by all watchers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import yaml

from taskctl.embedded.server.core import Core, as_version
from taskctl.embedded.server.http.negotiation import Encoding, ObjectForm
from taskctl.embedded.server.kinds.model import Kind
from taskctl.embedded.server.protobuf import encode as protobuf_encode
from taskctl.embedded.server.refusals.errors import Json
from taskctl.embedded.server.storage.hub import Sight
from taskctl.embedded.server.storage.records import Event, Record, type_head
from taskctl.embedded.server.tables import table

Bytes = bytes | memoryview

_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_CHUNK_BYTES: Final = 16 * 1024
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class ListMeta:
    """``metadata`` of a list.

    Attributes:
        revision: at which the list is true.
        continue_token: for the next page; empty on the last.
        remaining: objects after this page; None if not known.
    """

    revision: int
    continue_token: str = ""
    remaining: int | None = None

    def to_json(self, *, always_token: bool = False) -> Json:
        """Return the object.

        Args:
            always_token: name the token even where there is none, as lists of custom resources
                do.
        """
        found: Json = {"resourceVersion": str(self.revision)}
        if self.continue_token or always_token:
            found["continue"] = self.continue_token
        if self.remaining is not None:
            found["remainingItemCount"] = self.remaining
        return found


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes objects of one kind in one form.

    Attributes:
        core: for the time, which tables show ages by.
        kind: in the version of the request.
        encoding: the form.
        include_object: what a table's rows carry: None, Metadata or Object.
    """

    core: Core
    kind: Kind
    encoding: Encoding
    include_object: str = "Metadata"

    @property
    def shares_texts(self) -> bool:
        """True if what is encoded is the stored text itself, so that an answer costs no memory."""
        plain = not self.encoding.yaml and not self.encoding.protobuf
        return self.encoding.form is ObjectForm.OBJECT and plain

    def object(self, record: Record) -> bytes:
        """Encode one object."""
        if self.encoding.protobuf:
            return protobuf_encode.encode_object(self._load(record))
        if self.encoding.form is ObjectForm.OBJECT and not self.encoding.yaml:
            return self._raw(record)
        return self._finish(self._transform([record], ListMeta(record.revision)))

    def list(self, records: Sequence[Record], meta: ListMeta) -> bytes:
        """Encode a list."""
        return b"".join(self.list_parts(records, meta))

    def list_parts(self, records: Sequence[Record], meta: ListMeta) -> Iterator[Bytes]:
        """Encode a list bit by bit: a list may be much larger than each of its objects."""
        form = self.encoding.form
        if form is ObjectForm.TABLE:
            empty = self._table([], meta)
            del empty["rows"]  # it is made to be the last
            return self._enclosed(empty, "rows", map(self._table_rows, _some(records)))
        if form is ObjectForm.PARTIAL:
            head = {**self._partial_type("PartialObjectMetadataList"), "metadata": meta.to_json()}
            partials = ([self._partial(one) for one in some] for some in _some(records))
            return self._enclosed(head, "items", partials)
        head = {"kind": self.kind.list_kind, "apiVersion": self.kind.api_version}
        if self.encoding.protobuf:
            # All at once: the text begins with its length.
            items = [self._load(record) for record in records]
            head_json: Json = {**head, "metadata": meta.to_json()}
            return iter((protobuf_encode.encode_list(head_json, self.kind.kind, items),))
        head["metadata"] = meta.to_json(always_token=not self.kind.builtin)
        if self.encoding.yaml:
            loaded = ([self._item_object(one) for one in some] for some in _some(records))
            return self._enclosed(head, "items", loaded)
        return _joined(head, "items", map(self._item, records))

    def _enclosed(self, head: Json, name: str, chunks: Iterable[Sequence[Json]]) -> Iterator[Bytes]:
        """Encode an object whose last field is a list that comes in chunks."""
        if not self.encoding.yaml:
            items = (orjson.dumps(list(chunk))[1:-1] for chunk in chunks)
            return _joined(head, name, items)
        return _yaml_parts(head, name, chunks)

    def _table_rows(self, records: Sequence[Record]) -> Sequence[Json]:
        rows: Sequence[Json] = self._table(records, ListMeta(0))["rows"]
        return rows

    def event(self, sight: Sight, event: Event, *, first: bool = False) -> bytes:
        """Encode a watch event as one line; made once per event and form.

        Args:
            sight: what the watcher is shown.
            event: of it.
            first: the watch begins with it; then a table says what its columns are.
        """
        first = first and self.encoding.form is ObjectForm.TABLE
        key = (sight, self.kind.api_version, self.encoding, self.include_object, first)
        line = event.encodings.get(key)
        if line is None:
            line = self._line(sight, self._seen(sight, event), first=first)
            event.encodings[key] = line
        return line

    def initial(self, record: Record, *, first: bool = False) -> Iterator[Bytes]:
        """Encode an object as the ADDED event that a watch without a revision begins with."""
        if self.encoding.form is ObjectForm.OBJECT:
            # In parts, so that all watches share the text.
            yield from (b'{"type":"ADDED","object":', self._raw(record), b"}\n")
        else:
            yield self._line(Sight.ADDED, record, first=first)

    def bookmark(self, revision: int, *, initial_end: bool = False, first: bool = False) -> bytes:
        """Encode a BOOKMARK."""
        metadata: Json = {"resourceVersion": str(revision)}
        if initial_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        obj: Json = {
            "kind": self.kind.kind,
            "apiVersion": self.kind.api_version,
            "metadata": metadata,
        }
        if self.encoding.form is ObjectForm.PARTIAL:
            obj = {**self._partial_type("PartialObjectMetadata"), "metadata": metadata}
        elif self.encoding.form is ObjectForm.TABLE:
            obj = self._row(obj, first=first)
        return orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n"

    def _seen(self, sight: Sight, event: Event) -> Record:
        if sight is not Sight.LEFT or event.previous is None:
            return event.record
        # The client gets the last state that it could see, at the revision of the change.
        obj = event.previous.load()
        obj["metadata"]["resourceVersion"] = str(event.revision)
        previous = event.previous
        return Record(
            previous.resource,
            previous.namespace,
            previous.name,
            previous.uid,
            event.revision,
            previous.api_version,
            orjson.dumps(obj),
            previous.labels,
            previous.fields,
            previous.owners,
            previous.server_fields,
        )

    def _line(self, sight: Sight, record: Record, *, first: bool) -> bytes:
        name = b"DELETED" if sight is Sight.LEFT else sight.value.encode()
        if self.encoding.form is ObjectForm.OBJECT:
            body = self._raw(record)
        elif self.encoding.form is ObjectForm.PARTIAL:
            body = orjson.dumps(self._partial(record))
        else:
            body = orjson.dumps(self._row(self._tabled(record), first=first))
        return b'{"type":"' + name + b'","object":' + body + b"}\n"

    def _row(self, obj: Json, *, first: bool) -> Json:
        return table.table_event(
            self.kind,
            obj,
            now=self.core.clock.now(),
            include_object=self.include_object,
            with_columns=first,
            version=self.encoding.version,
        )

    def _item(self, record: Record) -> Bytes:
        """Encode an object as an item of a list: those of built-in kinds do not name their type."""
        raw = self._raw(record)
        head = type_head(self.kind.kind, self.kind.api_version)
        if not self.kind.builtin or not raw.startswith(head):
            return raw
        # What remains after the type; the list's text has the brace. Not a copy: it may be large.
        return memoryview(raw)[len(head) :]

    def _item_object(self, record: Record) -> Json:
        obj = self._load(record)
        if self.kind.builtin:
            del obj["kind"], obj["apiVersion"]
        return obj

    def _raw(self, record: Record) -> bytes:
        if record.api_version == self.kind.api_version:
            return record.raw
        return orjson.dumps(self._load(record))

    def _load(self, record: Record) -> Json:
        return as_version(self.kind, record)

    def _tabled(self, record: Record) -> Json:
        """Return an object as the printers of tables know it."""
        return self._load(record) if self.kind.conversion is None else record.load()

    def _transform(self, records: Sequence[Record], meta: ListMeta) -> Json:
        if self.encoding.form is ObjectForm.TABLE:
            return self._table(records, meta)
        if self.encoding.form is ObjectForm.PARTIAL:
            return self._partial(records[0])
        return self._load(records[0])

    def _table(self, records: Sequence[Record], meta: ListMeta) -> Json:
        made: Json = table.to_table(
            self.kind,
            [self._tabled(record) for record in records],
            now=self.core.clock.now(),
            include_object=self.include_object,
            list_metadata=meta.to_json(),
            version=self.encoding.version,
        )
        return made

    def _partial_type(self, kind: str) -> Json:
        return {"kind": kind, "apiVersion": f"meta.k8s.io/{self.encoding.version}"}

    def _partial(self, record: Record) -> Json:
        head = self._partial_type("PartialObjectMetadata")
        return {**head, "metadata": record.load()["metadata"]}

    def _finish(self, obj: Any) -> bytes:
        if self.encoding.yaml:
            return _yaml(obj)
        return orjson.dumps(obj)


def _some(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut a list into chunks that are parsed together: not too many objects, nor too much text."""
    start = size_bytes = 0
    for at, record in enumerate(records):
        size_bytes += len(record.raw)
        if size_bytes >= _CHUNK_BYTES:
            yield records[start : at + 1]
            start, size_bytes = at + 1, 0
    if start < len(records):
        yield records[start:]


def _joined(head: Json, name: str, items: Iterable[Bytes]) -> Iterator[Bytes]:
    yield orjson.dumps({**head, name: []})[:-2]
    first = True
    for item in items:
        if not first:
            yield b","
        first = False
        if isinstance(item, memoryview):
            yield b"{"
        yield item
    yield b"]}"


def _yaml_parts(head: Json, name: str, chunks: Iterable[Sequence[Json]]) -> Iterator[Bytes]:
    yield _yaml(head)
    empty = True
    for chunk in chunks:
        if empty:
            yield f"{name}:\n".encode()
            empty = False
        yield _yaml(chunk)
    if empty:
        yield _yaml({name: []})


def _yaml(value: Any) -> bytes:
    # With the C library, if PyYAML has it: ten times as fast.
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return text.encode()
