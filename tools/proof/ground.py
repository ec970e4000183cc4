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
from avem.tools.proof.encoders import SCENES, teach_encoders
from avem.tools.proof.rows import instructions, preferences, questions
from avem.tools.proof.scenes import BASE, PREFERENCE, Split, draw_splits
from avem.tools.sweep.pool import do_all
from avem.tools.sweep.run import SEED
from avem.train.config import SupervisedConfig
from avem.train.presets import SUPERVISED_PRESETS
from avem.train.rows import read_instructions, read_preferences
from avem.train.supervised import train_supervised

CORPUS_SEED = 0
"""One corpus for every seed: seeds are of models and of training."""
PLAN = "ground.json"
"""Written first: what everything is made of, so that a second proof with other settings is refused."""
RECIPES = ("hard", "random-clip", "random-emotion")
BASE_SIZE = LlamaSize(160, 4)
"""1.8M weights with the projectors."""


@dataclass(frozen=True, slots=True)
class GroundOptions:
    """Settings of what runs stand on."""

    out: Path
    splits: Mapping[str, Split]
    seeds: tuple[int, ...] = (0, 1, 2)
    settings: Mapping[str, Any] | None = None
    """Of the base's training, over the preset `proof`."""
    teaching: Split = SCENES
    """What the encoders are taught on."""
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Ground:
    """Where everything is."""

    out: Path
    corpus: Corpus
    cache: Path
    bases: str
    """Path of a base model, with `{seed}` in it."""


def make_ground(options: GroundOptions) -> Ground:
    """Corpus, encoders, features, negatives and bases; what is there already stays.

    Raises:
        SettingError: The folder holds the ground of another corpus.
    """
    out = options.out
    plan = {
        "splits": {name: asdict(split) for name, split in options.splits.items()},
        "teaching": asdict(options.teaching), "seed": CORPUS_SEED,
    }  # fmt: skip
    claim_directory(out, PLAN, plan, "proof")
    corpus = write_corpus(
        out / "corpus", draw_splits(options.splits, CORPUS_SEED), plan,
        RowRecipe(instructions, preferences, questions, BASE, PREFERENCE), CORPUS_SEED,
    )  # fmt: skip
    teach_encoders(out / "encoders", options.teaching)
    cache = make_store(out, corpus)
    train = partial(
        _train_base, corpus=corpus, cache=cache, folder=out / "bases", settings=dict(options.settings or {})
    )
    do_all(train, options.seeds, options.workers, "base")
    return Ground(out, corpus, cache, str(out / "bases" / SEED / "final"))


def make_store(out: Path, corpus: Corpus, storage: str = "float16") -> Path:
    """Extract the corpus and mine its negatives.

    Args:
        out: Folder of the proof, with its encoders.
        corpus: What is extracted.
        storage: How features are kept: float16, bfloat16 or int8.
    """
    cache = out / ("cache" if storage == "float16" else f"cache-{storage}")
    video, audio = teach_encoders(out / "encoders")
    extract(corpus.root, cache, ExtractOptions(video_encoder=video, audio_encoder=audio, dtype=storage))
    store = FeatureStore.open(cache)
    for recipe in RECIPES:
        ensure_negatives(store, recipe, CORPUS_SEED)
    return cache


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
