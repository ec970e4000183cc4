"""Reading a store: clips, features, pooled vectors and negatives by row number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from avem.cache.disk import layout
from avem.cache.disk.location import Location
from avem.cache.features import RowNumbers as RowNumbers
from avem.cache.features import Stream
from avem.cache.manifest.parts import RESTORE
from avem.cache.manifest.view import ManifestView, lost_file, open_manifest
from avem.cache.negatives.file import negatives_metadata, read_negatives
from avem.cache.negatives.staleness import refuse_stale
from avem.cache.records import KINDS, DamagedFile, DamagedRow, Kind, StreamSpec
from avem.cache.remote.read_cache import ReadCache
from avem.cache.sample import Sample
from avem.cache.windows import named_windows
from avem.errors import MissingFileError, StoreError, UnknownClipError
from avem.guards.inside import outside_fault
from avem.records import Modality
from avem.text.names import named_path


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
        self.location, self.pins, self.checks = location, pin, check
        self._streams: dict[str, Stream] = {}
        self.refresh()

    @classmethod
    def open(
        cls, path: str | Path, *, pin: bool = False, check: bool = True, read_cache: str | ReadCache | None = None
    ) -> FeatureStore:
        """Open a store for reading.

        Args:
            path: A folder, or a URL that fsspec understands (`s3://bucket/cache`).
            pin: Return features in pinned memory, for copies to a GPU that don't wait.
            check: Compare rows and the manifest with their checksums. Without it damage is read as if it were data:
                only for measuring, or right after `verify`.
            read_cache: For a URL: size of a cache on a local disk, as `200GB` or `200GB:/fast/disk`; see
                `avem.cache.remote.read_cache`. None: as the environment variable `AVEM_READ_CACHE` says.

        Raises:
            MissingFileError: There is nothing at the path.
            StoreError: It is not a feature store, is of a newer format, or its root, manifest or ledger can't be read.
        """
        return cls(Location.parse(path, read_cache), pin=pin, check=check)

    def __reduce__(self) -> tuple[Callable[..., FeatureStore], tuple[str, bool, ReadCache | None]]:
        remote = self.location.remote
        return _open_again, (self.location.url, self.checks, None if remote is None else remote.read_cache)

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
        entries = layout.stream_entries(self._attributes)
        self._streams = {name: self._streams.get(name) or Stream(self, entry) for name, entry in entries.items()}
        for stream in self._streams.values():
            stream.forget()
        self._manifest = ManifestView(self.location, [], {})
        try:  # the ledger before the manifest, which may take records over in between
            self._manifest = open_manifest(self.location, self._attributes, check=self.checks)
            if self.checks:
                self._damage = self._manifest_damage()
        except StoreError as error:
            self._damage = error
        if self.checks and self._damage is not None and not isinstance(self._damage, EditedEntryError):
            raise self._damage
        self._clips: pa.Table | None = None
        self._available: dict[str, npt.NDArray[np.bool_]] = {}

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
        rows = (stream.array_rows("pooled") for stream in self._streams.values())
        if name and max(rows, default=0) > len(self._manifest):
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

    def available_in(self, column: str) -> npt.NDArray[np.bool_]:
        """Whether each clip has features in the stream of a column, bool [clips]; to be read, not changed."""
        if column not in self._available:
            self._available[column] = self._read_manifest().available(column)
            self._available[column].setflags(write=False)
        return self._available[column]

    def __len__(self) -> int:
        """Clips in the store, whether extracted or not."""
        return len(self._read_manifest())

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the store's streams, in order of creation, such as `("video/qwen2_5_omni", "audio/whisper")`."""
        return tuple(self._streams)

    def stream(self, name: str) -> Stream:
        """One stream.

        Args:
            name: Its name; or a slot, such as `video`, that has one stream in the store.

        Raises:
            StoreError: The store has no such stream, or several in the slot.

        Example:
            >>> from avem.cache import FeatureStore
            >>> store = FeatureStore.open("./cache")  # doctest: +SKIP
            >>> store.stream("video/qwen2_5_omni").rows([3, 5])  # doctest: +SKIP
        """
        if name in self._streams:
            return self._streams[name]
        found = [stream for known, stream in self._streams.items() if known.partition("/")[0] == name]
        if len(found) > 1:
            names = " and ".join(stream.name for stream in found)
            raise StoreError(f"{self.location.url} has several {name} streams, {names}; name one of them.")
        if not found:
            held = f"it has {', '.join(self._streams)}" if self._streams else "it has none yet"
            raise StoreError(f"{self.location.url} has no {name} features ({held}); extract them with `avem extract`.")
        return found[0]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Which of `video` and `audio` the store has exactly one stream of."""
        slots = [name.partition("/")[0] for name in self._streams]
        return tuple(kind for kind in KINDS if slots.count(kind) == 1)

    @property
    def format_version(self) -> int:
        """Format that the store is written in, 1 or 2; `avem cache upgrade` brings a store to the newest."""
        return int(self._attributes["format_version"])

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

    def spec(self, kind: str) -> StreamSpec:
        """Description of a stream.

        Raises:
            StoreError: The store has no such stream.
        """
        return self.stream(kind).spec

    def fingerprint(self, kind: str) -> dict[str, Any]:
        """Everything that a stream's features depend on; `avem.files.json_sha256` makes a key of it.

        Raises:
            StoreError: The store has no such stream.
        """
        return self.stream(kind).fingerprint

    def available(self, kind: str) -> npt.NDArray[np.bool_]:
        """Whether each clip has features in a stream, bool [clips]; nowhere where the store has no such stream."""
        slots = [name.partition("/")[0] for name in self._streams]
        if kind not in self._streams and kind not in slots:
            return np.zeros(len(self), dtype=np.bool_)
        return self.stream(kind).available

    def video(self, rows: RowNumbers, out: torch.Tensor | None = None) -> torch.Tensor:
        """Video features of a store with one video stream, [R, T, N, C] as kept (int8 comes as float16).

        Args:
            rows: R row numbers, in any order, repeated at will.
            out: Tensor of that shape and type to read into, to use memory again.

        Raises:
            StoreError: A clip has no video features (the message says why), or a shard is damaged.
            UnknownClipError: There is no such row.
        """
        return self.features("video", rows, out)

    def audio(self, rows: RowNumbers, out: torch.Tensor | None = None) -> torch.Tensor:
        """Audio features of a store with one audio stream, [R, S, C] as kept; otherwise as `video`."""
        return self.features("audio", rows, out)

    def features(self, kind: str, rows: RowNumbers, out: torch.Tensor | None = None) -> torch.Tensor:
        """Features of a stream, [R, *row_shape], or a list where their length differs by clip; see `Stream.rows`."""
        return cast(torch.Tensor, self.stream(kind).rows(rows, out))

    def pooled(self, kind: str) -> npt.NDArray[np.float32]:
        """Pooled vectors, float32 [clips, D] of L2 norm 1; zero where a clip has none.

        Raises:
            StoreError: The store has no such stream, or a shard is damaged.
        """
        return self.stream(kind).pooled()

    def int8_errors(self, kind: str) -> npt.NDArray[np.float32]:
        """Relative error of each int8 row that is there, float32 [available]: RMS of the error over RMS of the values.

        Raises:
            StoreError: The store has no such stream, or a shard is damaged.
        """
        return self.stream(kind).int8_errors()

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


def _open_again(url: str, check: bool, read_cache: ReadCache | None) -> FeatureStore:
    """What unpickling a store calls."""
    return FeatureStore.open(url, check=check, read_cache=read_cache)
