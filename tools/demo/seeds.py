"""Demos of several seeds as tables for `docs/demo.md`: `python -m avem.tools.demo.seeds demo-0 demo-1 demo-2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import typer

from avem.evaluate import BenchResult
from avem.evaluate.bootstrap import RESAMPLES, Floats, percentiles
from avem.evaluate.emorealm.cues import cue_records
from avem.evaluate.emorealm.detection import about_cue, resampled_auc
from avem.evaluate.emorealm.questions import task_name
from avem.evaluate.emorealm.results import read_result, score_items
from avem.evaluate.emorealm.summary import summarise
from avem.evaluate.sheets import markdown_table

MODELS = ("base", "avem-dpo")
Runs: TypeAlias = Mapping[str, Sequence[BenchResult]]
"""Each model's results, a seed each."""


def pool(results: Sequence[BenchResult]) -> BenchResult:
    """One result of a model's results on corpora of several seeds; every corpus keeps its clips apart."""
    items = []
    for number, result in enumerate(results):
        for item in result.items:
            asked = item.question
            own = replace(asked, id=f"{number}/{asked.id}", video=f"{number}/{asked.video}")
            items.append(replace(item, question=own))
    return score_items(items, name=results[0].name, style=results[0].style)


def main(demos: Annotated[list[Path], typer.Argument(help="Folders that `avem demo` made.")]) -> None:
    """Print the pooled scores with intervals over all clips, each seed's change, and the scores of each kind of cue."""
    runs = {model: [read_result(demo / "bench" / model) for demo in demos] for model in MODELS}
    pooled = [pool(runs[model]) for model in MODELS]
    single = [summarise([runs[model][number] for model in MODELS]) for number in range(len(demos))]
    lines = []
    for row, *alone in zip(summarise(pooled), *single, strict=True):
        text_only = "" if row.text_only[0] is None else f"{row.text_only[0].value:.1f}"
        changes = ", ".join(f"{one.deltas[1].difference:+.1f}" for one in alone if one.deltas[1])
        written = " / ".join("" if other is None else f"{other.value:.1f}" for other in row.other)
        lines.append([row.name, row.metric, text_only, *map(str, row.values), str(row.deltas[1]), changes, written])
    header = ["task", "metric", "text only", *MODELS, "change", "change by seed", "as written"]
    typer.echo(markdown_table(header, lines))
    header = ["task, cue", "text only", *MODELS, "change", "change by seed", "d'"]
    typer.echo(markdown_table(header, cue_lines(runs)))
    header = ["task, cue", "yes", "change by seed", "no", "change by seed"]
    typer.echo(markdown_table(header, accuracy_lines(runs)))


def cue_lines(runs: Runs) -> list[list[str]]:
    """AUC and d' of each kind of cue.

    A mean over seeds: log-odds of different models do not compare, so questions of several seeds are never pooled. The
    interval of the change is over clips of every seed, and paired: both models answer the same questions.
    """
    lines = []
    for (task, cue), records in _by_cue(runs).items():
        drawn = [100 * np.mean(_drawn(runs[model], task, cue), axis=0) for model in MODELS]
        low, high = percentiles(drawn[1] - drawn[0])
        auc, text_only, d_prime = (_means(records, field) for field in ("auc", "text_only_auc", "d_prime"))
        lines.append(
            [
                f"{task_name(task)}, {cue}",
                " / ".join(f"{value:.1f}" for value in text_only),
                *(f"{value:.1f}" for value in auc),
                f"{auc[1] - auc[0]:+.1f} [{low:+.1f}, {high:+.1f}]",
                _changes(records, "auc"),
                " / ".join(f"{value:.2f}" for value in d_prime),
            ]
        )
    return lines


def accuracy_lines(runs: Runs) -> list[list[str]]:
    """Accuracies on yes and on no of each kind of cue, base / AVEm-DPO, means over seeds."""
    lines = []
    for (task, cue), records in _by_cue(runs).items():
        line = [f"{task_name(task)}, {cue}"]
        for field in ("yes_accuracy", "no_accuracy"):
            line += [" / ".join(f"{value:.1f}" for value in _means(records, field)), _changes(records, field)]
        lines.append(line)
    return lines


Records: TypeAlias = Mapping[str, list[dict[str, Any]]]
"""Each model's records of one kind of cue, a seed each."""


def _by_cue(runs: Runs) -> dict[tuple[str, str], Records]:
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for model, results in runs.items():
        for record in (record for result in results for record in cue_records([result])):
            found.setdefault((record["task"], record["cue"]), {}).setdefault(model, []).append(record)
    return dict(found)


def _means(records: Records, field: str) -> list[float]:
    return [float(np.mean([record[field] for record in records[model]])) for model in MODELS]


def _changes(records: Records, field: str) -> str:
    pairs = zip(*(records[model] for model in MODELS), strict=True)
    return ", ".join(f"{after[field] - before[field]:+.1f}" for before, after in pairs)


def _drawn(results: Sequence[BenchResult], task: str, cue: str) -> list[Floats]:
    """AUC of each seed's result on resampled clips, float64 [resamples] a seed."""
    odds = [about_cue(result.log_odds("likelihood"), task, cue) for result in results]
    return [resampled_auc(one, RESAMPLES, number) for number, one in enumerate(odds)]


if __name__ == "__main__":
    typer.run(main)
