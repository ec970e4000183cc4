"""Train and evaluate the runs of grids, several at a time; finished runs are not repeated."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore
from avem.errors import SettingError
from avem.evaluate import bench_emorealm
from avem.evaluate.contrast import bench_contrast
from avem.evaluate.emorealm import read_questions
from avem.evaluate.emorealm.subtasks import read_subtasks, with_subtasks
from avem.evaluate.predict.loading import open_model
from avem.evaluate.predict.predictor import check_style
from avem.files import file_stamps, json_sha256
from avem.guards.output_kinds import SWEEP
from avem.guards.ownership import opened
from avem.guards.secrets import mask
from avem.records import Question
from avem.sealed.files import read_sealed, write_sealed
from avem.starts import default_model
from avem.tools.sweep.grid import Grid
from avem.tools.sweep.measures import BENCHED, bench_measures, training_measures
from avem.tools.sweep.pool import do_all
from avem.tools.sweep.sets import set_measures, sets_of
from avem.train import PreferenceConfig, train_preferences
from avem.train.settings.config import RunConfig
from avem.train.settings.sources import build_config

SEED = "{seed}"
"""Stands in a model's path for the seed of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """Settings of `avem sweep`."""

    cache: Path = Path("./cache")
    prefs: Path = Path("./preferences.jsonl")
    model: str = field(default_factory=default_model)
    """What every run starts from; with `{seed}` in it, each seed has a model of its own."""
    out: Path = Path("./sweep")
    """Runs and results; a sweep resumes with what is there."""
    questions: Path | None = None
    """EmoReAlM's questions; None evaluates runs by training's own measures alone."""
    subtasks: Path | None = None
    """Side file with the subtasks of stress questions."""
    style: str = "letters"
    seeds: tuple[int, ...] = ()
    """Replaces the grid's."""
    settings: Mapping[str, Any] | None = None
    """Of every run, over the grid's own and below what the run differs in."""
    only: tuple[str, ...] = ()
    """Names of the runs to do; empty for all."""
    device: str = "auto"
    workers: int = 1
    """Runs at a time, each in a process with its share of the processor's threads."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run with one seed came to."""

    run: str
    seed: int
    measures: Mapping[str, float]
    folder: Path
    """Where the bench left the answers, if there were questions."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job: train and evaluate a run, or evaluate a model as it is."""

    config: PreferenceConfig | None
    model: str
    """What is evaluated where nothing is trained."""
    decoding: str
    folder: Path
    """Where answers go."""
    sets: tuple[str, ...] = ()
    """Emotion sets to evaluate on."""
    subtitles: bool = False
    """Whether prompts show what is said as text too."""


def run_sweep(grid: Grid, options: SweepOptions) -> list[RunResult]:
    """Train and evaluate every run of a grid that is not done yet; see `run_sweeps`.

    Returns:
        Results in the grid's order, the base first.
    """
    return run_sweeps([grid], options)[0]


def run_sweeps(grids: Sequence[Grid], options: SweepOptions) -> list[list[RunResult]]:
    """Train and evaluate every run of some grids that is not done yet.

    Runs with the same settings are trained once. All read one store, so that scores that no setting changes are
    computed for the first and found by the others.

    Args:
        grids: The runs.
        options: Where everything is.

    Returns:
        Results of each grid, in its order, the base first.

    Raises:
        SettingError: A run is unknown, or the benchmark's columns are asked for without questions.
        AvemError: A run can't be done; those before it are kept.
    """
    _check(grids, options)
    models = [_model(options, seed) for grid in grids for seed in options.seeds or grid.seeds]
    with opened(options.out, SWEEP, reads=[options.cache, options.prefs, options.questions, options.subtasks, *models]):
        return _run_sweeps(grids, options)


def _run_sweeps(grids: Sequence[Grid], options: SweepOptions) -> list[list[RunResult]]:
    questions = None if options.questions is None else asked_questions(options.questions, options)
    plans = [list(_plan(grid, options)) for grid in grids]  # every setting is checked before the first run begins
    jobs: dict[Path, Job] = {}
    for *_, job in (row for plan in plans for row in plan):  # grids may share a run and differ in sets
        sets = (*(jobs[job.folder].sets if job.folder in jobs else ()), *job.sets)
        jobs[job.folder] = replace(job, sets=tuple(dict.fromkeys(sets)))
    measured = do_all(partial(_do, questions=questions, options=options), list(jobs.values()), options.workers, "run")
    found = {job.folder: measures for job, measures in measured.items()}
    return [[RunResult(name, seed, found[job.folder], job.folder) for name, seed, job in plan] for plan in plans]


def asked_questions(path: Path, options: SweepOptions) -> list[Question]:
    """The benchmark's questions, with the side file's subtasks where there is one.

    Raises:
        DataError: A file is not what it should be.
    """
    questions = read_questions(path)
    return with_subtasks(questions, read_subtasks(options.subtasks)) if options.subtasks else questions


def _check(grids: Sequence[Grid], options: SweepOptions) -> None:
    names = [run.name for grid in grids for run in grid.runs]
    if unknown := set(options.only) - set(names):
        where = " and ".join(grid.name for grid in grids)
        raise SettingError(f"The grid {where} has no run {min(unknown)}; it has {', '.join(dict.fromkeys(names))}.")
    check_style(options.style)
    if options.out.exists() and not options.out.is_dir():
        raise SettingError(f"{options.out} is a file; give a folder with --out.")
    if options.workers < 1:
        raise SettingError(f"--workers is {options.workers}; it has to be at least 1.")
    for grid in grids:
        if options.questions is None and set(grid.columns) & set(BENCHED):
            raise SettingError(f"The grid {grid.name} shows EmoReAlM's results; name the questions with --questions.")


def _plan(grid: Grid, options: SweepOptions) -> Iterator[tuple[str, int, Job]]:
    """Name, seed and job of every row of the grid's table that is wanted."""
    seeds, sets = options.seeds or grid.seeds, sets_of(grid.columns)
    shared = {**grid.settings, **(options.settings or {})}
    said = bool(shared.get("subtitles", False))
    untrained = seeds if SEED in options.model else seeds[:1]  # one model is one result, whatever the runs' seeds
    if grid.base is not None and (options.questions is not None or sets):
        for seed in untrained:
            yield grid.base.name, seed, _model_job(options, seed, "", sets, said)
    for run in grid.runs:
        if options.only and run.name not in options.only:
            continue
        for seed in untrained if run.decoding else seeds:
            if run.decoding:
                yield run.name, seed, _model_job(options, seed, run.decoding, (), said)
            else:
                config = sweep_config({**shared, **run.settings}, seed, options)
                final, folder = str(config.out / "final"), config.out / "bench"
                yield run.name, seed, Job(config, final, "", folder, sets, config.subtitles)


def _model_job(options: SweepOptions, seed: int, decoding: str, sets: tuple[str, ...], subtitles: bool) -> Job:
    parts = [f"base-{seed}" if SEED in options.model else "base", decoding, "subtitles" if subtitles else ""]
    return Job(None, _model(options, seed), decoding, options.out / "-".join(filter(None, parts)), sets, subtitles)


def _model(options: SweepOptions, seed: int) -> str:
    return options.model.replace(SEED, str(seed))


def sweep_config(settings: Mapping[str, Any], seed: int, options: SweepOptions) -> PreferenceConfig:
    """A run's settings; its folder is named by what they compute, so that equal runs share one.

    Raises:
        SettingError: A setting is unknown, cannot be, or has an option of the sweep's own.
    """
    paths = {"cache": options.cache, "prefs": options.prefs, "model": _model(options, seed), "device": options.device}
    if taken := settings.keys() & {*paths, "seed", "out"}:
        raise SettingError(f"{min(taken)} is not a run's own setting; a sweep gives it to every run.")
    config = build_config(PreferenceConfig, {**settings, **paths, "seed": seed, "out": options.out})
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


def _do(job: Job, questions: Sequence[Question] | None, options: SweepOptions) -> dict[str, float]:
    measures = {}
    if job.config is not None:
        measures = training_measures(train_preferences(job.config))
    if questions is not None:
        measures |= _evaluate(job, questions, options)
    if job.sets:
        store = FeatureStore.open(options.cache)
        asked = [*source_stamp(job.model, store), *_said(job, store)]
        measures |= set_measures(job.model, store, job.sets, job.folder, asked, options.device, subtitles=job.subtitles)
    return measures


def _said(job: Job, store: FeatureStore) -> list[str]:
    """A digest of every subtitle, where prompts show them."""
    return [json_sha256(store.columns(["clip_id", "subtitle"]).to_pylist())] if job.subtitles else []


def _evaluate(job: Job, questions: Sequence[Question], options: SweepOptions) -> dict[str, float]:
    """A model's columns, from the job's folder where they are already there for all that they depend on."""
    file, store, name = job.folder / "measures.json", FeatureStore.open(options.cache), job.folder.name
    asked = json_sha256(
        [
            [question.to_json() for question in questions],
            options.style,
            job.decoding,
            source_stamp(job.model, store),
            *_said(job, store),
        ]
    )
    if file.is_file() and (known := read_sealed(file)).get("asked") == asked:
        return dict(known["measures"])
    model = open_model(job.model, options.device)
    if job.decoding == "contrastive":
        result = bench_contrast(
            model, store, questions, options.style, job.folder, name=name, resamples=0, subtitles=job.subtitles
        )
    else:
        result = bench_emorealm(
            model,
            store,
            questions,
            options.style,
            job.folder,
            name=name,
            generate=False,
            text_only=False,
            subtitles=job.subtitles,
            resamples=0,
        )
    measures = bench_measures(result.score)
    write_sealed(file, {"asked": asked, "measures": measures})
    return measures


def source_stamp(model: str, store: FeatureStore) -> list[Any]:
    """A fingerprint of the model and the store that were evaluated, without reading a weight.

    Args:
        model: A folder, of which every file's name, size and time of change count, or a name on a hub.
        store: The features; its path, its encoders and its number of clips count.
    """
    others = [name for name in store.streams if name.partition("/")[0] not in store.kinds]
    return [
        model,
        file_stamps(Path(model)),
        mask(store.location.url),
        {name: store.fingerprint(name) for name in (*store.kinds, *others)},
        len(store),
    ]
