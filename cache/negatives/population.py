"""The clips that can be, or have, negatives in one modality: their vectors, labels, splits and sources."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from avem.cache.negatives.same import same_vectors
from avem.cache.store import FeatureStore
from avem.cache.windows import whole_ids
from avem.emotions import emotion_distance
from avem.errors import SettingError, StoreError
from avem.records import Emotion, Modality

MODALITIES: dict[str, tuple[Modality, ...]] = {
    "audio": (Modality.AUDIO,),
    "video": (Modality.VISUAL,),
    "audiovisual": (Modality.VISUAL, Modality.AUDIO),
}
"""Tables of negatives, and the modalities whose streams are replaced together: the m of Eq. 5."""

Labels = Mapping[str, Mapping[str, str]]
"""Modality to clip id to what the modality shows of emotion, where that is known better than by one label a clip."""

BOTH = "+"
"""Between the emotions of the picture and of the sound in a label of both."""

KNOWN_LABELS = frozenset(str(emotion) for emotion in Emotion)

COLUMNS = ("clip_id", "dataset", "split", "source", "emotion", "start_s", "end_s")
"""Columns of the manifest that decide what can be a clip's negative."""

DUPLICATE_SHARE = 0.02
"""Near-duplicates differ by less than this share of what two clips of the store differ by on average."""


Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Population:
    """Clips of one modality, n of them: those with every stream it needs."""

    rows: Rows
    """[n], row in the store, ascending."""
    vectors: Vectors
    """[n, D], L2 norm 1; for several streams their vectors one after the other, each with the same weight."""
    emotions: npt.NDArray[np.str_]
    """[n], empty where the clip has no label."""
    splits: npt.NDArray[np.str_]
    """[n]."""
    sources: npt.NDArray[np.int64]
    """[n], a number per source; a clip of unknown source has a number of its own."""
    duplicate_cosine: float
    """Pairs closer than this are near-duplicates and never each other's negatives."""
    same: Rows = field(init=False)
    """[n], a number that clips of the same vector share; they are near-duplicates whatever their cosine."""

    def __post_init__(self) -> None:
        """Find the same vectors."""
        object.__setattr__(self, "same", same_vectors(self.vectors))

    def allowed(self, anchors: Rows, others: Rows) -> npt.NDArray[np.bool_]:
        """Whether clips may be each other's negatives as far as identity, source and likeness go.

        Args:
            anchors: Positions in the population, [a].
            others: Positions in the population, [a, c], or [c] for the same ones for each anchor.
        """
        others = np.broadcast_to(others, (len(anchors), others.shape[-1]))
        cosines = np.empty(others.shape, dtype=np.float32)
        for block in range(0, len(anchors), 256):  # bounds the gathered vectors
            part = slice(block, block + 256)
            cosines[part] = np.einsum("ad,acd->ac", self.vectors[anchors[part]], self.vectors[others[part]])
        distinct = self.sources[others] != self.sources[anchors][:, None]
        distinct &= self.same[others] != self.same[anchors][:, None]
        result: npt.NDArray[np.bool_] = distinct & (cosines <= self.duplicate_cosine)
        return result

    def groups(self, min_distance: int) -> Iterator[tuple[str, str, Rows, Rows]]:
        """Clips that share their possible negatives.

        Args:
            min_distance: Least emotion distance of a negative; 0 lets any clip, labelled or not, be one.

        Yields:
            Split, emotion, positions of the clips with them, and positions of the clips of the same split whose
            emotion is at least so far away.
        """
        for split in np.unique(self.splits).tolist():
            here = self.splits == split
            labels = np.unique(self.emotions[here]).tolist()
            for emotion in labels:
                if not emotion and min_distance > 0:
                    continue
                far = [label for label in labels if label_distance(emotion, label) >= min_distance]
                anchors = np.flatnonzero(here & (self.emotions == emotion))
                yield split, emotion, anchors, np.flatnonzero(here & np.isin(self.emotions, far))


def label_distance(first: str, second: str) -> int:
    """`avem.emotions.emotion_distance` for labels; nothing is known to be far from an unlabelled clip.

    Clips with a label of both modalities are as far from each other as in the modality where they are nearer.
    """
    if BOTH in first and BOTH in second:
        return min(map(label_distance, first.split(BOTH), second.split(BOTH)))
    if not first or not second:
        return 0
    if {first, second} <= KNOWN_LABELS:
        return emotion_distance(Emotion(first), Emotion(second))
    return int(first != second)


def replaced_streams(store: FeatureStore, modality: str, among: Sequence[str] = ()) -> tuple[str, ...]:
    """The streams that a table of negatives replaces together; none where the store lacks one of its modalities.

    Args:
        store: The store.
        modality: One of `MODALITIES`.
        among: Streams to choose from; empty: all that the store has.

    Raises:
        SettingError: There is no such modality.
        StoreError: The store has no stream of a name in `among`.
    """
    if modality not in MODALITIES:
        raise SettingError(f"Negatives are mined for {', '.join(MODALITIES)}, not {modality!r}.")
    streams = [store.stream(name) for name in among or store.streams]
    found = [[stream for stream in streams if stream.spec.modality == wanted] for wanted in MODALITIES[modality]]
    return tuple(stream.name for group in found for stream in group) if all(found) else ()


def load_population(
    store: FeatureStore,
    modality: str,
    duplicate_cosine: float | None = None,
    exclude: Collection[str] = (),
    labels: Labels | None = None,
    streams: Sequence[str] = (),
    *,
    same_source: bool = False,
) -> Population:
    """Gather the clips that have all streams of a modality.

    Args:
        store: The store.
        modality: One of `MODALITIES`.
        duplicate_cosine: Cosine above which two clips are near-duplicates; None: `DUPLICATE_SHARE` of the mean
            squared distance between two clips, which suits encoders whose vectors all point in much the same direction.
            Clips of the same vector always are, whatever is given.
        exclude: Ids of clips to leave out, such as a benchmark's.
        labels: See `Labels`; a modality that it does not name has the manifest's labels, except that those of picture
            and sound together make up the one of both.
        streams: Whose vectors count, and which a clip has to have; empty: all of the modality's.
        same_source: Let clips of one speaker or source be each other's negatives; windows of one clip never are.

    Raises:
        SettingError: There is no such modality.
        StoreError: The store does not have one of its streams.
    """
    names = replaced_streams(store, modality, streams)
    if not names:
        needed = " and ".join(MODALITIES[modality])
        raise StoreError(f"{store.location.url} has no {needed} features; extract them with `avem extract`.")
    usable = np.logical_and.reduce([store.available(name) for name in names])
    if exclude:
        usable[store.rows(sorted(exclude))] = False
    rows = np.flatnonzero(usable)
    parts = [store.pooled(name)[rows] for name in names]
    vectors = np.ascontiguousarray(np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(names))), dtype=np.float32)
    if duplicate_cosine is None:
        spread = 1.0 - float(np.square(vectors.mean(axis=0)).sum()) if len(rows) else 1.0
        duplicate_cosine = 1.0 - DUPLICATE_SHARE * spread
    clips = store.columns(COLUMNS).take(rows)
    return Population(
        rows=rows,
        vectors=vectors,
        emotions=np.array(clip_labels(clips, modality, labels or {}), dtype=str),
        splits=np.array(clips["split"].to_pylist(), dtype=str),
        sources=_source_numbers(
            clips["dataset"].to_pylist(),
            [""] * len(clips) if same_source else clips["source"].to_pylist(),
            whole_ids(clips),
        ),
        duplicate_cosine=duplicate_cosine,
    )


def clip_labels(clips: pa.Table, modality: str, labels: Labels) -> list[str]:
    """Each clip's label; a window that has none of its own has its whole clip's."""
    names = list(zip(clips["clip_id"].to_pylist(), whole_ids(clips), strict=True))

    def given(kind: str) -> list[str]:
        return [labels[kind].get(name) or labels[kind].get(owner, "") for name, owner in names]

    if modality in labels:
        return given(modality)
    if {"video", "audio"} <= labels.keys():
        pairs = zip(given("video"), given("audio"), strict=True)
        return [f"{video}{BOTH}{audio}" if video and audio else "" for video, audio in pairs]
    return [label or "" for label in clips["emotion"].to_pylist()]


def _source_numbers(datasets: Sequence[str], sources: Sequence[str], clips: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number per source of a dataset; the source of a clip without one is the whole clip itself."""
    keys = [f"{dataset}\x1f{source or clip}" for dataset, source, clip in zip(datasets, sources, clips, strict=True)]
    if not keys:
        return np.zeros(0, dtype=np.int64)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
