"""Labelled clips of a dataset, from a store's manifest or from the dataset's own folder."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.cache.windows import clip_spans, whole_ids
from avem.errors import DataError, SettingError
from avem.evaluate.predict.pooling import WindowRows
from avem.evaluate.recognition.labels import EmotionSet
from avem.records import Question

if TYPE_CHECKING:
    import pyarrow as pa

    from avem.cache.store import FeatureStore


@dataclass(frozen=True, slots=True)
class LabelledClip:
    """One clip and what is known about it."""

    clip_id: str
    path: str
    label: str
    """One of the dataset's classes."""
    source: str
    """Speaker or source video; empty where unknown."""
    place: Any
    """Row of the store, `WindowRows` of a clip in windows, or media file; None where there is none."""
    absent: str = ""
    """Why there is no place."""

    def shown(self, has_media: Callable[[Any], bool]) -> Any:
        """The place, of windows those with media; None where there is no media."""
        if not isinstance(self.place, WindowRows):
            return self.place if has_media(self.place) else None
        rows = tuple(row for row in self.place.rows if has_media(row))
        return WindowRows(rows) if rows else None


@dataclass(frozen=True, slots=True)
class LabelledClips:
    """The clips a dataset is judged on."""

    clips: tuple[LabelledClip, ...]
    split: str
    """Empty: all clips."""
    left_out: dict[str, int]
    """Raw label to the number of clips that carry it and none of the classes."""

    def questions(self, dataset: EmotionSet, prompt: str, words: Sequence[str]) -> list[Question]:
        """One question a clip: the prompt, with the words whose likelihoods are compared as its choices."""
        return [
            Question(clip.clip_id, clip.path, dataset.name, prompt, tuple(words), clip.label) for clip in self.clips
        ]


def clips_of_store(
    store: FeatureStore, dataset: EmotionSet, split: str = "", limit: int | None = None
) -> LabelledClips:
    """A dataset's labelled clips in a store; the place of a clip is its row, or the rows of its windows.

    Args:
        store: An `avem.cache.FeatureStore`.
        dataset: Which clips.
        split: Only those of this split; empty for the dataset's own choice.
        limit: At most so many clips a label, the first of the manifest.

    Raises:
        DataError: The store holds no clip of the dataset with one of its labels.
        SettingError: No clip has the split, or the limit is not positive.
    """
    columns = store.clips.select(["clip_id", "path", "dataset", "split", "emotion", "emotions_raw", "source"])
    entries = [entry | {"place": row} for row, entry in enumerate(columns.to_pylist())]
    own = [entry for entry in _join_windows(entries, store.clips) if entry["dataset"] == dataset.name]
    if not own:
        names = ", ".join(dict.fromkeys(entry["dataset"] for entry in entries)) or "nothing"
        raise DataError(
            f"{store.location.url} holds no clips of {dataset.title}, only {names}; "
            f"`avem extract <its folder> --dataset {dataset.name}` adds them."
        )
    return _labelled(own, dataset, split, limit)


def _join_windows(entries: Sequence[dict[str, Any]], clips: pa.Table) -> list[dict[str, Any]]:
    """One entry a clip: windows become one at the first window's position, and take the clip's place where it is whole.

    Args:
        entries: One a row of the manifest.
        clips: The manifest.
    """
    owners, spans = whole_ids(clips), clip_spans(clips)
    windows: dict[str, list[int]] = defaultdict(list)
    for row, (owner, span) in enumerate(zip(owners, spans, strict=True)):
        if span is not None:
            windows[owner].append(row)
    joined = []
    for row, (entry, owner, span) in enumerate(zip(entries, owners, spans, strict=True)):
        rows = sorted(windows.get(owner, ()), key=lambda each: spans[each] or (0.0, 0.0))
        if not rows:
            joined.append(entry)
        elif span is not None and row == min(rows):
            source = "" if entry["source"] == owner else entry["source"]
            joined.append(entry | {"clip_id": owner, "source": source, "place": WindowRows(tuple(rows))})
    return joined


def clips_of_folder(root: Path, dataset: EmotionSet, split: str = "", limit: int | None = None) -> LabelledClips:
    """A dataset's labelled clips in its own folder; the place of a clip is its media file.

    Raises:
        AvemError: The folder is not the dataset's, or see `clips_of_store`.
    """
    from avem.extract import read_dataset

    read = read_dataset(root, dataset.name)
    names = ("clip_id", "path", "split", "emotion", "emotions_raw", "source")
    entries = [{name: getattr(clip, name) for name in names} | {"place": root / clip.path} for clip in read]
    return _labelled(entries, dataset, split, limit)


def with_files(labelled: LabelledClips, store: FeatureStore) -> LabelledClips:
    """Clips of a store with their media files as places, where these still are; whole, also where it has windows."""
    clips = []
    for clip in labelled.clips:
        path = store.media_path(clip.place.rows[0] if isinstance(clip.place, WindowRows) else clip.place)
        found = path.is_file()
        reason = "" if found else f"its media file {clip.path} is not there; name the dataset's folder with --media"
        clips.append(replace(clip, place=path if found else None, absent=reason))
    return replace(labelled, clips=tuple(clips))


def _labelled(
    entries: Sequence[Mapping[str, Any]], dataset: EmotionSet, split: str, limit: int | None
) -> LabelledClips:
    if limit is not None and limit < 1:
        raise SettingError(f"--limit is {limit}; it has to be at least 1.")
    present = dict.fromkeys(str(entry["split"] or "") for entry in entries)
    if split and split not in present:
        raise SettingError(f"No clip of {dataset.title} has the split {split!r}; there are {_named(present)}.")
    split = split or next((name for name in dataset.splits if name in present), "")
    chosen = [entry for entry in entries if not split or entry["split"] == split]
    left_out: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    clips = []
    for entry in chosen:
        label = str(entry["emotion"] or "")
        if label not in dataset.classes:
            left_out[str(entry["emotions_raw"] or label or "no label")] += 1
            continue
        taken[label] += 1
        if limit is None or taken[label] <= limit:
            clip = LabelledClip(entry["clip_id"], entry["path"], label, str(entry["source"] or ""), entry["place"])
            clips.append(clip)
    if not clips:
        raise DataError(f"No clip of {dataset.title} has one of its labels ({', '.join(dataset.classes)}).")
    return LabelledClips(tuple(clips), split, dict(left_out))


def _named(names: Iterable[str]) -> str:
    return ", ".join(name or "clips without one" for name in names)
