"""Demos of several seeds as one table for `docs/demo.md`: `python -m avem.tools.demo.seeds demo-0 demo-1 demo-2`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from avem.evaluate import BenchResult
from avem.evaluate.emorealm.results import read_result, score_items
from avem.evaluate.emorealm.summary import summarise
from avem.evaluate.sheets import markdown_table

MODELS = ("base", "avem-dpo")


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
    """Print the pooled scores with intervals over all clips, each seed's change, and the scores of each subtask."""
    runs = {model: [read_result(demo / "bench" / model) for demo in demos] for model in MODELS}
    pooled = [pool(runs[model]) for model in MODELS]
    single = [summarise([runs[model][number] for model in MODELS]) for number in range(len(demos))]
    lines = []
    for row, *alone in zip(summarise(pooled), *single, strict=True):
        text_only = "" if row.text_only[0] is None else f"{row.text_only[0].value:.1f}"
        changes = ", ".join(f"{one.deltas[1].difference:+.1f}" for one in alone if one.deltas[1])
        lines.append([row.name, row.metric, text_only, *map(str, row.values), str(row.deltas[1]), changes])
    header = ["task", "metric", "text only", *MODELS, "change", "change by seed"]
    typer.echo(markdown_table(header, lines))
    typer.echo(markdown_table(["task", "subtask", *MODELS], _subtasks(pooled)))


def _subtasks(results: Sequence[BenchResult]) -> list[list[str]]:
    """Accuracies of every subtask, in percent."""
    return [
        [task, subtask, *(f"{result.score['subtasks'][task][subtask]['accuracy']:.1f}" for result in results)]
        for task, subtasks in results[0].score["subtasks"].items()
        for subtask in subtasks
    ]


if __name__ == "__main__":
    typer.run(main)
