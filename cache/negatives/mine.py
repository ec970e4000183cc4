"""Mining negatives: for each clip, clips whose emotion differs, kept beside the features (Eq. 5 and Table 17).

Negatives come from the clip's own split, so that training never sees a test clip, never from the same source, and
never from a near-duplicate.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from avem.cache.disk.layout import METADATA
from avem.cache.negatives.file import Mined, negatives_metadata, save_negatives
from avem.cache.negatives.population import (
    MODALITIES,
    Labels,
    Population,
    Rows,
    load_population,
    replaced_streams,
)
from avem.cache.negatives.reasons import SAME_SOURCE, why_lacking, why_none
from avem.cache.negatives.search import EXACT_UP_TO, Found, Search, at_random, prepare_search
from avem.cache.negatives.sources import source_warnings
from avem.cache.negatives.staleness import DIGEST, StaleNegativesError, labels_digest
from avem.cache.store import FeatureStore
from avem.errors import SettingError, StoreError
from avem.guards.disk import disk_reason
from avem.progress import stage

logger = logging.getLogger(__name__)

RECIPES = ("hard", "random-emotion", "random-clip")
"""`hard`: nearest of another emotion; `random-emotion`: any of another emotion; `random-clip`: any clip (Table 17)."""

MADE_IN_TRAINING = ("random-tensor", "diffused")
"""Table 17's other choices: no clips, but noise that training uses instead of a clip."""


@dataclass(frozen=True, slots=True)
class MiningReport:
    """How mining went in one modality; kept as the array's attributes."""

    recipe: str
    modality: str
    k: int
    seed: int
    min_emotion_distance: int
    duplicate_cosine: float
    labelled: bool = False
    """By labels of each modality, which the store does not keep."""
    excluded: int = 0
    """Clips that were left out, such as a benchmark's: they have no negatives and are none."""
    clips: int = 0
    """Labelled clips that have the streams (for `random-clip`: all clips that have them)."""
    complete: int = 0
    """Of those, the ones with k negatives."""
    without: dict[str, int] = field(default_factory=dict)
    """Clips without any negative, counted by `split/emotion`."""
    fewest: int = 0
    """Negatives of the clip that has the fewest, among clips that have some."""
    why_none: str = ""
    """Counts of what keeps clips from having a negative, where none has one."""
    why_lacking: str = ""
    """The same of the clips without a negative, where others have some."""
    same_source: bool = False
    """Clips of one speaker or source may be each other's negatives."""
    mean_cosine: float | None = None
    """Between a clip and its first negative."""
    recall: float = 1.0
    """Of the index; below 1 only for stores too large for exact search."""
    streams: tuple[str, ...] = ()
    """Whose pooled vectors were compared; empty in older negatives, which compared all that the store had."""


def mine_negatives(
    store: FeatureStore,
    recipe: str = "hard",
    k: int = 4,
    seed: int = 0,
    *,
    min_emotion_distance: int = 1,
    duplicate_cosine: float | None = None,
    exclude: Collection[str] = (),
    labels: Labels | None = None,
    streams: Sequence[str] = (),
    same_source: bool = False,
    exact_up_to: int = EXACT_UP_TO,
) -> list[MiningReport]:
    """Mine negatives for each modality the store has and keep them in it, replacing older ones of the recipe.

    A clip without label, without a stream, or without any possible negative has -1, which is reported. Where no clip
    has a negative, nothing is kept.

    Args:
        store: A store on this machine; refreshed first.
        recipe: One of `RECIPES`.
        k: Negatives per clip; at most one less than there are clips are kept.
        seed: Of the random recipes; the same seed and store give the same negatives.
        min_emotion_distance: 1: another emotion; 2: also another valence; 3: the opposite valence, which surprise and
            neutral do not have; see `avem.emotions.emotion_distance`.
        duplicate_cosine: Cosine above which clips are near-duplicates; None: see `avem.cache.negatives.population`.
        exclude: Ids of clips to leave out, such as a benchmark's.
        labels: Modality (`video`, `audio`, `audiovisual`) to clip id to emotion, instead of the manifest's one label a
            clip. Where face and voice may differ, a clip of another label can show the very emotion in one of them.
        streams: Streams whose pooled vectors decide which clips are near; empty: all that the store has. Each counts
            alike, and a clip has to have all of those of a modality.
        same_source: Let clips of one speaker or source be each other's negatives, for data of one speaker.
        exact_up_to: Stores up to this size are searched exactly.

    Returns:
        A report per modality; also in the attributes of `negatives/<recipe>/<modality>`.

    Raises:
        SettingError: Unknown recipe, or a number that makes no sense.
        StoreError: The store is remote or holds no features, or no clip has a negative: the message says why.
        UnknownClipError: A clip to leave out is not in the store.
    """
    if recipe in MADE_IN_TRAINING:
        raise SettingError(f"The recipe {recipe!r} names no clips; it is made while training, so mine nothing for it.")
    if recipe not in RECIPES:
        raise SettingError(f"There is no recipe {recipe!r} for negatives; choose from {', '.join(RECIPES)}.")
    if k < 1 or min_emotion_distance < 1:
        raise SettingError(
            f"Mining needs k and min_emotion_distance of at least 1, not {k} and {min_emotion_distance}."
        )
    store.refresh()
    modalities = {name: found for name in MODALITIES if (found := replaced_streams(store, name, streams))}
    if not modalities:
        raise StoreError(f"{store.location.url} holds no features to mine; extract them with `avem extract`.")
    distance = 0 if recipe == "random-clip" else min_emotion_distance
    k = min(k, max(1, len(store) - 1))
    reports: list[MiningReport] = []
    mined: dict[str, Mined] = {}
    for modality, compared in modalities.items():
        population = load_population(
            store, modality, duplicate_cosine, exclude, labels, compared, same_source=same_source
        )
        negatives = np.full((len(store), k), -1, dtype=np.int32)
        plan = MiningReport(
            recipe,
            modality,
            k,
            seed,
            distance,
            population.duplicate_cosine,
            labels is not None,
            len(set(exclude)),
            streams=compared,
            same_source=same_source,
        )
        report = _mine(population, negatives, plan, exact_up_to)
        lacking = np.flatnonzero((negatives[population.rows] < 0).all(axis=1))
        if not (negatives >= 0).any():
            report = replace(report, why_none=why_none(store, population, modality, distance, len(set(exclude))))
        elif report.without:
            report = replace(report, why_lacking=why_lacking(population, distance, lacking))
        mined[modality] = negatives, {**asdict(report), DIGEST: labels_digest(store.manifest)}
        reports.append(report)
    if all(report.why_none for report in reports):
        raise StoreError(_no_negatives(store, reports))
    write_negatives(store, recipe, mined)
    return reports


def _no_negatives(store: FeatureStore, reports: list[MiningReport]) -> str:
    by_reason: dict[str, list[str]] = {}
    for report in reports:
        by_reason.setdefault(report.why_none, []).append(report.modality)
    reasons = next(iter(by_reason))
    if len(by_reason) > 1:  # each reason once, with what it is about
        reasons = "; ".join(f"{' and '.join(modalities)}: {reason}" for reason, modalities in by_reason.items())
    cure = ""
    if SAME_SOURCE in reasons:
        cure = " For data of one speaker, `avem cache negatives --same-source` also takes clips of the same one."
    return (
        f"None of the {len(store)} clips of {store.location.url} can have a {reports[0].recipe} negative, which is a "
        "clip of another emotion and of another speaker or source, in the same split, and no near-duplicate. "
        f"Of these clips, {reasons}.{cure}"
    )


def ensure_negatives(store: FeatureStore, recipe: str, seed: int = 0, labels: Labels | None = None) -> None:
    """Mine a recipe with its defaults unless the store holds it for all of its clips.

    Logs a warning if nearly all of the negatives of a source come from one other source, also of those mined before.

    Args:
        store: As in `mine_missing`.
        recipe: As there.
        seed: As there.
        labels: As there.

    Raises:
        StoreError: As there.
        StaleNegativesError: As there.
    """
    mine_missing(store, recipe, seed, labels)
    for warning in source_warnings(store, recipe, labels):
        logger.warning("%s", warning)


def mine_missing(store: FeatureStore, recipe: str, seed: int = 0, labels: Labels | None = None) -> None:
    """As `ensure_negatives`, without a word on what the negatives are like.

    Args:
        store: A store; one on this machine if mining turns out to be needed.
        recipe: Such as `hard`; one that avem does not mine is not touched.
        seed: Of the random recipes.
        labels: As in `mine_negatives`.

    Raises:
        StoreError: They were mined by labels of each modality, clips have been added since, and no labels are given.
        StaleNegativesError: They were mined before labels changed; by which settings, only the user knows.
    """
    missing = []
    for modality in MODALITIES:
        if replaced_streams(store, modality):
            try:
                store.negatives(recipe, modality)
            except StaleNegativesError:
                raise
            except StoreError:
                missing.append(modality)
    if not missing or recipe not in RECIPES:
        return
    if labels is None and any(_labelled(store, recipe, modality) for modality in missing):
        raise StoreError(
            f"The {recipe} negatives of {store.location.url} were mined by labels of each modality before clips were "
            "added; mine them again with `avem cache negatives --labels FILE.csv`."
        )
    mine_negatives(store, recipe, seed=seed, labels=labels)


def _labelled(store: FeatureStore, recipe: str, modality: str) -> bool:
    """Whether negatives that are there, of however many clips, were mined by labels of each modality."""
    try:
        return bool(negatives_attributes(store, recipe, modality).get("labelled"))
    except StoreError:
        return False


def negatives_attributes(store: FeatureStore, recipe: str, modality: str) -> dict[str, Any]:
    """How mined negatives were made, as `MiningReport` has it.

    Raises:
        StoreError: They are not mined, or what says how is damaged.
    """
    found = negatives_metadata(store.location, recipe, modality)["attributes"].get("avem")
    if not isinstance(found, dict):
        raise StoreError(
            f"{store.location.url}/negatives/{recipe}/{modality}/{METADATA} does not say how the negatives were mined; "
            f"mine them again with `avem cache negatives --recipe {recipe}`."
        )
    return found


def write_negatives(store: FeatureStore, recipe: str, mined: Mapping[str, Mined]) -> None:
    """Keep negatives of one recipe in a store: all modalities at once, or none.

    Args:
        store: A store on this machine.
        recipe: Their name.
        mined: Modality (`audio`, `video`, `audiovisual`) to its negatives and what made them; others stay.

    Raises:
        StoreError: The store is remote or can't be written.
    """
    if store.location.local is None:
        raise StoreError(f"{store.location.url} is remote; mine negatives in a local store and copy it.")
    try:
        save_negatives(store.location.local, recipe, mined)
    except OSError as error:
        raise StoreError(f"Negatives can't be written to {store.location.local}: {disk_reason(error)}.") from error


def _mine(
    population: Population, negatives: npt.NDArray[np.int32], report: MiningReport, exact_up_to: int
) -> MiningReport:
    """Fill in the negatives [clips, k] of every group and complete the report."""
    clips = complete = 0
    hard = report.recipe == "hard"
    without: dict[str, int] = {}
    cosines: list[npt.NDArray[np.float32]] = []
    recalls = [1.0]
    fewest = report.k
    search = prepare_search(population, report.k, report.min_emotion_distance, exact_up_to) if hard else None
    with stage(f"{report.recipe} {report.modality}", len(population.rows)) as progress:
        for split, emotion, anchors, pool in population.groups(report.min_emotion_distance):
            found = _choose(population, anchors, pool, report, f"{split}/{emotion}", search)
            held = found.positions >= 0
            negatives[population.rows[anchors]] = np.where(held, population.rows[found.positions], -1)
            first = found.positions[held[:, 0], 0]
            cosines.append(np.einsum("nd,nd->n", population.vectors[anchors[held[:, 0]]], population.vectors[first]))
            recalls.append(found.recall)
            counts = held.sum(axis=1)
            fewest = min(fewest, int(counts[counts > 0].min(initial=report.k)))
            clips, complete = clips + len(anchors), complete + int(held.all(axis=1).sum())
            if not held.any(axis=1).all():
                without[f"{split}/{emotion}"] = int((~held.any(axis=1)).sum())
            progress.advance(len(anchors))
    closeness = np.concatenate(cosines) if cosines else np.zeros(0)
    mean = float(closeness.mean()) if len(closeness) else None
    return replace(
        report, clips=clips, complete=complete, without=without, fewest=fewest, mean_cosine=mean, recall=min(recalls)
    )


def _choose(
    population: Population, anchors: Rows, pool: Rows, report: MiningReport, group: str, search: Search | None
) -> Found:
    """Negatives of one group's clips by the report's recipe."""
    if not len(pool):
        return Found(np.full((len(anchors), report.k), -1, dtype=np.int64))
    if search is not None:
        return search.nearest(anchors, pool, report.k)
    rng = np.random.default_rng([report.seed, zlib.crc32(f"{report.modality}/{group}".encode())])
    return at_random(population, anchors, pool, report.k, rng)
