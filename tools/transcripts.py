"""Subtitles of a store's clips: transcribed by a Whisper model, or read from a table."""

from __future__ import annotations

import logging
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avem.cache import FeatureStore, StoreWriter
from avem.cache.manifest.subtitles import DATASET_SOURCES, Subtitle
from avem.errors import CheckpointError, DataError, MediaError, MissingFileError
from avem.extract.datasets.tables import read_csv
from avem.extract.decode.media import read_sound
from avem.extract.known_clips import folder_of
from avem.files import file_sha256
from avem.progress import stage
from avem.text.names import named_path

logger = logging.getLogger(__name__)

TABLE_SOURCE = "table"
"""Source of a subtitle that a table gives; unlike `clips.csv`, the table is not read again by `avem extract`."""
SAVE_EVERY_S = 60.0
"""Transcripts that the store does not hold yet are at most about this old, so that a killed run loses little."""
COLUMNS = ("clip_id", "dataset", "path", "audio_path", "sha256", "size_bytes", "modified_ns")
SPANS = ("start_s", "end_s", "has_audio", "subtitle_source")


@dataclass(frozen=True, slots=True)
class Transcriber:
    """Turns sound into text."""

    source: str
    """What the store calls it: `whisper`, and the beginning of its weights' SHA-256."""
    transcribe: Callable[[Any], str]
    """From float32 samples at 16 kHz to what is said."""


@dataclass(slots=True)
class Transcribed:
    """What became of a store's clips."""

    entered: int = 0
    """Clips that got a text now, an empty one included."""
    silent: int = 0
    """Those of them in which nothing is said."""
    kept: Counter[str] = field(default_factory=Counter)
    """Clips that had a subtitle before and keep it, by its source."""
    failed: dict[str, str] = field(default_factory=dict)
    """Clip id to why there is no text."""


def load_whisper(checkpoint: str, device: str = "cpu") -> Any:
    """A Whisper model in openai-whisper's layout.

    Args:
        checkpoint: Its file, such as `large-v3.pt`.
        device: Where it computes.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: It is no Whisper model.
    """
    import whisper

    if not Path(checkpoint).is_file():
        raise MissingFileError(
            f"There is no Whisper model {checkpoint}; give a file such as large-v3.pt with --whisper."
        )
    try:
        return whisper.load_model(checkpoint, device=device)
    except (RuntimeError, KeyError, TypeError, ValueError, OSError, EOFError, pickle.UnpicklingError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{checkpoint} can't be loaded as a Whisper model ({said}).") from error


def load_transcriber(checkpoint: str, device: str = "cpu", *, translate: bool = False) -> Transcriber:
    """A Whisper model that writes down what is said, in the language of the clip.

    Args:
        checkpoint: A file in openai-whisper's layout.
        device: Where it computes.
        translate: Write in English whatever the language; for multilingual models.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: It is no Whisper model, or knows English alone and is to translate.
    """
    model = load_whisper(checkpoint, device)
    if translate and not model.is_multilingual:
        raise CheckpointError(f"{checkpoint} knows English alone; leave --translate out, or give a multilingual model.")
    task = "translate" if translate else "transcribe"

    def transcribe(samples: Any) -> str:
        found = model.transcribe(
            np.asarray(samples, dtype=np.float32),
            task=task,
            temperature=0.0,  # the likeliest text, so that two runs give the same
            condition_on_previous_text=False,
            fp16=device != "cpu",
        )
        return str(found["text"])

    suffix = " translated" if translate else ""
    return Transcriber(f"whisper {file_sha256(Path(checkpoint))[:12]}{suffix}", transcribe)


def transcribe_store(
    cache: str | Path, transcriber: Transcriber, *, media: Path | None = None, replace: bool = False
) -> Transcribed:
    """Transcribe a store's clips and windows, and enter the texts; a stopped run resumes.

    Args:
        cache: The store.
        transcriber: See `load_transcriber`.
        media: The clips' folder, if they were moved.
        replace: Also transcribe clips whose subtitle another model or a table gave. A subtitle from the dataset's own
            folder always stays.

    Raises:
        StoreError: The store is damaged, or can't be written.
    """
    store, result = FeatureStore.open(cache), Transcribed()
    table = store.columns([*COLUMNS, *SPANS]).to_pylist()
    wanted = []
    for entry in table:
        source = entry["subtitle_source"]
        if source in (transcriber.source, *DATASET_SOURCES) or (source is not None and not replace):
            result.kept[source] += 1
        else:
            wanted.append(entry)
    waiting: dict[str, Subtitle | None] = {}
    since = time.monotonic()
    try:
        with stage("subtitles", len(wanted), "clips") as bar:
            for entry in wanted:
                try:
                    text = _text(store, entry, transcriber, media)
                except MediaError as error:
                    result.failed[entry["clip_id"]] = str(error)
                else:
                    subtitle = Subtitle(text, transcriber.source)
                    waiting[entry["clip_id"]] = subtitle
                    result.entered += 1
                    result.silent += not subtitle.text
                bar.advance(failures=entry["clip_id"] in result.failed)
                if waiting and time.monotonic() - since > SAVE_EVERY_S:
                    StoreWriter.open(cache).enter_subtitles(waiting)
                    waiting, since = {}, time.monotonic()
    finally:
        if waiting:
            StoreWriter.open(cache).enter_subtitles(waiting)
    return result


def _text(store: FeatureStore, entry: dict[str, Any], transcriber: Transcriber, media: Path | None) -> str:
    """What is said in a clip or a window.

    Raises:
        MediaError: Its file is gone, is not the one that was extracted, or can't be decoded.
    """
    if entry["has_audio"] is False:
        return ""
    if (folder := folder_of(store, entry, media)) is None:
        raise MediaError(f"{entry['path']} is gone or was changed since it was extracted.")
    span = None if entry["start_s"] is None else (entry["start_s"], entry["end_s"])
    samples = read_sound(named_path(folder, entry["audio_path"] or entry["path"]), span=span).samples
    return transcriber.transcribe(samples) if np.any(samples) else ""


def enter_table(cache: str | Path, table: Path) -> tuple[int, list[str]]:
    """Enter subtitles from a CSV file with the columns `clip_id` and `subtitle`.

    Args:
        cache: The store.
        table: The file; clips with an empty subtitle are those in which nothing is said.

    Returns:
        How many of the store's clips changed, and the ids that the store does not hold.

    Raises:
        DataError: It is not such a table, or has two texts for one clip.
    """
    found: dict[str, Subtitle | None] = {}
    for line, row in enumerate(read_csv(table, ("clip_id", "subtitle")), start=2):
        subtitle = Subtitle(row["subtitle"], TABLE_SOURCE)
        if found.setdefault(row["clip_id"], subtitle) != subtitle:
            raise DataError(f"{table} line {line}: {row['clip_id']} has another subtitle above; keep one.")
    held = set(_ids(cache))
    return StoreWriter.open(cache).enter_subtitles(found), [name for name in found if name not in held]


def remove_subtitles(cache: str | Path) -> int:
    """Remove every subtitle of a store; those of a dataset's folder come back with the next `avem extract`.

    Returns:
        How many clips had one.
    """
    return StoreWriter.open(cache).enter_subtitles(dict.fromkeys(_ids(cache)), any_source=True)


def _ids(cache: str | Path) -> Iterator[str]:
    return FeatureStore.open(cache).manifest.ids()
