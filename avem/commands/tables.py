"""Result tables on standard output, in the chosen format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from avem.cache import StoreInfo
from avem.cache.decoders import OLD
from avem.cache.info import StreamInfo
from avem.errors import SettingError
from avem.evaluate import BenchResult
from avem.evaluate.emorealm.cues import cue_sheet
from avem.evaluate.emorealm.notes import notes
from avem.evaluate.emorealm.summary import summarise, to_csv, to_json, to_latex, to_markdown, to_table
from avem.evaluate.report.titles import benchmark_title
from avem.evaluate.runner import replies_of, scoring_differences
from avem.evaluate.sheets import Sheet
from avem.extract.failures import failure_counts, failure_lines
from avem.extract.labels import unlabelled
from avem.files import write_atomic
from avem.text.escaping import file_name
from avem.text.lists import counted
from avem.text.sizes import size_text
from avem.text.tables import Table
from avem.text.terminal import show, show_block, show_table

WRITERS = {"csv": to_csv, "markdown": to_markdown, "latex": to_latex}


def show_sheet(sheet: Sheet, form: str, page: Path | None = None) -> None:
    """Show a table in the chosen format; with `table`, also say where the page is."""
    if form != "table":
        show_block(sheet.form(form), nl=False)
        return
    show_table(sheet.table())
    if page is not None:
        show(f"The report is {page}.")


def show_results(results: Sequence[BenchResult], form: str, seed: int = 0) -> None:
    """Show the headline table of one or several results, and the table by kind of cue where questions name it."""
    rows, names, cues = summarise(results, seed=seed), [result.name for result in results], cue_sheet(results)
    if form == "table":
        show_table(to_table(rows, names, benchmark_title(results)))
        if cues:
            show_table(cues.table())
        for note in notes(results):
            show(note)
    elif form == "json":
        show_block(to_json(rows, names, cues.records if cues else ()))
    else:
        blocks = [WRITERS[form](rows, names), cues.form(form) if cues and form != "csv" else ""]
        show_block("\n".join(filter(None, blocks)).rstrip("\n"))


def show_differences(results: Sequence[BenchResult], out: Path, form: str) -> None:
    """Write `reference.json` for every result with written answers; with `table`, show both scorings side by side."""
    for result in results:
        if "generation" not in result.scores:
            raise SettingError(f"{result.name} has no written answers to score as the reference does; use --generate.")
        found = scoring_differences(*replies_of(result))
        path = out / file_name(result.name) / "reference.json"
        write_atomic(path, json.dumps(found, indent=1) + "\n")
        if form != "table":
            continue
        header, title = ("metric", "ours", "reference"), f"{result.name}: written answers, two scorings"
        metrics = [
            (name, *("" if value is None else f"{value:.1f}" for value in pair.values()))
            for name, pair in found["metrics"].items()
        ]
        show_table(Table.of(header, metrics, title))
        show(f"The two score {len(found['items'])} answers differently; {path} lists them.")


SHOWN_LABELS = 20
"""How many labels other than the seven emotions are shown."""


def show_store(info: StoreInfo) -> None:
    """Show what a feature store holds."""
    sets = ", ".join(f"{count} {name}" for name, count in info.datasets.items())
    show(f"{info.place}: {info.clips} clips ({sets}), format {info.format_version}")
    for line in _label_lines(info):
        show(line)
    for stream in info.streams:
        show_block("\n".join(_stream_lines(stream)))
    for stream in info.streams:
        if stream.decoded_old_way:
            show(
                f"{stream.kind}: {stream.decoded_old_way} of {stream.rows} clips were decoded by decord's index, which "
                "takes wrong frames from some files; `avem cache repair --redecode` decodes them again."
            )
        elif stream.decoder == OLD:
            show(f"{stream.kind}: decoded by decord, as the reference implementation decodes.")
    for line in _clip_lines(info):
        show(line)
    for mined in info.negatives:
        stale = "; stale, because labels have changed: mine them again" if mined.get("stale") else ""
        clips = counted(mined["complete"], "clip")
        show(f"negatives {mined['recipe']}, {mined['modality']}: {clips} with {mined['k']}{stale}")
    if info.failures:
        show(f"{failure_counts(info.failures)}:")
        show_block("\n".join(failure_lines(info.failures)))


def _stream_lines(stream: StreamInfo) -> list[str]:
    """What a stream holds, in lines that a narrow terminal shows whole."""
    shape = " x ".join("n" if size is None else str(size) for size in stream.row_shape)
    lines = [f"{stream.name}: {stream.rows} clips, {shape} {stream.dtype}, {size_text(stream.bytes)}"]
    if stream.tokens is not None and stream.rows:
        lines.append(f"  n is {stream.tokens / stream.rows:.0f} tokens on average")
    if stream.companions:
        lines.append(f"  beside each row: {', '.join(stream.companions)}")
    if stream.failed or stream.pending:
        lines.append(f"  failed: {stream.failed}, pending: {stream.pending}")
    if stream.int8_error is not None:
        lines.append(f"  int8 error: {stream.int8_error:.2%}, at most {stream.int8_error_largest:.2%}")
    lines.append(f"  {stream.modality}, fingerprint {stream.digest[:12]}")
    return lines


def _clip_lines(info: StoreInfo) -> list[str]:
    """What to know about the clips: windows, long and silent ones, and subtitles."""
    lines = []
    if info.windows:
        lines.append(f"windows: {info.windows} clips are windows of {info.divided} longer ones")
    if info.long:
        long = _some(info.long)
        lines.append(f"longer than 30 s: {long}; their sound is cut at 30 s, `--long windows` adds windows")
    if info.silent:
        lines.append(f"silent, every sample is zero: {_some(info.silent)}")
    if info.subtitles:
        lines.append(f"subtitles: {_counted(info.subtitles)}")
    return lines


def _some(names: Sequence[str]) -> str:
    """How many clips, and the first few by name."""
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} clips ({', '.join(names[:3])}{more})"


def _label_lines(info: StoreInfo) -> list[str]:
    """Number of clips for each label, for labels other than the seven, and for each split."""
    labels = {name: count for name, count in sorted(info.emotions.items(), key=lambda item: -item[1]) if name}
    lines = [f"labels: {_counted(labels) or 'none'}"]
    unknown = {f"'{name}'": count for name, count in info.raw_labels.items() if name}
    if unknown:
        first = dict(sorted(unknown.items(), key=lambda item: -item[1])[:SHOWN_LABELS])
        more = f" and {len(unknown) - len(first)} more" if len(unknown) > len(first) else ""
        lines.append(f"labels other than the seven emotions: {_counted(first)}{more}")
    if info.raw_labels.get(""):
        lines.append(unlabelled(info.raw_labels[""]))
    if splits := {name or "without a split": count for name, count in info.splits.items()}:
        lines.append(f"splits: {_counted(splits)}")
    return lines


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
