"""Stores from folders of one `.npy` per clip, as Emotion-LLaMA and its relatives keep their features.

A folder is one encoder's output, `<clip>.npy` in it one clip's: a vector [C] or [1, C] for the whole clip, [T, C] with
a vector a frame or step, or [T, N, C]. A folder becomes a stream of a name such as `face/mae`, which keeps vectors as
[C] and sequences as [n, C] of any length. The kinds `video` and `audio` stand for a stream named after its folder,
whose clips all have one shape, [T, N, C] or [S, C]. Labels come from a CSV file with the columns `clip_id` and
`emotion` (and `split`, `source`), or from lines `<clip> <frames> <emotion>` as in Emotion-LLaMA's lists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from avem.cache.records import ClipRecord, RowDetails, Shard
from avem.cache.spec import LONGEST, StreamSpec
from avem.cache.store import FeatureStore
from avem.cache.stream import StreamWriter
from avem.cache.writer import StoreWriter
from avem.emotions import parse_emotion
from avem.errors import DataError, MissingFileError, SettingError
from avem.files import file_sha256
from avem.guards.output_kinds import STORE
from avem.guards.outputs import folder_target
from avem.progress import stage
from avem.reading import open_regular
from avem.text.csv_tables import numbered_rows, read_rows, read_table_text

AXES = {"video": 3, "audio": 2}
"""Axes of one clip's features in streams that are given by their kind alone."""
MOST_AXES = 3

ROWS_PER_SHARD = 64

LABELS = ("emotion", "split", "source")

Labels = Mapping[str, Mapping[str, str]]
"""Clip id to its cells of `LABELS`."""


def import_npy(
    folders: Mapping[str, str | Path],
    path: str | Path,
    *,
    labels: str | Path | None = None,
    dataset: str = "npy",
    dtype: str = "float16",
) -> FeatureStore:
    """Add folders of `.npy` files to a store, which is made where there is none.

    A clip is in the manifest as `<dataset>/<file name without suffix>`. Its pooled vector is the mean over everything
    but channels. Files that can't be read, or do not have the folder's shape, are failed clips.

    Args:
        folders: The folder of each stream, by its name (`face/mae`) or its kind (`video`, `audio`).
        path: The store's folder.
        labels: File that names emotions; None leaves clips without.
        dataset: What the clips are called together.
        dtype: How features are kept: `float16`, `bfloat16` or `int8`.

    Raises:
        MissingFileError: A folder or the labels are not there.
        DataError: A folder holds no readable `.npy`, or the labels are neither of the two forms.
        StoreError: The store has these clips with another content, or other features of this kind.
    """
    if not folders:
        raise SettingError("There is nothing to import; give a folder of .npy files.")
    located = {kind: Path(folder).expanduser().resolve() for kind, folder in folders.items()}
    files = {kind: _npy_files(folder) for kind, folder in located.items()}
    known = read_labels(Path(labels)) if labels is not None else {}
    root = Path(os.path.commonpath([str(folder) for folder in located.values()]))
    specs = {kind: _spec(kind, located[kind], files[kind], dtype) for kind in located}
    folder_target(path, STORE, reads=[labels], roots=located.values(), option="--cache")
    writer = StoreWriter.open(path)
    names = sorted(set().union(*files.values()))
    writer.add_clips(_records(names, files, root, dataset, known, writer), root)
    rows = dict(enumerate(writer.clips["clip_id"].to_pylist()))
    clip_files = {kind: {f"{dataset}/{name}": file for name, file in files[kind].items()} for kind in files}
    for kind, spec in specs.items():
        _write_stream(writer.stream(spec), AXES.get(kind), rows, clip_files[kind])
    writer.finish()
    return FeatureStore.open(path)


def read_labels(path: Path) -> Labels:
    """Emotions, splits and sources of clips, by file name without suffix.

    Raises:
        MissingFileError: There is no such file.
        DataError: It is neither a CSV file with a column `clip_id` nor lines of clip, frames and emotion.
    """
    if not path.is_file():
        raise MissingFileError(f"There is no file {path} with labels.")
    text, known = read_table_text(path), ("clip_id", *LABELS)
    if "clip_id" in numbered_rows(text, str(path), known)[0]:
        rows = [row for _, row in read_rows(path, known)[1]]
        return {_stem(row["clip_id"]): {name: row.get(name, "").strip() for name in LABELS} for row in rows}
    labels = {}
    for number, line in enumerate(text.splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) < 3 or not cells[1].isdigit():
            raise DataError(
                f"{path} line {number} is not `<clip> <frames> <emotion>`; give such lines, or a CSV file with the "
                "columns clip_id and emotion."
            )
        labels[_stem(cells[0])] = {"emotion": cells[2]}
    return labels


def _stem(name: str) -> str:
    """A clip's name without the suffix of a media or feature file."""
    return re.sub(r"\.(npy|mp4|avi|wav|mkv|webm|mov)$", "", name.strip(), flags=re.IGNORECASE)


def _npy_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}; give one that holds a .npy file per clip.")
    files = {item.relative_to(folder).with_suffix("").as_posix(): item for item in sorted(folder.rglob("*.npy"))}
    if not files:
        raise DataError(f"{folder} holds no .npy files; give a folder with one per clip.")
    return files


def _records(
    names: Iterable[str],
    files: Mapping[str, Mapping[str, Path]],
    root: Path,
    dataset: str,
    labels: Labels,
    writer: StoreWriter,
) -> list[ClipRecord]:
    """Manifest records; a clip that the store has from its other stream keeps the file it was entered with."""
    columns = {name: writer.clips[name].to_pylist() for name in ("clip_id", "path", "sha256")}
    there = {clip: cells for clip, *cells in zip(*columns.values(), strict=True)}
    records = []
    for name in names:
        paths = {kind: files[kind][name] for kind in files if name in files[kind]}
        first = next(iter(paths.values()))
        name_in_root, state, clip_id = first.relative_to(root).as_posix(), first.stat(), f"{dataset}/{name}"
        path, sha256 = there.get(clip_id, [name_in_root, ""])
        cells = labels.get(name, {})
        raw = cells.get("emotion", "")
        emotion = parse_emotion(raw)
        records.append(
            ClipRecord(
                clip_id,
                dataset,
                name_in_root,
                _sha256(first) if path == name_in_root else sha256,
                state.st_size,
                state.st_mtime_ns,
                cells.get("split", ""),
                None if emotion is None else str(emotion),
                raw,
                cells.get("source", ""),
                paths["audio"].relative_to(root).as_posix() if paths.keys() == {"video", "audio"} else "",
            )
        )
    return records


def _sha256(file: Path) -> str:
    """The file's SHA-256, or nothing where it can't be read; `_read` says why it can't."""
    try:
        return file_sha256(file)
    except OSError:
        return ""


def _spec(stream: str, folder: Path, files: Mapping[str, Path], dtype: str) -> StreamSpec:
    """The stream that a folder is, by the shapes of its readable files."""
    slot, _, encoder = stream.partition("/")
    shapes = [shape for file in files.values() if (shape := _stored_shape(file, AXES.get(stream))) is not None]
    if not shapes:
        most = AXES.get(stream, MOST_AXES)
        raise DataError(f"None of the .npy files in {folder} holds a clip's features; they need 1 to {most} axes.")
    first = shapes[0]
    if encoder and all(len(shape) <= 2 and shape[:-1] in ((), (1,)) for shape in shapes):
        first = first[-1:]  # vectors, some of them saved as sequences of one
    ragged = bool(encoder) and len(first) == 2
    return StreamSpec(
        slot,
        encoder or re.sub(r"[^A-Za-z0-9._-]", "-", folder.name).lstrip(".") or "npy",
        {"imported_from": "npy", "encoder": folder.name, "pooling": "mean"},
        (None, first[-1]) if ragged else first,
        first[-1],
        dtype,
        ROWS_PER_SHARD,
        longest=max(LONGEST, *(shape[0] for shape in shapes)) if ragged else LONGEST,
    )


def _stored_shape(file: Path, axes: int | None) -> tuple[int, ...] | None:
    """Shape of a file's features in the store by its header; None where it can't be read."""
    try:
        with open_regular(file) as opened:
            version = np.lib.format.read_magic(opened)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kept_as = read(opened)
    except NPY_ERRORS:
        return None
    if kept_as.kind not in "fiu" or not 1 <= len(shape) <= (axes or MOST_AXES) or 0 in shape:
        return None
    return _with_axes(shape, axes)


def _with_axes(shape: tuple[int, ...], axes: int | None) -> tuple[int, ...]:
    """[T, C] as [T, 1, C] and [C] as [1, 1, C], where a stream has so many axes."""
    return (*shape[:-1], *[1] * ((axes or len(shape)) - len(shape)), shape[-1])


NPY_ERRORS = (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError, OverflowError, BadZipFile, TokenError)
"""What numpy says of a damaged file: its header is Python, its shape may be larger than memory."""


def _read(file: Path, axes: int | None) -> npt.NDArray[np.float32] | str:
    """One clip's features with all the axes of its stream, or why they can't be had."""
    try:
        with open_regular(file) as opened:
            values = np.load(opened, allow_pickle=False)
    except NPY_ERRORS as error:
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        return f"{file.name} can't be read ({reason})"
    if not isinstance(values, np.ndarray):
        return f"{file.name} is an .npz archive; save one array a file with numpy.save"
    if values.dtype.kind not in "fiu" or not 1 <= values.ndim <= (axes or MOST_AXES) or not values.size:
        return f"{file.name} holds {values.dtype} {values.shape} and no features of a clip"
    features: npt.NDArray[np.float32] = values.reshape(_with_axes(values.shape, axes)).astype(np.float32)
    return features


def _write_stream(stream: StreamWriter, axes: int | None, rows: Mapping[int, str], files: Mapping[str, Path]) -> None:
    """Write every pending row that has a file."""
    spec = stream.spec
    shards = [Shard(shard.index, [row for row in shard.rows if rows[row] in files]) for shard in stream.pending()]
    with stage(f"import {spec.name}", sum(len(shard.rows) for shard in shards)) as progress:
        for shard in shards:
            if not shard.rows or not stream.claim(shard):
                continue
            found = [_clip(files[rows[row]], axes, spec) for row in shard.rows]
            details = [item if isinstance(item, RowDetails) else RowDetails() for item in found]
            features = [
                np.zeros(spec.sized(1), dtype=np.float32) if isinstance(item, RowDetails) else item for item in found
            ]
            pooled = np.stack([values.reshape(-1, spec.pooled_dim).mean(axis=0) for values in features])
            committed = stream.write(shard, features if spec.ragged else np.stack(features), pooled, details)
            progress.advance(len(committed), failures=sum(item.status != "ok" for item in committed))


def _clip(file: Path, axes: int | None, spec: StreamSpec) -> npt.NDArray[np.float32] | RowDetails:
    """One clip's features, or why it has none."""
    features = _read(file, axes)
    if isinstance(features, str):
        return RowDetails("failed", features)
    if spec.ragged and features.ndim == 1:
        features = features[None]  # a vector among sequences is one of length 1
    if len(spec.row_shape) == 1 and features.shape[:-1] == (1,):
        features = features[0]
    if features.shape != spec.sized(len(features)):
        wanted = "[n, C] with C of " + str(spec.row_shape[-1]) if spec.ragged else spec.row_shape
        return RowDetails("failed", f"{file.name} is of shape {features.shape}, not {wanted}")
    return features
