"""Labelled clips of a dataset, from a store's manifest or from the dataset's own folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.cache.windows import whole_ids
from avem.errors import DataError, SettingError
from avem.evaluate.predict.clips import ClipPosition, WindowRows, clip_positions
from avem.evaluate.recognition.labels import EmotionSet
from avem.records import Question

if TYPE_CHECKING:
    from avem.cache import FeatureStore


@dataclass(frozen=True, slots=True)
class LabelledClip:
    """One clip and what is known about it."""

    clip_id: str
    path: str
    label: str
    """One of the dataset's classes."""
    source: str
    """Speaker or source video; empty where unknown."""
    position: ClipPosition | None
    """Row of the store, `WindowRows` of a clip in windows, or media file; None where there is none."""
    absent: str = ""
    """Why there is no position."""


@dataclass(frozen=True, slots=True)
class LabelledClips:
    """The clips of a dataset that are scored."""

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
    """A dataset's labelled clips in a store; a clip's position is its row, or the rows of its windows.

    Args:
        store: An `avem.cache.FeatureStore`.
        dataset: Which clips.
        split: Only those of this split; empty for the dataset's own choice.
        limit: Largest number of clips of each label, from the start of the manifest.

    Raises:
        DataError: The store holds no clip of the dataset with one of its labels.
        SettingError: No clip has the split, or the limit is not positive.
    """
    columns = store.clips.select(["clip_id", "path", "dataset", "split", "emotion", "emotions_raw", "source"])
    rows, owners = columns.to_pylist(), whole_ids(store.clips)
    entries = [_entry(rows[row], owners[row], position) for row, position in clip_positions(store.clips).items()]
    own = [entry for entry in entries if entry["dataset"] == dataset.name]
    if not own:
        names = ", ".join(dict.fromkeys(row["dataset"] for row in rows)) or "nothing"
        raise DataError(
            f"{store.location.url} holds no clips of {dataset.title}, only {names}; "
            f"`avem extract <its folder> --dataset {dataset.name}` adds them."
        )
    return _labelled(own, dataset, split, limit)


def _entry(row: Mapping[str, Any], owner: str, position: ClipPosition) -> dict[str, Any]:
    """A clip's columns with its position; windows become their whole clip."""
    entry = {**row, "position": position}
    if not isinstance(position, WindowRows):
        return entry
    return entry | {"clip_id": owner, "source": "" if row["source"] == owner else row["source"]}


def clips_of_folder(root: Path, dataset: EmotionSet, split: str = "", limit: int | None = None) -> LabelledClips:
    """A dataset's labelled clips in its own folder; a clip's position is its media file.

    Raises:
        AvemError: The folder is not the dataset's, or see `clips_of_store`.
    """
    from avem.extract import read_dataset

    read = read_dataset(root, dataset.name)
    names = ("clip_id", "path", "split", "emotion", "emotions_raw", "source")
    entries = [{name: getattr(clip, name) for name in names} | {"position": root / clip.path} for clip in read]
    return _labelled(entries, dataset, split, limit)


def with_files(labelled: LabelledClips, store: FeatureStore) -> LabelledClips:
    """A store's clips with their media files as positions, where these exist; a clip in windows becomes whole again."""
    clips = []
    for clip in labelled.clips:
        path = store.media_path(_first_row(clip.position))
        found = path.is_file()
        reason = "" if found else f"its media file {clip.path} does not exist; name the dataset's folder with --media"
        clips.append(replace(clip, position=path if found else None, absent=reason))
    return replace(labelled, clips=tuple(clips))


def _first_row(position: ClipPosition | None) -> int:
    """Row of a clip of a store, of windows the first one's."""
    if isinstance(position, WindowRows):
        return position.rows[0]
    assert isinstance(position, int), "clips of a store have rows"
    return position


def _labelled(
    entries: Sequence[Mapping[str, Any]], dataset: EmotionSet, split: str, limit: int | None
) -> LabelledClips:
    if limit is not None and limit < 1:
        raise SettingError(f"--limit is {limit}; it must be at least 1.")
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
            clip = LabelledClip(entry["clip_id"], entry["path"], label, str(entry["source"] or ""), entry["position"])
            clips.append(clip)
    if not clips:
        raise DataError(f"No clip of {dataset.title} has one of its labels ({', '.join(dataset.classes)}).")
    return LabelledClips(tuple(clips), split, dict(left_out))


def _named(names: Iterable[str]) -> str:
    return ", ".join(name or "clips without one" for name in names)
