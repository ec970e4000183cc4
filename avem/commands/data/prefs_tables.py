"""Tables about preference data, on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avem.errors import PartialFailure
from avem.text.tables import Table
from avem.text.terminal import show, show_table
from avem.tools.prefs.ledger import COLUMNS, Ledger

if TYPE_CHECKING:
    from avem.tools.prefs.asking.estimate import Estimate
    from avem.tools.prefs.build import BuildResult
    from avem.tools.prefs.checks.report import Report
    from avem.tools.prefs.survey.votes import Verdicts

SHOWN_FAULTS = 200
"""Maximum number of faults in a table; `--format json` lists all."""


def show_report(report: Report) -> None:
    """Show faults first, then the file's figures."""
    for fault in report.faults[:SHOWN_FAULTS]:
        where = f"line {fault.line}" if fault.line else "whole file"
        show(f"{where}: {'error' if fault.error else 'warning'} {fault.kind}: {fault.message}")
    if len(report.faults) > SHOWN_FAULTS:
        show(f"... and {len(report.faults) - SHOWN_FAULTS} more; --format json lists them all.")
    for name, counts in report.counts.items():
        show(f"{name}: " + ", ".join(f"{value} {count}" for value, count in counts.items()))
    _show_answers(report)
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.kinds.items())
    show(f"{report.path}: {report.rows} rows, {report.errors} errors" + (f" ({kinds})" if kinds else ""))


def _show_answers(report: Report) -> None:
    if not report.lengths:  # instruction rows have no rejected answers
        return
    header = ("rejected answer", "pairs", "length ratio", "chosen longer", "rejected longer", "text-only accuracy")
    rows = []
    shares = {result.kind: f"{result.share:.1%}" for result in report.text_only}
    for item in report.lengths:
        ratios = (f"{item.median_ratio:.2f}", f"{item.chosen_longer:.1%}", f"{item.rejected_longer:.1%}")
        rows.append((item.kind, item.pairs, *ratios, shares.get(item.kind, "-")))
    title = "Chosen and rejected answers (lengths in words; text-only accuracy: 50 % is chance)"
    show_table(Table.of(header, rows, title))


def show_counts(ledger: Ledger) -> None:
    """Show how many items of each task remain after each step."""
    show_table(Table.of(("task", *COLUMNS), ledger.table()))


def show_build(result: BuildResult) -> None:
    """Show how many clips and items remain after each step."""
    clips = ", ".join(f"{count} {name}" for name, count in result.ledger.clips.items())
    show_counts(result.ledger)
    prompt, completion = result.tokens
    show(f"Clips: {clips}. Tokens so far: {prompt} in prompts, {completion} in replies.")
    for path in result.batch_files:
        show(f"Submit {path} to the provider's batch service.")
    if result.waiting:
        folder = result.out / "batch" / "results"
        show(f"{result.waiting}: put the result files into {folder} and run the same command again.")
    else:
        show(f"{result.rows} rows are in {result.out}; rejected ones are in {result.out / 'rejected.jsonl'}.")
    if result.leaked:
        from avem.tools.prefs.instruct.screen import leak_sentence

        show(leak_sentence(result.leaked))


def check_complete(result: BuildResult) -> None:
    """Say what is missing from a build.

    Raises:
        PartialFailure: Requests failed, or a task has no question left.
    """
    if failed := result.ledger.passing:
        raise PartialFailure(f"{failed} requests failed; run the same command again to retry them.")
    if emptied := result.ledger.emptied:
        said = "; ".join(emptied)
        raise PartialFailure(
            f"{said[:1].upper()}{said[1:]}. {result.out / 'rejected.jsonl'} gives the reason for each; try more clips, "
            f"other guessers with --guess-model, or --no-balance."
        )


def show_estimate(estimate: Estimate) -> None:
    """Show requests and cost by step."""
    header = ("step", "requests", "answered already", "prompt tokens", "reply tokens", "cost")
    rows = []
    for row in estimate.rows:
        cost = f"{row.cost:.2f}" if estimate.priced else "-"
        rows.append((row.step, row.requests, row.answered, row.prompt_tokens, row.reply_tokens, cost))
    show_table(Table.of(header, rows))
    cost = f"{estimate.cost:.2f}" if estimate.priced else "unknown without --price-in and --price-out"
    show(f"{estimate.requests} requests for {estimate.clips} clips; cost {cost}. {estimate.assumptions}")


def show_verdicts(verdicts: Verdicts) -> None:
    """Show the counts of Tables 6 and 7."""
    header = (
        "group",
        "asked",
        "one",
        "majority",
        "flagged",
        "fixed",
        "final",
        "alpha",
    )
    rows = []
    for row in verdicts.groups:
        counts = (row.verified, row.one_correct, row.majority_correct, row.discrepancies, row.corrected, row.final)
        rows.append((row.group, *counts, "-" if row.alpha is None else f"{row.alpha:.3f}"))
    show_table(Table.of(header, rows))
    show(f"Counted the votes of {len(verdicts.passed)} participants.")
    if flags := verdicts.groups[-1].flags:
        show("Flags: " + ", ".join(f"{name} {count}" for name, count in flags.items()) + ".")
    if verdicts.failed:
        show(f"The pre-test or the attention checks failed: {', '.join(verdicts.failed)}.")
