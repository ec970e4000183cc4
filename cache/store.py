"""Reading a store: clips, features, pooled vectors and negatives by row number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from avem.cache.disk import layout
from avem.cache.disk.encode import TORCH_DTYPES, byte_view
from avem.cache.disk.location import Location
from avem.cache.disk.manifest_view import ManifestView, lost_file, open_manifest
from avem.cache.disk.parts import RESTORE
from avem.cache.disk.readers import ByteRangeRows, Int8Rows, RowReader, ZarrRows, read_in_parallel, row_buffer
from avem.cache.disk.shards import RowError
from avem.cache.negatives.file import negatives_metadata, read_negatives
from avem.cache.negatives.staleness import refuse_stale
from avem.cache.records import KINDS, DamagedFile, DamagedRow, Kind, StreamSpec
from avem.cache.sample import Sample
from avem.cache.windows import named_windows
from avem.errors import MissingFileError, SettingError, StoreError, UnknownClipError
from avem.guards.inside import outside_fault
from avem.records import Modality
from avem.text.names import named_path

RowNumbers: TypeAlias = Sequence[int] | npt.NDArray[np.integer[Any]] | torch.Tensor


class EditedEntryError(StoreError):
    """Entries of the manifest that are not what was written; the other ones, and features, are sound."""


class FeatureStore:
    """A store opened for reading; made by `open`.

    It shows what was committed when it was opened or last refreshed, even while writers add to it. Threads may share
    one, forked processes may keep using it, and pickling it opens it again.

    Everything read is compared with its checksum. An edited entry of the manifest is an error where the manifest is
    asked for, so that `verify` can name it.

    Args:
        location: Where the store is.
        pin: Whether features come in pinned memory.
        check: Whether to compare what is read with its checksum.
    """

    def __init__(self, location: Location, *, pin: bool = False, check: bool = True) -> None:
        self.location, self._pin, self._check = location, pin, check
        self._readers: dict[str, RowReader] = {}
        self.refresh()

    @classmethod
    def open(cls, path: str | Path, *, pin: bool = False, check: bool = True) -> FeatureStore:
        """Open a store for reading.

        Args:
            path: A folder, or a URL that fsspec understands (`s3://bucket/cache`).
            pin: Return features in pinned memory, for copies to a GPU that don't wait.
            check: Compare rows and the manifest with their checksums. Without it damage is read as if it were data:
                only for measuring, or right after `verify`.

        Raises:
            MissingFileError: There is nothing at the path.
            StoreError: It is not a feature store, is of a newer format, or its root, manifest or ledger can't be read.
        """
        return cls(Location.parse(path), pin=pin, check=check)

    def __reduce__(self) -> tuple[Callable[..., FeatureStore], tuple[str, bool]]:
        return _open_again, (self.location.url, self._check)

    def refresh(self) -> None:
        """See what has been committed since.

        Raises:
            MissingFileError: The store is gone.
            StoreError: It is damaged.
        """
        where = self.location.url
        root = self.location.read(layout.METADATA)
        if root is None:
            raise MissingFileError(f"There is no feature store at {where}; make one with `avem extract`.")
        self._attributes = layout.store_attributes(layout.parse_metadata(root, where), where)
        self._damage: StoreError | None = None
        self._manifest = ManifestView(self.location, [], {})
        try:  # the ledger before the manifest, which may take records over in between
            self._manifest = open_manifest(self.location, self._attributes, check=self._check)
            if self._check:
                self._damage = self._manifest_damage()
        except StoreError as error:
            self._damage = error
        if self._check and self._damage is not None and not isinstance(self._damage, EditedEntryError):
            raise self._damage
        self._clips: pa.Table | None = None
        self._available_rows: dict[Kind, npt.NDArray[np.bool_]] = {}
        self._specs: dict[Kind, StreamSpec] = {}

    @property
    def clips(self) -> pa.Table:
        """The manifest, one row per clip, with every committed shard entered; read when it is first asked for.

        It holds every cell of every clip: `columns` and `clip` read less of a store of many clips.

        Raises:
            StoreError: It is damaged, or an entry was edited.
        """
        if self._clips is None:
            self._clips = self._read_manifest().table()
        return self._clips

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some of the manifest's columns, one row per clip, as `clips` has them.

        Args:
            names: The columns.

        Raises:
            StoreError: It is damaged, or an entry was edited.

        Example:
            >>> store.columns(["clip_id", "emotion"]).num_columns  # doctest: +SKIP
            2
        """
        return self._read_manifest().table(names) if self._clips is None else self._clips.select(names)

    def clip(self, row: int) -> dict[str, Any]:
        """One clip's entry in the manifest, by column; only a small part of the manifest is read.

        Args:
            row: Its row number.

        Raises:
            StoreError: It is damaged, or an entry was edited.
            UnknownClipError: There is no such row.
        """
        if not 0 <= row < len(self):
            raise UnknownClipError(f"{self.location.url} has no row {row}; it holds {len(self)} clips.")
        return self._read_manifest().row(row)

    @property
    def manifest(self) -> ManifestView:
        """The manifest's files, for reading column by column and part by part.

        Raises:
            StoreError: It is damaged, or an entry was edited.
        """
        return self._read_manifest()

    def _read_manifest(self) -> ManifestView:
        if self._damage is not None:
            raise self._damage
        return self._manifest

    def _manifest_damage(self) -> StoreError | None:
        """Why the manifest must not be read, if so: a part is lost, or an entry is not what was written."""
        name = lost_file(self._manifest, self._attributes)
        if name and max((self.rows_of_array(kind, "features") for kind in self.kinds), default=0) > len(self._manifest):
            return StoreError(f"The manifest {self.location.url}/{name} is gone; {RESTORE}.")
        edited_parts = [(part.where, row) for part in self._manifest.parts for row in part.edited()]
        edited = [row for _, row in edited_parts]
        if not edited:
            return None
        more = f", and {len(edited) - 1} more" if len(edited) > 1 else ""
        clip = self._manifest.row(edited[0])["clip_id"]
        return EditedEntryError(
            f"The entry of the clip {clip!r} (row {edited[0]}{more}) in {edited_parts[0][0]} was edited or is "
            "damaged; `avem cache repair` enters it again."
        )

    def _available(self, kind: Kind) -> npt.NDArray[np.bool_]:
        if kind not in self._available_rows:
            self._available_rows[kind] = self._read_manifest().available(kind)
        return self._available_rows[kind]

    def __len__(self) -> int:
        """Clips in the store, whether extracted or not."""
        return len(self._read_manifest())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The streams that the store has."""
        return tuple(kind for kind in KINDS if kind in self._attributes.get("streams", {}))

    @property
    def roots(self) -> dict[str, str]:
        """Folder of each dataset at the time of extraction, which the clips' paths are relative to.

        Where a dataset's clips came from several folders, this is the last one, and the ones before follow as
        `name (2)`, `name (3)`, ...
        """
        earlier: dict[str, list[str]] = self._attributes.get("earlier_roots", {})
        numbered = {f"{name} ({n})": path for name, paths in earlier.items() for n, path in enumerate(paths, start=2)}
        return {**self._attributes.get("roots", {}), **numbered}

    def media_path(self, row: int) -> Path:
        """The clip's media file, where it was when it was extracted.

        Raises:
            StoreError: The manifest names a path outside the dataset's folder.
        """
        clip = self.clip(row)
        return self.media_file(clip["dataset"], clip["path"], clip["clip_id"])

    def media_file(self, dataset: str, path: str, clip_id: str) -> Path:
        """A file of a clip, where it was when it was extracted.

        Args:
            dataset: The clip's dataset, as the manifest has it.
            path: The clip's `path` or `audio_path`.
            clip_id: The clip, for the message.

        Raises:
            StoreError: The path leads outside the dataset's folder.
        """
        last = self._attributes.get("roots", {}).get(dataset, ".")
        earlier: list[str] = self._attributes.get("earlier_roots", {}).get(dataset, [])
        if fault := outside_fault(path):
            raise StoreError(f"{self.location.url}: the path of {clip_id}{fault}; make a new store.")
        paths = [named_path(Path(root), path) for root in (last, *earlier)]
        return next((path for path in paths if path.is_file()), paths[0])

    def rows(self, clip_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Row number of each clip, int64 [n].

        Raises:
            UnknownClipError: The store does not hold a clip; the message names it.
        """
        manifest = self._read_manifest()
        rows = manifest.find(clip_ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            name = list(clip_ids)[int(unknown[0])]
            windows = named_windows(name, manifest.ids())
            raise UnknownClipError(
                f"The clip {name!r} is not among the {len(self)} clips of {self.location.url}"
                f"{f': {windows}' if windows else ''}."
            )
        return rows

    def spec(self, kind: Kind) -> StreamSpec:
        """Description of a stream.

        Raises:
            StoreError: The store has no such stream.
        """
        if kind not in self._specs:
            metadata, name = self._array_metadata(kind, "features")
            self._specs[kind] = layout.spec_from_metadata(metadata, f"{self.location.url}/{name}")
        return self._specs[kind]

    def fingerprint(self, kind: Kind) -> dict[str, Any]:
        """Everything that a stream's features depend on; `avem.files.json_sha256` makes a key of it.

        Raises:
            StoreError: The store has no such stream.
        """
        return dict(self.spec(kind).fingerprint)

    def available(self, kind: Kind) -> npt.NDArray[np.bool_]:
        """Whether each clip has features of this kind, bool [clips]."""
        available: npt.NDArray[np.bool_] = self._available(kind).copy()
        return available

    def video(self, rows: RowNumbers, out: torch.Tensor | None = None) -> torch.Tensor:
        """Video features, [R, T, N, C] as kept (int8 comes as float16).

        Args:
            rows: R row numbers, in any order, repeated at will.
            out: Tensor of that shape and type to read into, to use memory again.

        Raises:
            StoreError: A clip has no video features (the message says why), or a shard is damaged.
            UnknownClipError: There is no such row.
        """
        return self.features("video", rows, out)

    def audio(self, rows: RowNumbers, out: torch.Tensor | None = None) -> torch.Tensor:
        """Audio features, [R, S, C] as kept; otherwise as `video`."""
        return self.features("audio", rows, out)

    def features(self, kind: Kind, rows: RowNumbers, out: torch.Tensor | None = None) -> torch.Tensor:
        """Features of a kind, [R, *row_shape]; see `video`."""
        spec, numbers = self.spec(kind), self._checked_rows(kind, rows)
        buffer = self._buffer(spec, len(numbers), out)
        reader = self._reader(kind, "features")
        if spec.dtype == "int8":
            reader = Int8Rows(reader, self._reader(kind, "scale"), spec.row_shape)
        with self._naming_damage(kind):
            read_in_parallel(reader, numbers, byte_view(buffer))
        return buffer

    def pooled(self, kind: Kind) -> npt.NDArray[np.float32]:
        """Pooled vectors, float32 [clips, D] of L2 norm 1; zero where a clip has none.

        Raises:
            StoreError: The store has no such stream, or a shard is damaged.
        """
        return self._small_rows(kind, "pooled", (self.spec(kind).pooled_dim,))

    def int8_errors(self, kind: Kind) -> npt.NDArray[np.float32]:
        """Relative error of each int8 row that is there, float32 [available]: RMS of the error over RMS of the values.

        Raises:
            StoreError: The store has no such stream, or a shard is damaged.
        """
        errors: npt.NDArray[np.float32] = self._small_rows(kind, "error", ())[self._available(kind)]
        return errors

    def negatives(self, recipe: str, modality: str) -> npt.NDArray[np.int32]:
        """Mined negatives, int32 row numbers [clips, K], -1 where none was found.

        Args:
            recipe: Such as `hard`, `random-emotion`, `random-clip`, `mutual`.
            modality: `audio`, `video` (or `visual`), or `audiovisual`.

        Raises:
            StoreError: They are not mined, were mined before clips were added, or are damaged.
            StaleNegativesError: They were mined before labels, splits or sources changed.
        """
        name = Modality.parse(modality).table
        found = read_negatives(self.location, recipe, name)
        if len(found) != len(self):
            raise StoreError(
                f"The {recipe} negatives of {self.location.url} were mined for {len(found)} clips and it now holds "
                f"{len(self)}; mine them again with `avem cache negatives`."
            )
        attributes = negatives_metadata(self.location, recipe, name)["attributes"].get("avem")
        if isinstance(attributes, dict):
            refuse_stale(attributes, self._read_manifest(), recipe, self.location.url)
        return found

    def verify(self, sample: Sample | None = None) -> list[DamagedRow]:
        """Read everything, or a sample, and return the damaged rows, ascending; see `avem.cache.verify`."""
        from avem.cache.verify import damaged_rows

        return damaged_rows(self, sample)

    def damaged_files(self, *, quick: bool = False) -> list[DamagedFile]:
        """Read everything beside rows and return the damaged files; see `avem.cache.verify_files`."""
        from avem.cache.verify_files import damaged_files

        return damaged_files(self, quick=quick)

    def rows_of_array(self, kind: Kind, array: str) -> int:
        """Length of an array of a stream along the clip axis."""
        return int(self._array_metadata(kind, array)[0]["shape"][0])

    def shard_folder(self, kind: Kind, array: str) -> Path | None:
        """Folder of an array of plain byte ranges on this machine; None where only Zarr can read it."""
        metadata, name = self._array_metadata(kind, array)
        return (
            self.location.local / name if self.location.local is not None and layout.is_byte_ranges(metadata) else None
        )

    def _small_rows(self, kind: Kind, array: str, row_shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """A whole array of float32 rows [clips, *row_shape], zero where a clip has none."""
        rows = np.flatnonzero(self._available(kind))
        found = torch.empty((len(rows), *row_shape))
        with self._naming_damage(kind):
            self._reader(kind, array).read_into(rows, byte_view(found))
        values = np.zeros((len(self), *row_shape), dtype=np.float32)
        values[rows] = found.numpy()
        return values

    @contextmanager
    def _naming_damage(self, kind: Kind) -> Iterator[None]:
        """Say of a row that can't be read which clip it is, and what to do."""
        try:
            yield
        except RowError as error:
            clip = self.clip(error.row)["clip_id"]
            raise StoreError(
                f"The {kind} features of the clip {clip} in {self.location.url} can't be used: row {error.row} "
                f"{error.problem}; `avem cache verify` names all such rows and `avem cache repair` extracts them again."
            ) from error

    def _checked_rows(self, kind: Kind, rows: RowNumbers) -> npt.NDArray[np.int64]:
        numbers = np.asarray(rows, dtype=np.int64).reshape(-1)
        wrong = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(wrong):
            raise UnknownClipError(f"{self.location.url} has no row {wrong[0]}; it holds {len(self)} clips.")
        missing = numbers[~self._available(kind)[numbers]]
        if len(missing):
            clip = self.clip(int(missing[0]))
            raise StoreError(
                f"The clip {clip['clip_id']} has no {kind} features in {self.location.url} ({clip[f'{kind}_status']})."
            )
        return numbers

    def _buffer(self, spec: StreamSpec, rows: int, out: torch.Tensor | None) -> torch.Tensor:
        dtype, shape = TORCH_DTYPES[spec.dtype], (rows, *spec.row_shape)
        if out is None:
            return row_buffer(rows, spec.row_shape, dtype, pin=self._pin)
        if out.shape != shape or out.dtype != dtype or not out.is_contiguous():
            raise SettingError(
                f"Features need a contiguous {dtype} buffer of shape {shape}, not {out.dtype} {out.shape}."
            )
        return out

    def _array_metadata(self, kind: Kind, array: str) -> tuple[dict[str, Any], str]:
        """Zarr metadata of a stream's array, and the array's path in the store."""
        encoder = self._attributes.get("streams", {}).get(kind)
        if encoder is None:
            raise StoreError(f"{self.location.url} has no {kind} features; extract them with `avem extract`.")
        name = f"{layout.stream_group(kind, encoder)}/{array}"
        data = self.location.read(f"{name}/{layout.METADATA}")
        if data is None:
            raise StoreError(f"{self.location.url}/{name} has lost its {layout.METADATA}; the store is damaged there.")
        return layout.parse_metadata(data, f"{self.location.url}/{name}"), name

    def _reader(self, kind: Kind, array: str) -> RowReader:
        key = f"{kind}/{array}"
        if key not in self._readers:
            folder = self.shard_folder(kind, array)
            if folder is not None:
                axes = 1 + len(layout.stream_arrays(self.spec(kind))[array][0])
                self._readers[key] = ByteRangeRows(folder, self.spec(kind).rows_per_shard, axes, check=self._check)
            else:
                name = f"{layout.stream_group(kind, self.spec(kind).encoder)}/{array}"
                self._readers[key] = ZarrRows(self.location, name)
        return self._readers[key]


def _open_again(url: str, check: bool) -> FeatureStore:
    """What unpickling a store calls."""
    return FeatureStore.open(url, check=check)
