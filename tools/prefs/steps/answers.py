"""Chosen and rejected answers for preference data (section 4.3, C.2), and audiovisual descriptions with theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from avem.records import Modality, PreferenceRow
from avem.tools.prefs.asking.engine import Job
from avem.tools.prefs.steps.pipeline import MAIN, ClipState, Item, Pipeline, column_of
from avem.tools.prefs.steps.replies import Context
from avem.tools.prefs.steps.steps import SIDES, STEPS

DESCRIBE = (
    "Describe in detail what the person in the clip feels, and what shows it.",
    "What does the person in the clip feel, and which sights and sounds tell so?",
    "Give a full account of the emotion in this clip and of what conveys it.",
    "How does the person in the clip feel? Explain it by what is seen and heard.",
)
"""Questions that ask for a description; each clip gets one of them, drawn by the seed."""
REJECTED_STEP = {
    Modality.AUDIO: "rejected_audio",
    Modality.VISUAL: "rejected_video",
    Modality.AUDIOVISUAL: "rejected_agreement",
}


async def write_answers(pipeline: Pipeline, items: Sequence[Item]) -> list[PreferenceRow]:
    """(e) Turn questions into preference rows: a chosen answer and three rejected ones."""
    rows: list[PreferenceRow] = []
    for modality, name in REJECTED_STEP.items():
        those = [item for item in items if item.modality == modality]
        jobs = [_job(name, item.item_id, item.state, item.question, item.choices, _right(item)) for item in those]
        for item, outcome in zip(those, await pipeline.ask(name, jobs), strict=True):
            if outcome.value is None:
                pipeline.ledger.counts[item.task][column_of(outcome)] += 1
                pipeline.reject(item.state, name, outcome, "item", item.item_id)
                continue
            made = {"steps": [item.item_id.rpartition("#")[2], name], "answer": item.explanation}
            rows.append(_row(item.item_id, item.state, modality, item.task, item.question, outcome.value, made))
    return rows


async def write_descriptions(pipeline: Pipeline, states: Sequence[ClipState], seed: int) -> list[PreferenceRow]:
    """Rows that ask for a description of the emotion in sound and picture.

    One side of each description is altered in its rejected answers, drawn by the seed from the sides whose caption
    gives the label.
    """
    return await _alter(pipeline, await describe(pipeline, states), seed)


async def describe(pipeline: Pipeline, states: Sequence[ClipState]) -> list[tuple[ClipState, str]]:
    """Descriptions of the emotion in sound and picture (Fig. 36), of the clips with both captions."""
    task = "description"
    counts = pipeline.ledger.counts[task]
    fit = [state for state in states if len(state.predicted) == len(SIDES)]
    jobs = [Job(state.clip.clip_id, STEPS[task], MAIN, state.values(), Context(state.emotion)) for state in fit]
    written: list[tuple[ClipState, str]] = []
    for state, outcome in zip(fit, await pipeline.ask(task, jobs), strict=True):
        counts["asked"] += 1
        if outcome.value is None:
            counts[column_of(outcome)] += 1
            pipeline.reject(state, task, outcome, "item", f"{state.clip.clip_id}#{task}")
            continue
        counts["written"] += 1
        written.append((state, outcome.value["description"].strip()))
    return written


async def _alter(pipeline: Pipeline, written: Sequence[tuple[ClipState, str]], seed: int) -> list[PreferenceRow]:
    rng = np.random.default_rng((seed, 3))
    rows: list[PreferenceRow] = []
    drawn = []
    for state, text in written:
        sides = [side for side in SIDES if state.shows(side)]
        drawn.append((state, text, sides[rng.integers(len(sides))], DESCRIBE[rng.integers(len(DESCRIBE))]))
    for side in SIDES:
        name, those = REJECTED_STEP[side], [entry for entry in drawn if entry[2] == side]
        jobs = [
            _job(name, f"{state.clip.clip_id}#description", state, question, (), text)
            for state, text, _, question in those
        ]
        for (state, _, _, question), outcome in zip(
            those, await pipeline.ask(f"{name} of descriptions", jobs), strict=True
        ):
            item_id = f"{state.clip.clip_id}#description"
            if outcome.value is None:
                pipeline.ledger.counts["description"][column_of(outcome)] += 1
                pipeline.reject(state, name, outcome, "item", item_id)
                continue
            made = {"steps": ["description", name]}
            row = _row(item_id, state, Modality.AUDIOVISUAL, "description", question, outcome.value, made)
            rows.append(row)
    return rows


def _right(item: Item) -> str:
    """The right answer as rejected answers are made from it: the verdict first where there is one."""
    verdict = {True: "Yes. ", False: "No. ", None: ""}[item.says_yes]
    return f"{verdict}{item.explanation}"


def _job(name: str, about: str, state: ClipState, question: str, choices: Sequence[str], answer: str) -> Job:
    values = state.values() | {"question": question, "choices": " ".join(choices), "answer": answer}
    return Job(about, STEPS[name], MAIN, values, Context(state.emotion, "Yes" if state.agrees else "No"))


def _row(
    row_id: str,
    state: ClipState,
    modality: Modality,
    task: str,
    question: str,
    value: dict[str, Any],
    made: dict[str, Any],
) -> PreferenceRow:
    told = {SIDES[side]: str(emotion) for side, emotion in state.predicted.items()}
    source = {"made_by": "avem prefs build", "path": state.clip.path, "told_from": told}
    asked = question if task == "description" else value["question"].strip()
    chosen, *rejected = (str(value[name]).strip() for name in ("correct", "video_relevant", "emotion_relevant"))
    irrelevant = value["irrelevant"]
    return PreferenceRow(
        row_id,
        state.clip.clip_id,
        modality,
        task,
        asked,
        chosen,
        rejected[0],
        rejected[1],
        None if irrelevant is None else irrelevant.strip(),
        emotion=state.emotion,
        provenance=source | made,
    )
