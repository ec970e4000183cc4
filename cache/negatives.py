"""Mining negatives: for each clip, clips whose emotion differs, kept beside the features (Eq. 5 and Table 17).

Negatives come from the clip's own split, so that training never sees a test clip, never from the same source, and
never from a near-duplicate.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from avem.cache.layout import METADATA, group_metadata, parse_metadata, write_metadata
from avem.cache.population import MODALITIES, Labels, Population, Rows, population
from avem.cache.search import EXACT_UP_TO, Found, Search, at_random, prepare_search
from avem.cache.staleness import DIGEST, StaleNegativesError, labels_digest
from avem.cache.store import FeatureStore
from avem.errors import SettingError, StoreError
from avem.files import replace_directory
from avem.progress import stage

RECIPES = ("hard", "random-emotion", "random-clip")
"""`hard`: nearest of another emotion; `random-emotion`: any of another emotion; `random-clip`: any clip (Table 17)."""

MADE_IN_TRAINING = ("random-tensor", "diffused")
"""Table 17's other choices: no clips, but noise that training puts in a clip's place."""

ROWS_PER_CHUNK = 65_536


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
    mean_cosine: float | None = None
    """Between a clip and its first negative."""
    recall: float = 1.0
    """Of the index; below 1 only for stores too large for exact search."""


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
    exact_up_to: int = EXACT_UP_TO,
) -> list[MiningReport]:
    """Mine negatives for each modality the store has and keep them in it, in place of older ones of the recipe.

    A clip without label, without a stream, or without any possible negative has -1; nothing is an error but reported.

    Args:
        store: A store on this machine; refreshed first.
        recipe: One of `RECIPES`.
        k: Negatives per clip.
        seed: Of the random recipes; the same seed and store give the same negatives.
        min_emotion_distance: 1: another emotion; 2: also another valence; 3: the opposite valence, which surprise and
            neutral do not have; see `avem.emotions.emotion_distance`.
        duplicate_cosine: Cosine above which clips are near-duplicates; None: see `avem.cache.population`.
        exclude: Ids of clips to leave out, such as a benchmark's.
        labels: Modality (`video`, `audio`, `audiovisual`) to clip id to emotion, in place of the manifest's one label a
            clip. Where face and voice may differ, a clip of another label can show the very emotion in one of them.
        exact_up_to: Stores up to this size are searched exactly.

    Returns:
        A report per modality; also in the attributes of `negatives/<recipe>/<modality>`.

    Raises:
        SettingError: Unknown recipe, or a number that makes no sense.
        StoreError: The store is remote or holds no features.
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
    modalities = [name for name, kinds in MODALITIES.items() if set(kinds) <= set(store.kinds)]
    if not modalities:
        raise StoreError(f"{store.location.url} holds no features to mine; extract them with `avem extract`.")
    distance = 0 if recipe == "random-clip" else min_emotion_distance
    reports = []
    for modality in modalities:
        people = population(store, modality, duplicate_cosine, exclude, labels)
        negatives = np.full((len(store), k), -1, dtype=np.int32)
        plan = MiningReport(
            recipe, modality, k, seed, distance, people.duplicate_cosine, labels is not None, len(set(exclude))
        )
        report = _mine(people, negatives, plan, exact_up_to)
        write_negatives(store, recipe, modality, negatives, {**asdict(report), DIGEST: labels_digest(store.clips)})
        reports.append(report)
    return reports


def ensure_negatives(store: FeatureStore, recipe: str, seed: int = 0, labels: Labels | None = None) -> None:
    """Mine a recipe with its defaults unless the store holds it for all of its clips.

    Args:
        store: A store; one on this machine if mining turns out to be needed.
        recipe: Such as `hard`; one that avem does not mine is left to whoever reads it.
        seed: Of the random recipes.
        labels: As in `mine_negatives`.

    Raises:
        StoreError: They were mined by labels of each modality, clips have been added since, and no labels are given.
        StaleNegativesError: They were mined before labels changed; by which settings, only the user knows.
    """
    missing = []
    for modality, kinds in MODALITIES.items():
        if set(kinds) <= set(store.kinds):
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
    name = f"negatives/{recipe}/{modality}"
    data = store.location.read(f"{name}/{METADATA}")
    if data is None:
        raise StoreError(f"{store.location.url} has no {recipe} negatives for {modality}; mine them first.")
    where = f"{store.location.url}/{name}"
    attributes = parse_metadata(data, where).get("attributes")
    found = attributes.get("avem") if isinstance(attributes, dict) else None
    if not isinstance(found, dict):
        raise StoreError(f"{where}/{METADATA} does not say how the negatives were mined; mine them again.")
    return found


def write_negatives(
    store: FeatureStore, recipe: str, modality: str, negatives: npt.NDArray[np.int32], attributes: dict[str, Any]
) -> None:
    """Keep negatives in a store, whole or not at all.

    Args:
        store: A store on this machine.
        recipe: Their name.
        modality: `audio`, `video` or `audiovisual`.
        negatives: int32 [clips, K], row numbers or -1.
        attributes: What made them.

    Raises:
        StoreError: The store is remote or can't be written.
    """
    if store.location.local is None:
        raise StoreError(f"{store.location.url} is remote; mine negatives in a local store and copy it.")
    folder = store.location.local / "negatives"

    def fill(directory: Path) -> None:
        zarr.create_array(
            directory,
            data=negatives,
            chunks=(min(len(negatives), ROWS_PER_CHUNK) or 1, negatives.shape[1]),
            attributes={"avem": attributes},
            fill_value=-1,
            overwrite=True,
        )

    try:
        for group in (folder, folder / recipe):
            if not (group / METADATA).is_file():
                write_metadata(group, group_metadata({}))
        replace_directory(folder / recipe / modality, fill)
    except OSError as error:
        raise StoreError(f"Negatives can't be written to {folder} ({error.strerror or error}).") from error


def _mine(people: Population, negatives: npt.NDArray[np.int32], report: MiningReport, exact_up_to: int) -> MiningReport:
    """Fill in the negatives [clips, k] of every group and complete the report."""
    clips = complete = 0
    hard = report.recipe == "hard"
    without: dict[str, int] = {}
    cosines: list[npt.NDArray[np.float32]] = []
    recalls = [1.0]
    search = prepare_search(people, report.k, report.min_emotion_distance, exact_up_to) if hard else None
    with stage(f"{report.recipe} {report.modality}", len(people.rows)) as progress:
        for split, emotion, anchors, pool in people.groups(report.min_emotion_distance):
            found = _choose(people, anchors, pool, report, f"{split}/{emotion}", search)
            held = found.positions >= 0
            negatives[people.rows[anchors]] = np.where(held, people.rows[found.positions], -1)
            first = found.positions[held[:, 0], 0]
            cosines.append(np.einsum("nd,nd->n", people.vectors[anchors[held[:, 0]]], people.vectors[first]))
            recalls.append(found.recall)
            clips, complete = clips + len(anchors), complete + int(held.all(axis=1).sum())
            if not held.any(axis=1).all():
                without[f"{split}/{emotion}"] = int((~held.any(axis=1)).sum())
            progress.advance(len(anchors))
    closeness = np.concatenate(cosines) if cosines else np.zeros(0)
    mean = float(closeness.mean()) if len(closeness) else None
    return replace(report, clips=clips, complete=complete, without=without, mean_cosine=mean, recall=min(recalls))


def _choose(
    people: Population, anchors: Rows, pool: Rows, report: MiningReport, group: str, search: Search | None
) -> Found:
    """Negatives of one group's clips by the report's recipe."""
    if not len(pool):
        return Found(np.full((len(anchors), report.k), -1, dtype=np.int64))
    if search is not None:
        return search.nearest(anchors, pool, report.k)
    rng = np.random.default_rng([report.seed, zlib.crc32(f"{report.modality}/{group}".encode())])
    return at_random(people, anchors, pool, report.k, rng)
