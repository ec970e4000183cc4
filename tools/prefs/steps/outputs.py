"""The last step of a build, balancing (3.4, B.3), and the files it writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avem.files import write_atomic, write_json_lines
from avem.records import PreferenceRow, Question
from avem.tools.prefs.ledger import Ledger, Rejection
from avem.tools.prefs.options import BuildOptions
from avem.tools.prefs.steps.balance import emotions_as_in_source, even_verdicts
from avem.tools.prefs.steps.pipeline import ClipState, Item


def account_for(kept: Sequence[ClipState], used: set[str], ledger: Ledger) -> None:
    """Give every clip that came to nothing its line in the ledger."""
    for state in kept:
        if state.clip.clip_id not in used:
            ledger.reject(Rejection(state.clip.clip_id, "result", "none of its questions was kept", "clip"))


def balanced_rows(
    rows: Sequence[PreferenceRow], source: Sequence[Any], ledger: Ledger, options: BuildOptions
) -> list[PreferenceRow]:
    """Rows with even verdicts and the source's emotions, or all; what is left out is noted."""
    if not options.balances:
        _count_final([row.task for row in rows], ledger)
        return list(rows)
    labels = {row.clip_id: row.emotion for row in rows}
    clips = emotions_as_in_source(labels, source, options.emotion_tolerance, options.seed)

    def says_yes(row: PreferenceRow) -> bool | None:
        return row.chosen.lower().startswith("yes") if row.task == "modality_agreement" else None

    kept = even_verdicts([row for row in rows if row.clip_id in clips], says_yes, lambda row: row.task, options.seed)
    ids = {row.row_id for row in kept}
    _note_left_out([(row.clip_id, row.row_id, row.task) for row in rows if row.row_id not in ids], ledger)
    _count_final([row.task for row in kept], ledger)
    return kept


def balanced_items(items: Sequence[Item], source: Sequence[Any], ledger: Ledger, options: BuildOptions) -> list[Item]:
    """Questions with even verdicts, evenly of every subtask, and the source's emotions; or all."""
    if not options.balances:
        _count_final([item.task for item in items], ledger)
        return sorted(items, key=lambda item: item.item_id)
    labels = {item.state.clip.clip_id: item.state.emotion for item in items}
    clips = emotions_as_in_source(labels, source, options.emotion_tolerance, options.seed)
    kept = even_verdicts(
        [item for item in items if item.state.clip.clip_id in clips],
        lambda item: item.says_yes,
        lambda item: item.task,
        options.seed,
        lambda item: item.subtask,
    )
    ids = {item.item_id for item in kept}
    left_out = [(item.state.clip.clip_id, item.item_id, item.task) for item in items if item.item_id not in ids]
    _note_left_out(left_out, ledger)
    _count_final([item.task for item in kept], ledger)
    return sorted(kept, key=lambda item: item.item_id)


def _note_left_out(items: Sequence[tuple[str, str, str]], ledger: Ledger) -> None:
    for clip_id, item_id, task in items:
        ledger.counts[task]["balanced out"] += 1
        ledger.reject(Rejection(clip_id, "balance", "left out to balance verdicts and emotions", "item", item_id))


def _count_final(tasks: Sequence[str], ledger: Ledger) -> None:
    for task in tasks:
        ledger.counts[task]["final"] += 1


def to_question(item: Item, seed: int) -> Question:
    """A benchmark question; the options of four-choice questions are shuffled, models being fond of some letters."""
    texts = [choice[4:].strip() for choice in item.choices]
    order = list(range(len(texts)))
    if item.says_yes is None:
        digest = int.from_bytes(item.item_id.encode()[-8:], "big")
        order = np.random.default_rng((seed, len(item.item_id), digest)).permutation(len(texts)).tolist()
    choices = tuple(f"({'ABCD'[position]}) {texts[number]}" for position, number in enumerate(order))
    answer = "ABCD"[order.index("ABCD".index(item.answer))]
    extra = {
        "clip_id": item.state.clip.clip_id,
        "emotion": str(item.state.emotion),
        "category": item.category,
        "explanation": item.explanation,
        **({"subtask": item.subtask} if item.subtask else {}),
    }
    return Question(item.item_id, item.state.clip.path, item.task, item.question, choices, answer, extra)


def write_captions(states: Sequence[ClipState], out: Path) -> None:
    """Write every clip's captions and the emotions told from them."""
    write_json_lines(
        out / "captions.jsonl",
        (
            {
                "clip_id": state.clip.clip_id,
                "emotion": state.emotion,
                "captions": state.captions,
                "predicted": state.predicted,
            }
            for state in states
        ),
    )


def write_counts(ledger: Ledger, out: Path) -> None:
    """Write how many were left after each step, as JSON and as Markdown."""
    counts = {
        "clips": ledger.clips,
        "tasks": {task: dict(row) for task, row in ledger.counts.items()},
    }
    write_atomic(out / "counts.json", json.dumps(counts, indent=1) + "\n")
    write_atomic(out / "counts.md", ledger.markdown())
