"""Stores to and from HDF5, one file per stream, for tools that read nothing else.

A file `video.h5`, or `video.qwen2_5_omni.h5` for a further stream of a slot, has the datasets `features`
[clips, *row_shape] (bfloat16 as its bits in uint16, int8 as the float16 it is read as), `pooled` [clips, D],
`available` [clips] and `clip` [clips], the manifest's rows as JSON; rows that are not available take no room. Where the
length of rows differs by clip, `features` is flat, [total, C], and clip i has `features[offsets[i] : offsets[i + 1]]`.
Companions stand in the group `companions`. The attribute `avem` holds the stream's description as JSON.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import numpy.typing as npt
import torch

from avem.cache.disk.arrays import spec_attributes, spec_from_metadata
from avem.cache.disk.layout import FORMAT_VERSION
from avem.cache.exchange.hdf5_file import write_hdf5
from avem.cache.features import Stream
from avem.cache.manifest.columns import DETAIL_COLUMNS, OPTIONAL_COLUMNS
from avem.cache.manifest.subtitles import Subtitle
from avem.cache.records import FAILED, OK, PENDING, ClipRecord, RowDetails, Shard
from avem.cache.spec import Companion, RowShape, StreamSpec, sized
from avem.cache.store import FeatureStore
from avem.cache.stream import StreamWriter
from avem.cache.writer import StoreWriter
from avem.errors import AvemError, DataError, MissingFileError, StoreError
from avem.files import sync_directory
from avem.guards.disk import writing
from avem.guards.output_kinds import EXPORT, STORE
from avem.guards.outputs import folder_target
from avem.guards.ownership import opened
from avem.progress import stage
from avem.reading import advise, parse_json

CHECKS = "crc32c"
"""Dataset with the CRC-32C of each row of features, uint32 [clips]."""
CHECK = "avem_crc32c"
"""Attribute with the CRC-32C of everything else."""
COMPANIONS = "companions"
"""Group with a dataset for each of the stream's companions."""
CHUNK_BYTES = 2**20
"""About how large the chunks of flat datasets are."""

# What h5py, NumPy and JSON raise for damaged content; h5py has no error of its own.
HDF5_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    MemoryError,
)


def export_hdf5(store: FeatureStore, folder: str | Path) -> list[Path]:
    """Write each stream of a store to `<folder>/<column>.h5`, whole or not at all.

    Returns:
        The files.

    Raises:
        StoreError: The store is damaged.
        SettingError: The folder holds something else, or is what is read.
        WriteError: A file can't be written.
    """
    with opened(Path(folder), EXPORT, reads=[store.location.local], option="FOLDER"):
        return _export(store, Path(folder))


def _export(store: FeatureStore, folder: Path) -> list[Path]:
    files = []
    for name in store.streams:
        stream = store.stream(name)
        path = folder / f"{stream.column.replace('/', '.')}.h5"
        temporary = path.with_name(f".{path.name}.tmp")  # one name: the next export takes over what a killed one left
        try:
            with writing(path):
                write_hdf5(temporary, partial(_export_stream, store, stream))
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
                temporary.replace(path)
                sync_directory(folder)
        finally:
            temporary.unlink(missing_ok=True)
        files.append(path)
    return files


def _export_stream(store: FeatureStore, stream: Stream, file: h5py.File) -> None:
    spec, clips = stream.spec, len(store)
    rows = np.flatnonzero(stream.available)
    dtype = "bfloat16" if spec.dtype == "bfloat16" else "float16"
    offsets = _offsets(stream, rows, clips)
    features = _dataset(file, "features", spec.row_shape, dtype, offsets)
    for name, item in spec.companions.items():
        _dataset(file, f"{COMPANIONS}/{name}", item.row_shape, item.dtype, offsets)
    texts = [json.dumps(clip) for clip in store.clips.to_pylist()]
    file["pooled"] = stream.pooled()
    file["available"] = stream.available
    file["clip"] = np.array(texts, dtype=h5py.string_dtype())
    if spec.ragged:
        file["offsets"] = offsets
    attributes = {**spec_attributes(spec)["avem"], "dtype": dtype}
    file.attrs["avem"] = json.dumps(attributes)
    file.attrs["column"] = stream.column
    file.attrs["roots"] = json.dumps(store.roots)
    file.attrs["format_version"] = FORMAT_VERSION
    checks = np.zeros(clips, dtype=np.uint32)
    with stage(f"export {stream.column}", len(rows)) as progress:
        for row in rows.tolist():
            array = as_stored(stream.rows([row])[0])
            features[_place(spec.row_shape, offsets, row)] = array
            checks[row] = google_crc32c.value(np.ascontiguousarray(array).view(np.uint8).reshape(-1))
            for name, item in spec.companions.items():
                value = as_stored(stream.companion(name, [row])[0])
                place = _place(item.row_shape, offsets, row)
                file[f"{COMPANIONS}/{name}"][place] = (
                    value.reshape(-1, *_element(item.row_shape)) if item.ragged else value
                )
            progress.advance()
    file[CHECKS] = checks
    file.attrs[CHECK] = _checksum(file)


def _offsets(stream: Stream, rows: npt.NDArray[np.int64], clips: int) -> npt.NDArray[np.int64]:
    """Where each clip's tokens begin in a flat dataset without gaps, and where the last end: int64 [clips + 1]."""
    offsets = np.zeros(clips + 1, dtype=np.int64)
    if stream.spec.ragged:
        offsets[rows + 1] = stream.lengths(rows)
    return np.cumsum(offsets)


def _dataset(
    file: h5py.File, name: str, row_shape: RowShape, dtype: str, offsets: npt.NDArray[np.int64]
) -> h5py.Dataset:
    """A dataset for rows of a shape: one index a clip, or one flat axis where their length differs."""
    element = _element(row_shape)
    kept = "uint16" if dtype == "bfloat16" else dtype
    if None not in row_shape:
        chunks = (1, *element)
        return file.create_dataset(name, (len(offsets) - 1, *element), kept, chunks=chunks, fletcher32=True)
    total = int(offsets[-1]) * _fold(row_shape)
    if not total:
        return file.create_dataset(name, (0, *element), kept)
    chunk = max(1, min(total, CHUNK_BYTES // max(1, math.prod(element) * np.dtype(kept).itemsize)))
    return file.create_dataset(name, (total, *element), kept, chunks=(chunk, *element), fletcher32=True)


def _place(row_shape: RowShape, offsets: npt.NDArray[np.int64], row: int) -> int | slice:
    """Where a clip's row stands in its dataset."""
    if None not in row_shape:
        return row
    fold = _fold(row_shape)
    return slice(int(offsets[row]) * fold, int(offsets[row + 1]) * fold)


def _fold(row_shape: RowShape) -> int:
    """Elements of the flat axis that a token takes."""
    return math.prod(size or 1 for size in row_shape[: row_shape.index(None)])


def _element(row_shape: RowShape) -> tuple[int, ...]:
    """What stands at one index of the first axis."""
    after = row_shape[row_shape.index(None) + 1 :] if None in row_shape else row_shape
    return tuple(size for size in after if size is not None)


def as_stored(values: torch.Tensor) -> npt.NDArray[Any]:
    """A tensor as an array that HDF5 can keep: bfloat16 as its bits."""
    array: npt.NDArray[Any] = (values.view(torch.uint16) if values.dtype == torch.bfloat16 else values).numpy()
    return array


def _checksum(file: h5py.File) -> str:
    """CRC-32C of everything but the features, whose rows have checksums of their own."""
    more = ["offsets"] if "offsets" in file else []
    more += [f"{COMPANIONS}/{name}" for name in sorted(file.get(COMPANIONS, {}))]
    parts = [np.ascontiguousarray(file[name][:]).tobytes() for name in ("pooled", "available", CHECKS, *more)]
    parts += ["\n".join(file["clip"].asstr()[:]).encode(), str(file.attrs["avem"]).encode()]
    parts += [
        str(file.attrs["roots"]).encode(),
        str(file["features"].shape).encode(),
        str(file["features"].dtype).encode(),
    ]
    checksum = 0
    for part in parts:
        checksum = google_crc32c.extend(checksum, part)
    return f"{checksum:08x}"


def _check(file: h5py.File, name: str) -> None:
    """Compare a file with its checksum; one of an older avem has none.

    Raises:
        StoreError: It is not what was exported.
    """
    if CHECK not in file.attrs and CHECKS not in file:
        return
    if CHECK not in file.attrs or str(file.attrs[CHECK]) != _checksum(file):
        raise StoreError(f"{name} is damaged: it does not match its checksum; export it again, or copy it again.")


def import_hdf5(files: Sequence[str | Path], path: str | Path) -> FeatureStore:
    """Add what `export_hdf5` wrote to a store, which is made where there is none.

    Clips keep their order within the files; clips that the store has already stay as they are.

    Args:
        files: One file per stream.
        path: The store's folder.

    Raises:
        MissingFileError: A file is not there.
        StoreError: A file is none of ours or does not fit the store.
    """
    for name in files:
        with _opened(name) as file:  # all of them, before anything is made
            _check(file, str(name))
            _description(file, str(name))
    folder_target(path, STORE, reads=files, option="--cache")
    writer = StoreWriter.open(path)
    for name in files:
        with _opened(name) as file:
            _import_stream(writer, file, str(name))
    writer.finish()
    return FeatureStore.open(path)


@contextmanager
def _opened(name: str | Path) -> Iterator[h5py.File]:
    """A file to import; what HDF5 or JSON says of its content becomes one sentence."""
    if not Path(name).is_file():
        raise MissingFileError(f"There is no file {name}.")
    try:
        with h5py.File(name, "r") as file:
            yield file
    except AvemError:
        raise
    except HDF5_ERRORS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{name} is not a stream exported by avem, or is damaged ({reason}).") from error


def _description(file: h5py.File, name: str) -> tuple[StreamSpec, list[dict[str, Any]], dict[str, str]]:
    """The stream, the clips and the datasets' folders that a file tells of."""
    if file.attrs["format_version"] > FORMAT_VERSION:
        raise StoreError(f"{name} is of format {file.attrs['format_version']}; install a newer avem.")
    try:
        described = parse_json(file.attrs["avem"], f"The description in {name}", dict)
        texts = enumerate(file["clip"].asstr()[:])
        clips = [parse_json(text, f"Clip {number} of {name}", dict, surrogates=True) for number, text in texts]
        roots = parse_json(file.attrs["roots"], f"The folders in {name}", dict, surrogates=True)
    except DataError as error:
        raise StoreError(advise(error, "export the stream again")) from error
    return spec_from_metadata({"attributes": {"avem": described}}, name), clips, roots


def _import_stream(writer: StoreWriter, file: h5py.File, name: str) -> None:
    spec, clips, roots = _description(file, name)
    for dataset in dict.fromkeys(clip["dataset"] for clip in clips):
        records = [_record(clip) for clip in clips if clip["dataset"] == dataset]
        writer.add_clips(records, roots.get(dataset, "."))
    writer.enter_subtitles(
        {
            clip["clip_id"]: Subtitle(clip["subtitle"], clip["subtitle_source"])
            for clip in clips
            if clip.get("subtitle_source") is not None
        }
    )
    positions = {clip["clip_id"]: position for position, clip in enumerate(clips)}
    rows = dict(enumerate(writer.clips["clip_id"].to_pylist()))
    column = str(file.attrs.get("column", spec.kind))
    stream = writer.stream(spec)
    for shard in stream.pending():
        known = {row: positions[rows[row]] for row in shard.rows if rows[row] in positions}
        done = [
            row for row, position in known.items() if (clips[position].get(f"{column}_status") or PENDING) != PENDING
        ]
        if done:
            _import_rows(
                stream, file, Shard(shard.index, done), {known[row]: clips[known[row]] for row in done}, column
            )


def _import_rows(
    stream: StreamWriter, file: h5py.File, shard: Shard, clips: dict[int, dict[str, Any]], column: str
) -> None:
    """Write the rows of a shard from the positions in the file that `clips` is keyed by, in its order."""
    spec = stream.spec
    offsets = file["offsets"][:] if spec.ragged else np.zeros(len(file["available"]) + 1, dtype=np.int64)
    rows = [_row(file, spec, offsets, position) for position in clips]
    features = rows if spec.ragged else torch.stack(rows)
    companions = {
        name: [_companion(file, name, item, offsets, position) for position in clips]
        for name, item in spec.companions.items()
    }
    pooled = np.stack([file["pooled"][position] for position in clips])
    stream.write(shard, features, pooled, [_details(clip, column) for clip in clips.values()], companions)


def _row(file: h5py.File, spec: StreamSpec, offsets: npt.NDArray[np.int64], row: int) -> torch.Tensor:
    """One row of features, compared with its checksum."""
    values = np.ascontiguousarray(file["features"][_place(spec.row_shape, offsets, row)])
    checked = CHECKS in file and bool(file["available"][row])
    if checked and google_crc32c.value(values.view(np.uint8).reshape(-1)) != int(file[CHECKS][row]):
        raise StoreError(f"{file.filename} is damaged: row {row} does not match its checksum; copy it again.")
    tensor = torch.from_numpy(values)
    return tensor.view(torch.bfloat16) if spec.dtype == "bfloat16" else tensor


def _companion(
    file: h5py.File, name: str, companion: Companion, offsets: npt.NDArray[np.int64], row: int
) -> torch.Tensor:
    values = torch.from_numpy(np.asarray(file[f"{COMPANIONS}/{name}"][_place(companion.row_shape, offsets, row)]))
    tokens = int(offsets[row + 1] - offsets[row])
    values = values.reshape(sized(companion.row_shape, tokens))
    return values.view(torch.bfloat16) if companion.dtype == "bfloat16" else values


def _record(clip: dict[str, Any]) -> ClipRecord:
    names = [field.name for field in fields(ClipRecord) if field.name in clip or field.name not in OPTIONAL_COLUMNS]
    return ClipRecord(**{name: clip[name] for name in names})


def _details(clip: dict[str, Any], column: str) -> RowDetails:
    told = {name: clip[name] for name in DETAIL_COLUMNS} | {"decoder": clip.get(f"{column}_decoder")}
    if column == "audio":
        told["silent"] = clip.get("silent")
    status = clip[f"{column}_status"]
    return RowDetails(**told) if status == OK else RowDetails("failed", status.removeprefix(f"{FAILED}: "), **told)
