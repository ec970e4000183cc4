"""Runs every stage of avem on the controlled corpus, as a user would run them on their own clips."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from avem.cache import FeatureStore, ensure_negatives
from avem.evaluate import BenchResult
from avem.evaluate.runner import BenchOptions, run_emorealm
from avem.extract import ExtractOptions
from avem.files import claim_directory, save_page, write_json_lines
from avem.guards.ownership import owned
from avem.systems import peak_memory_bytes
from avem.tools.ask.settings import write_kit
from avem.tools.corpus.build import Corpus, build_corpus
from avem.tools.corpus.features import extract_corpus
from avem.tools.demo.models import make_encoders, make_untrained
from avem.tools.demo.presets import PREFERENCE, SUPERVISED
from avem.train import PreferenceConfig, SupervisedConfig, train_preferences, train_supervised
from avem.train.data.rows import read_instructions, read_preferences

logger = logging.getLogger(__name__)

SETTINGS = "demo.json"
KIT = {
    "model": "runs/avem-dpo/final",
    "cache": "cache",
    "video_encoder": "encoders/languagebind-video",
    "audio_encoder": "encoders/whisper",
    "question": "What in the picture shows the feeling?",
    "emotion_question": "What does the face show?",
    "emotion_answer": "The face shows {}.",
}
"""What `avem ask` has to know of the demo's model, whose words are those of its corpus."""
PREFERENCE_ROWS = "preferences.jsonl"
"""In the demo's folder: those of the corpus's preference rows that it trains on."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Settings of `avem demo`."""

    out: Path = Path("./demo")
    clips: int = 1000
    seed: int = 0
    base_epochs: int = int(SUPERVISED["epochs"])
    epochs: int = int(PREFERENCE["epochs"])


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What a demo run made."""

    results: list[BenchResult]
    """Base model, then the model trained with AVEm-DPO."""
    page: Path
    clip: Path
    """One of its test clips, to ask about."""
    timings_s: dict[str, float]
    """Seconds a stage took in this run; a stage that was done before takes next to none."""
    peak_memory_mb: float
    """Largest resident size of this process, MiB."""


def run_demo(options: DemoOptions) -> DemoReport:
    """Corpus, features, negatives, base model, AVEm-DPO, benchmark and report; a stopped run resumes.

    Raises:
        SettingError: The folder holds a demo of other settings.
    """
    out = options.out
    timings_s: dict[str, float] = {}
    settings = {name: value for name, value in asdict(options).items() if name != "out"}
    claim_directory(out, SETTINGS, settings, "demo")
    with owned(out):
        return _run_demo(options, timings_s)


def _run_demo(options: DemoOptions, timings_s: dict[str, float]) -> DemoReport:
    out = options.out
    with _timed(timings_s, "corpus"):
        corpus = build_corpus(out / "corpus", options.clips, options.seed)
    with _timed(timings_s, "extract"):
        video, audio = make_encoders(out / "encoders")
        extract_corpus(corpus, out / "cache", ExtractOptions(video_encoder=video, audio_encoder=audio))
    with _timed(timings_s, "negatives"):
        store = FeatureStore.open(out / "cache")
        ensure_negatives(store, "hard", options.seed)
    with _timed(timings_s, "base model"):
        base = _train_base(options, corpus, store)
    with _timed(timings_s, "AVEm-DPO"):
        trained = _train_preferences(options, corpus, base)
    with _timed(timings_s, "benchmark"):
        results = run_emorealm(
            BenchOptions(
                questions=corpus.benchmark,
                cache=out / "cache",
                models=(str(base / "final"), str(trained / "final")),
                style="cloze",
                seed=options.seed,
                media_root=corpus.root,
                out=out / "bench",
            )
        )
    write_kit(out, **KIT)
    page = out / "report.html"
    save_page(page, (out / "bench" / "report.html").read_text(encoding="utf-8"))
    peak_mb = peak_memory_bytes() / 2**20
    clip = corpus.root / results[-1].items[0].question.video
    return DemoReport(results, page, clip, timings_s, peak_mb)


def _train_base(options: DemoOptions, corpus: Corpus, store: FeatureStore) -> Path:
    """Supervised training of projectors and language model on descriptions and questions about cues that are there."""
    config = SupervisedConfig(
        cache=options.out / "cache",
        model="untrained",
        data=corpus.instructions,
        out=options.out / "runs" / "base",
        seed=options.seed,
        **{**SUPERVISED, "epochs": options.base_epochs},
    )
    model = make_untrained(
        read_instructions(corpus.instructions), read_preferences(corpus.preferences), store, options.seed
    )
    return train_supervised(config, model)


def _train_preferences(options: DemoOptions, corpus: Corpus, base: Path) -> Path:
    """AVEm-DPO on the corpus's yes-or-no questions about cues, see `PREFERENCE`."""
    prefs = options.out / PREFERENCE_ROWS
    rows = read_preferences(corpus.preferences)
    write_json_lines(prefs, (row.to_json() for row in rows if row.task.startswith("reasoning_stress")))
    config = PreferenceConfig(
        cache=options.out / "cache",
        model=str(base / "final"),
        prefs=prefs,
        out=options.out / "runs" / "avem-dpo",
        seed=options.seed,
        **{**PREFERENCE, "epochs": options.epochs},
    )
    return train_preferences(config)


@contextmanager
def _timed(timings_s: dict[str, float], stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    timings_s[stage] = time.monotonic() - start
    logger.info("%-10s %6.1f s", stage, timings_s[stage])
