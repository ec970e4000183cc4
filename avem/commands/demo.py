"""`avem demo`: the whole chain on a corpus made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avem.guards.output_kinds import CORPUS, DEMO
from avem.guards.outputs import folder_target
from avem.text.terminal import show

demo_app = typer.Typer(help="The whole chain on a small corpus of drawn faces and synthesised voices.")


@demo_app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path("./demo"),
    clips: Annotated[int, typer.Option(help="Clips to draw; a quarter is for testing.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the corpus, the weights and the order of training.")] = 0,
    base_epochs: Annotated[int | None, typer.Option(help="Passes over the supervised questions.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the preference rows.")] = None,
) -> None:
    """Make a corpus, extract, mine, train and judge; the same command goes on where an earlier run stopped."""
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


@demo_app.command()
def corpus(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    clips: Annotated[int, typer.Option(help="Clips to draw; a quarter is for testing.")] = 1000,
    seed: Annotated[int, typer.Option(help="Same seed, same clips.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that draw and encode.", min=1)] = 2,
) -> None:
    """Make the controlled corpus alone: clips, ground truth, instructions, preference rows and benchmark."""
    folder_target(out, CORPUS, option="OUT")

    from avem.tools.corpus.build import build_corpus

    made = build_corpus(out, clips, seed, workers)
    show(f"{clips} clips with their questions are in {made.root}; next: avem extract {made.root}")
