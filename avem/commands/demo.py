"""`avem demo`: every step, from clips to a report, on a small generated corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.guards.output_kinds import CORPUS, DEMO
from avem.guards.outputs import folder_target
from avem.text.terminal import show

demo_app = typer.Typer(help="Run every step on a small generated corpus.")


@demo_app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("./demo"),
    clips: Annotated[int, typer.Option(help="Number of clips to draw; a quarter of them are test clips.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed of the corpus, the weights and the training order.")] = 0,
    base_epochs: Annotated[int | None, typer.Option(help="Epochs of supervised training.", show_default="8")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of preference training.", show_default="5")] = None,
) -> None:
    """Make a corpus, extract features, mine negatives, train, evaluate and write a report.

    Run the same command again to resume a run that was stopped.
    """
    if context.invoked_subcommand is not None:
        return
    folder_target(out, DEMO)

    from avem.commands.tables import show_results
    from avem.tools.demo.chain import DemoOptions, run_demo

    chosen = {"base_epochs": base_epochs, "epochs": epochs}
    given = {name: value for name, value in chosen.items() if value is not None}
    report = run_demo(DemoOptions(out=out, clips=clips, seed=seed, **given))
    show_results(report.results, "table", seed=seed)
    show(f"{sum(report.timings_s.values()):.0f} s, {report.peak_memory_mb:.0f} MiB at most. Open {report.page}.")
    model = "" if out.resolve() == Path("demo").resolve() else f" --model {out}"
    show(f'Ask it: avem ask{model} {report.clip} "What in the picture shows the feeling?"')


@demo_app.command()
def corpus(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    clips: Annotated[int, typer.Option(help="Number of clips to draw; a quarter of them are test clips.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same clips.")] = 0,
    workers: Annotated[int, typer.Option(help="Number of processes.", min=1)] = 2,
) -> None:
    """Make the corpus only.

    It holds clips, ground truth, instruction rows, preference rows and a benchmark.
    """
    folder_target(out, CORPUS, option="OUT")

    from avem.tools.corpus.build import build_corpus

    made = build_corpus(out, clips, seed, workers)
    show(f"{clips} clips with their questions are in {made.root}; next: avem extract {made.root}")
