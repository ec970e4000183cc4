"""What every run of the proof stands on: the corpus, its store, and one base model a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore, ensure_negatives
from avem.extract import ExtractOptions, extract
from avem.files import claim_directory
from avem.records import Question
from avem.tools.corpus.build import Corpus, RowRecipe, write_corpus
from avem.tools.demo.models import LlamaSize, make_untrained
from avem.tools.project.proof.encoders import teach_encoders
from avem.tools.project.proof.presets import SUPERVISED
from avem.tools.project.proof.rows import instructions, preferences, questions
from avem.tools.project.proof.scenes import BASE, PREFERENCE, Split, draw_splits
from avem.tools.sweep.pool import do_all
from avem.tools.sweep.run import SEED
from avem.train import SupervisedConfig, train_supervised
from avem.train.data.rows import read_instructions, read_preferences

CORPUS_SEED = 0
"""One corpus for every seed: seeds are of models and of training."""
PLAN = "ground.json"
"""Written first: what everything is made of, so that a second proof with other settings is refused."""
RECIPES = ("hard", "random-clip")
BASE_SIZE = LlamaSize(160, 4)
"""1.8M weights with the projectors."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where everything is."""

    out: Path
    corpus: Corpus
    encoders: tuple[Path, Path]
    cache: Path
    bases: str
    """Path of a base model; with `{seed}` in it, each seed has its own."""
    questions: Path
    """What runs are evaluated on."""


def make_ground(
    out: Path,
    splits: Mapping[str, Split],
    teaching: Split,
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    workers: int,
) -> Ground:
    """Corpus, encoders, features, negatives and bases; what is there already stays.

    Args:
        out: Folder for all of it.
        splits: How much of every split there is.
        teaching: What the encoders are taught on.
        seeds: A base for each.
        settings: Of the bases' training, over the preset `proof`.
        workers: Bases trained at a time.

    Raises:
        SettingError: The folder holds the ground of another corpus, or a base of other settings.
    """
    corpus, encoders = make_corpus(out, splits, teaching)
    cache = make_store(out / "cache", corpus, encoders)
    train = partial(_train_base, corpus=corpus, cache=cache, folder=out / "bases", settings=settings)
    do_all(train, seeds, workers, "base")
    return Ground(out, corpus, encoders, cache, str(out / "bases" / SEED / "final"), corpus.benchmark)


def make_corpus(out: Path, splits: Mapping[str, Split], teaching: Split) -> tuple[Corpus, tuple[Path, Path]]:
    """What the grounds of all reference models share: the corpus, and the taught encoders' folders.

    Raises:
        SettingError: The folder holds another corpus.
    """
    plan = {
        "splits": {name: asdict(split) for name, split in splits.items()},
        "teaching": asdict(teaching),
        "seed": CORPUS_SEED,
    }
    claim_directory(out, PLAN, plan, "proof")
    corpus = write_corpus(
        out / "corpus",
        draw_splits(splits, CORPUS_SEED),
        plan,
        RowRecipe(instructions, preferences, questions, BASE, PREFERENCE),
        CORPUS_SEED,
    )
    return corpus, teach_encoders(out / "encoders", teaching)


def make_store(cache: Path, corpus: Corpus, encoders: tuple[Path, Path], storage: str = "float16") -> Path:
    """Extract the corpus and mine its negatives.

    Args:
        cache: The store to make.
        corpus: What is extracted.
        encoders: Folders of the video and the audio encoder.
        storage: How features are kept: float16, bfloat16 or int8.
    """
    video, audio = encoders
    extract(corpus.root, cache, ExtractOptions(video_encoder=video, audio_encoder=audio, dtype=storage))
    store, labels = FeatureStore.open(cache), corpus.shown()
    for recipe in RECIPES:
        ensure_negatives(store, recipe, CORPUS_SEED, labels)
    return cache


def on_first_clips(questions: Sequence[Question], clips: int) -> tuple[Question, ...]:
    """The questions on so many clips, in order of the clips' names."""
    chosen = set(sorted({question.video for question in questions})[:clips])
    return tuple(question for question in questions if question.video in chosen)


def _train_base(seed: int, *, corpus: Corpus, cache: Path, folder: Path, settings: Mapping[str, Any]) -> Path:
    """Supervised training of projectors and language model, both from scratch."""
    config = SupervisedConfig(
        cache=cache,
        model="untrained",
        data=corpus.instructions,
        out=folder / str(seed),
        seed=seed,
        device="cpu",
        **{**SUPERVISED["proof"], **settings},
    )
    rows, pairs = read_instructions(corpus.instructions), read_preferences(corpus.preferences)
    model = make_untrained(rows, pairs, FeatureStore.open(cache), seed, BASE_SIZE)
    return train_supervised(config, model)
