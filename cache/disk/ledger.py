"""The ledger: one JSON record per committed shard and stream, written after the shard is durable.

A row counts as extracted once a record (or the manifest, which `finish` folds the records into) says so, never
because a file is there. Folded records move to `ledger/history.jsonl`, which nothing needs to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from avem.cache.disk.layout import LEDGER, METADATA, parse_metadata, store_attributes, stream_entries
from avem.cache.disk.location import Location
from avem.cache.disk.manifest import DETAIL_COLUMNS, Columns
from avem.cache.records import RowDetails
from avem.errors import DataError, StoreError
from avem.files import sync_directory, write_atomic
from avem.reading import parse_json, read_regular
from avem.sealed.checksums import seal, unseal

HISTORY = "history.jsonl"

REMOVE = "`avem cache repair` removes it and extracts its shard again"

DETAILS = tuple(field.name for field in fields(RowDetails))


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What became of the rows of one shard of one stream."""

    kind: str
    """The stream's column."""
    shard: int
    rows: dict[int, RowDetails]

    def to_json(self) -> str:
        """The record as its JSON file."""
        rows = [
            {"row": row, **{name: getattr(details, name) for name in DETAILS}}
            for row, details in sorted(self.rows.items())
        ]
        return json.dumps(seal({"kind": self.kind, "shard": self.shard, "rows": rows}))

    @classmethod
    def from_json(cls, data: bytes, where: str) -> ShardRecord:
        """Parse a record's file.

        Raises:
            StoreError: It is not a ledger record, or does not match its checksum.
        """
        try:
            read = parse_json(data, where, dict, surrogates=True)
        except DataError as error:
            raise StoreError(f"The ledger record {where} can't be read ({error}); {REMOVE}.") from error
        try:
            content = unseal(read, where)
            rows = {int(item.pop("row")): RowDetails(**item) for item in content["rows"]}
            return cls(content["kind"], int(content["shard"]), rows)
        except DataError as error:
            raise StoreError(f"The ledger record {where} does not match its checksum; {REMOVE}.") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"The ledger record {where} can't be read ({error}); {REMOVE}.") from error


def record_path(ledger: Path, kind: str, shard: int) -> Path:
    """File of the record of one shard."""
    return ledger / kind / f"{shard:06d}.json"


def read_record(ledger: Path, kind: str, shard: int) -> ShardRecord | None:
    """The record of one shard, or None while there is none.

    Raises:
        StoreError: It can't be parsed.
    """
    path = record_path(ledger, kind, shard)
    try:
        return ShardRecord.from_json(read_regular(path), str(path))
    except FileNotFoundError:
        return None


def write_record(ledger: Path, record: ShardRecord) -> None:
    """Commit a shard."""
    write_atomic(record_path(ledger, record.kind, record.shard), record.to_json())


def read_records(location: Location, damaged: dict[str, str] | None = None) -> list[ShardRecord]:
    """All records of a store that are not folded yet.

    Args:
        location: The store.
        damaged: Filled with damaged records, path in the store to what is wrong; None makes the first an error.

    Raises:
        StoreError: One can't be parsed.
    """
    records = []
    for name in record_names(location):
        try:
            data = location.read(name)
            if data is not None:  # else folded since the listing: the manifest has it
                records.append(ShardRecord.from_json(data, f"{location.url}/{name}"))
        except StoreError as error:
            if damaged is None:
                raise
            damaged[name] = str(error)
    return records


def record_names(location: Location) -> list[str]:
    """Paths, in the store, of the records that are not folded yet."""
    return [
        f"{LEDGER}/{column}/{name}"
        for column in stream_columns_of(location)
        for name in location.names(f"{LEDGER}/{column}")
        if not name.startswith(".") and name.endswith(".json")
    ]


def stream_columns_of(location: Location) -> list[str]:
    """Columns of a store's streams; of a store whose root can't be read, those that its ledger has folders for."""
    try:
        root = parse_metadata(location.read(METADATA) or b"", location.url)
        return [entry.column for entry in stream_entries(store_attributes(root, location.url)).values()]
    except StoreError:
        return [name for name in location.names(LEDGER) if "." not in name]


def fold(columns: Columns, records: Iterable[ShardRecord]) -> None:
    """Enter the records into a manifest's columns, in place."""
    for record in records:
        fold_rows(columns, record.kind, record.rows)


def fold_rows(columns: Columns, kind: str, rows: Mapping[int, RowDetails]) -> None:
    """Enter what became of some rows of one stream into a manifest's columns, in place."""
    clips = len(columns["clip_id"])
    for name in (f"{kind}_status", f"{kind}_decoder"):
        columns.setdefault(name, [None] * clips)
    for row, details in rows.items():
        if row >= clips:  # a reader may hold a manifest older than the record
            continue
        columns[f"{kind}_status"][row] = details.manifest_status
        columns[f"{kind}_decoder"][row] = details.decoder
        if kind == "audio" or details.silent is not None:
            columns["silent"][row] = details.silent
        for name in DETAIL_COLUMNS:
            value: Any = getattr(details, name)
            if value is None:
                continue
            if name == "duration_s":  # a clip is as long as the longer of its streams, in whichever order they come
                value = max(value, columns[name][row] or 0.0)
            columns[name][row] = value


def retire(ledger: Path, records: Iterable[ShardRecord]) -> None:
    """Move folded records to the history; called with the store locked."""
    records = list(records)
    if not records:
        return
    with (ledger / HISTORY).open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # a line torn by a kill; its record is still there
        file.writelines(f"{record.to_json()}\n".encode() for record in records)
    for record in records:
        record_path(ledger, record.kind, record.shard).unlink(missing_ok=True)
    sync_directory(ledger)
