"""Negatives that nearly all come from one other source: then the source tells a clip from its negative.

A preference pair should differ in its emotion. If all clips of one camera have their negatives from one other camera,
every pair differs in the recording conditions too, and a model can learn those instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from avem.cache.disk.layout import METADATA
from avem.cache.negatives.file import negatives_metadata
from avem.cache.negatives.population import COLUMNS, MODALITIES, Labels, clip_labels
from avem.cache.store import FeatureStore
from avem.cache.windows import whole_ids
from avem.errors import StoreError
from avem.text.lists import counted, listed

NEARLY_ALL = 0.9
"""From this share of a source's negatives on, one other source gives nearly all of them."""
LEAST = 20
"""Negatives that a source needs for its share to count; where a split has only two sources, any number counts."""
NAMED = 3
"""Sources that a sentence names; the rest is counted."""
SOURCE, DATASET = "source", "dataset"
DEFAULT = "hard"
"""What `avem cache negatives` mines unless it is told another recipe."""
MINED = (DEFAULT, "random-emotion", "random-clip", "mutual")
"""Recipes that it mines."""


@dataclass(frozen=True, slots=True)
class OneSource:
    """A source, or a dataset, whose clips have nearly all their negatives from one other in their split."""

    level: str
    """`source` or `dataset`."""
    name: str
    other: str
    """Where the negatives come from."""
    clips: int
    """Clips of this source that have negatives."""
    found: int
    """Negatives of these clips that come from the other source."""
    negatives: int
    """All negatives of these clips."""
    one_emotion: bool
    """The source has no clip of another emotion in this split, so that `--same-source` finds none either."""


def one_source_negatives(
    store: FeatureStore, negatives: npt.NDArray[np.int32], modality: str, labels: Labels | None = None
) -> tuple[OneSource, ...]:
    """Find the sources, and the datasets, of which nearly all negatives come from one other.

    A clip without a source is no source of its own, and neither are the windows of one clip, unless a split has only
    two. Datasets are looked at where no source is found.

    Args:
        store: The store.
        negatives: int32 [clips, K], row numbers or -1.
        modality: What they replace; it decides which label of a clip counts.
        labels: As in `mine_negatives`; those that they were mined by.

    Example:
        >>> found = one_source_negatives(store, store.negatives("hard", "video"), "video")  # doctest: +SKIP
        >>> found[0].name, found[0].other, found[0].found, found[0].negatives  # doctest: +SKIP
        ('studio', 'street', 32, 32)
    """
    clips = store.columns(COLUMNS)
    datasets, splits, sources = (clips[name].to_pylist() for name in ("dataset", "split", "source"))
    owners = whole_ids(clips)
    emotions = np.array(clip_labels(clips, modality, labels or {}), dtype=str)
    names = [source or owner for source, owner in zip(sources, owners, strict=True)]
    groups = list(zip(splits, datasets, names, strict=True))
    found = _told(SOURCE, groups, names, owners, emotions, negatives)
    if not found and len(set(datasets)) > 1:
        pairs = list(zip(splits, datasets, strict=True))
        found = _told(DATASET, pairs, datasets, owners, emotions, negatives)
    return tuple(found)


def _told(
    level: str,
    groups: Sequence[tuple[str, ...]],
    names: Sequence[str],
    owners: Sequence[str],
    emotions: npt.NDArray[np.str_],
    negatives: npt.NDArray[np.int32],
) -> list[OneSource]:
    """The groups of one level that have nearly all negatives from one other.

    Args:
        level: `source` or `dataset`.
        groups: Each clip's split first, then what else names its group.
        names: Each clip's group as a sentence names it.
        owners: The whole clip of each row.
        emotions: [clips].
        negatives: int32 [clips, K].
    """
    number = {group: index for index, group in enumerate(sorted(set(groups)))}
    codes = np.array([number[group] for group in groups], dtype=np.int64)
    in_split: dict[str, int] = {}
    for group in number:
        in_split[group[0]] = in_split.get(group[0], 0) + 1
    order = np.argsort(codes, kind="stable")
    told = []
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else []:
        table = negatives[rows]
        others = codes[table[table >= 0]]
        two = in_split[groups[rows[0]][0]] == 2
        if len(rows) < 2 or not len(others) or (not two and len(others) < LEAST):
            continue
        if level == SOURCE and not two and len({owners[row] for row in rows.tolist()}) < 2:
            continue
        given, counts = np.unique(others, return_counts=True)
        most = int(np.argmax(counts))
        if given[most] == codes[rows[0]] or counts[most] < NEARLY_ALL * len(others):
            continue
        other = names[int(np.flatnonzero(codes == given[most])[0])]
        with_some = int((table >= 0).any(axis=1).sum())
        one_emotion = len(set(emotions[rows].tolist()) - {""}) < 2
        counted_as = with_some, int(counts[most]), len(others)
        told.append(OneSource(level, names[rows[0]], other, *counted_as, one_emotion=one_emotion))
    return told


def one_source_sentence(found: Sequence[OneSource], *, same_source: bool, recipe: str) -> str:
    """Say that the source tells a clip from its negative, with counts and what to do; empty if nothing was found.

    Args:
        found: As `one_source_negatives` gives them.
        same_source: Whether they were mined with `--same-source`.
        recipe: Such as `hard`.

    Example:
        >>> one = OneSource("source", "studio", "street", 8, 32, 32, one_emotion=False)
        >>> one_source_sentence([one], same_source=False, recipe="hard")  # doctest: +NORMALIZE_WHITESPACE
        'all 32 negatives of 8 clips come from one other source (studio from street), so the source tells a clip
        from its negative as well as the emotion does; mine again with `avem cache negatives --same-source`, which also
        takes clips of the same source.'
    """
    if not found:
        return ""
    level = found[0].level
    pairs = list(dict.fromkeys(f"{one.name} from {one.other}" for one in found))
    more = [f"{len(pairs) - NAMED} more"] if len(pairs) > NAMED else []
    given, all_of_them = sum(one.found for one in found), sum(one.negatives for one in found)
    counts = f"{'all' if given == all_of_them else f'{given} of'} {all_of_them} negatives"
    come = "come"
    if all_of_them == 1:
        counts, come = "the only negative", "comes"
    return (
        f"{counts} of {counted(sum(one.clips for one in found), 'clip')} {come} from one other {level} "
        f"({listed([*pairs[:NAMED], *more])}), so the {level} tells a clip from its negative as well as the emotion "
        f"does; {_cure(found, same_source=same_source, recipe=recipe)}."
    )


def source_warnings(store: FeatureStore, recipe: str, labels: Labels | None = None) -> list[str]:
    """A sentence for the modalities whose negatives nearly all come from one other source; often none.

    It is about the store's negatives as they are, whenever and however they were mined.

    Args:
        store: The store.
        recipe: Which of its negatives; modalities that it has none of, or none that can be used, are left out.
        labels: As in `mine_negatives`; those that they were mined by.
    """
    said: dict[str, list[str]] = {}
    for modality in MODALITIES:
        if store.location.read(f"negatives/{recipe}/{modality}/{METADATA}") is None:
            continue
        try:
            made = negatives_metadata(store.location, recipe, modality)["attributes"].get("avem") or {}
            table = store.negatives(recipe, modality)
        except StoreError:  # who uses them is told
            continue
        found = one_source_negatives(store, table, modality, labels)
        sentence = one_source_sentence(found, same_source=bool(made.get("same_source", False)), recipe=recipe)
        if sentence:
            said.setdefault(sentence, []).append(modality)
    return [f"{listed(modalities)} negatives: {sentence}" for sentence, modalities in said.items()]


def _cure(found: Sequence[OneSource], *, same_source: bool, recipe: str) -> str:
    if recipe not in MINED:  # somebody's own
        return f"choose negatives of the same {found[0].level} too"
    mine = "mine again with `avem cache negatives"
    same = f"{mine} --same-source`" if recipe == DEFAULT else f"{mine} --recipe {recipe} --same-source`"
    alone = list(dict.fromkeys(one.name for one in found if one.one_emotion))
    if alone and recipe != "random-clip":
        return f"add clips of another emotion of {listed(alone[:NAMED])}, and {same}"
    if not same_source and found[0].level == SOURCE:
        return f"{same}, which also takes clips of the same source"
    if recipe in ("hard", "mutual"):
        return f"{mine} --recipe random-emotion --same-source`, which takes any clips of another emotion"
    return f"add clips to the smaller {found[0].level}s"
