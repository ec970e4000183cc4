"""Training and judging the runs of a grid, one after another; what is done stays done."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore
from avem.errors import SettingError
from avem.evaluate.bench import bench_emorealm
from avem.evaluate.loading import open_model
from avem.evaluate.questions import read_questions
from avem.files import json_sha256, write_atomic
from avem.records import Question
from avem.tools.sweep.grid import Grid
from avem.tools.sweep.measures import BENCHED, bench_measures, training_measures
from avem.train.config import PreferenceConfig, RunConfig
from avem.train.options import build_config
from avem.train.trainer import train_preferences

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """Settings of `avem sweep`."""

    cache: Path = Path("./cache")
    prefs: Path = Path("./preferences.jsonl")
    model: str = "chaubeyG/AVERE-7B"
    out: Path = Path("./sweep")
    """Runs and results; a sweep goes on with what is there."""
    questions: Path | None = None
    """EmoReAlM's questions; None judges runs by what training measured alone."""
    style: str = "letters"
    seeds: tuple[int, ...] = ()
    """In place of the grid's."""
    settings: Mapping[str, Any] | None = None
    """Of every run, over the grid's own and below what the run differs in."""
    only: tuple[str, ...] = ()
    """Names of the runs to do; empty for all."""
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run with one seed came to."""

    run: str
    seed: int
    measures: Mapping[str, float]


def run_sweep(grid: Grid, options: SweepOptions) -> list[RunResult]:
    """Train and judge every run of a grid that is not done yet.

    Runs with the same settings are trained once. All read one store, so that scores that no setting changes are
    computed for the first and found by the others.

    Args:
        grid: The runs.
        options: Where everything is.

    Returns:
        Results in the grid's order, the base first.

    Raises:
        SettingError: A run is unknown, or the benchmark's columns are asked for without questions.
        AvemError: A run can't be done; those before it are kept.
    """
    chosen = [run for run in grid.runs if not options.only or run.name in options.only]
    if unknown := set(options.only) - {run.name for run in grid.runs}:
        raise SettingError(
            f"The grid {grid.name} has no run {min(unknown)}; it has {', '.join(r.name for r in grid.runs)}."
        )
    if options.questions is None and set(grid.columns) & set(BENCHED):
        raise SettingError(f"The grid {grid.name} shows EmoReAlM's results; name the questions with --questions.")
    questions = None if options.questions is None else read_questions(options.questions)
    configs = {
        (run.name, seed): _config(grid, run.settings, seed, options)
        for run in chosen
        for seed in options.seeds or grid.seeds
    }  # every setting is checked before the first run begins
    results = []
    if grid.base is not None and questions is not None:
        results.append(RunResult(grid.base.name, 0, _judge(options.model, questions, options.out / "base", options)))
    for number, ((name, seed), config) in enumerate(configs.items(), 1):
        logger.info("Run %d of %d: %s, seed %d", number, len(configs), name, seed)
        results.append(RunResult(name, seed, _measure(config, questions, options)))
    return results


def _config(grid: Grid, own: Mapping[str, Any], seed: int, options: SweepOptions) -> PreferenceConfig:
    """A run's settings; its folder is named by what they compute, so that equal runs share one."""
    settings = {**grid.settings, **(options.settings or {}), **own}
    places = {"cache": options.cache, "prefs": options.prefs, "model": options.model, "device": options.device}
    config = build_config(PreferenceConfig, {**settings, **places, "seed": seed, "out": options.out})
    label = re.sub(r"[^\w.=-]+", "_", _label(config))[:80]
    folder = options.out / "runs" / f"{label}-{json_sha256(config.identity())[:8]}"
    return build_config(PreferenceConfig, {**config.to_json(), "out": folder})


def _label(config: PreferenceConfig) -> str:
    """What of the objective differs from the paper's, with the seed."""
    shared = {field.name for field in dataclasses.fields(RunConfig)} | {"prefs"}
    own = [field for field in dataclasses.fields(config) if field.name not in shared]
    values = {field.name: getattr(config, field.name) for field in own}
    different = [f"{field.name}={values[field.name]}" for field in own if values[field.name] != field.default]
    return "-".join([*(different or ["paper"]), f"seed={config.seed}"])


def _measure(config: PreferenceConfig, questions: Sequence[Question] | None, options: SweepOptions) -> dict[str, float]:
    run = train_preferences(config)
    measures = training_measures(run)
    if questions is not None:
        measures |= _judge(str(run / "final"), questions, run / "bench", options)
    return measures


def _judge(model: str, questions: Sequence[Question], folder: Path, options: SweepOptions) -> dict[str, float]:
    """A model's columns, from `folder` where they are already there for these questions."""
    file = folder / "measures.json"
    asked = json_sha256([[question.to_json() for question in questions], options.style, model])
    if file.is_file() and (known := json.loads(file.read_text(encoding="utf-8")))["asked"] == asked:
        return dict(known["measures"])
    result = bench_emorealm(
        open_model(model, options.device),
        FeatureStore.open(options.cache),
        questions,
        options.style,
        folder,
        name=folder.parent.name,
        generate=False,
        text_only=False,
        resamples=0,
    )
    measures = bench_measures(result.score)
    write_atomic(file, json.dumps({"asked": asked, "measures": measures}, indent=1) + "\n")
    return measures
