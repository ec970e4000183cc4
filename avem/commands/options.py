"""Options that several commands share, with their help."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from avem.errors import SettingError

if TYPE_CHECKING:
    from avem.evaluate.predict.loading import EndpointOptions

DEFAULT_MODEL = "./runs/avem-dpo/final"


def given(context: typer.Context, names: Iterable[str]) -> list[str]:
    """Which of a command's options stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]


class Style(StrEnum):
    """How a question is put."""

    LETTERS = "letters"
    CLOZE = "cloze"


StorePath: TypeAlias = Annotated[Path, typer.Option("--cache", help="The feature store.")]
ModelsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--model", help=f"Model's folder or hub id; may be repeated. [default: {DEFAULT_MODEL}]"),
]
QuestionsOption: TypeAlias = Annotated[Path, typer.Option("--questions", help="The benchmark file.")]
StyleOption: TypeAlias = Annotated[Style, typer.Option(help="Show the options and weigh letters, or weigh texts.")]
TasksOption: TypeAlias = Annotated[str | None, typer.Option(help="Only these tasks, separated by commas.")]
GenerateOption: TypeAlias = Annotated[bool, typer.Option(help="Also let the model write its answers.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Seed of everything random.")]
Device: TypeAlias = Annotated[str, typer.Option(help="cpu, cuda, ...; auto takes a GPU if there is one.")]
Precision: TypeAlias = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16, or 4bit on a GPU.")]
OutOption: TypeAlias = Annotated[Path, typer.Option(help="Where answers, results and the report go.")]
LimitOption: TypeAlias = Annotated[int | None, typer.Option(help="At most so many of each label or task.")]

MediaOption: TypeAlias = Annotated[
    Path | None, typer.Option("--media", help="Folder of the clips, for pictures and for models shown media files.")
]
EndpointOption: TypeAlias = Annotated[
    str | None, typer.Option("--endpoint", help="Ask --model behind this OpenAI-compatible address (.../v1).")
]
KeyVariable: TypeAlias = Annotated[
    str, typer.Option("--key-variable", help="Environment variable that holds the endpoint's key.")
]
Parallel: TypeAlias = Annotated[int, typer.Option(help="Requests in flight at an endpoint.", min=1)]
Timeout: TypeAlias = Annotated[float, typer.Option("--timeout", help="Seconds to wait for an endpoint's reply.")]
Retries: TypeAlias = Annotated[int, typer.Option(help="Further tries at an endpoint.", min=0)]
Sound: TypeAlias = Annotated[bool, typer.Option(help="Send sound to the endpoint beside the frames.")]

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the table as JSON.")]
AsCsv: TypeAlias = Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")]
AsMarkdown: TypeAlias = Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")]
AsLatex: TypeAlias = Annotated[bool, typer.Option("--latex", help="Print the table as LaTeX.")]


def endpoint_options(
    url: str | None, *, key_variable: str, parallel: int, timeout_s: float, retries: int, sound: bool
) -> EndpointOptions | None:
    """Settings of an endpoint, or None where none was named."""
    from avem.evaluate.predict.loading import EndpointOptions

    if url is None:
        return None
    return EndpointOptions(
        url=url, key_variable=key_variable, parallel=parallel, timeout_s=timeout_s, retries=retries, sound=sound
    )


def chosen_models(models: list[str] | None, endpoint: str | None = None) -> tuple[str, ...]:
    """The models that were named, or the default one.

    Raises:
        SettingError: An endpoint was named without a model.
    """
    if endpoint is not None and not models:
        raise SettingError("--endpoint needs --model with the model's name at that address.")
    return tuple(models or (DEFAULT_MODEL,))
