"""What checking and making preference data found, on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from avem.tools.prefs.ledger import COLUMNS

if TYPE_CHECKING:
    from avem.tools.prefs.build import BuildResult
    from avem.tools.prefs.estimate import Estimate
    from avem.tools.prefs.report import Report
    from avem.tools.prefs.votes import Verdicts

SHOWN_FAULTS = 200
"""Faults listed on a terminal; `--json` gives all."""


def show_report(report: Report) -> None:
    """Show faults first, then the file's figures."""
    for fault in report.faults[:SHOWN_FAULTS]:
        place = f"line {fault.line}" if fault.line else "whole file"
        typer.echo(f"{place}: {'error' if fault.error else 'warning'} {fault.kind}: {fault.message}")
    if len(report.faults) > SHOWN_FAULTS:
        typer.echo(f"... and {len(report.faults) - SHOWN_FAULTS} more; --json lists them all.")
    for name, counts in report.counts.items():
        typer.echo(f"{name}: " + ", ".join(f"{value} {count}" for value, count in counts.items()))
    _show_answers(report)
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items())
    typer.echo(f"{report.path}: {report.rows} rows, {report.errors} errors" + (f" ({kinds})" if kinds else ""))


def _show_answers(report: Report) -> None:
    table = Table(
        "rejected answer", "pairs", "length ratio", "chosen longer", "rejected longer", "told apart by text",
        title="Chosen against rejected (words; text alone: 50 % is chance)",
    )  # fmt: skip
    shares = {result.kind: f"{result.share:.1%}" for result in report.text_only}
    for item in report.lengths:
        ratios = (f"{item.median_ratio:.2f}", f"{item.chosen_longer:.1%}", f"{item.rejected_longer:.1%}")
        table.add_row(item.kind, str(item.pairs), *ratios, shares.get(item.kind, "-"))
    Console().print(table)


def show_build(result: BuildResult) -> None:
    """Show how many clips and items were left after each step."""
    clips = ", ".join(f"{count} {name}" for name, count in result.ledger.clips.items())
    table = Table("task", *COLUMNS)
    for row in result.ledger.table():
        table.add_row(*row)
    Console().print(table)
    prompt, completion = result.tokens
    typer.echo(f"Clips: {clips}. Tokens of all replies so far: {prompt} prompt, {completion} reply.")
    for path in result.batch_files:
        typer.echo(f"Hand in {path}.")
    if result.waiting:
        folder = result.out / "batch" / "results"
        typer.echo(f"{result.waiting}: put the result files into {folder} and run the same command again.")
    else:
        typer.echo(f"{result.rows} rows are in {result.out}; what was left out is in {result.out / 'rejected.jsonl'}.")


def show_estimate(estimate: Estimate) -> None:
    """Show requests and cost by step."""
    table = Table("step", "requests", "answered already", "prompt tokens", "reply tokens", "cost")
    for row in estimate.rows:
        cost = f"{row.cost:.2f}" if estimate.priced else "-"
        table.add_row(
            row.step, str(row.requests), str(row.answered), str(row.prompt_tokens), str(row.reply_tokens), cost
        )
    Console().print(table)
    cost = f"{estimate.cost:.2f}" if estimate.priced else "unknown without --price-in and --price-out"
    typer.echo(f"{estimate.requests} requests for {estimate.clips} clips; cost {cost}. {estimate.assumptions}")


def show_verdicts(verdicts: Verdicts) -> None:
    """Show the counts of Tables 6 and 7."""
    table = Table("group", "verified", "one or more correct", "majority correct", "discrepancies", "final", "alpha")
    for row in verdicts.groups:
        counts = (row.verified, row.one_correct, row.majority_correct, row.discrepancies, row.final)
        table.add_row(row.group, *map(str, counts), "-" if row.alpha is None else f"{row.alpha:.3f}")
    Console().print(table)
    typer.echo(f"Votes of {len(verdicts.passed)} people count.")
    if verdicts.failed:
        typer.echo(f"Attention checks failed: {', '.join(verdicts.failed)}.")
