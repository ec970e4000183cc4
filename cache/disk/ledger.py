"""The ledger: one JSON record per committed shard and stream, written after the shard is durable.

A row counts as extracted once a record (or the manifest, which `avem.cache.disk.folding` folds the records into) says
so, never because a file is there. Folded records move to `ledger/history.jsonl`, which nothing needs to read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

from avem.cache.disk.layout import LEDGER, METADATA, parse_metadata, store_attributes, stream_entries
from avem.cache.disk.location import Location
from avem.cache.records import RowDetails
from avem.errors import DataError, StoreError
from avem.files import sync_directory, write_atomic
from avem.reading import parse_json, read_regular
from avem.sealed.checksums import seal, unseal

_RECORD = re.compile(rf"{LEDGER}/.+/\d+\.json")
HISTORY = "history.jsonl"
OLD_HISTORY = "history-before.jsonl"
HISTORY_BYTES = 2**24
"""Size from which on the history becomes `OLD_HISTORY`, whose content before is dropped."""
TAIL_BYTES = 2**16
"""Bytes of a file that are read at once to find its last line."""

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
    """All records of a store that are not folded yet; see `iterate_records`."""
    return list(iterate_records(location, record_names(location), damaged))


def iterate_records(
    location: Location, names: Sequence[str], damaged: dict[str, str] | None = None
) -> Iterator[ShardRecord]:
    """Records of a store, as far as they are not folded yet.

    Args:
        location: The store.
        names: Their paths in it, from `record_names`.
        damaged: Filled with damaged records, path in the store to what is wrong; None makes the first an error.

    Raises:
        StoreError: One can't be parsed.
    """
    at_once = {} if location.remote is None else dict(zip(names, location.read_many(names), strict=True))
    for name in names:
        try:
            data = location.read(name) if location.remote is None else at_once[name]
            if data is not None:  # else folded since the listing: the manifest has it
                yield ShardRecord.from_json(data, f"{location.url}/{name}")
        except StoreError as error:
            if damaged is None:
                raise
            damaged[name] = str(error)


def record_names(location: Location) -> list[str]:
    """Paths, in the store, of the records that are not folded yet."""
    if location.remote is not None:  # one request lists all
        names = location.remote.list(LEDGER, deep=True)
        return [name for name in sorted(names) if _RECORD.fullmatch(name) and not name.startswith(f"{LEDGER}/claims/")]
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


def retire(ledger: Path, records: Iterable[ShardRecord]) -> None:
    """Move folded records to the history; called with the store locked.

    The history has the latest `HISTORY_BYTES`, and what was before them in a second file.
    """
    records = list(records)
    if not records:
        return
    path = ledger / HISTORY
    if path.is_file() and path.stat().st_size > HISTORY_BYTES:
        path.replace(ledger / OLD_HISTORY)
    with path.open("a+b") as file:
        file.truncate(whole_lines(file))  # a line torn by a kill; its record is still there
        file.writelines(f"{record.to_json()}\n".encode() for record in records)
    for record in records:
        record_path(ledger, record.kind, record.shard).unlink(missing_ok=True)
    sync_directory(ledger)


def whole_lines(file: BinaryIO) -> int:
    """Bytes of a file up to the end of its last whole line; only its end is read."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - TAIL_BYTES)
        file.seek(start)
        line = file.read(end - start).rfind(b"\n")
        if line >= 0:
            return start + line + 1
        end = start
    return 0
