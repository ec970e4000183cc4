"""Stores to and from HDF5, one file per stream, for tools that read nothing else.

A file `<kind>.h5` has the datasets `features` [clips, *row_shape] (bfloat16 as its bits in uint16, int8 as the float16
it is read as), `pooled` [clips, D], `available` [clips] and `clip` [clips], the manifest's rows as JSON; rows that are
not available take no room. The attribute `avem` holds the stream's description as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from avem.cache.layout import FORMAT_VERSION, spec_attributes, spec_from_metadata
from avem.cache.manifest import DETAIL_COLUMNS, OPTIONAL_COLUMNS
from avem.cache.records import FAILED, OK, PENDING, ClipRecord, Kind, RowDetails, Shard
from avem.cache.store import FeatureStore
from avem.cache.stream import StreamWriter
from avem.cache.writer import StoreWriter
from avem.errors import MissingFileError, StoreError
from avem.progress import stage


def export_hdf5(store: FeatureStore, folder: str | Path) -> list[Path]:
    """Write each stream of a store to `<folder>/<kind>.h5`, whole or not at all.

    Returns:
        The files.

    Raises:
        StoreError: The store is damaged, or a file can't be written.
    """
    folder = Path(folder)
    files = []
    for kind in store.kinds:
        path = folder / f"{kind}.h5"
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with h5py.File(temporary, "w") as file:
                _export_stream(store, kind, file)
            temporary.replace(path)
        except OSError as error:
            raise StoreError(f"{path} can't be written ({error.strerror or error}).") from error
        finally:
            temporary.unlink(missing_ok=True)
        files.append(path)
    return files


def _export_stream(store: FeatureStore, kind: Kind, file: h5py.File) -> None:
    spec, clips = store.spec(kind), len(store)
    element = "uint16" if spec.dtype == "bfloat16" else "float16"
    features = file.create_dataset("features", (clips, *spec.row_shape), element, chunks=(1, *spec.row_shape))
    file["pooled"] = store.pooled(kind)
    file["available"] = store.available(kind)
    file["clip"] = np.array([json.dumps(clip) for clip in store.clips.to_pylist()], dtype=h5py.string_dtype())
    dtype = "bfloat16" if spec.dtype == "bfloat16" else "float16"
    attributes = {**spec_attributes(spec)["avem"], "dtype": dtype}
    file.attrs["avem"] = json.dumps(attributes)
    file.attrs["roots"] = json.dumps(store.roots)
    file.attrs["format_version"] = FORMAT_VERSION
    rows = np.flatnonzero(store.available(kind))
    with stage(f"export {kind}", len(rows)) as progress:
        for row in rows:
            values = store.features(kind, [int(row)])[0]
            features[row] = (values.view(torch.uint16) if dtype == "bfloat16" else values).numpy()
            progress.advance()


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
    writer = StoreWriter.open(path)
    for name in files:
        if not Path(name).is_file():
            raise MissingFileError(f"There is no file {name}.")
        try:
            with h5py.File(name, "r") as file:
                _import_stream(writer, file, str(name))
        except (OSError, KeyError, ValueError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"{name} is no stream exported by avem ({error}).") from error
    writer.finish()
    return FeatureStore.open(path)


def _import_stream(writer: StoreWriter, file: h5py.File, name: str) -> None:
    if file.attrs["format_version"] > FORMAT_VERSION:
        raise StoreError(f"{name} is of format {file.attrs['format_version']}; install a newer avem.")
    spec = spec_from_metadata({"attributes": {"avem": json.loads(file.attrs["avem"])}}, name)
    clips = [json.loads(text) for text in file["clip"].asstr()[:]]
    roots = json.loads(file.attrs["roots"])
    for dataset in dict.fromkeys(clip["dataset"] for clip in clips):
        records = [_record(clip) for clip in clips if clip["dataset"] == dataset]
        writer.add_clips(records, roots.get(dataset, "."))
    places = {clip["clip_id"]: place for place, clip in enumerate(clips)}
    rows = dict(enumerate(writer.clips["clip_id"].to_pylist()))
    stream = writer.stream(spec)
    for shard in stream.pending():
        known = {row: places[rows[row]] for row in shard.rows if rows[row] in places}
        done = [row for row, place in known.items() if clips[place][f"{spec.kind}_status"] != PENDING]
        if done:
            _import_rows(stream, file, Shard(shard.index, done), {known[row]: clips[known[row]] for row in done})


def _import_rows(stream: StreamWriter, file: h5py.File, shard: Shard, clips: dict[int, dict[str, Any]]) -> None:
    """Write the rows of a shard from the places in the file that `clips` is keyed by, in its order."""
    features = torch.from_numpy(np.stack([file["features"][place] for place in clips]))
    if stream.spec.dtype == "bfloat16":
        features = features.view(torch.bfloat16)
    pooled = np.stack([file["pooled"][place] for place in clips])
    stream.write(shard, features, pooled, [_details(clip, stream.spec.kind) for clip in clips.values()])


def _record(clip: dict[str, Any]) -> ClipRecord:
    names = [field.name for field in fields(ClipRecord) if field.name in clip or field.name not in OPTIONAL_COLUMNS]
    return ClipRecord(**{name: clip[name] for name in names})


def _details(clip: dict[str, Any], kind: Kind) -> RowDetails:
    told = {name: clip[name] for name in DETAIL_COLUMNS} | {"decoder": clip.get(f"{kind}_decoder")}
    if kind == "audio":
        told["silent"] = clip.get("silent")
    status = clip[f"{kind}_status"]
    return RowDetails(**told) if status == OK else RowDetails("failed", status.removeprefix(f"{FAILED}: "), **told)
