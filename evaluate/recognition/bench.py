"""`avem bench dfew|ravdess|mer2023|crema-d`: which emotion does a model see and hear?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avem.evaluate.bench import hear
from avem.evaluate.emorealm.statistics import RESAMPLES
from avem.evaluate.predict.feature_model import Questioner
from avem.evaluate.predict.log import AnswerLog, kept_or_spare
from avem.evaluate.predict.pooling import POOLING, PooledAnswer, WindowRows, pool_records
from avem.evaluate.recognition.labelled import LabelledClip, LabelledClips
from avem.evaluate.recognition.labels import PROMPTS, EmotionSet, parse_label, spellings
from avem.evaluate.recognition.results import (
    LABEL_WAYS,
    LabelItem,
    RecognitionResult,
    judge_labels,
    label_logprobs,
)
from avem.records import Question

LABEL_TOKENS = 16
"""Longest reply in tokens: a word, or the beginning of a sentence that names it."""


def bench_recognition(
    asker: Questioner,
    dataset: EmotionSet,
    labelled: LabelledClips,
    streams: str = "audiovisual",
    out_dir: Path | None = None,
    *,
    name: str = "model",
    prompt: str | None = None,
    ways: Sequence[str] = LABEL_WAYS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RecognitionResult:
    """Ask for the emotion of every clip, by the labels' log-likelihoods and by greedy generation, and judge both.

    Args:
        asker: Who is asked, in the style `cloze`, shown the streams of `streams`.
        dataset: Labels and headline metrics.
        labelled: The clips.
        streams: `audiovisual`, `video` or `audio`.
        out_dir: Where `answers.jsonl` and `<streams>.json` go; None keeps nothing.
        name: Short name of the model for tables.
        prompt: The question; None for `avem.evaluate.recognition.labels.PROMPTS`.
        ways: Some of `LABEL_WAYS`.
        resamples: Bootstrap resamples for the intervals.
        seed: Seed of the bootstrap.
    """
    asked = prompt or PROMPTS[streams]
    questions = labelled.questions(dataset, asked, spellings(dataset.classes))
    has_media = getattr(asker, "has_media", None) or (lambda place: place is not None)
    places = {clip.clip_id: clip.shown(has_media) for clip in labelled.clips}
    places = {clip_id: place for clip_id, place in places.items() if place is not None}
    with kept_or_spare(out_dir) as folder:
        with AnswerLog(folder / "answers.jsonl") as log:
            heard = hear(asker, questions, places, ways, log, f"{name}, {streams}")
        items = [
            _item(question, clip, heard[question.id], dataset.classes, streams, _names(asker, places.get(question.id)))
            for question, clip in zip(questions, labelled.clips, strict=True)
        ]
        pooled = sum(bool(item.windows) for item in items)
        result = RecognitionResult(
            name,
            dataset.name,
            streams,
            dataset.classes,
            tuple(items),
            judge_labels(items, dataset.classes, resamples=resamples, seed=seed),
            labelled.split,
            labelled.left_out,
            asked,
            **asker.about(),
            pooling={"clips": pooled, **POOLING} if pooled else {},
        )
        result.write(folder / f"{streams}.json")
    return result


def _names(asker: Questioner, place: Any) -> tuple[str, ...]:
    """Ids of a clip's windows; empty where it was asked as one."""
    return tuple(asker.clip(row)[0] for row in place.rows) if isinstance(place, WindowRows) else ()


def _item(
    question: Question,
    clip: LabelledClip,
    heard: Mapping[str, dict[str, Any]],
    classes: Sequence[str],
    streams: str,
    windows: tuple[str, ...],
) -> LabelItem:
    found = {
        way: pool_records(
            record, lambda reply: parse_label(reply, classes), lambda logprobs: label_logprobs(logprobs, classes)
        )
        for way, record in heard.items()
    }
    likelihood, generation = (found.get(way, PooledAnswer()) for way in LABEL_WAYS)
    failed = "; ".join(dict.fromkeys(answer.failed for answer in found.values() if answer.failed))
    what = {"audiovisual": "neither video nor audio"}.get(streams, f"no {streams}")
    return LabelItem(
        question.id,
        question.video,
        question.answer,
        clip.source,
        failed if heard else clip.absent or f"the clip has {what} in the store",
        likelihood.logprobs,
        generation.reply,
        generation.answer,
        windows,
    )
