"""`read_clips`: the clips of a store or of a dataset as a Ray Data dataset, decoded as extraction decodes them.

It is for work that avem does not do itself, on as many machines as a Ray cluster has. Needs the extra `avem[ray]`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from avem.cache.disk.layout import METADATA
from avem.cache.store import FeatureStore
from avem.errors import MediaError, MissingFileError, SettingError
from avem.extract.datasets import read_dataset
from avem.extract.decode.media import read_sound, read_video
from avem.extract.defaults import DECODERS
from avem.text.names import named_path

if TYPE_CHECKING:
    from ray.data import Dataset

STREAMS = ("video", "audio")
ROWS_PER_TASK = 65_536
"""Most clips that one task of Ray lists."""
STORE_COLUMNS = ("clip_id", "dataset", "split", "path", "audio_path", "source", "emotion", "start_s", "end_s")

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("source", pa.string()),
        ("emotion", pa.string()),
        ("file", pa.string()),
        ("sound_file", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
    ]
)
"""Columns of every row; `start_s` and `end_s` are null but for windows."""


@dataclass(frozen=True, slots=True)
class Decode:
    """Decodes a row's clip; the function that `read_clips` gives to `Dataset.map`.

    Adds `frames`, uint8 [T, H, W, 3], and `sound`, float32 [samples] at 16 kHz, as far as they are wanted. A stream
    that can't be decoded has no frames (T is 0) or no samples, and `video_error` or `audio_error` says why.
    """

    streams: tuple[str, ...]
    frames: int
    decoder: str

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with what was decoded."""
        start, end = row["start_s"], row["end_s"]
        span = None if start is None or end is None or np.isnan(start) else (float(start), float(end))
        decoded = dict(row)
        if "video" in self.streams:
            decoded |= {"frames": np.zeros((0, 1, 1, 3), dtype=np.uint8), "video_error": ""}
            try:
                video = read_video(row["file"], self.frames, span=span, decoder=self.decoder)
                decoded["frames"] = np.asarray(video.frames)
            except MediaError as error:
                decoded["video_error"] = str(error)
        if "audio" in self.streams:
            decoded |= {"sound": np.zeros(0, dtype=np.float32), "audio_error": ""}
            try:
                decoded["sound"] = read_sound(row["sound_file"], span=span, decoder=self.decoder).samples
            except MediaError as error:
                decoded["audio_error"] = str(error)
        return decoded


def read_clips(
    source: str | Path | FeatureStore,
    *,
    decode: Collection[str] = (),
    frames: int = 8,
    decoder: str = "pyav",
    dataset: str | None = None,
) -> Dataset:
    """The clips of a store or of a dataset's folder as a `ray.data.Dataset`, one row a clip.

    Tasks list the clips of a store from its manifest, a piece each, so that ten million clips are never in one process.
    Every machine must have the store and the media files under the same path.

    Args:
        source: A store, its folder, or a folder of clips that `read_dataset` knows.
        decode: `video`, `audio` or both: what each row also brings decoded, see `Decode`.
        frames: T, how many frames to sample.
        decoder: `pyav` or `decord`.
        dataset: Name of a folder's layout, if it is not recognised.

    Returns:
        Rows of `SCHEMA`, in the order of the store's rows or of the dataset.

    Raises:
        SettingError: Ray is not installed, or an argument makes no sense.
        MissingFileError: There is neither a store nor a folder.
        StoreError: The store is damaged.

    Example:
        >>> clips = read_clips("cache", decode=["video"])  # doctest: +SKIP
        >>> clips.map_batches(describe, batch_size=8).write_parquet("descriptions")  # doctest: +SKIP
    """
    data = _import_ray_data()
    wrong = sorted(set(decode) - set(STREAMS))
    if wrong or decoder not in DECODERS or frames < 1:
        raise SettingError(
            f"read_clips decodes {' and '.join(STREAMS)}, at least one frame, by {' or '.join(DECODERS)}, not "
            f"{', '.join(wrong) or 'nothing'}, {frames} and {decoder!r}."
        )
    clips: Dataset = data.read_datasource(_datasource(data, *_pieces(source, dataset)))
    return clips.map(Decode(tuple(decode), frames, decoder)) if decode else clips


def _pieces(source: str | Path | FeatureStore, dataset: str | None) -> tuple[int, Callable[[int, int], pa.Table]]:
    """How many clips there are, and what gives those from one row up to another."""
    store = source if isinstance(source, FeatureStore) else None
    if not isinstance(source, FeatureStore):
        folder = Path(source).expanduser()
        if "://" in str(source) or (folder / METADATA).is_file():
            store = FeatureStore.open(source)
        elif not folder.is_dir():
            raise MissingFileError(f"There is neither a store nor a folder of clips at {source}.")
        else:
            table = _dataset_table(folder.absolute(), dataset)
            return len(table), lambda first, end: table.slice(first, end - first)
    assert store is not None
    where = store.location.url if store.location.local is None else str(store.location.local.absolute())
    return len(store), _StorePiece(where)


@dataclass(frozen=True, slots=True)
class _StorePiece:
    """Lists clips of a store; pickled to the task that does it."""

    store: str

    def __call__(self, first: int, end: int) -> pa.Table:
        store = FeatureStore.open(self.store)
        cells = store.manifest.take(np.arange(first, end), STORE_COLUMNS).to_pydict()
        named = list(zip(cells["dataset"], cells["path"], cells["audio_path"], cells["clip_id"], strict=True))
        files = [str(store.media_file(name, path, clip)) for name, path, _, clip in named]
        sounds = [str(store.media_file(name, sound or path, clip)) for name, path, sound, clip in named]
        return pa.table({**cells, "file": files, "sound_file": sounds}).select(SCHEMA.names).cast(SCHEMA)


def _dataset_table(root: Path, dataset: str | None) -> pa.Table:
    clips = read_dataset(root, dataset)
    columns: dict[str, list[Any]] = {
        name: [getattr(clip, name) for clip in clips] for name in ("clip_id", "dataset", "split", "source")
    }
    columns["emotion"] = [None if clip.emotion is None else str(clip.emotion) for clip in clips]
    columns["file"] = [str(named_path(root, clip.path)) for clip in clips]
    columns["sound_file"] = [str(named_path(root, clip.audio_path or clip.path)) for clip in clips]
    columns["start_s"] = columns["end_s"] = [None] * len(clips)
    return pa.table(columns).select(SCHEMA.names).cast(SCHEMA)


def _datasource(data: Any, count: int, piece: Callable[[int, int], pa.Table]) -> Any:
    """Ray's source of the clips; its class needs Ray, so it is made here."""
    from ray.data.block import BlockMetadata

    class Clips(data.Datasource):  # type: ignore[misc]
        """Clips in pieces."""

        def get_name(self) -> str:
            return "Clips"

        def estimate_inmemory_data_size(self) -> int:
            return count * 300

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            size = max(1, min(ROWS_PER_TASK, -(-count // max(1, parallelism))))
            return [_task(first, min(first + size, count)) for first in range(0, max(1, count), size)]

    def _task(first: int, end: int) -> Any:
        def read() -> Iterator[pa.Table]:
            yield piece(first, end)

        metadata = BlockMetadata(
            num_rows=end - first, size_bytes=300 * (end - first), input_files=None, exec_stats=None
        )
        return data.ReadTask(read, metadata)

    return Clips()


def _import_ray_data() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise SettingError("read_clips needs Ray Data; `pip install avem[ray]` brings it.") from error
    return ray.data
