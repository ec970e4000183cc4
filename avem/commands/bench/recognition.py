"""`avem bench dfew|ravdess|mer2023|crema-d`: emotion recognition from a feature store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import (
    Device,
    EndpointOption,
    GenerateOption,
    KeyVariable,
    LimitOption,
    MediaOption,
    ModelsOption,
    OutOption,
    Parallel,
    Precision,
    ReadCacheOption,
    Retries,
    Seed,
    Sound,
    StorePath,
    SubtitlesShown,
    Timeout,
    chosen_models,
    endpoint_options,
    prints_table,
)
from avem.guards.evaluation import check_bench


def recognition_command(dataset: str, title: str) -> Callable[..., None]:
    """The command of one dataset.

    Args:
        dataset: Name of its reader.
        title: Its usual name.
    """

    def command(
        model: ModelsOption = None,
        cache: StorePath = Path("./cache"),
        read_cache: ReadCacheOption = None,
        streams: Annotated[
            str, typer.Option(help="What the model gets: audiovisual, video, audio, several with commas, or all.")
        ] = "audiovisual",
        split: Annotated[
            str, typer.Option(help="Only this split of the dataset.", show_default="its test split, if there is one")
        ] = "",
        prompt: Annotated[
            str | None, typer.Option(help="Your own question.", show_default="the benchmark's own")
        ] = None,
        subtitles: SubtitlesShown = False,
        generate: GenerateOption = True,
        limit: LimitOption = None,
        media: MediaOption = None,
        endpoint: EndpointOption = None,
        key_variable: KeyVariable = "OPENAI_API_KEY",
        parallel: Parallel = 8,
        timeout: Timeout = 120.0,
        retries: Retries = 5,
        sound: Sound = True,
        seed: Seed = 0,
        device: Device = "auto",
        precision: Precision = "auto",
        out: OutOption = Path("./bench"),
        *,
        form: str,
    ) -> None:
        check_bench(chosen_models(model, endpoint), cache, out, media=media, endpoint=endpoint)

        from avem.commands.tables import show_sheet
        from avem.evaluate.recognition.labels import STREAM_CHOICES
        from avem.evaluate.recognition.report import recognition_sheet
        from avem.evaluate.recognition.runner import RecognitionOptions, run_recognition

        shown = tuple(STREAM_CHOICES) if streams == "all" else tuple(streams.split(","))
        options = RecognitionOptions(
            dataset=dataset,
            cache=cache,
            models=chosen_models(model, endpoint),
            streams=shown,
            split=split,
            subtitles=subtitles,
            prompt=prompt,
            generate=generate,
            limit=limit,
            seed=seed,
            device=device,
            precision=precision,
            out=out,
            media_root=media,
            endpoint=endpoint_options(
                endpoint, key_variable=key_variable, parallel=parallel, timeout_s=timeout, retries=retries, sound=sound
            ),
        )
        show_sheet(recognition_sheet(run_recognition(options)), form, out / dataset / "report.html")

    command.__doc__ = (
        f"Evaluate emotion recognition on {title}.\n\nReports UAR, WAR, F1, recall by emotion and the confusion matrix."
    )
    return prints_table()(command)
