"""Adversarial modality swap (E.9, Figs. 5, 13, 14): does the answer to a question about sound depend on the picture?

In a question about one modality, the other one is replaced by a random clip's. A model that reasons from the right
modality gives the correct answer the same log-likelihood as before. The measure is the mean absolute shift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from avem.cache.windows import whole_ids
from avem.errors import DataError
from avem.evaluate.bootstrap import RESAMPLES, mean_intervals
from avem.evaluate.emorealm.questions import letters, option_text, prompt_text
from avem.evaluate.predict.feature_model import FeaturePredictor, FeaturePrompt
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.predict.predictor import STREAMS, options_of
from avem.files import json_sha256
from avem.progress import stage
from avem.records import Question
from avem.seeds import draw

if TYPE_CHECKING:
    from avem.records import Kind

KEY_VERSION = 1
ASKED: dict[str, Kind] = {
    "reasoning_basic_audio": "audio",
    "reasoning_stress_audio": "audio",
    "reasoning_basic_video": "video",
    "reasoning_stress_video": "video",
}
"""Task to the modality that its questions are about (Figs. 13 and 14)."""
OTHER: dict[Kind, Kind] = {"audio": "video", "video": "audio"}


@dataclass(frozen=True, slots=True)
class SwapItem:
    """One question before and after."""

    id: str
    clip: str
    """Clip of the question; clips are what is resampled."""
    asked: str
    """Modality that the question is about; the other one was replaced."""
    adversary: str
    """Clip that the replacement came from."""
    logprob: float
    """Of the correct answer on the clip itself, in nats."""
    swapped: float
    """The same with the replacement."""
    changed: bool
    """Whether another option became the likeliest."""
    question: str = ""
    answer: str = ""
    """Text of the right option."""
    before: str = ""
    """Text of the likeliest option on the clip itself."""
    after: str = ""
    """The same with the replacement."""

    @property
    def shift(self) -> float:
        """Log-likelihood after minus before."""
        return self.swapped - self.logprob


@dataclass(frozen=True, slots=True)
class SwapResult:
    """One model under the swap."""

    name: str
    items: tuple[SwapItem, ...]
    numbers: dict[str, dict[str, float]]
    """For `audio` and `video` questions and `all`: `n`, `mean_absolute_shift` with `low` and `high` (95 %, bootstrap
    over clips), `mean_shift`, and `changed` (percent of answers that became others)."""
    left_out: dict[str, str]
    """Question id to the reason why it was left out."""


def swap_probe(
    predictor: FeaturePredictor,
    questions: Sequence[Question],
    rows: Mapping[str, int],
    log: AnswerLog,
    *,
    name: str = "model",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SwapResult:
    """Score every question's options on its clip and with the other modality replaced.

    Args:
        predictor: A model over a store, shown both streams.
        questions: Those whose task is in `ASKED` are used.
        rows: Question id to its clip's row.
        log: Keeps the scores.
        name: Short name of the model.
        resamples: Bootstrap resamples over clips.
        seed: Decides the replacements and the bootstrap.

    Raises:
        DataError: No question can be used.
    """
    names = predictor.store.clips["clip_id"].to_pylist()
    owners = np.array(whole_ids(predictor.store.clips))
    pools = {kind: np.flatnonzero(predictor.available[kind]) for kind in STREAMS}
    both = pools["video"][predictor.available["audio"][pools["video"]]]
    plans, left_out = [], {}
    for question in questions:
        asked, row = ASKED.get(question.task), rows.get(question.id)
        if asked is None:
            continue
        if row is None or row not in both:
            left_out[question.id] = "its clip has no video or no audio in the store"
            continue
        others = pools[OTHER[asked]]
        others = others[owners[others] != owners[row]]  # another window of the same clip does not count
        if not len(others):
            left_out[question.id] = "the store has no other clip"
            continue
        plans.append((question, asked, row, int(others[draw(seed, question.video, asked, choices=len(others))])))
    if not plans:
        raise DataError("No question about one modality has a clip with both streams; the swap needs at least one.")
    items = _predict(predictor, plans, log, names, name)
    return SwapResult(name, tuple(items), swap_numbers(items, resamples, seed), left_out)


def swap_numbers(items: Sequence[SwapItem], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, dict[str, float]]:
    """The numbers of `SwapResult.numbers`."""
    groups = {"audio": [i for i in items if i.asked == "audio"], "video": [i for i in items if i.asked == "video"]}
    found = {}
    for group, members in {**groups, "all": list(items)}.items():
        if not members:
            continue
        shifts = np.array([item.shift for item in members])
        numbers = {
            "n": len(members),
            "mean_absolute_shift": float(np.abs(shifts).mean()),
            "mean_shift": float(shifts.mean()),
            "changed": 100 * sum(item.changed for item in members) / len(members),
        }
        if resamples:
            clips = [item.clip for item in members]
            [(low, high)] = mean_intervals(np.abs(shifts)[:, None], clips, resamples, seed)
            numbers |= {"low": low, "high": high}
        found[group] = numbers
    return found


def _predict(
    predictor: FeaturePredictor,
    plans: Sequence[tuple[Question, str, int, int]],
    log: AnswerLog,
    names: Sequence[str],
    name: str,
) -> list[SwapItem]:
    """Predict clip by clip: the questions on a clip, before and after, go through one call."""
    keys = [_key(predictor, *plan) for plan in plans]
    groups: dict[int, list[int]] = {}
    for number, (plan, key) in enumerate(zip(plans, keys, strict=True)):
        if log.get(key) is None:
            groups.setdefault(plan[2], []).append(number)
    with stage(f"swap {name}", sum(map(len, groups.values())), "questions") as bar:
        for numbers in groups.values():
            shown, options = _sequences(predictor, [plans[number] for number in numbers])
            values = predictor.option_logprobs(shown, options)
            records = {
                keys[number]: {"id": plans[number][0].id, "logprobs": own, "swapped": other}
                for number, own, other in zip(numbers, values[: len(numbers)], values[len(numbers) :], strict=True)
            }
            log.append(records)
            bar.advance(len(numbers))
    return [_item(plan, log.get(key) or {}, names) for plan, key in zip(plans, keys, strict=True)]


def _sequences(
    predictor: FeaturePredictor, plans: Sequence[tuple[Question, str, int, int]]
) -> tuple[list[Any], list[Any]]:
    """Prompts with their media, before and after, and the options of each."""
    media = {row: predictor.media(row) for row in {row for _, _, *pair in plans for row in pair}}
    before, after = [], []
    for question, asked, row, other in plans:
        text = prompt_text(question, predictor.style)
        before.append(FeaturePrompt(text, *media[row]))
        video, audio = (media[other][0], media[row][1]) if asked == "audio" else (media[row][0], media[other][1])
        after.append(FeaturePrompt(text, video, audio))
    options = [options_of(question, predictor.style) for question, *_ in plans]
    return [*before, *after], [*options, *options]


def _key(predictor: FeaturePredictor, question: Question, asked: str, row: int, other: int) -> str:
    plain, twin = (predictor.request(question, "likelihood", position).key for position in (row, other))
    return json_sha256({"probe": "swap", "version": KEY_VERSION, "own": plain, "adversary": twin, "asked": asked})


def _item(plan: tuple[Question, str, int, int], record: Mapping[str, Any], names: Sequence[str]) -> SwapItem:
    question, asked, _, other = plan
    right = letters(question).index(question.answer.upper())
    own, swapped = record["logprobs"], record["swapped"]
    best, then = int(np.argmax(own)), int(np.argmax(swapped))
    texts = [option_text(choice) for choice in question.choices]
    said = (question.question, texts[right], texts[best], texts[then])
    return SwapItem(question.id, question.video, asked, names[other], own[right], swapped[right], best != then, *said)
