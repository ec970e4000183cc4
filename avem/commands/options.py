"""Options that several commands share, with their help."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from avem.errors import MissingFileError, SettingError
from avem.guards.inputs import need_store
from avem.guards.output_kinds import STORE

if TYPE_CHECKING:
    from avem.evaluate.predict.loading import EndpointOptions

DEFAULT_MODEL = "./runs/avem-dpo/final"
DEFAULT_QUESTIONS = Path("./emorealm_v1.json")
DEFAULT_STORE = Path("./cache")


class Style(StrEnum):
    """How a question is asked."""

    LETTERS = "letters"
    CLOZE = "cloze"


ALL, NO_LIMIT, NONE = "all", "no limit", "none"
"""What `--help` shows as the default of an option that is unset."""

StorePath: TypeAlias = Annotated[Path, typer.Option("--cache", help="The feature store.")]
ModelsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--model", help="Model folder or hub id; repeat for several.", show_default=DEFAULT_MODEL),
]
QuestionsOption: TypeAlias = Annotated[Path, typer.Option("--questions", help="The EmoReAlM benchmark file.")]
StyleOption: TypeAlias = Annotated[
    Style, typer.Option(help="letters: list the options and score their letters; cloze: score the options' texts.")
]
TasksOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Only these tasks, separated by commas.", show_default=ALL)
]
SubtitlesShown: TypeAlias = Annotated[
    bool, typer.Option("--subtitles", help="Show models what is said as text too, where a clip has a subtitle.")
]
GenerateOption: TypeAlias = Annotated[bool, typer.Option(help="Also let the model write its answers.")]
Seed: TypeAlias = Annotated[int, typer.Option(help="Random seed.")]
BootstrapSeed: TypeAlias = Annotated[int, typer.Option("--seed", help="Random seed of the bootstrap.")]
Device: TypeAlias = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto uses a GPU if there is one.")]
Precision: TypeAlias = Annotated[
    str, typer.Option(help="Number format to compute in: auto, float32, bfloat16, float16, or 4bit on a GPU.")
]
OutOption: TypeAlias = Annotated[Path, typer.Option(help="Folder for answers, results and the report.")]
LimitOption: TypeAlias = Annotated[
    int | None, typer.Option(help="Maximum number of items for each label or task.", show_default=NO_LIMIT)
]
PresetOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Named settings of every run, as for `avem train`.", show_default=NONE)
]
ConfigOption: TypeAlias = Annotated[Path | None, typer.Option(help="TOML file of settings.", show_default=NONE)]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting, as option=value; may be repeated.", show_default=NONE),
]


def _use_read_cache(context: typer.Context, text: str | None) -> str | None:
    """Have this process, and those that it starts, read stores behind URLs through a cache until the command ends."""
    if text is not None:
        from avem.cache.remote.read_cache import ReadCache

        ReadCache.parse(text)
        before = os.environ.get(READ_CACHE)
        os.environ[READ_CACHE] = text
        context.call_on_close(lambda: os.environ.update({READ_CACHE: before or ""}))
    return text


READ_CACHE = "AVEM_READ_CACHE"
"""Environment variable that says the same as `--read-cache`."""


ReadCacheOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--read-cache",
        help="Keep what is read from a URL on a local disk: a size, or a size and a folder, as 200GB:/scratch.",
        envvar=READ_CACHE,
        show_envvar=False,
        show_default=NONE,
        callback=_use_read_cache,
    ),
]
MediaOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--media",
        help="Folder of the clips, or the one around it; for pictures and for models that read media files.",
        show_default="as recorded in the store",
    ),
]
StoreOfClips: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="The feature store that names the clips' files, instead of --media.",
        show_default="./cache, if it is there",
    ),
]


def store_of_clips(cache: Path | None, media: Path | None, *, needed: bool = False) -> Path | None:
    """The store that names the clips' files; None if a folder of clips is given, or there is no store.

    Args:
        cache: What `--cache` says.
        media: What `--media` says.
        needed: Whether nothing can be done without clips.

    Raises:
        MissingFileError: There is nothing at the path that `--cache` gives, or neither a folder nor a store.
    """
    if cache is not None:
        need_store(cache)
    if media is not None:
        return None
    found = cache or (DEFAULT_STORE if STORE.is_made(DEFAULT_STORE) else None)
    if found is None and needed:
        raise MissingFileError(
            "There are no clips; name their folder with --media, or the store that was made from them with --cache."
        )
    return found


EndpointOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--endpoint", help="OpenAI-compatible address (.../v1) that serves --model.", show_default="run the model here"
    ),
]
KeyVariable: TypeAlias = Annotated[
    str, typer.Option("--key-variable", help="Environment variable that holds the endpoint's key.")
]
Parallel: TypeAlias = Annotated[int, typer.Option(help="Number of requests to an endpoint at a time.", min=1)]
Timeout: TypeAlias = Annotated[float, typer.Option("--timeout", help="Seconds to wait for an endpoint's reply.")]
Retries: TypeAlias = Annotated[int, typer.Option(help="How often to retry a failed request.", min=0)]
Sound: TypeAlias = Annotated[bool, typer.Option(help="Send the clip's sound to the endpoint along with its frames.")]


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


def command_line(command: str, *parts: object) -> str:
    """A command to copy, its arguments quoted for the shell where they need it.

    Example:
        >>> command_line("avem report", Path("my runs/a"))
        "avem report 'my runs/a'"
    """
    return " ".join([command, *(shlex.quote(str(part)) for part in parts)])


def chosen_models(models: list[str] | None, endpoint: str | None = None) -> tuple[str, ...]:
    """The models that were named, or the default one.

    Raises:
        SettingError: An endpoint was named without a model.
    """
    if endpoint is not None and not models:
        raise SettingError("--endpoint needs --model with the model's name at that address.")
    return tuple(models or (DEFAULT_MODEL,))


class TableFormat(StrEnum):
    """Formats of a result table."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    LATEX = "latex"


class ReportFormat(StrEnum):
    """Formats of a report that is more than one table."""

    TABLE = "table"
    JSON = "json"


def prints_table(formats: type[StrEnum] = TableFormat) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command `--format`, and its older spellings (`--json`, `--csv`, ...) as hidden flags.

    The command has a keyword `form: str`, which receives the name of the format: `table` where none was chosen.

    Args:
        formats: The formats to choose from; one of them is `table`.

    Raises:
        SettingError: From the command, when two formats are chosen.
    """
    flags = [form.value for form in formats if form.value != "table"]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_format(**given: Any) -> None:
            chosen = given.pop("form")
            asked = [] if chosen is None else [f"--format {chosen.value}"]
            asked += [f"--{flag}" for flag in flags if given.pop(f"as_{flag}")]
            if len(asked) > 1:
                raise SettingError(f"{asked[0]} and {asked[1]} exclude each other; choose one.")
            command(form=asked[0].removeprefix("--").removeprefix("format ") if asked else "table", **given)

        option = typer.Option("--format", help="How to print the results.", show_default="table")
        added = [_parameter("form", Annotated[formats | None, option], None)]
        added += [
            _parameter(f"as_{flag}", Annotated[bool, typer.Option(f"--{flag}", hidden=True)], False) for flag in flags
        ]
        own = inspect.signature(command, eval_str=True)
        kept = [parameter for name, parameter in own.parameters.items() if name != "form"]
        signature = own.replace(parameters=[_keyword(parameter) for parameter in (*kept, *added)])
        # Typer reads the options from these two
        with_format.__signature__ = signature  # type: ignore[attr-defined]
        with_format.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()}
        return with_format

    return decorate


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _keyword(parameter: inspect.Parameter) -> inspect.Parameter:
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
