"""What every run of the proof stands on: the corpus, its store, and its bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore, ensure_negatives
from avem.errors import SettingError
from avem.extract import ExtractOptions
from avem.files import claim_directory, write_json_lines
from avem.records import Question
from avem.tools.corpus.build import Corpus, RowRecipe, write_corpus
from avem.tools.corpus.features import extract_corpus
from avem.tools.demo.models import LlamaSize, make_untrained
from avem.tools.project.proof.ground.encoders import teach_encoders
from avem.tools.project.proof.ground.presets import SUPERVISED
from avem.tools.project.proof.ground.rows import instructions, preferences, questions
from avem.tools.project.proof.ground.scenes import BASE, PREFERENCE, VALIDATION, Split, draw_splits
from avem.tools.project.proof.ground.shared import PLAN, SharedGround
from avem.tools.sweep.pool import do_all
from avem.tools.sweep.run import SEED
from avem.train import SupervisedConfig, train_supervised
from avem.train.data.rows import read_instructions, read_preferences

CORPUS_SEED = 0
"""One corpus for every seed: seeds are of models and of training."""
RECIPES = ("hard", "random-clip", "random-emotion")
LAYERS = 4


@dataclass(frozen=True, slots=True)
class BaseKind:
    """How a base is made: its size and how long it is trained."""

    width: int = 160
    """Of the language model, 1.8M weights with the projectors."""
    epochs: int | None = None
    """Of its training; None for the preset's."""

    @property
    def folder(self) -> str:
        """Beside the folders of the usual bases, which are called by their numbers."""
        own = [f"{name}-{value}" for name, value in asdict(self).items() if value != getattr(USUAL, name)]
        return "-".join(own)


USUAL = BaseKind()


@dataclass(frozen=True, slots=True)
class Ground:
    """Where everything is."""

    out: Path
    corpus: Corpus
    encoders: tuple[Path, Path]
    cache: Path
    bases: str
    """Path of a base model; with `{seed}` in it, there are several."""
    questions: Path
    """What runs are evaluated on."""
    splits: Mapping[str, Split]
    """How much of every split the corpus has."""
    shared: SharedGround | None = None
    """Weights that were made elsewhere; the first base is theirs."""

    def base(self, number: int) -> str:
        """The path of a base."""
        if self.shared is not None and number == 0:
            return str(self.shared.base)
        return self.bases.replace(SEED, str(number))

    def preferences(self, rows: Rows) -> Path:
        """The file of preference rows of a form on so many clips, made from the clips' ground truth.

        It is written each time, so that a resumed proof trains on the rows of today.

        Raises:
            SettingError: The corpus has fewer clips for preferences.
        """
        target = self.out / "rows" / f"{rows.form}-{rows.clips}.jsonl"
        scenes = [scene for scene in draw_splits(self.splits, CORPUS_SEED) if scene.split == PREFERENCE]
        if len(scenes) < rows.clips:
            raise SettingError(f"{rows.clips} preference clips are asked for, and the corpus has {len(scenes)}.")
        made = (row.to_json() for scene in scenes[: rows.clips] for row in preferences(scene, rows.form))
        target.parent.mkdir(exist_ok=True)
        write_json_lines(target, made)
        return target


@dataclass(frozen=True, slots=True)
class Rows:
    """What preference rows a run trains on."""

    form: str
    """One of `avem.tools.project.proof.ground.rows.FORMS`."""
    clips: int
    """The first so many of the split."""


def make_ground(
    out: Path,
    splits: Mapping[str, Split],
    teaching: Split,
    bases: Sequence[int],
    settings: Mapping[str, Any],
    workers: int,
    shared: SharedGround | None = None,
) -> Ground:
    """Corpus, encoders, features, negatives and bases; what is there already stays.

    Args:
        out: Folder for all of it.
        splits: How much of every split there is.
        teaching: What the encoders are taught on.
        bases: Numbers of the bases to make; each is the seed of its training.
        settings: Of the bases' training, over the preset `proof`.
        workers: Bases trained at a time.
        shared: Encoders and the first base that were made elsewhere; None to train them here.

    Raises:
        SettingError: The folder holds the ground of another corpus or of other weights, or a base of other settings.
    """
    corpus, encoders = make_corpus(out, splits, teaching, shared)
    cache = make_store(out / "cache", corpus, encoders)
    train = partial(_train_base, corpus=corpus, cache=cache, folder=out / "bases", settings=settings)
    do_all(train, [(base, USUAL) for base in bases if shared is None or base != 0], workers, "base")
    paths = str(out / "bases" / SEED / "final")
    return Ground(out, corpus, encoders, cache, paths, corpus.benchmark, splits, shared)


def make_corpus(
    out: Path, splits: Mapping[str, Split], teaching: Split, shared: SharedGround | None = None
) -> tuple[Corpus, tuple[Path, Path]]:
    """What the grounds of all reference models share: the corpus, and the taught encoders' folders.

    Raises:
        SettingError: The folder holds another corpus, or weights made elsewhere where it now is to train its own.
    """
    plan: dict[str, Any] = {
        "splits": _sizes(splits),
        "teaching": asdict(teaching),
        "seed": CORPUS_SEED,
    }
    claim_directory(out, PLAN, plan if shared is None else {**plan, "weights": shared.digest}, "proof")
    corpus = _write_corpus(out / "corpus", splits, plan)
    return corpus, teach_encoders(out / "encoders", teaching) if shared is None else shared.encoders


def with_clips(ground: Ground, clips: int) -> Ground:
    """A ground with at least so many clips for preferences, from the same encoders and bases.

    Args:
        ground: Returned itself if its corpus has enough.
        clips: For preferences. The first of a larger corpus are those of the smaller, and so are the validation clips.

    Raises:
        SettingError: The folder of the larger corpus holds something else.
    """
    usual = ground.splits[PREFERENCE]
    if clips <= usual.clips:
        return ground
    splits = {BASE: Split(1, 1), PREFERENCE: replace(usual, clips=clips), VALIDATION: ground.splits[VALIDATION]}
    out = ground.out / f"clips-{clips}"
    corpus = _write_corpus(out / "corpus", splits, {"splits": _sizes(splits), "seed": CORPUS_SEED})
    cache = make_store(out / "cache", corpus, ground.encoders)
    return replace(ground, out=out, corpus=corpus, cache=cache, splits=splits)


def _sizes(splits: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    return {name: asdict(split) for name, split in splits.items()}


def _write_corpus(root: Path, splits: Mapping[str, Split], plan: Mapping[str, Any]) -> Corpus:
    """The clips of these splits with their rows and questions; what is there already stays."""
    recipe = RowRecipe(instructions, preferences, questions, BASE, PREFERENCE)
    return write_corpus(root, draw_splits(splits, CORPUS_SEED), plan, recipe, CORPUS_SEED)


def make_store(cache: Path, corpus: Corpus, encoders: tuple[Path, Path], storage: str = "float16") -> Path:
    """Extract the corpus and mine its negatives.

    Args:
        cache: The store to make.
        corpus: What is extracted.
        encoders: Folders of the video and the audio encoder.
        storage: How features are kept: float16, bfloat16 or int8.
    """
    video, audio = encoders
    extract_corpus(corpus, cache, ExtractOptions(video_encoder=video, audio_encoder=audio, dtype=storage))
    store, labels = FeatureStore.open(cache), corpus.shown()
    for recipe in RECIPES:
        ensure_negatives(store, recipe, CORPUS_SEED, labels)
    return cache


def on_first_clips(questions: Sequence[Question], clips: int) -> tuple[Question, ...]:
    """The questions on so many clips, in order of the clips' names."""
    chosen = set(sorted({question.video for question in questions})[:clips])
    return tuple(question for question in questions if question.video in chosen)


def make_bases(ground: Ground, kinds: Sequence[BaseKind], settings: Mapping[str, Any], workers: int) -> list[str]:
    """Bases of other kinds, with the first seed; those that are there stay.

    Args:
        ground: What they are trained on.
        kinds: Distinct kinds.
        settings: Of their training, over the preset `proof`.
        workers: Bases trained at a time.

    Returns:
        Their paths.
    """
    folder = ground.out / "bases"
    train = partial(_train_base, corpus=ground.corpus, cache=ground.cache, folder=folder, settings=settings)
    found = do_all(train, [(0, kind) for kind in kinds], workers, "base")
    return [str(found[0, kind] / "final") for kind in kinds]


def _train_base(
    job: tuple[int, BaseKind], *, corpus: Corpus, cache: Path, folder: Path, settings: Mapping[str, Any]
) -> Path:
    """Supervised training of projectors and language model, both from scratch."""
    seed, kind = job
    own = {} if kind.epochs is None else {"epochs": kind.epochs}
    config = SupervisedConfig(
        cache=cache,
        model="untrained",
        data=corpus.instructions,
        out=folder / "-".join(filter(None, (str(seed), kind.folder))),
        seed=seed,
        device="cpu",
        **{**SUPERVISED["proof"], **settings, **own},
    )
    rows, pairs = read_instructions(corpus.instructions), read_preferences(corpus.preferences)
    model = make_untrained(rows, pairs, FeatureStore.open(cache), seed, LlamaSize(kind.width, LAYERS))
    return train_supervised(config, model)
