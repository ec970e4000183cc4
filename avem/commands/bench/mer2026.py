"""`avem bench mer-prefer` and `avem bench wheels`: tracks 3 and 2 of MER2026."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.commands.options import (
    NO_LIMIT,
    BootstrapSeed,
    Device,
    EndpointOption,
    GenerateOption,
    KeyVariable,
    MediaOption,
    ModelsOption,
    OutOption,
    Parallel,
    Precision,
    ReadCacheOption,
    Retries,
    Sound,
    StorePath,
    Style,
    StyleOption,
    Timeout,
    chosen_models,
    endpoint_options,
    prints_table,
)
from avem.guards.evaluation import check_bench
from avem.guards.inputs import need_file, need_path
from avem.text.terminal import show


@prints_table()
def mer_prefer(
    pairs: Annotated[Path, typer.Option(help="track3_emoprefer.csv, track3_emopreferv2.csv or track3_candidate.csv.")],
    model: ModelsOption = None,
    cache: StorePath = Path("./cache"),
    read_cache: ReadCacheOption = None,
    style: StyleOption = Style.LETTERS,
    limit: Annotated[int | None, typer.Option(help="Maximum number of pairs.", min=1, show_default=NO_LIMIT)] = None,
    generate: GenerateOption = False,
    text_only: Annotated[bool, typer.Option(help="Also ask without media.")] = True,
    media: MediaOption = None,
    endpoint: EndpointOption = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    parallel: Parallel = 8,
    timeout: Timeout = 120.0,
    retries: Retries = 5,
    sound: Sound = True,
    seed: BootstrapSeed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: OutOption = Path("./bench"),
    *,
    form: str,
) -> None:
    """Predict people's preferences: MER2026 track 3.

    Which of two descriptions of a clip does a model prefer? With letters, each pair is shown in both orders and the
    log-probabilities are averaged.

    Reports weighted F1 and accuracy. Pairs without a preference are written to submission.csv instead.
    """
    need_file(pairs, "--pairs", "table of pairs")
    check_bench(chosen_models(model, endpoint), cache, out, reads=(pairs,), media=media, endpoint=endpoint)

    from avem.commands.tables import show_sheet
    from avem.evaluate.prefer.runner import prefer_sheet, run_prefer
    from avem.evaluate.runner import BenchOptions

    options = BenchOptions(
        questions=pairs,
        cache=cache,
        models=chosen_models(model, endpoint),
        style=style.value,
        limit=limit,
        generate=generate,
        text_only=text_only,
        seed=seed,
        device=device,
        precision=precision,
        media_root=media,
        out=out / "mer-prefer",
        endpoint=endpoint_options(
            endpoint, key_variable=key_variable, parallel=parallel, timeout_s=timeout, retries=retries, sound=sound
        ),
    )
    results = run_prefer(options)
    if any(result.scores for result in results):
        show_sheet(prefer_sheet(results), form)
    for result in results:
        if result.submission is not None:
            show(f"The predictions of {result.name} are in {result.submission}.", err=form != "table")


@prints_table()
def wheels(
    truth: Annotated[Path, typer.Option(help="CSV with the true labels: name, openset.")],
    answers: Annotated[
        list[Path], typer.Option(help="Labels of a model: CSV (name, openset) or answers by clip; may be repeated.")
    ],
    tables: Annotated[
        Path, typer.Option("--wheels", help="Folder with format, synonym and wheel1 to wheel5, as CSV or Excel.")
    ],
    *,
    form: str,
) -> None:
    """Score open emotion labels with wheels: MER2026 track 2.

    The metric is that of MER-UniBench.
    """
    need_file(truth, "--truth", "table of labels")
    need_path(tables, "--wheels", "folder of wheels")
    for path in answers:
        need_path(path, "--answers", "answers")

    from avem.commands.tables import show_sheet
    from avem.evaluate.openset.runner import wheels_sheet
    from avem.evaluate.openset.wheels import read_wheels

    show_sheet(wheels_sheet(truth, answers, read_wheels(tables)), form)
