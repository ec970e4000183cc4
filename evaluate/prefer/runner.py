"""`avem bench mer-prefer`: both orders of two descriptions, the likelier one, weighted F1 and accuracy."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.errors import DataError, SettingError
from avem.evaluate.bench import answer_questions
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.results import METHODS, Item
from avem.evaluate.intervals import range_text
from avem.evaluate.predict.loading import short_names
from avem.evaluate.prefer.pairs import LABELS, Pair, read_pairs, submission
from avem.evaluate.recognition.scoring import score_labels
from avem.evaluate.replacing import refuse_replacing
from avem.evaluate.runner import BenchOptions, prepare
from avem.evaluate.sheets import Sheet
from avem.files import write_atomic
from avem.guards.output_kinds import BENCH
from avem.guards.ownership import opened, owned

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreferResult:
    """One model on pairs of descriptions."""

    name: str
    scores: dict[str, dict[str, Any]]
    """Method to `weighted_f1, war` (accuracy) and the rest of `score_labels`; empty where no pair is labelled."""
    chosen: dict[int, str]
    """Row of each answered pair to `a1` or `a2`, by the likelihood where it is known."""
    submission: Path | None = None


def predicted(items: Sequence[Item], pairs: Sequence[Pair], method: str) -> dict[int, str]:
    """Row of each pair to the description that a method chooses; pairs without an answer are left out."""
    letters = {pair.row: item.letter(method) for pair, item in zip(pairs, items, strict=True)}
    return {row: LABELS["AB".index(letter)] for row, letter in letters.items() if letter is not None}


def prefer_scores(
    pairs: Sequence[Pair], chosen: Mapping[int, str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Weighted F1 and accuracy (`war`) of the labelled pairs, in percent; a pair without an answer is wrong.

    Raises:
        DataError: No pair is labelled.
    """
    labelled = [pair for pair in pairs if pair.preference]
    said = [chosen.get(pair.row) for pair in labelled]
    return score_labels([pair.preference for pair in labelled], said, LABELS, resamples=resamples, seed=seed)


def run_prefer(options: BenchOptions) -> list[PreferResult]:
    """Bench every model on a table of pairs (`options.questions`), shown in both orders.

    A table without preferences, such as `track3_candidate.csv`, is not scored: `submission.csv` holds the predictions.

    Raises:
        AvemError: Something is missing or wrong; the message says what and which option supplies it.
    """
    pairs = read_pairs(options.questions)
    if options.limit is not None:
        pairs = pairs[: options.limit]
    labelled = any(pair.preference for pair in pairs)
    if labelled:
        pairs = [pair for pair in pairs if pair.preference]
    if not options.models:
        raise SettingError("There is nothing to bench; name a model with --model.")
    results = []
    reads: list[str | Path] = [options.questions, options.cache, *options.models]
    with opened(options.out, BENCH, reads=reads, roots=[options.media_root], alone=False):
        for short, path in zip(short_names(options.models), options.models, strict=True):
            with owned(options.out / short):
                results.append(_one(path, short, pairs, options, labelled=labelled))
    return results


def _one(path: str, name: str, pairs: Sequence[Pair], options: BenchOptions, *, labelled: bool) -> PreferResult:
    folder = options.out / name
    terms = {"model": path, "table": options.questions.name, "style": options.style}
    refuse_replacing(folder / "prefer.json", terms, {str(pair.row) for pair in pairs}, "pair")
    ready = prepare(path, name, [pair.question() for pair in pairs], options)
    letters = ready.predictor.style == "letters"
    items = answer_questions(
        ready.predictor, ready.questions, ready.clips, ready.methods, folder, name=name, permute=letters
    )
    absent = [item for item in items if item.absent]
    if absent:
        logger.warning("%s: %d of %d pairs have no answer (%s).", name, len(absent), len(items), absent[0].absent)
    answers = {method: predicted(items, pairs, method) for method in METHODS if method in ready.methods}
    chosen = answers["likelihood"] or answers.get("generation", {})
    if not labelled:
        target = folder / "submission.csv"
        write_atomic(target, submission(pairs, chosen))
        return PreferResult(name, {}, chosen, target)
    scores = {
        method: prefer_scores(pairs, rows, options.resamples, options.seed) for method, rows in answers.items() if rows
    }
    if not scores:
        raise DataError(f"{name} answered none of the {len(pairs)} pairs; extract their clips first.")
    about = {"name": name, "model": {"source": path}, "table": options.questions.name, "style": options.style}
    found = {"pairs": len(pairs), "scores": scores, "chosen": {str(row): choice for row, choice in chosen.items()}}
    write_atomic(folder / "prefer.json", json.dumps({**about, **found}, indent=1) + "\n")
    return PreferResult(name, scores, chosen)


def prefer_sheet(results: Sequence[PreferResult]) -> Sheet:
    """One row for each model and method."""
    rows, records = [], []
    for result in results:
        for method, found in result.scores.items():
            shown = [f"{found[name]:.2f}" for name in ("weighted_f1", "war")]
            between = range_text(found.get("intervals", {}).get("weighted_f1"), int(found["n"]))
            rows.append((result.name, method.replace("_", " "), str(found["n"]), *shown, between))
            numbers = {"weighted_f1": found["weighted_f1"], "accuracy": found["war"]}
            records.append({"model": result.name, "method": method, "n": found["n"], **numbers})
    header = ("model", "method", "pairs", "weighted F1", "accuracy", "95 %")
    note = "Percent; 50 is chance. Each pair is shown in both orders, and the log-probabilities are averaged."
    return Sheet("MER-Prefer", header, tuple(rows), tuple(records), note)
