"""Options that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DEFAULT_MODEL = "./runs/avem-dpo/final"

StorePath: TypeAlias = Annotated[Path, typer.Option("--cache", help="The feature store.")]
ModelsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--model", help=f"Model's folder or hub id; may be repeated. [default: {DEFAULT_MODEL}]"),
]
QuestionsOption: TypeAlias = Annotated[Path, typer.Option("--questions", help="The benchmark file.")]
GenerateOption: TypeAlias = Annotated[bool, typer.Option(help="Also let the model write its answers.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Seed of everything random.")]
Device: TypeAlias = Annotated[str, typer.Option(help="cpu, cuda, ...; auto takes a GPU if there is one.")]
Precision: TypeAlias = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
OutOption: TypeAlias = Annotated[Path, typer.Option(help="Where answers, results and the report go.")]
LimitOption: TypeAlias = Annotated[int | None, typer.Option(help="At most so many of each label or task.")]

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the table as JSON.")]
AsCsv: TypeAlias = Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")]
AsMarkdown: TypeAlias = Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")]
AsLatex: TypeAlias = Annotated[bool, typer.Option("--latex", help="Print the table as LaTeX.")]


def chosen_models(models: list[str] | None) -> tuple[str, ...]:
    """The models that were named, or the default one."""
    return tuple(models or (DEFAULT_MODEL,))
