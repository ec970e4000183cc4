"""`avem bench dfew|ravdess|mer2023|crema-d`: which emotion does a model recognise?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.predict.clips import ClipPosition, WindowRows, with_media
from avem.evaluate.predict.log import AnswerLog, kept_or_temporary
from avem.evaluate.predict.pooling import POOLING, PooledAnswer, pool
from avem.evaluate.predict.predictions import predict_all
from avem.evaluate.predict.predictor import Answer, Predictor
from avem.evaluate.recognition.labelled import LabelledClip, LabelledClips
from avem.evaluate.recognition.labels import PROMPTS, EmotionSet, parse_label, spellings
from avem.evaluate.recognition.results import (
    LABEL_METHODS,
    LabelItem,
    RecognitionResult,
    label_logprobs,
    score_clips,
)
from avem.records import Question

LABEL_TOKENS = 16
"""Longest reply in tokens: a word, or the beginning of a sentence that names it."""


def bench_recognition(
    predictor: Predictor,
    dataset: EmotionSet,
    labelled: LabelledClips,
    streams: str = "audiovisual",
    out_dir: Path | None = None,
    *,
    name: str = "model",
    prompt: str | None = None,
    methods: Sequence[str] = LABEL_METHODS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RecognitionResult:
    """Predict the emotion of every clip, by the labels' log-likelihoods and by greedy generation, and score both.

    Args:
        predictor: The model, in the style `cloze`, shown the streams of `streams`.
        dataset: Labels and headline metrics.
        labelled: The clips.
        streams: `audiovisual`, `video` or `audio`.
        out_dir: Where `answers.jsonl` and `<streams>.json` go; None keeps nothing.
        name: Short name of the model for tables.
        prompt: The question; None for `avem.evaluate.recognition.labels.PROMPTS`.
        methods: Some of `LABEL_METHODS`.
        resamples: Bootstrap resamples for the intervals.
        seed: Seed of the bootstrap.
    """
    prompt = prompt or PROMPTS[streams]
    questions = labelled.questions(dataset, prompt, spellings(dataset.classes))
    found = {clip.clip_id: with_media(clip.position, predictor.has_media) for clip in labelled.clips}
    positions = {clip_id: position for clip_id, position in found.items() if position is not None}
    with kept_or_temporary(out_dir) as folder:
        with AnswerLog(folder / "answers.jsonl") as log:
            answers = predict_all(predictor, questions, positions, methods, log, f"{name}, {streams}")
        items = [
            _item(
                question,
                clip,
                answers[question.id],
                dataset.classes,
                streams,
                _windows(predictor, positions.get(question.id)),
            )
            for question, clip in zip(questions, labelled.clips, strict=True)
        ]
        pooled = sum(bool(item.windows) for item in items)
        result = RecognitionResult(
            name,
            dataset.name,
            streams,
            dataset.classes,
            tuple(items),
            score_clips(items, dataset.classes, resamples=resamples, seed=seed),
            labelled.split,
            labelled.left_out,
            prompt,
            **predictor.about(),
            pooling={"clips": pooled, **POOLING} if pooled else {},
        )
        result.write(folder / f"{streams}.json")
    return result


def _windows(predictor: Predictor, position: ClipPosition | None) -> tuple[str, ...]:
    """Ids of a clip's windows; empty where it is one row or file."""
    return tuple(predictor.clip(row)[0] for row in position.rows) if isinstance(position, WindowRows) else ()


def _item(
    question: Question,
    clip: LabelledClip,
    answers: Mapping[str, Sequence[Answer]],
    classes: Sequence[str],
    streams: str,
    windows: tuple[str, ...],
) -> LabelItem:
    found = {
        method: pool(
            each, lambda reply: parse_label(reply, classes), lambda logprobs: label_logprobs(logprobs, classes)
        )
        for method, each in answers.items()
    }
    likelihood, generation = (found.get(method, PooledAnswer()) for method in LABEL_METHODS)
    failed = "; ".join(dict.fromkeys(answer.failed for answer in found.values() if answer.failed))
    what = {"audiovisual": "neither video nor audio"}.get(streams, f"no {streams}")
    return LabelItem(
        question.id,
        question.video,
        question.answer,
        clip.source,
        failed if answers else clip.absent or f"the clip has {what} in the store",
        likelihood.logprobs,
        generation.reply,
        generation.answer,
        windows,
    )
