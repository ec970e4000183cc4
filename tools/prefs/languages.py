"""Languages of clips by Whisper (Fig. 8), and English subtitles of foreign speech (B.2)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avem.cache import FeatureStore
from avem.errors import CheckpointError, DataError, MediaError, SettingError
from avem.evaluate.predict.media_files import files_by_name
from avem.evaluate.sheets import csv_text, read_sheet
from avem.extract import read_waveform
from avem.files import write_atomic
from avem.guards.inside import media_file
from avem.progress import stage
from avem.tools.transcripts import load_whisper

logger = logging.getLogger(__name__)

Listener = Callable[[Any], tuple[str, float, str]]
"""From float32 samples at 16 kHz to the language's code, its probability, and an English subtitle (or nothing)."""

COLUMNS = ("video", "language", "probability", "subtitle", "problem")
ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class Languages:
    """What a run came to."""

    path: Path
    counts: Counter[str]
    """Language to clips, the most frequent first."""
    failed: int


def load_listener(checkpoint: str, device: str = "cpu", *, translate: bool = False) -> Listener:
    """A Whisper model that tells languages and, for clips that are not English, writes English subtitles.

    Args:
        checkpoint: A file in openai-whisper's layout (`large-v3.pt`, `tiny.pt`).
        device: Where it computes.
        translate: Whether to write subtitles; takes several times as long.

    Raises:
        MissingFileError: There is no such file.
        CheckpointError: It is no Whisper model, or one for English alone.
    """
    import whisper

    model = load_whisper(checkpoint, device)
    if not model.is_multilingual:
        raise CheckpointError(f"{checkpoint} knows English alone; give a multilingual Whisper model.")
    half = device != "cpu"

    def listen(samples: Any) -> tuple[str, float, str]:
        audio = whisper.pad_or_trim(np.asarray(samples, dtype=np.float32))
        mel = whisper.log_mel_spectrogram(audio, n_mels=model.dims.n_mels).to(model.device)
        _, chances = model.detect_language(mel.half() if half else mel)
        language = max(chances, key=chances.__getitem__)
        text = ""
        if translate and language != ENGLISH:
            options = whisper.DecodingOptions(task="translate", language=language, fp16=half)
            text = whisper.decode(model, mel.half() if half else mel, options).text.strip()
        return language, float(chances[language]), text

    return listen


def find_languages(
    videos: Iterable[str], media: Path | None, listen: Listener, out: Path, cache: Path = Path("./cache")
) -> Languages:
    """Find the language of every clip; clips that the file has already are not listened to again.

    Args:
        videos: Clips, relative to `media`, or as the store names them.
        media: Their folder; None to take them from where the store was made.
        listen: See `load_listener`.
        out: CSV with `video, language, probability, subtitle, problem`, for `--groups` and `--subtitles`; written after
            every clip, so that a stopped run resumes.
        cache: Feature store that names the clips' files; read if `media` is None.

    Raises:
        MissingFileError: The store, or every clip that it was made from, is not there.
        SettingError: There is another file of that name.
    """
    names = list(dict.fromkeys(videos))
    rows = {name: row for name, row in _known(out).items() if not row["problem"]}
    files, absent = files_by_name(names, FeatureStore.open(cache)) if media is None else _files_of_folder(names, media)
    with stage("languages", len(names), "clips") as bar:
        for name in names:
            if name not in rows:
                rows[name] = _problem(name, absent[name]) if name in absent else _row(name, files[name], listen)
                write_atomic(out, csv_text(list(rows.values())))
            bar.advance()
    write_atomic(out, csv_text(list(rows.values())))
    own = [rows[name] for name in names]
    counts = Counter(row["language"] for row in own if row["language"])
    return Languages(out, Counter(dict(counts.most_common())), sum(bool(row["problem"]) for row in own))


def _files_of_folder(names: Sequence[str], media: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The clips' files below a folder, and why others have none."""
    files, absent = {}, {}
    for name in names:
        try:
            files[name] = media_file(media, name)
        except DataError as error:
            absent[name] = str(error)
    return files, absent


def _problem(name: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(COLUMNS, "") | {"video": name, "problem": reason}


def _known(out: Path) -> dict[str, dict[str, str]]:
    """What an earlier run found.

    Raises:
        SettingError: The file is something else, which is left as it is.
    """
    if not out.is_file():
        return {}
    rows = read_sheet(out, COLUMNS)
    if any(set(row) != set(COLUMNS) for row in rows) or not rows:
        raise SettingError(f"{out} is not a file of languages that avem wrote; give another one with --out.")
    return {row["video"]: row for row in rows}


def _row(name: str, path: Path, listen: Listener) -> dict[str, str]:
    try:
        samples = read_waveform(path)
    except MediaError as error:
        return _problem(name, str(error))
    if not np.any(samples):
        return _problem(name, "the clip is silent")
    language, probability, subtitle = listen(samples)
    return _problem(name, "") | {"language": language, "probability": f"{probability:.3f}", "subtitle": subtitle}
