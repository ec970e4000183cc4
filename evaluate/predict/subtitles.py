"""Subtitles for models that are shown media files: from the store that names the files, or from files beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from avem.cache.windows import clip_spans
from avem.errors import SettingError
from avem.extract.datasets.subtitle_files import SUFFIXES, read_cues, spoken

if TYPE_CHECKING:
    from avem.cache import FeatureStore

SUFFIX = "-subtitles"
"""End of a model's name in results, where its prompts showed subtitles."""


def file_subtitles(paths: Iterable[Path], store: FeatureStore | None) -> dict[Path, str]:
    """What is said in media files, as text; files in which nothing is said are left out.

    Args:
        paths: The files.
        store: The store that names them; None reads `NAME.srt` or `NAME.vtt` beside `NAME.mp4`.

    Raises:
        SettingError: No file has a subtitle.
        DataError: A subtitle file can't be used.
    """
    paths = list(paths)
    found = {path: _beside(path) for path in paths} if store is None else _of_store(paths, store)
    if not any(found.values()):
        raise SettingError(
            "None of the clips has a subtitle; put .srt files beside them, or run `avem cache subtitles` for their "
            "store, or leave --subtitles out."
        )
    return {path: text for path, text in found.items() if text}


def _beside(path: Path) -> str:
    names = [path.with_suffix(suffix) for suffix in SUFFIXES]
    existing = next((name for name in names if name.is_file()), None)
    return "" if existing is None else spoken(read_cues(existing), None)


def _of_store(paths: Iterable[Path], store: FeatureStore) -> dict[Path, str]:
    """Each file's text; of a clip that the store holds as windows alone, its windows' texts in the order of time."""
    table = store.columns(["clip_id", "dataset", "path", "subtitle", "start_s", "end_s"])
    wanted, parts = set(paths), defaultdict[Path, list[tuple[float, str]]](list)
    whole: dict[Path, str] = {}
    for row, span in zip(table.to_pylist(), clip_spans(table), strict=True):
        path = store.media_file(row["dataset"], row["path"], row["clip_id"])
        if path not in wanted or not row["subtitle"]:
            continue
        if span is None:
            whole[path] = row["subtitle"]
        else:
            parts[path].append((span[0], row["subtitle"]))
    joined = {path: " ".join(text for _, text in sorted(texts)) for path, texts in parts.items()}
    return joined | whole
