"""What every run of the proof stands on: the corpus, its store, and one base model a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore, ensure_negatives
from avem.extract import ExtractOptions, extract
from avem.files import claim_directory
from avem.tools.corpus.build import Corpus, RowRecipe, write_corpus
from avem.tools.demo.models import LlamaSize, make_untrained
from avem.tools.proof.encoders import teach_encoders
from avem.tools.proof.rows import instructions, preferences
from avem.tools.proof.scenes import BASE, PREFERENCE, Split, draw_splits
from avem.tools.sweep.pool import do_all
from avem.tools.sweep.run import SEED
from avem.train.config import SupervisedConfig
from avem.train.presets import SUPERVISED_PRESETS
from avem.train.rows import read_instructions, read_preferences
from avem.train.supervised import train_supervised

CORPUS_SEED = 0
"""One corpus for every seed: seeds are of models and of training."""
RECIPES = ("hard", "random-clip", "random-emotion")
BASE_SIZE = LlamaSize(160, 4)
"""1.8M weights with the projectors."""


@dataclass(frozen=True, slots=True)
class GroundOptions:
    """Settings of what runs stand on."""

    out: Path
    splits: Mapping[str, Split]
    seeds: tuple[int, ...] = (0, 1, 2)
    storage: str = "float16"
    """How the store keeps features: float16, bfloat16 or int8."""
    settings: Mapping[str, Any] | None = None
    """Of the base's training, over the preset `proof`."""
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Ground:
    """Where everything is."""

    corpus: Corpus
    cache: Path
    bases: str
    """Path of a base model, with `{seed}` in it."""


def make_ground(options: GroundOptions) -> Ground:
    """Corpus, features, negatives and bases; what is there already stays.

    Raises:
        SettingError: The folder holds the ground of another corpus.
    """
    out = options.out
    splits = {name: asdict(split) for name, split in options.splits.items()}
    claim_directory(out, "proof.json", {"splits": splits, "seed": CORPUS_SEED}, "proof")
    corpus = write_corpus(
        out / "corpus", draw_splits(options.splits, CORPUS_SEED), {"splits": splits, "seed": CORPUS_SEED},
        RowRecipe(instructions, preferences, BASE, PREFERENCE), CORPUS_SEED,
    )  # fmt: skip
    suffix = "" if options.storage == "float16" else f"-{options.storage}"
    cache = out / f"cache{suffix}"
    video, audio = teach_encoders(out / "encoders")
    extract(corpus.root, cache, ExtractOptions(video_encoder=video, audio_encoder=audio, dtype=options.storage))
    store = FeatureStore.open(cache)
    for recipe in RECIPES:
        ensure_negatives(store, recipe, CORPUS_SEED)
    folder = out / f"bases{suffix}"
    train = partial(_train_base, corpus=corpus, cache=cache, folder=folder, settings=dict(options.settings or {}))
    do_all(train, options.seeds, options.workers, "base")
    return Ground(corpus, cache, str(folder / SEED / "final"))


def _train_base(seed: int, *, corpus: Corpus, cache: Path, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Supervised training of projectors and language model, both from scratch."""
    config = SupervisedConfig(
        cache=cache, model="untrained", data=corpus.instructions, out=folder / str(seed), seed=seed,
        **{**SUPERVISED_PRESETS["proof"], **settings},
    )  # fmt: skip
    if (config.out / "final").is_dir():
        return config.out
    rows, pairs = read_instructions(corpus.instructions), read_preferences(corpus.preferences)
    model = make_untrained(rows, pairs, FeatureStore.open(cache), seed, BASE_SIZE)
    return train_supervised(config, model)
